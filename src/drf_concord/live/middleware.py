"""The project's middleware round what is done for a socket, as Django's handler puts it round a view."""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.handlers.exception import convert_exception_to_response
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.http import HttpResponse
from django.utils.module_loading import import_string
from rest_framework.exceptions import APIException

from ..conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

__all__ = ["within", "wrapped"]

R = TypeVar("R")

_respond: contextvars.ContextVar[Any] = contextvars.ContextVar("respond")


def wrapped(respond: Any) -> Any:
    """Return what answers a request, with ``SOCKET_MIDDLEWARE`` round it."""
    paths = settings.SOCKET_MIDDLEWARE
    if not paths:
        return respond
    chain = _chain(tuple(paths))

    def answer(request: HttpRequest) -> Any:
        token = _respond.set(respond)
        try:
            return chain(request)
        finally:
            _respond.reset(token)

    return answer


@functools.lru_cache(maxsize=8)  # made once, as Django does: one may keep something, or take long to make
def _chain(paths: tuple[str, ...]) -> Any:
    handler = convert_exception_to_response(lambda request: _respond.get()(request))
    for path in reversed(paths):
        factory = import_string(path)
        to_await = not getattr(factory, "sync_capable", True)
        try:
            found = factory(sync_to_async(handler) if to_await else handler)
        except MiddlewareNotUsed:
            continue
        if found is None:
            raise ImproperlyConfigured(f"The middleware {path} returned nothing that answers.")
        handler = convert_exception_to_response(async_to_sync(found) if to_await else found)
    return handler


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    """Let tests with other settings have middleware made with those."""
    _chain.cache_clear()


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
