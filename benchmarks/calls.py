"""HTTP calls in this process, through Django's own handler: only the socket is left out of a request."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "call"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how long it took, in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Return the body as data."""
        return json.loads(self.body)


PROJECT = (
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)
"""The middleware of a new project, as ``startproject`` writes it."""


@cache
def _handler(middleware: tuple[str, ...]) -> WSGIHandler:
    with override_settings(MIDDLEWARE=middleware):
        return WSGIHandler()


def call(
    method: str, path: str, data: object = None, *, middleware: tuple[str, ...] = PROJECT, **headers: str
) -> Answer:
    """Send one request.

    Args:
        method: of the request.
        path: where it goes.
        data: the body, as JSON; None for no body.
        middleware: what stands round the view.
        headers: in the words of the environment, such as ``HTTP_IF_MATCH``.
    """
    body = b"" if data is None else json.dumps(data).encode()
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_ACCEPT": "application/json",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **headers,
    }
    told: list[Any] = []
    handler = _handler(middleware)
    begin = time.perf_counter()
    response = handler(environ, lambda status, fields, _=None: told.extend((status, fields)))
    content = b"".join(response)
    response.close()
    seconds = time.perf_counter() - begin
    return Answer(int(told[0][:3]), dict(told[1]), content, seconds)
