"""For whom a result holds, found out by watching what is read: everybody, one user, or one socket."""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from django.urls import set_script_prefix
from django.utils import timezone, translation
from rest_framework.request import Request

from ..conf import settings
from . import views
from .accounts import unwrapped
from .middleware import within
from .recording import LateRead, Level, Record, RecordedHttpRequest, RecordedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from datetime import tzinfo

    from django.http import HttpRequest

__all__ = ["LateRead", "Level", "declared_key", "evaluate", "never_shared"]

R = TypeVar("R")

HOOKS = ("initial", "dispatch", "setup", "initialize_request", "get_authenticators")
"""What runs before an evaluation begins, and could leave something about the caller behind."""
OURS = {"rest_framework", "drf_concord"}


def evaluate(
    view_class: Any,
    request: HttpRequest,
    *,
    action: str,
    kwargs: Mapping[str, Any],
    work: Callable[[Any], R],
    user: Any,
    auth: Any,
    language: str | None = None,
    time_zone: tzinfo | None = None,
) -> tuple[R, Level]:
    """Do some work with a view, and tell for whom the result holds.

    The view and its requests are fresh, no permission or middleware has run on them, and the context is empty
    but for language, time zone and script name. Free to read are the method, the query, the version, the
    renderer, scheme and host: their values belong into the key of what is shared (`Caller.origin`). Reading
    the user is one level; reading anything else of the request, what it does not have included, is the next,
    and so is a user who carries more than a row of the user model. It is noticed wherever the request was
    handed to; a read that comes after the answer was given raises `LateRead`.

    Not noticed: thread locals, caches of the process (of modules, classes, `lru_cache`, Django's caches), the
    clock, files, and what a permission or middleware leaves in those or on a connection. A view that depends
    on such a thing declares ``visibility_key(request)``.

    A view that is `never_shared`, or declares a key, is admitted and works on the request itself, in the
    context of the caller; the level is then `Level.CONNECTION`, whatever it reads. So does every view where
    the project has ``SOCKET_MIDDLEWARE``, inside of that: it chooses the language and the time zone.

    Args:
        view_class: a viewset or a generic view.
        request: the request that a GET would be.
        action: what is called.
        kwargs: the keyword arguments of the view's route.
        work: gets the view; what it returns must not be lazy.
        user: who the view's authentication says is calling.
        auth: what else it says.
        language: the language to work in; the active one when None.
        time_zone: the time zone to work in; the active one when None.

    Raises:
        Exception: what the work raises; nothing may be shared then.
    """
    inside = bool(settings.SOCKET_MIDDLEWARE)
    if not inside:
        language = language or translation.get_language() or ""
        time_zone = time_zone or timezone.get_current_timezone()
    watched = not inside and not never_shared(view_class) and declared_key(view_class) is None
    record = Record(request, unwrapped(user), auth) if watched else None

    def evaluated() -> R:
        if language:
            translation.activate(language)
        elif language is not None:
            translation.deactivate_all()
        if time_zone is not None:
            timezone.activate(time_zone)
        set_script_prefix(request.META.get("SCRIPT_NAME") or "/")
        if record is None:
            view = views.build(view_class, request, action=action, kwargs=kwargs)
            if not isinstance(request, views.SocketRequest):  # a socket's knows how to authenticate
                view.request.user, view.request.auth = user, auth
            views.admit(view)
        else:
            seen = RecordedHttpRequest(record)
            view = views.build(view_class, seen, action=action, kwargs=kwargs, prepare=_recorded)
        return work(view)

    if record is None:
        return contextvars.copy_context().run(within, request, evaluated), Level.CONNECTION
    try:
        return contextvars.Context().run(evaluated), record.close()
    finally:
        record.close()


def _recorded(request: Request) -> None:
    if type(request) is not Request:
        raise TypeError(f"{type(request).__name__} cannot be recorded.")
    request.__class__ = RecordedRequest


def never_shared(view_class: Any) -> bool:
    """Tell whether results of a view hold for one socket only, because much happens before it can be watched.

    So it is where one of `HOOKS` is overridden, or where admitting somebody has left something on the view or
    its request; unless the view declares ``visibility_key(request)``.
    """
    return declared_key(view_class) is None and (views.stashes(view_class) or _overrides(view_class))


@functools.lru_cache(maxsize=1024)
def _overrides(view_class: Any) -> bool:
    return any(
        name in vars(base) and not _is_ours(base.__module__) for base in view_class.__mro__ for name in HOOKS
    )


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS or module.startswith("django.views.")


def declared_key(view_class: Any) -> Callable[[Request], Hashable] | None:
    """Return what computes the key that a view declares from an admitted view's request; None without one.

    Results of the view hold for all callers with an equal key.
    """
    return _key_of if callable(getattr(view_class, "visibility_key", None)) else None


def _key_of(request: Request) -> Hashable:
    assert request.parser_context is not None  # noqa: S101
    key: Hashable = request.parser_context["view"].visibility_key(request)
    return key
