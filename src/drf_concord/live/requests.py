"""The HTTP request that a view sees when it is called over a websocket."""

from __future__ import annotations

import functools
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

from django.core.handlers.asgi import ASGIRequest
from django.http import parse_cookie
from django.urls import Resolver404, resolve
from django.utils.functional import cached_property
from rest_framework.exceptions import ParseError

from .accounts import LAZY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.urls import ResolverMatch

    from .callers import Caller

__all__ = ["JSON", "SocketRequest", "attributes", "header_meta", "http_request", "origin_of", "query_string"]

SCHEMES = {"ws": "http", "wss": "https"}
JSON = "application/json"
OF_THE_CALL = ("REQUEST_METHOD", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO")
OF_THE_BODY = (b"content-type", b"content-length")

OF_DRF = frozenset({
    "kwargs", "headers", "format_kwarg", "_negotiator",
    "accepted_renderer", "accepted_media_type", "version", "versioning_scheme", "_parsed_accept_list",
    "user", "auth", "_user", "_auth", "_authenticator", "_data", "_files", "_full_data", "_stream",
    "_match", "_post", "_body", "_read_started", "csrf_processing_done", "csrf_cookie_needs_update",
})  # fmt: skip
"""What DRF and Django set on a view and its requests while a caller is admitted."""


class SocketRequest(ASGIRequest):
    """One call: the headers of the handshake, with the address, method and body of the call.

    Attributes:
        caller: who is calling.
    """

    user: Any
    session: Any
    _match: ResolverMatch | None

    def __init__(
        self,
        caller: Caller,
        method: str,
        path: str,
        query: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(
            {
                **caller.scope,
                "type": "http",
                "scheme": scheme_of(caller.scope),
                "method": method,
                "path": unquote(path),
                "query_string": query,
                "headers": (),
            },
            BytesIO(body),
        )
        self.caller = caller
        self.META.update(caller.meta)
        self.META.update((_meta_name(name), value) for name, value in headers.items())
        self.META["HTTP_ACCEPT"] = JSON
        if body:
            self.META.setdefault("CONTENT_TYPE", JSON)
            self.META["CONTENT_LENGTH"] = str(len(body))
            self._set_content_type_params(self.META)  # type: ignore[attr-defined]
        # the check of the Origin header at the handshake stands in for the CSRF token
        self._dont_enforce_csrf_checks = True
        self.user = caller.user
        session = caller.session
        if session is not None:
            self.session = session

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]
        """Return the cookies of the handshake."""
        found: Mapping[str, str] | None = self.scope.get("cookies")
        return parse_cookie(self.META.get("HTTP_COOKIE", "")) if found is None else dict(found)

    @property
    def resolver_match(self) -> ResolverMatch | None:
        """The route of the path, found out when it is asked for: few views do."""
        if "_match" not in vars(self):
            self._match = self._resolve()
        return self._match

    @resolver_match.setter
    def resolver_match(self, value: ResolverMatch | None) -> None:
        if value is not None:  # Django's own __init__ sets None
            self._match = value

    def _resolve(self) -> ResolverMatch | None:
        try:
            return resolve(self.path_info, getattr(self, "urlconf", None))
        except Resolver404:
            return None


def http_request(
    caller: Caller,
    *,
    method: str = "GET",
    path: str,
    query: Mapping[str, object],
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> SocketRequest:
    """Return the request of one call.

    Args:
        caller: who is calling.
        method: the HTTP method.
        path: of the view's route as `reverse` returns it: quoted, with the script name.
        query: the query parameters, values as JSON has them.
        body: JSON; empty for none.
        headers: what the call itself says, as ``If-Match``; it wins over the handshake.

    Raises:
        ParseError: a query parameter is an object, which no URL can say.
    """
    return SocketRequest(caller, method, path, query_string(query), body, headers or {})


def query_string(query: Mapping[str, object]) -> str:
    """Return query parameters as a browser writes them: ``true``, nothing for null, a list as repeated names.

    Raises:
        ParseError: a value is an object, or a list of lists.
    """
    return urlencode(list(_pairs(query)), errors="replace")


def _pairs(query: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        several = isinstance(value, list | tuple)
        for one in value if several else (value,):  # type: ignore[attr-defined]
            yield name, _text(name, one)


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        raise ParseError(f"The query parameter {name} is not a value that an address can hold.")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def attributes(holder: Any) -> dict[str, Any]:
    """Return what projects have set on a view or a request; what DRF and Django set is left out."""
    kind: Any = type(holder)
    known = _known(kind)
    return {name: value for name, value in vars(holder).items() if name not in known}


@functools.lru_cache(maxsize=1024)
def _known(cls: Any) -> frozenset[str]:
    return OF_DRF.union(
        n for base in cls.__mro__ for n, value in vars(base).items() if isinstance(value, LAZY)
    )


def scheme_of(scope: Mapping[str, Any]) -> str:
    """Return the HTTP scheme that corresponds to a socket's."""
    scheme: str = scope.get("scheme") or "ws"
    return SCHEMES.get(scheme, scheme)


def origin_of(scope: Mapping[str, Any]) -> tuple[str, str]:
    """Return the HTTP scheme and the host (with the script name) that representations may contain.

    They are what Django makes of the headers, those of a proxy included where the settings trust it.
    """
    known = {**scope, "headers": scope.get("headers") or (), "scheme": scheme_of(scope)}
    asked = {**known, "method": "GET", "path": "/", "query_string": b""}
    request: Any = ASGIRequest(asked, BytesIO())
    return request.scheme or "http", f"{request._get_raw_host()}{request.META['SCRIPT_NAME']}"


def header_meta(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the handshake puts into ``META``; what describes a body or a call is left out."""
    headers = [(name, value) for name, value in scope.get("headers") or () if name not in OF_THE_BODY]
    handshake = {**scope, "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    return {k: v for k, v in ASGIRequest(handshake, BytesIO()).META.items() if k not in OF_THE_CALL}


def _meta_name(name: str) -> str:
    known = name.upper().replace("-", "_")
    return known if known in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{known}"
