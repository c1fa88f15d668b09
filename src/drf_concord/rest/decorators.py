"""Decorators for views."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from .. import writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request
    from rest_framework.response import Response

__all__ = ["guarded"]

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

    return action  # type: ignore[return-value]
