"""The gate for views that are REST framework's own: they know nothing of it, and need no class of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db import connections, router
from django.db.models import Model
from django.http import Http404
from rest_framework.exceptions import APIException, UnsupportedMediaType

from .. import asking, locks, rows, writes
from ..lockable import has_rule, rule_of
from ..protocol.errors import Busy, ConcordError, ObjectLocked
from . import tags
from .exceptions import APIConcordError, APIObjectLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rest_framework.request import Request

    from ..protocol.preconditions import Current, Preconditions

__all__ = ["actor_of", "guard", "pinned", "read_body", "reload"]

MOVES = 3  # how often an address may lead to another row while the request waits for the first


def actor_of(request: Request) -> rows.Actor:
    """Return who a request is to the locks."""
    user = request.user if getattr(request.user, "is_authenticated", False) else None
    return locks.actor_for(user, request.META.get("HTTP_LOCK_TOKEN"))


def read_body(request: Request) -> APIException | None:
    """Read the body, never while a row is locked; what is wrong with it is said after the refusals."""
    try:
        request.data  # noqa: B018
    except APIException as error:
        return error
    return None


def reload(obj: Any, using: str) -> None:
    """Read an object again.

    Raises:
        Http404: it is gone.
    """
    try:
        obj.refresh_from_db(using=using)
    except ObjectDoesNotExist as error:
        raise Http404 from error
    obj._prefetched_objects_cache = {}


@contextmanager
def pinned(view: Any, obj: Any) -> Iterator[None]:
    """Let ``get_object()`` of a view return this object, so that all of the view speaks of one state."""
    before = view.__dict__.get("get_object")
    view.get_object = lambda *args, **kwargs: obj
    try:
        yield
    finally:
        if before is None:
            del view.get_object
        else:
            view.get_object = before


def guard(
    view: Any,
    operation: str,
    perform: Callable[[Any], Any],
    *,
    conditions: Preconditions = writes.UNCONDITIONAL,
    required: bool = False,
    current: Callable[[Any], Current] = lambda obj: tags.UNASKED,
) -> Any:
    """Do one write to the object of a view's request, decided on its locked row.

    Args:
        view: a generic view or viewset.
        operation: what locks are asked for: ``update``, ``destroy`` or an action's name.
        perform: does the write; meanwhile the view's ``get_object()`` returns the object it is given.
        conditions: the preconditions of the request.
        required: whether there have to be any.
        current: computes the tag of an object, which ``get_object()`` returns meanwhile.

    Raises:
        APIObjectLocked, APIConcordError
    """
    try:
        for _ in range(MOVES):
            try:
                return _Attempt(view, operation, current).run(perform, conditions, required)
            except _Moved:
                continue
        raise Busy("The address leads to another object each time. Nothing was changed; try again.")
    except ObjectLocked as refusal:
        raise APIObjectLocked(retry_after=refusal.retry_after) from refusal
    except ConcordError as refusal:
        raise APIConcordError(refusal) from refusal


class _Moved(Exception):
    """The lookup leads to another row than the one that was locked."""


class _Attempt:
    """One way through the gate, for the row that the view found."""

    def __init__(self, view: Any, operation: str, current: Callable[[Any], Current]) -> None:
        self.view, self.operation, self._current = view, operation, current
        self.locked = rule_of(view)
        self.seen = view.get_object()
        if not isinstance(self.seen, Model):
            raise ImproperlyConfigured(
                f"{type(view).__name__}.get_object() returned {type(self.seen).__name__}, and what is no row"
                " cannot be locked while it is checked and written: return a model's instance."
            )
        self.model: type[Model] = type(self.seen)
        self.using = router.db_for_write(self.model, instance=self.seen)

    def run(self, perform: Callable[[Any], Any], conditions: Preconditions, required: bool) -> Any:
        request = self.view.request
        unreadable = read_body(request)
        if isinstance(unreadable, UnsupportedMediaType):
            raise unreadable

        def act(obj: Any) -> Any:
            if unreadable is not None:
                raise unreadable
            with pinned(self.view, obj):
                return perform(obj)

        return writes.write(
            writes.Intent(
                operation=self.operation,
                method=request.method or "",
                actor=actor_of(request),
                preconditions=conditions,
                required=required,
            ),
            model=self.model,
            pk=self.seen.pk,
            using=self.using,
            fetch=self._again,
            current=self._tag if conditions.guards or required else lambda obj, _: tags.UNASKED,
            perform=act,
            first=self._above(),
            locked=self.locked,
        )

    def _tag(self, obj: Any, _: int) -> Current:
        with pinned(self.view, obj):
            return self._current(obj)

    def _above(self) -> list[rows.Row]:
        """Return the rows to lock before the object's, among them those its locks are derived from."""
        above = writes.parents(self.seen, self.using)
        queues = connections[self.using].vendor != "sqlite"
        if not (queues and self.operation in writes.RULED and has_rule(self.locked, self.seen)):
            return above
        asked = asking.asked_from_afar(self.seen, lambda: self.locked(self.seen))
        return above + [row for row in asked if row not in above]

    def _again(self) -> Any:
        """Fetch the object again once its row is locked: visibility and permission decide again there."""
        found = self.view.get_object()
        if found is self.seen:  # a view that keeps its object would write the state from before the lock
            reload(found, self.using)
            self.view.check_object_permissions(self.view.request, found)
        if found.pk != self.seen.pk:
            raise _Moved
        if found._state.db != self.using:  # the view reads a replica, which may lag behind
            found = self.model._base_manager.using(self.using).filter(pk=found.pk).first()
            if found is None:
                raise Http404
            self.view.check_object_permissions(self.view.request, found)
        return found
