"""The admin's way through the gate: it is asked as the doors are, and a refusal is a message."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db import router, transaction
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from .. import locks, rows, writes
from ..lockable import rule_of
from ..protocol.errors import ConcordError, Conflict
from ..protocol.locks import refuses
from ..rest.tags import UNASKED
from .basis import Basis, BasisMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

__all__ = ["GuardedAdminMixin"]


class GuardedAdminMixin(BasisMixin):
    """Takes the writes of a ``ModelAdmin`` through the gate, for models of any kind; stands before it.

    What a lock refuses is not written, and said in a message: on the page of an object, in a list that is
    edited, in bulk, and in the inlines of this page. What was changed while such a page was open is not
    overwritten either, where the model has a version: the page is shown again, and says so.
    """

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the object of a page; the transaction of one that writes begins as a writer's."""
        if request.method == "POST":
            rows.claim_open_transactions()
        return super().get_object(request, object_id, from_field)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether an object may be deleted, which no lock may stand against."""
        return super().has_delete_permission(request, obj) and not self._lock_row_refuses(
            request, obj, "destroy"
        )

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show or save an object."""
        return self._told(
            request, lambda: super(GuardedAdminMixin, self).changeform_view(request, *args, **kwargs)
        )

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Ask, and delete an object."""
        return self._told(
            request, lambda: super(GuardedAdminMixin, self).delete_view(request, *args, **kwargs)
        )

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show a list, save what was edited in it, or do an action; all of it or nothing."""
        return self._told(
            request, lambda: super(GuardedAdminMixin, self).changelist_view(request, *args, **kwargs)
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, if nothing holds the object as its row is now."""
        save = super().save_model
        if change:
            self._guard(request, obj, "update", lambda _: save(request, obj, form, change), self)
        else:
            save(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the objects of an inline, if nothing holds those of them that were changed."""
        inlines = self.get_inline_instances(request, form.instance)
        # an inline has rules of its own or its model's; those of the page are about the object of the page
        askers: list[Any] = [i for i in inlines if i.model is formset.model] or [None]
        deleted = getattr(formset, "deleted_forms", ())
        for each in formset.initial_forms:
            if each in deleted or each.has_changed():
                operation = "destroy" if each in deleted else "update"
                for asker in askers:
                    self._guard(request, each.instance, operation, lambda _: None, asker)
        super().save_formset(request, form, formset, change)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete, if nothing holds the object as its row is now."""
        delete = super().delete_model
        self._guard(request, obj, "destroy", lambda _: delete(request, obj), self)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete one after the other, all or none: in bulk Django would ask none of them."""
        with transaction.atomic(using=router.db_for_write(self.model)):
            for obj in queryset:
                self.delete_model(request, obj)

    def _told(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Run a view as the user, and make a refusal a message on the list."""
        using = router.db_for_write(self.model)
        writing = request.method == "POST"
        try:
            with locks.acting(request.user), transaction.atomic(using=using) if writing else nullcontext():
                if writing:
                    rows.claim_open_transactions()
                return view()
        except ConcordError as refusal:
            text = _("Nothing was changed. %(reason)s") % {"reason": refusal.detail}
            self.message_user(request, text, messages.ERROR)
            meta = self.opts
            name = f"admin:{meta.app_label}_{meta.model_name}_changelist"
            return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))

    def _guard(
        self,
        request: HttpRequest,
        obj: Any,
        operation: str,
        write: Callable[[Any], None],
        asker: Any,
        basis: Basis | None = None,
    ) -> None:
        """Do a write through the gate, which hands it the object as its row is, by the rule of ``asker``."""
        using = router.db_for_write(type(obj), instance=obj)

        def fetch() -> Any:
            found = type(obj)._base_manager.using(using).filter(pk=obj.pk).first()
            if found is None:
                raise Conflict("The object was deleted meanwhile.")
            return found

        conditions = writes.UNCONDITIONAL if basis is None else basis.preconditions
        actor = locks.actor_for(request.user)
        writes.write(
            writes.Intent(operation=operation, method="POST", actor=actor, preconditions=conditions),
            model=type(obj),
            pk=obj.pk,
            using=using,
            fetch=fetch,
            current=(lambda found, _: UNASKED) if basis is None else basis.current,
            perform=write,
            refused=None if basis is None else basis.refused,
            first=writes.parents(obj, using),
            locked=rule_of(asker),
        )

    def _lock_row_refuses(self, request: HttpRequest, obj: Any, operation: str) -> bool:
        if not isinstance(obj, self.model) or obj.pk is None:
            return False  # an inline is asked about the object of its page
        using = router.db_for_write(type(obj), instance=obj)
        entry = rows.peek(type(obj), obj.pk, using=using, actor=locks.actor_for(request.user))
        actor = entry.actor
        return refuses(entry.lock, operation, actor.holder, None, entry.now, need_token=actor.need_token)
