"""Who may share a result: noticing what a view reads of the request.

A result that was computed without looking at the caller holds for every caller. To know that, the view runs
on a request that writes down what is read of it. What is read past the request cannot be seen: thread locals,
caches of the process, a user object that was stored elsewhere before.
"""

from __future__ import annotations

import contextvars
import enum
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.handlers.asgi import ASGIRequest
from django.utils import timezone, translation
from rest_framework.request import Request

from . import views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Level", "declared_key", "evaluate", "never_shared"]

R = TypeVar("R")


class Level(enum.IntEnum):
    """For whom a result holds."""

    SHARED = 0
    """Everybody: nothing about the caller was read."""
    USER = 1
    """This user: nothing else about the caller was read."""
    CONNECTION = 2
    """This socket: something else was read, such as a header or the session."""


USER_READS = frozenset({"user", "_user", "auser"})
FREE = frozenset(
    {
        # Of every Python object.
        "__class__",
        "__doc__",
        "__init__",
        "__getattr__",
        "__getattribute__",
        "__setattr__",
        # The same for all members of a cohort: its key holds host, scheme, path and query.
        "method",
        "GET",
        "query_params",
        "path",
        "path_info",
        "scheme",
        "version",
        "versioning_scheme",
        "accepted_renderer",
        "accepted_media_type",
        "build_absolute_uri",
        "get_full_path",
        "get_full_path_info",
        "get_host",
        "get_port",
        "is_secure",
        # How DRF's request finds its way; what is read through them is noticed by itself.
        "_request",
        "negotiator",
        "parsers",
        "parser_context",
        "authenticators",
        "resolver_match",
        "encoding",
    }
)
HIDDEN = "_concord_reads"


def _reads(request: Any) -> set[str]:
    found: set[str] = object.__getattribute__(request, HIDDEN)
    return found


class _Quiet:
    """Runs a method of the request that itself reads what is free only in this form, such as the host."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, request: Any, owner: Any) -> Any:
        method = getattr(ASGIRequest, self.name)

        def call(*args: Any, **kwargs: Any) -> Any:
            reads = _reads(request)
            before = set(reads)
            try:
                return method(request, *args, **kwargs)
            finally:
                reads.intersection_update(before)

        return call


class _RecordingHttpRequest(ASGIRequest):
    """Django's request, writing down what is read of it."""

    build_absolute_uri = _Quiet("build_absolute_uri")
    get_full_path = _Quiet("get_full_path")
    get_full_path_info = _Quiet("get_full_path_info")
    get_host = _Quiet("get_host")
    get_port = _Quiet("get_port")
    is_secure = _Quiet("is_secure")

    def __getattribute__(self, name: str) -> Any:
        if name not in FREE:
            object.__getattribute__(self, HIDDEN).add(name)
        return super().__getattribute__(name)


class _RecordingRequest(Request):
    """DRF's request, writing down what is read of it."""

    def __getattribute__(self, name: str) -> Any:
        if name not in FREE:
            object.__getattribute__(self, HIDDEN).add(name)
        return super().__getattribute__(name)


def evaluate(
    view_class: Any,
    request: Any,
    *,
    action: str,
    kwargs: Mapping[str, Any],
    work: Callable[[Any], R],
    user: Any,
    auth: Any,
) -> tuple[R, Level]:
    """Run some work on a fresh view, and tell for whom the result holds.

    No permission, ``initial()`` or middleware has run on this view and request, and the context is empty but
    for language and time zone: nothing that was stored there for one caller can be found by another.

    Args:
        view_class: of the view.
        request: fresh, from ``views.http_request``.
        action: of the view.
        kwargs: of the view.
        work: gets the view.
        user: who is calling, as authentication found.
        auth: what authentication said besides.

    Raises:
        Exception: what the work raises; then nothing is known, and nobody may share.
    """
    context = contextvars.Context()
    language, zone = translation.get_language(), timezone.get_current_timezone()
    return context.run(_evaluate, view_class, request, action, kwargs, work, (user, auth), (language, zone))


def _evaluate(
    view_class: Any,
    request: Any,
    action: str,
    kwargs: Mapping[str, Any],
    work: Callable[[Any], R],
    caller: tuple[Any, Any],
    place: tuple[str | None, Any],
) -> tuple[R, Level]:
    language, zone = place
    if language is not None:
        translation.activate(language)
    timezone.activate(zone)
    request._force_auth_user, request._force_auth_token = caller  # authentication has been passed
    request.concord_caller = None
    view = views.build(view_class, request, action=action, kwargs=kwargs)
    view.request.user, view.request.auth = caller
    declared = declared_key(view_class) is not None
    if declared or never_shared(view_class):
        if _is_projects(view_class.initial):
            views.admit(view)
        return work(view), Level.USER if declared else Level.CONNECTION
    recorded = _record(view.request)
    result = work(view)
    if recorded is None:
        return result, Level.CONNECTION
    if not recorded:
        return result, Level.SHARED
    return result, Level.USER if recorded <= USER_READS else Level.CONNECTION


def _record(request: Any) -> set[str] | None:
    """Let a request write down what is read of it; None for one that is not of the known kind."""
    http = request._request
    if type(request) is not Request or type(http) is not ASGIRequest:
        return None
    reads: set[str] = set()
    for each, recording in ((request, _RecordingRequest), (http, _RecordingHttpRequest)):
        object.__setattr__(each, HIDDEN, reads)
        each.__class__ = recording
    return reads


def never_shared(view_class: Any) -> bool:
    """Tell whether a view does something before its queryset that may look at the caller unseen."""
    if declared_key(view_class) is not None:
        return False
    hooks = (
        "initial",
        "dispatch",
        "setup",
        "initialize_request",
        "get_authenticators",
        "perform_authentication",
    )
    return any(_is_projects(getattr(view_class, name, None)) for name in hooks)


def _is_projects(function: Any) -> bool:
    module = str(getattr(function, "__module__", ""))
    return not module.startswith(("rest_framework.", "django.", "drf_concord."))


def declared_key(view_class: Any) -> Callable[[Any], Any] | None:
    """Return the view's ``visibility_key(request)``: callers with equal keys see the same."""
    found: Callable[[Any], Any] | None = getattr(view_class, "visibility_key", None)
    return found
