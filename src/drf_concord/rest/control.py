"""Optimistic concurrency for views by decoration: the tag is a function of the view.

On a view of ours the decorator only says where the tag comes from. On one that is REST framework's own it
stands between the request and the method that answers it, and takes writes through the gate.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework import mixins as drf
from rest_framework.renderers import JSONRenderer
from rest_framework.request import clone_request

from .. import rows, writes
from ..fields import version_field
from ..protocol.errors import ConcordError, VersionMismatch
from ..protocol.etags import EntityTag, encode_version
from ..protocol.preconditions import Current, Preconditions, Verdict, evaluate
from . import mixins, plain, responses, tags
from .exceptions import APIConcordError
from .guards import CONDITIONAL, DENIALS, SAFE, GuardedMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rest_framework.request import Request

    Compute = Callable[[Any], object]

__all__ = ["control", "controlled"]

WRITES = {"PUT": "update", "PATCH": "update", "DELETE": "destroy"}
MIXINS = (
    (mixins.RetrieveModelMixin, drf.RetrieveModelMixin),
    (mixins.UpdateModelMixin, drf.UpdateModelMixin),
    (mixins.DestroyModelMixin, drf.DestroyModelMixin),
)
OWN = {None, "update", "partial_update", "destroy"}  # of a generic view, and of a viewset


def control(view: Any, compute: Compute | None, missing: int) -> None:
    """Put a view class under control, in place.

    Args:
        view: the class.
        compute: returns the text of the tag of what ``get_object()`` of a view returns; None for the default.
        missing: the status that a write without ``If-Match`` is answered, 412 or 428.

    Raises:
        ImproperlyConfigured: the view has no object to guard, or there is no such choice.
    """
    if missing not in {412, 428}:
        raise ImproperlyConfigured(f"missing is 412 or 428, not {missing!r}.")
    if compute is not None and not callable(compute):
        raise ImproperlyConfigured(
            f"optimistic_concurrency_control() was given {compute!r}: give it a function of the view that"
            " returns the text of the tag, or nothing."
        )
    if not (isinstance(view, type) and callable(getattr(view, "get_object", None))):
        name = getattr(view, "__name__", view)
        raise ImproperlyConfigured(
            f"{name} has no get_object(), so there is nothing whose state could be compared: decorate a"
            " generic view or a viewset, or define get_object()."
        )
    target: Any = view
    target._concord_missing = missing
    if issubclass(view, GuardedMixin):
        _tell(target, compute or (None if _writes_by_itself(view) else _default), missing)
        if _writes_by_itself(view):
            return
    # On a subclass of a decorated view its own decoration counts, and not both.
    inherited, target.concord_control = hasattr(view, "concord_control"), (compute or _default, missing)
    if inherited:
        return
    begin = target.initial

    @functools.wraps(begin)
    def initial(self: Any, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in SAFE:
            rows.claim_open_transactions()
        begin(self, request, *args, **kwargs)
        _intercept(self, request, *self.concord_control)

    target.initial = initial


def _writes_by_itself(view: Any) -> bool:
    """Return whether a view of ours reads and writes by our mixins alone, not by REST framework's."""
    return all(issubclass(view, own) or not issubclass(view, theirs) for own, theirs in MIXINS)


def controlled(view: Any) -> int | None:
    """Return what a view under control answers to a write without ``If-Match``; None for other views."""
    missing: int | None = getattr(view, "_concord_missing", None)
    return missing


def _tell(view: Any, compute: Compute | None, missing: int) -> None:
    """Let a view of ours use this tag, understand bare tokens, and demand the header."""
    if compute is not None:

        def etag_from(self: Any, obj: Any) -> object:
            with plain.pinned(self, obj):
                return compute(self)

        view.etag_from = staticmethod(etag_from)

    def preconditions(self: Any) -> Preconditions:
        return _conditions(self, self.request, missing)

    view.preconditions = preconditions
    view.precondition_required = missing == 428


def _intercept(view: Any, request: Request, compute: Compute, missing: int) -> None:
    """Put the control before the method that will answer, where that is about one object."""
    method = request.method or ""
    handler = getattr(view, method.lower(), None)
    if handler is None or not _has_object(view):
        return
    if method in {"GET", "HEAD"} and getattr(view, "action", None) in {None, "retrieve"}:
        answer = functools.partial(_read, view, compute, handler)
    elif method in WRITES:
        answer = functools.partial(_write, view, compute, handler, missing)
    else:
        return
    find = type(view).get_object
    if _wanted(find):
        view.get_object = lambda *args, **kw: find(view, *args, **kw) if args or kw else _find(view)
    setattr(view, method.lower(), answer)


