"""Decorators for views."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, overload

from django.core.exceptions import ImproperlyConfigured

from .. import writes
from . import tags
from .control import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request
    from rest_framework.response import Response

__all__ = ["guarded", "is_guarded", "optimistic_concurrency_control"]

View = TypeVar("View", bound="type[Any]")
Action = TypeVar("Action", bound="Callable[..., Any]")


def guarded(method: Action) -> Action:
    """Pass an own detail action through the gate; stands below ``@action``.

    The action runs in one transaction on the locked row: ``self.get_object()`` returns that object. Locks are
    asked for the action's name, and a stale ``If-Match`` is refused.

        @action(detail=True, methods=["post"])
        @guarded
        def publish(self, request, pk=None):
            task = self.get_object()
    """

    @functools.wraps(method)
    def action(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        if getattr(self, "detail", None) is False and not tags.redefines(type(self), "get_object"):
            name = f"{type(self).__name__}.{method.__name__}"
            raise ImproperlyConfigured(f"@guarded is for one object: write @action(detail=True) over {name}.")
        left: list[Any] = []

        def perform(obj: Any) -> Response:
            before = obj.__dict__.get("version")
            response: Response = method(self, request, *args, **kwargs)
            left[:] = [obj] if writes.settle(obj, using=obj._state.db, before=before) else []
            return response

        response: Response = self.guard(method.__name__, perform)
        if left and response.status_code < 300:
            self.tagged(response, left[0], represents=False)
        return response

    action._concord_guarded = True  # type: ignore[attr-defined]
    return action  # type: ignore[return-value]


def is_guarded(method: Any) -> bool:
    """Return whether an action passes the gate."""
    return bool(getattr(method, "_concord_guarded", False))


@overload
def optimistic_concurrency_control(compute_etag: View) -> View: ...


@overload
def optimistic_concurrency_control(
    compute_etag: Callable[[Any], object] | None = None, *, missing: int = 412
) -> Callable[[View], View]: ...


def optimistic_concurrency_control(compute_etag: Any = None, *, missing: int = 412) -> Any:
    """Let a view answer with a tag of its object, and do writes only if they send back the current one.

    Stands over a class-based view that has ``get_object()``: a generic view, a viewset, one of ours.

        @optimistic_concurrency_control(lambda view: sha256(view.get_object().text.encode()).hexdigest())
        class DocumentView(generics.RetrieveAPIView, generics.UpdateAPIView):

    Args:
        compute_etag: gets the view and returns the text of the tag; without it, the version of the object
            where it has one, else a digest of what a GET shows.
        missing: the status of a PUT, PATCH or DELETE without ``If-Match``: 412, or the stricter 428.

    Raises:
        ImproperlyConfigured: the view has no ``get_object()``, or an argument cannot work.
    """
    if isinstance(compute_etag, type):
        control(compute_etag, None, missing)
        return compute_etag

    def decorate(view: View) -> View:
        control(view, compute_etag, missing)
        return view

    return decorate
