"""Locked objects in the admin: an icon, a page to read, and two actions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.checks import CheckMessage, Error
from django.core.exceptions import PermissionDenied
from django.db import router
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import locks, rows
from ..conf import settings
from ..lockable import LockableMixin, by_lock_rows, set_status
from ..models import Lock, Lockable
from ..protocol.claims import Claim, Mode
from ..protocol.locks import State
from .guards import GuardedAdminMixin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

__all__ = ["LockableAdminMixin"]

SHOWN = 100
"""How many objects a page of confirmation names."""
QUESTIONS = {
    True: gettext_lazy("Nobody will be able to change these until they are unlocked. Lock them?"),
    False: gettext_lazy("Everybody who may change these will be able to again. Unlock them?"),
}


class LockableAdminMixin(LockableMixin, GuardedAdminMixin):
    """For the admin of a model with locks: ``class ReportAdmin(LockableAdminMixin, admin.ModelAdmin)``.

    Put ``"locked_icon"`` into ``list_display``. The model is a ``LockableModel``, a ``Lockable``, or any for
    which this class defines ``is_instance_locked()`` and ``set_locked_status()``.
    """

    locked_icon_url: str | None = None
    """A static file or an address; None: as ``LOCKED_ICON_URL`` says."""
    confirm_lock_template = "drf_concord/admin/confirm_lock.html"
    actions: Any = ("lock", "unlock")

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Report a model that nobody has given a rule: its list would fail, and so would a page of it."""
        ruled = issubclass(self.model, Lockable) or type(self).is_instance_locked is not (
            LockableMixin.is_instance_locked
        )
        missing = Error(
            f"{type(self).__name__} does not know when a {self.model._meta.label} is locked.",
            hint="Define is_instance_locked(obj) and set_locked_status(obj, lock) there, or let the model"
            " inherit from drf_concord.models.LockableModel.",
            obj=type(self),
            id="concord.E016",
        )
        return [*super().check(**kwargs), *([] if ruled else [missing])]

    @admin.display(description=gettext_lazy("locked"))
    def locked_icon(self, obj: Any) -> str:
        """Return the icon of a locked object, and nothing for another; for ``list_display``."""
        known = obj.__dict__.get("_concord_locked")  # read for the whole list at once
        return (
            self.locked_icon_html(obj) if (self.is_instance_locked(obj) if known is None else known) else ""
        )

    def locked_icon_html(self, obj: Any) -> str:
        """Return the icon."""
        url = self.locked_icon_url or settings.LOCKED_ICON_URL
        address = url if url.startswith(("/", "http:", "https:", "data:")) else static(url)
        return format_html('<img src="{}" alt="{}" title="{}">', address, _("locked"), _("locked"))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Read the locks of a page of the list in one query, where they are rows."""
        found = super().get_changelist_instance(request)
        listed = list(found.result_list)  # the queryset keeps them; a list that is edited needs it as one
        if listed and by_lock_rows(self, listed[0]):
            using = router.db_for_write(self.model)
            now = rows.now(using)
            named = {rows.key(type(obj), obj.pk)[1]: obj for obj in listed}
            label = rows.key(self.model, listed[0].pk)[0]
            kept = Lock._base_manager.using(using).filter(model=label, object_pk__in=list(named))
            live = {row.object_pk for row in kept if row.value().live(now)}
            for key, obj in named.items():
                obj.__dict__["_concord_locked"] = key in live
        return found

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Say on the page of a locked object why it can only be read."""
        obj = context.get("original")
        if obj is not None and self._held(request, obj):
            self.message_user(request, self._why(request, obj), messages.WARNING)
        return super().render_change_form(request, context, *args, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether an object may be changed: not while it is locked."""
        return super().has_change_permission(request, obj) and not self._held(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether an object may be deleted: not while it is locked."""
        return super().has_delete_permission(request, obj) and not self._held(request, obj)

    def has_lock_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may lock an object: who may change it, and for a ``Lockable`` freeze it."""
        with _whatever_holds_it(request):
            allowed = self.has_change_permission(request, obj)
        by_rows = by_lock_rows(self, self.model() if obj is None else obj)
        user: Any = request.user
        return allowed and (not by_rows or user.has_perm("concord.freeze"))

    @admin.action(permissions=["lock"], description=gettext_lazy("Lock selected %(verbose_name_plural)s"))
    def lock(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Ask, and lock."""
        return self._confirmed(request, queryset, lock=True)

    @admin.action(permissions=["lock"], description=gettext_lazy("Unlock selected %(verbose_name_plural)s"))
    def unlock(self, request: HttpRequest, queryset: Any) -> TemplateResponse | None:
        """Ask, and unlock."""
        return self._confirmed(request, queryset, lock=False)

    def _held(self, request: HttpRequest, obj: Any) -> bool:
        if not isinstance(obj, self.model) or obj.pk is None or getattr(request, "_concord_any", False):
            return False  # an inline is asked about the object of its page
        # a list that is shown has read the locks of its page at once; whatever is written asks again
        free = request.method == "GET" and obj.__dict__.get("_concord_locked") is False
        if not free and self._lock_row_refuses(request, obj, "update"):
            return True
        return not by_lock_rows(self, obj) and bool(self.is_instance_locked(obj))

    def _why(self, request: HttpRequest, obj: Any) -> str:
        using = router.db_for_write(type(obj), instance=obj)
        entry = rows.peek(type(obj), obj.pk, using=using, actor=locks.actor_for(request.user))
        told = locks.describe(
            entry.lock, entry.now, viewer=entry.actor.holder, disclose=self._discloses(request, obj)
        )
        parts = [_("This object is locked and can only be read.")]
        for name, text in (
            ("holder", _("By: %s.")),
            ("reason", _("Why: %s.")),
            ("expires_at", _("Until: %s.")),
        ):
            if told[name]:
                parts.append(text % told[name])
        return " ".join(parts)

    def _discloses(self, request: HttpRequest, obj: Any) -> bool:
        """Return whether the user may learn who holds an object: as the doors tell it."""
        if settings.DISCLOSURE != "editors":
            return bool(settings.DISCLOSURE == "everyone")
        with _whatever_holds_it(request):
            return self.has_change_permission(request, obj)

    def _confirmed(self, request: HttpRequest, queryset: Any, *, lock: bool) -> TemplateResponse | None:
        # Asked before any object is named, and for each of them.
        if not all(self.has_lock_permission(request, obj) for obj in queryset):
            raise PermissionDenied
        if not request.POST.get("post"):
            return self._question(request, queryset, lock=lock)
        try:
            done = sum(self._set_status(request, obj, lock=lock) for obj in queryset)
        except NotImplementedError as missing:
            self.message_user(request, _("Nothing was changed. %s") % missing, messages.ERROR)
            return None
        if lock:
            text = ngettext("%(count)d %(name)s was locked.", "%(count)d %(name)s were locked.", done)
        else:
            text = ngettext("%(count)d %(name)s was unlocked.", "%(count)d %(name)s were unlocked.", done)
        name = self.opts.verbose_name if done == 1 else self.opts.verbose_name_plural
        self.message_user(request, text % {"count": done, "name": name}, messages.SUCCESS)
        return None

    def _question(self, request: HttpRequest, queryset: Any, *, lock: bool) -> TemplateResponse:
        total = queryset.count()
        chosen = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Lock") if lock else _("Unlock"),
            "question": QUESTIONS[lock],
            "action": "lock" if lock else "unlock",
            "opts": self.opts,
            "total": total,
            "shown": queryset[:SHOWN],
            "more": total > SHOWN,
            "keys": chosen,
            "across": request.POST.get("select_across") == "1",
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "media": self.media,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.confirm_lock_template, context)

    def _set_status(self, request: HttpRequest, obj: Any, *, lock: bool) -> bool:
        """Lock or unlock one object on its row; returns False when it was so already."""
        done: list[Any] = []

        def change(current: Any) -> None:
            if bool(self.is_instance_locked(current)) == lock:
                return
            set_status(current, lock, ask=self.is_instance_locked, put=self.set_locked_status)
            done.append(current)

        if by_lock_rows(self, obj):
            return self._set_lock_row(request, obj, lock=lock)
        self._guard(request, obj, "lock" if lock else "unlock", change, self)
        return self._log_status(request, obj, lock=lock) if done else False

    def _set_lock_row(self, request: HttpRequest, obj: Any, *, lock: bool) -> bool:
        using = router.db_for_write(type(obj), instance=obj)
        user: Any = request.user
        with rows.enter(type(obj), obj.pk, using=using, actor=locks.actor_for(user)) as entry:
            state = entry.lock.state(entry.now)
            if lock and state is not State.FROZEN:
                locks.acquire(entry, Claim(holder=entry.actor.holder, mode=Mode.FREEZE))
            elif not lock and state is State.FROZEN:
                locks.release(entry, privileged=True)
            elif not lock and entry.lock.live(entry.now):
                if entry.lock.holder not in {None, entry.actor.holder} and not user.has_perm("concord.break"):
                    raise PermissionDenied
                locks.break_lock(entry)
            else:
                return False
        return self._log_status(request, obj, lock=lock)

    def _log_status(self, request: HttpRequest, obj: Any, *, lock: bool) -> bool:
        self.log_change(request, obj, _("Locked.") if lock else _("Unlocked."))
        return True


@contextmanager
def _whatever_holds_it(request: Any) -> Iterator[None]:
    """Ask for permissions as if nothing were locked."""
    request._concord_any = True
    try:
        yield
    finally:
        del request._concord_any
