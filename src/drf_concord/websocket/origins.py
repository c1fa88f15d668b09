"""Which pages may open a socket: the place of CSRF protection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["allowed"]

LOCAL = [".localhost", "127.0.0.1", "[::1]"]


def allowed(scope: Mapping[str, Any]) -> bool:
    """Tell whether a handshake comes from a page of ours, or from no page at all.

    Browsers always say where a socket comes from, so a missing Origin is a program's, which can only use
    credentials of its own. A page may come from the host that is asked, from ``ALLOWED_HOSTS`` (a ``*`` there
    does not count) and from ``CSRF_TRUSTED_ORIGINS``.
    """
    headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
    origin = headers.get(b"origin")
    if origin is None:
        return True
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    if not host:
        return False  # "null": a sandboxed frame or a file
    asked, _ = split_domain_port(headers.get(b"host", ""))
    domain = f"[{host}]" if ":" in host else host
    known = [h for h in settings.ALLOWED_HOSTS if h != "*"]
    if settings.DEBUG and not known:
        known = LOCAL
    return domain == asked or validate_host(domain, known)
