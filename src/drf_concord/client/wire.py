"""Requests as httpx takes them, and what it gives back."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx

from .errors import ClientError, ConnectionFailed
from .requests import SAFE, Answer, Request, site
from .values import Item

__all__ = ["answered", "certificates", "found", "options", "unanswered"]


@cache
def certificates() -> ssl.SSLContext:
    """Return what servers are trusted by, read once in a process: it takes longer than many a request."""
    return httpx.create_ssl_context()


def options(request: Request) -> dict[str, Any]:
    """Return a request as httpx takes it."""
    headers = {"Accept": "application/json", **request.headers}
    content = request.content()
    if content is not None:
        headers["Content-Type"] = "application/json"
    timeout = httpx.USE_CLIENT_DEFAULT if request.timeout is None else request.timeout
    return {
        "method": request.method,
        "url": request.url,
        "headers": headers,
        "content": content,
        "timeout": timeout,
    }


def answered(response: httpx.Response) -> Answer:
    """Return what httpx got."""
    # httpx decodes as it sees fit; what a header may hold beyond ASCII is latin-1 (RFC 9110 5.5)
    pairs = (
        (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
    )
    return Answer(response.status_code, dict(pairs), response.content)


def unanswered(request: Request, error: httpx.RequestError) -> ConnectionFailed:
    """Return what it means that there was no answer."""
    detail = f"{site(request.url)} does not answer ({type(error).__name__}: {error})."
    if request.method not in SAFE and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        detail += " It is not known whether the change was made: read the object, or repeat it with its tag."
    return ConnectionFailed(detail, code="connection_failed")


def found(item: Item | None) -> Item:
    """Return the object of an answer that has one."""
    if item is None:
        raise ClientError("The server answered without the object.")
    return item
