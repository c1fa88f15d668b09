"""Building a view for a call over a websocket, and admitting the caller, as HTTP would."""

from __future__ import annotations

import functools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from rest_framework.exceptions import (
    AuthenticationFailed,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
)
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from .callers import Caller, kept_classes
from .requests import SocketRequest, attributes, http_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpRequest
    from rest_framework.request import Request

__all__ = [
    "Caller",
    "SocketRequest",
    "admit",
    "build",
    "compares_tags",
    "compares_versions",
    "http_request",
    "options",
    "stashes",
]

ROUTED = ("name", "description", "suffix", "detail", "basename")
"""What a router gives a viewset, which may not have passed one."""

logger = logging.getLogger("drf_concord")

_stashing: WeakSet[type] = WeakSet()


def options(view_class: Any, action: str) -> dict[str, Any]:
    """Return what a view is constructed with for an action; also what its ``as_view()`` is to be given.

    It is what the ``@action`` decorator says, with authentication that is kept for the socket.
    """
    found = dict(_decorated(view_class).get(action, {}))
    classes = found.get("authentication_classes", view_class.authentication_classes)
    found["authentication_classes"] = kept_classes(classes)
    return found


@functools.lru_cache(maxsize=1024)
def _decorated(view_class: Any) -> dict[str, Mapping[str, Any]]:
    if not issubclass(view_class, ViewSetMixin):
        return {}
    return {name: extra.kwargs for extra in view_class.get_extra_actions() for name in extra.mapping.values()}


@functools.lru_cache(maxsize=1024)
def compares_tags(view_class: Any) -> bool:
    """Tell whether the writes of a view heed ``If-Match``: those of REST framework's own mixins do not."""
    if hasattr(view_class, "concord_control"):
        return True
    for name in ("update", "destroy"):
        for cls in view_class.__mro__:
            if name in vars(cls) and cls.__module__.partition(".")[0] in {"rest_framework", "drf_concord"}:
                if not hasattr(cls, "preconditions"):
                    return False
                break
    return True


@functools.lru_cache(maxsize=1024)
def compares_versions(view_class: Any) -> bool:
    """Tell whether the tag of an object's version is one that the writes of a view take for its state."""
    by_version = getattr(view_class, "etag_from", None) in {None, "version"}
    return by_version and not hasattr(view_class, "concord_control") and bool(compares_tags(view_class))


def build(
    view_class: Any,
    request: HttpRequest,
    *,
    action: str,
    kwargs: Mapping[str, Any],
    method: str = "GET",
    prepare: Callable[[Request], None] | None = None,
) -> Any:
    """Return a fresh view as it is before DRF authenticates: with its request, renderer and version.

    Args:
        view_class: a viewset or a generic view.
        request: the HTTP request.
        action: what is called.
        kwargs: the keyword arguments of the view's route.
        method: the HTTP method; the request is given it.
        prepare: called with the DRF request before anything of it is read.

    Raises:
        APIException: the version is not one of the view's.
    """
    view: Any = view_class(**options(view_class, action))
    kwargs = dict(kwargs)
    if request.method != method:
        request.method = method
    if issubclass(view_class, ViewSetMixin):
        for name in ROUTED:
            if not hasattr(view, name):
                setattr(view, name, None)
        view.action_map = dict.fromkeys(("get", "head") if method == "GET" else (method.lower(),), action)
        if hasattr(view, action):
            vars(view).update(dict.fromkeys(view.action_map, getattr(view, action)))
        view.request, view.args, view.kwargs = request, (), kwargs
    else:
        view.setup(request, **kwargs)
    seen = view.request = view.initialize_request(request, **kwargs)
    if prepare is not None:
        prepare(seen)
    view.action = action
    view.headers = view.default_response_headers
    view.format_kwarg = None
    seen.accepted_renderer, seen.accepted_media_type = view.perform_content_negotiation(seen, force=True)
    seen.version, seen.versioning_scheme = view.determine_version(seen, **kwargs)
    return view


def admit(view: Any) -> None:
    """Authenticate and check permissions as HTTP would; throttles are not asked.

    A view that overrides ``initial`` or ``dispatch`` is admitted by running it.

    Raises:
        APIException, django.http.Http404, django.core.exceptions.PermissionDenied: the caller is refused.
            Where HTTP would answer 403 because there is no way to log in, the exception says 403.
    """
    cls: Any = type(view)
    request = view.request
    before, kwargs = _attributes(view), dict(view.kwargs)
    try:
        if cls.dispatch is not APIView.dispatch:
            _through_dispatch(view)
        elif cls.initial is not APIView.initial:
            _through_initial(view)
        else:
            view.perform_authentication(request)
            view.check_permissions(request)
    except (NotAuthenticated, AuthenticationFailed) as refusal:
        header = view.get_authenticate_header(request)
        if header:
            refusal.auth_header = header  # type: ignore[union-attr]
        else:
            refusal.status_code = PermissionDenied.status_code
        raise
    left = [key[1] for key, value in _attributes(view).items() if before.get(key, before) is not value]
    if (left or view.kwargs != kwargs) and cls not in _stashing:
        _stashing.add(cls)
        logger.info(
            "Answers of %s are not shared between sockets: admitting a caller leaves %s on it.",
            cls.__name__,
            ", ".join(sorted(left)) or "other kwargs",
        )


def stashes(view_class: type) -> bool:
    """Tell whether admitting somebody has left something on this view or its request, to be read later."""
    return view_class in _stashing


def _attributes(view: Any) -> dict[tuple[int, str], object]:
    holders = enumerate((view, view.request, view.request._request))
    return {(number, name): value for number, holder in holders for name, value in attributes(holder).items()}


@contextmanager
def _replaced(view: Any, **attributes: Any) -> Iterator[None]:
    """Let an instance have other methods for a while."""
    own = {name: vars(view)[name] for name in attributes if name in vars(view)}
    vars(view).update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            vars(view).pop(name, None)
        vars(view).update(own)


def _through_initial(view: Any) -> None:
    with _replaced(view, check_throttles=_unasked):
        view.initial(view.request, *view.args, **view.kwargs)


def _unasked(request: Request) -> None:
    """Stand in for the throttles."""


def _through_dispatch(view: Any) -> None:
    """Run the view's own dispatch, with a handler that notices that it was reached."""
    request = view.request
    reached = []

    def handler(*args: Any, **kwargs: Any) -> Response:
        reached.append(True)
        return Response(status=204)

    def refuse(refusal: Exception) -> Response:
        raise refusal

    stand_ins = {
        request.method.lower(): handler,
        "initialize_request": lambda *args, **kwargs: request,
        "check_throttles": _unasked,
        "handle_exception": refuse,
        "finalize_response": lambda request, response, *args, **kwargs: response,
    }
    with _replaced(view, **stand_ins):
        response = view.dispatch(request._request, *view.args, **view.kwargs)
    if reached:
        return
    if response.status_code < 300:  # answered from a cache, without asking the view
        _through_initial(view)
    elif response.status_code == NotFound.status_code:
        raise NotFound
    else:
        view.permission_denied(request)