def _find(view: Any) -> Any:
    """Return the object of a view; a ``get_object(self, pk)`` gets what it wants from the address."""
    find = type(view).get_object
    return find(view, **{name: view.kwargs[name] for name in _wanted(find) if name in view.kwargs})


@functools.cache
def _wanted(find: Any) -> tuple[str, ...]:
    wanted = list(inspect.signature(find).parameters.values())[1:]
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return tuple(p.name for p in wanted if p.default is p.empty and p.kind in named)


def _has_object(view: Any) -> bool:
    detail = getattr(view, "detail", None)
    if detail is not None:
        return bool(detail)
    lookup = getattr(view, "lookup_url_kwarg", None) or getattr(view, "lookup_field", None)
    # who defines get_object() may find it without an address of its own, such as the caller's profile
    return lookup in view.kwargs or tags.redefines(type(view), "get_object")


def _read(view: Any, compute: Compute, handler: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
    obj = view.get_object()
    with plain.pinned(view, obj):
        # Before the body: should it show a newer state than the tag says, the next write is refused.
        current = _current(view, compute)
        try:
            verdict = evaluate(request.method or "", _conditions(view, request, None), current)
            if verdict is Verdict.MISMATCH:
                raise VersionMismatch(current_etag=str(current.tag))
        except ConcordError as refusal:
            raise APIConcordError(refusal) from refusal
        if verdict is Verdict.NOT_MODIFIED:
            return responses.not_modified(request, current.tag, None)
        response = handler(request, *args, **kwargs)
    if response.status_code == 200:
        responses.set_headers(response, request, current.tag, None)
    return response


def _write(
    view: Any, compute: Compute, handler: Any, missing: int, request: Request, *args: Any, **kwargs: Any
) -> Any:
    left: list[EntityTag] = []

    def perform(obj: Any) -> Any:
        response = handler(request, *args, **kwargs)
        if response.status_code < 300 and request.method != "DELETE":
            left.extend(_tag_afterwards(view, compute, obj))
        return response

    own = getattr(view, "action", None) in OWN
    try:
        conditions = _conditions(view, request, missing)
    except ConcordError as malformed:
        view.get_object()  # who may not see the object is told that
        raise APIConcordError(malformed) from malformed
    response = plain.guard(
        view,
        WRITES[request.method or ""] if own else view.action,
        perform,
        conditions=conditions,
        required=own and missing == 428,
        current=lambda obj: _current(view, compute),
    )
    if left:
        responses.set_headers(response, request, left[0], None)
    return response


def _tag_afterwards(view: Any, compute: Compute, obj: Any) -> Iterator[EntityTag]:
    """Yield the tag of what was written, as the database has it; nothing when the caller cannot see it."""
    with suppress(*DENIALS):
        with _as_get(view):  # a tag is for who may GET
            view.check_permissions(view.request)
            found = _find(view)
        # another connection, such as a replica's, does not see what is not committed
        with plain.pinned(view, found if found._state.db == obj._state.db else obj):
            yield _current(view, compute).tag


def _current(view: Any, compute: Compute) -> Current:
    text = tags.text_of(compute(view))
    return Current(tag=EntityTag(text), write=text, variant=None)


def _conditions(view: Any, request: Request, missing: int | None) -> Preconditions:
    """Return the preconditions of a request; a token without quotes is understood.

    Raises:
        MalformedPrecondition: what has quotes cannot be read.
    """
    found = Preconditions.parse(lambda name: _quoted(name, request.META.get(CONDITIONAL[name])))
    demanded = request.method in WRITES and getattr(view, "action", None) in OWN and missing == 412
    if demanded and found.if_match is None:
        return replace(found, if_match=writes.NOTHING)
    return found


def _quoted(name: str, value: str | None) -> str | None:
    bare = value.strip(" \t") if value is not None and name in {"If-Match", "If-None-Match"} else ""
    return f'"{tags.text_of(bare)}"' if bare and bare != "*" and '"' not in bare else value


def _default(view: Any) -> str:
    """Return the version of a view's object, or a digest of what a GET shows of it."""
    obj = view.get_object()
    field = version_field(type(obj))
    if field is not None:
        return encode_version(getattr(obj, field.attname))
    with _as_get(view):
        data = view.get_serializer(obj).data
    return tags.digest(JSONRenderer().render(data))


@contextmanager
def _as_get(view: Any) -> Iterator[None]:
    request, action = view.request, view.__dict__.get("action")
    view.request = clone_request(request, "GET")
    if action is not None:
        view.action = "retrieve"
    try:
        yield
    finally:
        view.request = request
        if action is not None:
            view.action = action
