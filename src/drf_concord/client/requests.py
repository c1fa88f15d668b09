"""Requests over HTTP without a network: what to send, what an answer means, when to send it again.

An operation is a generator: it yields a `Request` and is sent the `Answer`, or yields a `Pause` and is sent
nothing. The clients drive it, one with threads and one with tasks; all there is to know is here.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import msgspec

from ..protocol.backoff import delay
from .errors import BusyError, ClientError, ConnectionFailed, refusal

__all__ = [
    "Answer",
    "Operation",
    "Pause",
    "Request",
    "authorization",
    "child",
    "exchange",
    "origin",
    "repeated",
    "site",
]

ATTEMPTS = 4
"""How often a request is sent that is answered with 503 `busy`."""
LONGEST_PAUSE = 10.0
"""A server that asks for a longer wait than this is not waited for, in seconds."""
REDIRECTS = 5
SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Request:
    """What to send."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    pk: Any = None
    timeout: float | None = None  # in seconds; None for that of the client

    def content(self) -> bytes | None:
        """Return the body, or None."""
        return None if self.data is None else msgspec.json.encode(self.data, enc_hook=_plain)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def body(self) -> Any:
        """Return the body, or None where it is not JSON."""
        try:
            return msgspec.json.decode(self.content)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None

    def retry_after(self) -> float | None:
        """Return Retry-After in seconds, or None; a date in it is passed over (RFC 9110 10.2.3)."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, in seconds."""

    seconds: float


T = TypeVar("T")
Operation = Generator[Request | Pause, Any, T]


def exchange(request: Request) -> Operation[Answer]:
    """Send a request and return the answer, of less than 400; 503 `busy` is tried again.

    Raises:
        ClientError: the answer was a refusal.
    """
    for attempt in range(ATTEMPTS):
        answer = yield from _redirected(request)
        if answer.status < 400:
            return answer
        error = refusal(
            answer.status, answer.body(), retry_after=answer.retry_after(), mine=request.data, pk=request.pk
        )
        wait = max(delay(attempt, random.random()), error.retry_after or 0.0)  # noqa: S311
        if not isinstance(error, BusyError) or attempt == ATTEMPTS - 1 or wait > LONGEST_PAUSE:
            raise error
        yield Pause(wait)
    raise AssertionError


def _redirected(request: Request) -> Operation[Answer]:
    """Follow redirects of this server; nothing is sent to another one."""
    for _ in range(REDIRECTS):
        answer: Answer = yield request
        if answer.status not in {301, 302, 303, 307, 308} or "location" not in answer.headers:
            return answer
        target = urljoin(request.url, answer.headers["location"])
        if origin(target) != origin(request.url):
            raise ClientError(
                f"The server sends this request on to {site(target)}, where it was not made for; nothing was"
                " sent there. If that is right, use its address.",
                status=answer.status,
                code="redirected",
            )
        # RFC 9110 15.4: other codes may turn a write into a GET
        if request.method not in SAFE and answer.status not in {307, 308}:
            raise ClientError(
                f"The server sends this write on to {urlsplit(target).path}; nothing was changed. Use that"
                " address.",
                status=answer.status,
                code="redirected",
            )
        request = replace(request, url=target)
    raise ClientError("The server sends this request round in circles.", code="redirected")


def repeated(request: Request, attempts: int = 3) -> Operation[Answer]:
    """Send a request that can be repeated, also where nobody answers."""
    for attempt in range(attempts):
        try:
            return (yield from exchange(request))
        except ConnectionFailed:
            if attempt == attempts - 1:
                raise
            yield Pause(delay(attempt, random.random()))  # noqa: S311
    raise AssertionError


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def site(url: str) -> str:
    """Return scheme, host and port of an address, and nothing secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def child(url: str, pk: Any, *, slash: bool) -> str:
    """Return the address of a member of a collection.

    Raises:
        ValueError: the key would lead somewhere else.
    """
    name = quote(str(pk), safe="")
    if name in {"", ".", ".."}:
        raise ValueError(f"{pk!r} is no key of an object")
    return f"{url.rstrip('/')}/{name}{'/' if slash else ''}"


def authorization(auth: tuple[str, str] | None, token: str | None) -> dict[str, str]:
    """Return the header that says who is asking.

    Args:
        auth: user name and password.
        token: for `Authorization: Token ...`; one with a scheme before it is sent as it is: `"Bearer ..."`.

    Raises:
        ValueError: both were given.
    """
    if auth is not None and token is not None:
        raise ValueError("Give auth or token, not both.")
    if auth is not None:
        return {"Authorization": f"Basic {b64encode(':'.join(auth).encode()).decode()}"}
    if token is not None:
        return {"Authorization": token if " " in token else f"Token {token}"}
    return {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
