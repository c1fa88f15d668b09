"""Locked objects in the admin, with pages of their own to lock and unlock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext_lazy

from ....admin import LockableAdminMixin as ConcordAdminMixin
from ..settings import dol_settings
from .views import default_lock_view, default_unlock_view

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["LockableAdminMixin"]

LONGEST = 2000
"""How long the keys in an address may be, in characters."""


class _Icon:
    """The icon of the settings, read late; a class may put its own in this place."""

    def __get__(self, instance: Any, owner: type | None = None) -> str:
        url: str = dol_settings.DEFAULT_LOCKED_ICON_URL
        return url


class LockableAdminMixin(ConcordAdminMixin):
    """The actions lead to the addresses ``lock/`` and ``unlock/``; stands before ``ModelAdmin``."""

    locked_icon_url: Any = _Icon()
    lock_view: ClassVar[Any] = default_lock_view
    unlock_view: ClassVar[Any] = default_unlock_view

    class Media:
        css: ClassVar[Any] = {"all": ["django_object_lock/css/admin.css"]}

    def get_urls(self) -> list[Any]:
        """Return the addresses, with those of the actions that there are."""
        views = {"lock": self.lock_view, "unlock": self.unlock_view}
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), name=_name(self, name))
            for name, view in views.items()
            if name in (self.actions or ())
        ]
        return [*own, *super().get_urls()]

    @admin.action(permissions=["lock"], description=gettext_lazy("Lock selected %(verbose_name_plural)s"))
    def lock(self, request: HttpRequest, queryset: Any) -> Any:
        """Lead to the page that asks and locks."""
        return _redirect(self, "lock", queryset) or super().lock(request, queryset)

    @admin.action(permissions=["lock"], description=gettext_lazy("Unlock selected %(verbose_name_plural)s"))
    def unlock(self, request: HttpRequest, queryset: Any) -> Any:
        """Lead to the page that asks and unlocks."""
        return _redirect(self, "unlock", queryset) or super().unlock(request, queryset)


def _name(modeladmin: Any, action: str) -> str:
    return f"{modeladmin.opts.app_label}_{modeladmin.opts.model_name}_{action}"


def _redirect(modeladmin: Any, action: str, queryset: Any) -> HttpResponseRedirect | None:
    keys = [str(pk) for pk in queryset.values_list("pk", flat=True)[: LONGEST + 1]]
    ids = ",".join(keys)
    if len(ids) > LONGEST or any("," in key for key in keys):
        return None  # no address can name them: the page of the list asks itself
    url = reverse(f"admin:{_name(modeladmin, action)}", current_app=modeladmin.admin_site.name)
    return HttpResponseRedirect(f"{url}?{urlencode({'ids': ids}, safe=',')}")
