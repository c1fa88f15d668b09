"""The pages that ask, and then lock or unlock: ``lock/?ids=1,2``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from ....admin import LockableAdminMixin

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponseBase

__all__ = ["default_lock_or_unlock_view", "default_lock_view", "default_unlock_view", "get_lockable_objects"]


def default_lock_view(modeladmin: Any, request: HttpRequest) -> HttpResponseBase:
    """Ask, and lock."""
    return default_lock_or_unlock_view(modeladmin, request, lock=True)


def default_unlock_view(modeladmin: Any, request: HttpRequest) -> HttpResponseBase:
    """Ask, and unlock."""
    return default_lock_or_unlock_view(modeladmin, request, lock=False)


def default_lock_or_unlock_view(modeladmin: Any, request: HttpRequest, lock: bool) -> HttpResponseBase:
    """Show a page that asks; where it was sent, do it, say so and lead back to the list.

    Raises:
        PermissionDenied: the user may not lock one of the objects.
    """
    if not modeladmin.has_lock_permission(request):
        raise PermissionDenied  # the action asks about each object, of which there may be none
    ids = request.POST.get("ids") or request.GET.get("ids", "")
    chosen = get_lockable_objects(modeladmin.model, ids)
    queryset = modeladmin.get_queryset(request).filter(pk__in=chosen.values("pk"))
    if request.method == "POST":
        sent: Any = request.POST.copy()
        sent["post"] = "yes"  # the address alone means it
        request.POST = sent
    action = LockableAdminMixin.lock if lock else LockableAdminMixin.unlock
    page: Any = modeladmin._told(request, lambda: action(modeladmin, request, queryset))
    if page is None:
        name = f"{modeladmin.opts.app_label}_{modeladmin.opts.model_name}_changelist"
        return HttpResponseRedirect(reverse(f"admin:{name}", current_app=modeladmin.admin_site.name))
    if isinstance(page, TemplateResponse):
        page.template_name = f"django_object_lock/admin_{'lock' if lock else 'unlock'}.html"
    found: HttpResponseBase = page
    return found


def get_lockable_objects(model: type[Model], ids: str) -> QuerySet[Any]:
    """Return the objects of some keys, written with commas between them; none where one is no key."""
    objects: QuerySet[Any] = model._default_manager.all()
    try:
        return objects.filter(pk__in=ids.split(","))
    except (ValueError, ValidationError):
        return objects.none()
