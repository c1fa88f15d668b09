"""Building a view and its request for a socket, as HTTP would for a browser."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Model
from django.utils.crypto import constant_time_compare
from rest_framework.request import Request
from rest_framework.views import APIView

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from django.http import HttpRequest

__all__ = ["Caller", "admit", "build", "http_request"]

HANDSHAKE = (b"connection", b"upgrade", b"content-type", b"content-length", b"transfer-encoding", b"accept")
"""Headers of the handshake that say nothing of a request."""
KEPT = 64


class Caller:
    """Who is calling on a socket: the user of its scope, and what its authentication classes said.

    Used from several threads. What a class said is kept, so that a password is hashed once per socket.
    """

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        self.scope = scope
        self._user: Any = None
        self._kept: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    @property
    def user(self) -> Any:
        """The user the middleware found, read again since if it was time; anonymous when there is none."""
        if self._user is None:
            user = self.scope.get("user")
            self._user = AnonymousUser() if user is None or isinstance(user, type) else user
        return self._user

    def admit_request(self, request: HttpRequest, view_class: Any) -> None:
        """Spare a request the authentication that this socket has passed with the same classes."""
        classes = tuple(getattr(view_class, "authentication_classes", ()))
        if view_class.get_authenticators is not APIView.get_authenticators:
            return  # what it returns may depend on anything
        with self._lock:
            kept = self._kept.get(classes)
        if kept is None:
            probe = Request(request, authenticators=[each() for each in classes])
            try:
                kept = (probe.user, probe.auth)
            except Exception:
                return  # the view says it in its own words
            if not getattr(kept[0], "is_authenticated", False):
                return
            with self._lock:
                if len(self._kept) < KEPT:
                    self._kept[classes] = kept
        forced: Any = request
        forced._force_auth_user, forced._force_auth_token = kept

    def refresh(self) -> None:
        """Read the accounts again, and drop what no longer holds; a password is never hashed again."""
        with self._lock:
            kept = dict(self._kept)
        for classes, (user, auth) in kept.items():
            fresh = _read_again(user)
            gone = isinstance(auth, Model) and not type(auth)._default_manager.filter(pk=auth.pk).exists()
            with self._lock:
                if fresh is None or gone:
                    self._kept.pop(classes, None)
                else:
                    self._kept[classes] = (fresh, auth)
        user = self.user
        if getattr(user, "is_authenticated", False):
            fresh = _read_again(user)
            if fresh is None or not _session_holds(self.scope.get("session"), fresh):
                with self._lock:
                    self._kept.clear()
                fresh = AnonymousUser()
            self._user = fresh


def _read_again(user: Any) -> Any:
    """Return a user as it is now, or None when it is gone or was deactivated."""
    if not isinstance(user, Model) and not hasattr(user, "_wrapped"):
        return user  # no row of ours to read
    fresh = user.__class__._default_manager.filter(pk=user.pk).first()
    return fresh if fresh is not None and getattr(fresh, "is_active", True) else None


def _session_holds(session: Any, user: Any) -> bool:
    """Tell whether the session a socket was opened with is still that user's."""
    session = getattr(session, "_wrapped", session)
    key = getattr(session, "session_key", None)
    if key is None:
        return True  # this user came by other means than a session
    stored = type(session)(key).load()
    hashed = stored.get(HASH_SESSION_KEY, "")
    same = str(stored.get(SESSION_KEY)) == str(user.pk)
    return same and constant_time_compare(hashed, user.get_session_auth_hash())


def http_request(
    caller: Caller,
    *,
    path: str,
    method: str = "GET",
    query: Mapping[str, object] | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> ASGIRequest:
    """Return the HTTP request a frame stands for, with the headers of the handshake.

    CSRF is not asked for: the origin of the socket was checked instead.
    """
    scope = caller.scope
    given = [
        (name, value)
        for name, value in scope.get("headers", ())
        if name not in HANDSHAKE and not name.startswith(b"sec-websocket")
    ]
    given.append((b"accept", b"application/json"))
    given += [(n.lower().encode(), v.encode("latin-1", "replace")) for n, v in (headers or {}).items()]
    if body:
        given += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    http: dict[str, Any] = {
        **{k: scope[k] for k in ("client", "server", "root_path") if k in scope},
        "type": "http",
        "method": method,
        "path": path,
        "scheme": {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), scope.get("scheme")),
        "query_string": urlencode(_pairs(query or {}), doseq=True).encode(),
        "headers": given,
    }
    request: Any = ASGIRequest(http, io.BytesIO(body))
    request.user = caller.user
    if "session" in scope:
        request.session = scope["session"]
    request._dont_enforce_csrf_checks = True
    request.concord_caller = caller
    found: ASGIRequest = request
    return found


def _pairs(query: Mapping[str, object]) -> dict[str, object]:
    """Return query parameters as a browser writes them: true and false, nothing for null, lists repeated."""
    return {
        name: [_text(v) for v in value] if isinstance(value, list | tuple) else _text(value)
        for name, value in query.items()
        if value is not None
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build(
    view_class: Any, request: Any, *, action: str, kwargs: Mapping[str, Any], method: str = "GET"
) -> Any:
    """Return a fresh view with its request, as it is before authentication and permissions are asked."""
    view = view_class()
    view.action_map = {method.lower(): action}
    view.setup(request, **kwargs)
    view.format_kwarg = None
    caller = getattr(request, "concord_caller", None)
    if caller is not None:
        caller.admit_request(request, view_class)
    view.request = view.initialize_request(request, **kwargs)
    view.action = action
    view.headers = view.default_response_headers
    negotiated = view.perform_content_negotiation(view.request, force=True)
    view.request.accepted_renderer, view.request.accepted_media_type = negotiated
    view.request.version, view.request.versioning_scheme = view.determine_version(view.request, **kwargs)
    return view


def admit(view: Any) -> None:
    """Authenticate and check permissions as for an HTTP request; throttles are for requests.

    Raises:
        APIException, PermissionDenied, Http404
    """
    if type(view).initial is not APIView.initial and not _is_ours(type(view).initial):
        view.get_throttles = list
        view.initial(view.request, *view.args, **view.kwargs)
        return
    view.perform_authentication(view.request)
    view.check_permissions(view.request)


def _is_ours(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("drf_concord.")
