"""The operators' lock: ``PUT .../states/lock`` and ``.../states/unlock``, for maintenance."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import former, locks, rows, writes
from ..live.accounts import copied
from ..lockable import own_rule, rule_of
from ..protocol.claims import DELETE, Claim, Mode, operations
from ..protocol.errors import AlreadyLocked, Conflict, NotLocked
from ..protocol.locks import State
from . import plain
from .guards import GuardedMixin
from .mixins import DestroyModelMixin, UpdateModelMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rest_framework.request import Request

__all__ = ["StatesLockMixin"]

STATES_ACTIONS = {"states_lock", "states_unlock", "states_lock_anyway", "states_unlock_anyway"}
WRITES: dict[str, Any] = {
    "update": UpdateModelMixin,
    "partial_update": UpdateModelMixin,
    "destroy": DestroyModelMixin,
}
"""Actions of REST framework's, and the classes of ours that pass them through the gate themselves."""
OTHER_SLASH = "states/{}/?$|(?!)"
"""Matches with and without a trailing slash, whatever the router puts behind it: that is never looked for."""


class StatesLockMixin(GuardedMixin):
    """Lets administrators lock objects for maintenance: while they are locked nobody deletes them.

    ``PUT .../states/lock`` with ``{"lock": null}`` and ``PUT .../states/unlock`` with ``{"unlock": null}``,
    with a trailing slash or without, answer 202.
    """

    states_permission_classes: Sequence[Any] = (IsAdminUser,)
    """Who may lock and unlock; no other permission is asked."""
    states_scope: str | tuple[str, ...] = DELETE
    """The operations that a locked object refuses; ``"write"`` for all."""
    state_field: str | None = None
    """A field that says ``locked`` meanwhile, and what it said before afterwards."""

    def can_lock(self, instance: Any) -> bool:
        """Return whether an object is in a state in which it can be locked; a hook."""
        return True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if APIView in order and order.index(APIView) < order.index(StatesLockMixin):
            raise ImproperlyConfigured(
                f"{cls.__name__} names StatesLockMixin behind the viewset, which would not ask it:"
                f" class {cls.__name__}(StatesLockMixin, ...)."
            )

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Put the gate before what REST framework's own viewsets do, however the project writes that."""
        super().initial(request, *args, **kwargs)
        if self.action in WRITES and not isinstance(self, WRITES[self.action]):
            method = str(request.method).lower()
            setattr(self, method, functools.partial(self._guarded, getattr(self, method)))

    def get_permissions(self) -> list[Any]:
        """Return the permissions, for these two actions their own."""
        if self.action in STATES_ACTIONS:
            return [permission() for permission in self.states_permission_classes]
        return list(super().get_permissions())

    def check_permissions(self, request: Request) -> None:
        """Check; for these two actions by their own, also where the project chooses permissions itself."""
        if self.action not in STATES_ACTIONS:
            super().check_permissions(request)
            return
        self._demand(request, lambda permission: permission.has_permission(request, self))

    def check_object_permissions(self, request: Request, obj: Any) -> None:
        """Check; for these two actions by their own."""
        if self.action not in STATES_ACTIONS:
            super().check_object_permissions(request, obj)
            return
        self._demand(request, lambda permission: permission.has_object_permission(request, self, obj))

    def _demand(self, request: Request, allows: Callable[[Any], bool]) -> None:
        # Not get_permissions(): a project that defines it has seldom these actions in mind.
        for permission in StatesLockMixin.get_permissions(self):
            if not allows(permission):
                message, code = getattr(permission, "message", None), getattr(permission, "code", None)
                self.permission_denied(request, message=message, code=code)

    @action(detail=True, methods=["put"], url_path="states/lock", url_name="states-lock")
    def states_lock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Lock the object for maintenance: 202, or 409 when it cannot be locked."""
        return self._change_state("lock", self._freeze)

    @action(detail=True, methods=["put"], url_path="states/unlock", url_name="states-unlock")
    def states_unlock(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the maintenance: 202, or 409 when the object is not locked."""
        return self._change_state("unlock", _release)

    # A router adds its slash to every address, or to none.
    @action(detail=True, methods=["put"], url_path=OTHER_SLASH.format("lock"), schema=None)
    def states_lock_anyway(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Lock, at the address with the other slash."""
        return self._change_state("lock", self._freeze)

    @action(detail=True, methods=["put"], url_path=OTHER_SLASH.format("unlock"), schema=None)
    def states_unlock_anyway(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Unlock, at the address with the other slash."""
        return self._change_state("unlock", _release)

    def _guarded(self, handler: Callable[..., Any], request: Request, *args: Any, **kwargs: Any) -> Any:
        operation = "destroy" if self.action == "destroy" else "update"
        return plain.guard(self, operation, lambda obj: handler(request, *args, **kwargs))

    def _freeze(self, entry: rows.Entry, obj: Any) -> None:
        if entry.lock.state(entry.now) is State.FROZEN:
            raise AlreadyLocked
        if not self.can_lock(obj):
            raise Conflict("The object is in a state in which it cannot be locked; nothing was changed.")
        claim = Claim(holder=entry.actor.holder, mode=Mode.FREEZE, scope=self._scope(obj))
        locks.acquire(entry, claim)
        if self.state_field is not None:
            former.keep(entry, obj, self.state_field)

    def _scope(self, obj: Any) -> str | tuple[str, ...]:
        """Return what the lock has to refuse.

        Where the project's rule holds the object locked by the very field that will say ``locked``, it would
        let everybody in meanwhile: then the lock refuses in its place.
        """
        if self.state_field is None:
            return self.states_scope
        shown = copied(obj)
        setattr(shown, obj._meta.get_field(self.state_field).attname, former.LOCKED)
        if any(rule(obj) and not rule(shown) for rule in (own_rule, rule_of(self))):
            return tuple(sorted({*operations(self.states_scope), *writes.RULED}))
        return self.states_scope

    def _change_state(self, member: str, change: Callable[[rows.Entry, Any], None]) -> Response:
        def attempt() -> None:
            seen = self.get_object()
            _check_body(plain.read_body(self.request), self.request, member)
            using = self._alias = router.db_for_write(type(seen), instance=seen)
            first = writes.parents(seen, using)

            def once() -> None:
                with rows.enter(type(seen), seen.pk, using=using, actor=self.actor(), first=first) as entry:
                    change(entry, self._again(seen, using))

            try:
                writes.run(once, using=using, conditional=False)
            finally:
                self._alias = None

        self._while_it_moves(attempt)
        return Response(status=status.HTTP_202_ACCEPTED)


def _release(entry: rows.Entry, obj: Any) -> None:
    if entry.lock.state(entry.now) is not State.FROZEN:
        raise NotLocked("The object is not locked; nothing was changed.")
    locks.release(entry, privileged=True)


def _check_body(unreadable: APIException | None, request: Request, member: str) -> None:
    if unreadable is not None:
        raise unreadable
    data = request.data
    if hasattr(data, "items") and all(item == (member, None) for item in data.items()):
        return
    raise ValidationError({"detail": f'Send {{"{member}": null}}, or nothing.'})
