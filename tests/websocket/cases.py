"""A case with a socket per user, on the test project's application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.test import TransactionTestCase

from drf_concord.testing import APICommunicator, get_headers_for_user
from tests.app.sockets import application

__all__ = ["SocketCase", "database", "until"]

database = sync_to_async


async def until(condition: Callable[[], Any]) -> None:
    """Let the event loop go on until something holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("It never came to that.")


class SocketCase(TransactionTestCase):
    """Opens sockets and closes them."""

    application: Any = application
    path = "/ws/"

    async def asyncSetUp(self) -> None:
        self.opened: list[APICommunicator] = []
        self.user = await self.person("guido")
        self.socket = await self.open(self.user)

    async def asyncTearDown(self) -> None:
        for socket in self.opened:
            await socket.disconnect()

    async def person(self, name: str, **fields: Any) -> Any:
        return await database(get_user_model().objects.create_user)(name, **fields)

    async def open(
        self, user: Any = None, path: str | None = None, *, session: bool = False, **options: Any
    ) -> APICommunicator:
        """Open a socket; in session mode its welcome is taken in."""
        headers = [*(await get_headers_for_user(user) if user else []), *options.pop("headers", [])]
        protocols = ["concord.v1"] if session else []
        socket = APICommunicator(self.application, path or self.path, headers, subprotocols=protocols)
        connected, _ = await socket.connect()
        assert connected
        self.opened.append(socket)
        if session:
            assert (await socket.receive_json_from())["type"] == "welcome"
        return socket

    async def ask(self, frame: Any, socket: APICommunicator | None = None) -> Any:
        """Send a frame and return the next one that comes."""
        socket = socket or self.socket
        await (socket.send_to(frame) if isinstance(frame, str) else socket.send_json_to(frame))
        return await socket.receive_json_from()

    async def all_from(self, socket: APICommunicator | None = None) -> list[Any]:
        """Return every frame there is, once the server has done all there is to do."""
        socket = socket or self.socket
        frames = []
        while not await socket.receive_nothing():
            frames.append(await socket.receive_json_from())
        return frames
