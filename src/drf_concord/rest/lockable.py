"""Locks by rules of the project, on views that are REST framework's own: the mixins and the two actions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from rest_framework import mixins as drf
from rest_framework.response import Response

from .. import locks, rows, writes
from ..lockable import LockableMixin, by_lock_rows, set_status
from ..protocol.claims import Claim
from ..protocol.errors import Busy, ConcordError
from . import plain
from .exceptions import APIConcordError, APIObjectAlreadyLocked, APIObjectAlreadyUnlocked
from .guards import SAFE, GuardedMixin

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.generics import GenericAPIView
    from rest_framework.request import Request

    # For the type checker the mixins stand on what they are mixed into.
    _View = GenericAPIView[Any]
else:
    _View = object

__all__ = [
    "LockableDestroyModelMixin",
    "LockableMixin",
    "LockableUpdateModelMixin",
    "lock_action",
    "unlock_action",
]


class _Writing(LockableMixin, _View):
    """Begins a write as a writer, where the transaction is open already."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in SAFE:
            rows.claim_open_transactions()
        super().initial(request, *args, **kwargs)


class LockableUpdateModelMixin(_Writing, drf.UpdateModelMixin):
    """Refuse PUT and PATCH of an object that is locked, with ``APIObjectLocked``."""

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Update as the view does, on the locked row."""
        update = functools.partial(super().update, request, *args, **kwargs)
        ours = _ours(self, "update")
        return _passed(self, "update", update) if ours is None else ours(self, request, *args, **kwargs)


class LockableDestroyModelMixin(_Writing, drf.DestroyModelMixin):
    """Refuse DELETE of an object that is locked, with ``APIObjectLocked``."""

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Delete as the view does, on the locked row."""
        destroy = functools.partial(super().destroy, request, *args, **kwargs)
        ours = _ours(self, "destroy")
        return _passed(self, "destroy", destroy) if ours is None else ours(self, request, *args, **kwargs)


def _ours(view: Any, name: str) -> Any:
    """Return the method of a class of ours that stands next, but for REST framework's, or None."""
    theirs = (drf.UpdateModelMixin, drf.DestroyModelMixin)
    mixins = (LockableUpdateModelMixin, LockableDestroyModelMixin)
    own = (c for c in type(view).__mro__ if name in vars(c) and _below(view, c) and c not in theirs + mixins)
    found = next(own, None)
    return vars(found)[name] if found is not None and issubclass(found, GuardedMixin) else None


def _passed(view: Any, name: str, perform: Callable[[], Any]) -> Any:
    if not isinstance(view, GuardedMixin):
        return plain.guard(view, name, lambda obj: perform())
    left: list[Any] = []

    def act(obj: Any) -> Any:
        before = obj.__dict__.get("version")
        response = perform()
        left[:] = [obj] if writes.settle(obj, using=obj._state.db, before=before) else []
        return response

    response = view.guard(name, act)
    return view.tagged(response, left[0]) if left and response.status_code < 300 else response


def _below(view: Any, cls: type) -> bool:
    """Return whether a class comes after the mixins here, which called."""
    mro = type(view).__mro__
    mixins = (LockableUpdateModelMixin, LockableDestroyModelMixin)
    return mro.index(cls) > min(mro.index(m) for m in mixins if m in mro)


def lock_action(view: LockableMixin, request: Request, pk: Any = None) -> Response:
    """Lock the object of a detail action: 200 with the object, or 409 when it is locked.

    To be called from an own ``@action(methods=["PUT", "PATCH"], detail=True)``. ``pk`` is there for the
    signature of such an action; the object is the one that ``get_object()`` finds.

    Raises:
        APIObjectAlreadyLocked
    """
    return _set_status(view, lock=True)


def unlock_action(view: LockableMixin, request: Request, pk: Any = None) -> Response:
    """Unlock the object of a detail action: 200 with the object, or 409 when it is not locked.

    Raises:
        APIObjectAlreadyUnlocked
    """
    return _set_status(view, lock=False)


def _set_status(view: Any, *, lock: bool) -> Response:
    name = "lock" if lock else "unlock"
    if getattr(view, "detail", None) is False:
        raise ImproperlyConfigured(
            f"{name}_action() is for one object: write @action(detail=True) over"
            f" {type(view).__name__}.{getattr(view, 'action', None) or name}."
        )
    if view.request.method not in SAFE:
        rows.claim_open_transactions()

    left: list[Any] = []

    def perform(obj: Any) -> Response:
        ask = _rule(view, "is_instance_locked")
        if bool(ask(obj)) == lock:
            raise APIObjectAlreadyLocked if lock else APIObjectAlreadyUnlocked
        before = obj.__dict__.get("version")
        set_status(obj, lock, ask=ask, put=_rule(view, "set_locked_status"))
        left[:] = [obj] if writes.settle(obj, using=obj._state.db, before=before) else []
        return Response(view.get_serializer(obj).data)

    seen = view.get_object()
    if by_lock_rows(view, seen):
        return _set_lock_row(view, seen, lock=lock)
    if not isinstance(view, GuardedMixin):
        answer: Response = plain.guard(view, name, perform)
        return answer
    response = view.guard(name, perform)
    return view.tagged(response, left[0], represents=False) if left else response


def _rule(view: Any, name: str) -> Callable[..., Any]:
    # a view of ours may have the actions without the mixin; then its model says
    found: Callable[..., Any] = getattr(view, name, None) or getattr(LockableMixin(), name)
    return found


def _set_lock_row(view: Any, seen: Any, *, lock: bool) -> Response:
    """Take or end a lock that belongs to nobody, for models whose locks are ``Lock`` rows."""
    using = router.db_for_write(type(seen), instance=seen)

    def attempt() -> Response:
        with rows.enter(type(seen), seen.pk, using=using, actor=plain.actor_of(view.request)) as entry:
            obj = view.get_object()
            if obj.pk != seen.pk:
                raise Busy("The address leads to another object by now. Nothing was changed; try again.")
            if entry.lock.live(entry.now) == lock:
                raise APIObjectAlreadyLocked if lock else APIObjectAlreadyUnlocked
            if lock:
                locks.acquire(entry, Claim(holder=None))
            else:
                locks.release(entry)
            return Response(view.get_serializer(obj).data)

    try:
        return writes.run(attempt, using=using, conditional=False)
    except ConcordError as refusal:
        raise APIConcordError(refusal) from refusal
