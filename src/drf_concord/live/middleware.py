"""The project's middleware round what is done for a socket, as Django's handler puts it round a view."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse
from django.utils.module_loading import import_string
from rest_framework.exceptions import APIException

from ..conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

__all__ = ["within", "wrapped"]

R = TypeVar("R")


def wrapped(respond: Any) -> Any:
    """Return what answers a request, with ``SOCKET_MIDDLEWARE`` round it."""
    paths = settings.SOCKET_MIDDLEWARE
    if not paths:
        return respond
    handler = convert_exception_to_response(respond)
    for path in reversed(paths):
        handler = convert_exception_to_response(import_string(path)(handler))
    return handler


def within(request: HttpRequest, work: Callable[[], R]) -> R:
    """Do some work where a view would be called: inside ``SOCKET_MIDDLEWARE``, with what that sets.

    Args:
        request: what the middleware sees; it may put something on it.
        work: what a view would do.

    Raises:
        Exception: what the work raises; the middleware does not see that.
        APIException: one of the middleware answered itself, before the work or after it; with its status, 403
            where that is no refusal.
    """
    if not settings.SOCKET_MIDDLEWARE:
        return work()
    done: list[R] = []
    failed: list[Exception] = []

    def respond(request: HttpRequest) -> HttpResponse:
        failed.clear()  # a middleware may try again
        try:
            done.append(work())
        except Exception as error:
            failed.append(error)
        return HttpResponse(status=204)

    # What middleware leaves behind, as a language, is of this request and of no other's that comes after.
    status = contextvars.copy_context().run(wrapped(respond), request).status_code
    if failed:
        raise failed[0]
    if not done or status >= 300:
        refusal = APIException()
        refusal.status_code = status if status >= 400 else 403
        raise refusal
    return done[-1]
