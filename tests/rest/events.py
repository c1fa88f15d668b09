"""Streams of events inside the test's process, which steps the server instead of waiting for it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIHandler
from django.test import TransactionTestCase

from drf_concord.live.pool import pool
from drf_concord.testing import get_headers_for_user, settle
from tests.eventstreams import Event, parsed

__all__ = ["EventCase", "EventClient", "database"]

database = sync_to_async
ACCEPT = b"text/event-stream"


class EventClient(ApplicationCommunicator):
    """A client that reads one response, as far as the test lets it."""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        parts = urlsplit(path)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": [(b"host", b"testserver"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        super().__init__(ASGIHandler(), scope)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.over = False

    async def begin(self) -> EventClient:
        """Ask, and wait for the status."""
        pool.run_inline()
        await self.send_input({"type": "http.request", "body": b""})
        start = await self.receive_output(5)
        self.status = start["status"]
        self.headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
        if self.headers["content-type"].startswith("text/event-stream"):
            assert await self._part() == b"retry: 2000\n\n"
        return self

    async def text(self) -> str:
        """Return all that has been sent, once the server has done all there is to do."""
        found = b""
        for _ in range(3):
            await settle()
            while not self.output_queue.empty():
                found += await self._part()
        return found.decode()

    async def _part(self) -> bytes:
        message = await self.receive_output(5)
        assert message["type"] == "http.response.body", message
        self.over = not message.get("more_body")
        return bytes(message.get("body", b""))

    async def body(self) -> Any:
        """Return the JSON of an ordinary answer."""
        return json.loads((await self.receive_output(5))["body"])

    async def leave(self) -> None:
        """Cut the connection."""
        if not self.over:
            await self.send_input({"type": "http.disconnect"})
        await self.wait(5)


class EventCase(TransactionTestCase):
    """Opens streams and closes them."""

    path = "/items/"

    async def asyncSetUp(self) -> None:
        self.opened: list[EventClient] = []
        self.user = await database(get_user_model().objects.create_user)("guido")

    async def asyncTearDown(self) -> None:
        for client in self.opened:
            if not client.future.done():
                await client.leave()

    async def open(
        self, path: str | None = None, last: str = "", user: Any = None, accept: bytes = ACCEPT
    ) -> EventClient:
        """Ask for a stream, and wait for the status."""
        headers = [(b"accept", accept)] + ([(b"last-event-id", last.encode())] if last else [])
        if user is not None:
            headers += await get_headers_for_user(user)
        client = EventClient(path or self.path, headers)
        self.opened.append(client)
        return await client.begin()

    async def events(self, client: EventClient) -> list[Event]:
        """Return the events that have come, without comments."""
        return [event for event in parsed(await client.text()) if event.kind]
