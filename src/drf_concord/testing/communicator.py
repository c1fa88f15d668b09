"""A websocket client inside the test's process, which steps the server instead of waiting for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from asgiref.testing import ApplicationCommunicator

from ..live.hub import hub_of_loop
from ..live.pool import pool
from ..websocket.application import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["APICommunicator", "settle"]

ROUNDS = 100
MARK = "drf_concord.testing"
"""Under which a scope says whose it is; middleware hands on copies of scopes."""
STEP = 0.02
"""How long to wait, in seconds, before looking again whether somebody else has written."""


async def settle() -> None:
    """Let the sockets of this event loop do all there is to do: requests, what changed, deliveries.

    Work runs on the caller's thread in tests, so that it sees what the test has written; this waits for it,
    and no test has to sleep.
    """
    hub = hub_of_loop()
    for _ in range(ROUNDS):
        for _ in range(5):
            await asyncio.sleep(0)
        working: list[asyncio.Task[Any]] = [
            task for listener in list(hub.listeners) for task in listener.tasks
        ]
        if working:
            done, _ = await asyncio.wait(working, timeout=5)
            if not done:
                return  # it waits for something that the test has not done yet
            continue
        if not hub.started:
            return
        before = hub.tick
        await hub.drain()
        if hub.tick == before:
            return


class _Read(asyncio.Queue[Any]):
    """A queue whose ``join()`` waits until all that was put in it has been read."""

    async def get(self) -> Any:
        """Return the next event."""
        event = await super().get()
        self.task_done()
        return event


class APICommunicator(ApplicationCommunicator):
    """A client of one websocket.

    Args:
        application: the ASGI application, with its middleware.
        path: with query string, if any.
        headers: pairs of bytes; ``await get_headers_for_user(user)`` for somebody who is logged in.
        subprotocols: ``["concord.v1"]`` for session mode.

    Attributes:
        inline: whether the database work of the server runs on the caller's thread.
    """

    inline = True

    def __init__(
        self,
        application: Any,
        path: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> None:
        parts = urlsplit(path)
        given = list(headers or ())
        if not any(name == b"host" for name, _ in given):
            given.append((b"host", b"testserver"))
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "query_string": parts.query.encode(),
            "headers": given,
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
            "subprotocols": list(subprotocols),
        }
        self._mark = scope[MARK] = object()
        super().__init__(application, scope)

    async def connect(self, timeout: float = 5) -> tuple[bool, Any]:
        """Open the socket; returns (accepted, the subprotocol or the close code)."""
        if self.inline:
            pool.run_inline()
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(timeout)
        if answer["type"] == "websocket.close":
            return False, answer.get("code", 1000)
        return True, answer.get("subprotocol")

    async def send_json_to(self, data: Any, timeout: float = 5) -> None:
        """Send a value as a frame; returns as `send_to` does."""
        await self.send_to(msgspec.json.encode(data).decode(), timeout)

    async def send_to(self, text: str, timeout: float = 5) -> None:
        """Send a frame as it is, and let the server take it in.

        When this returns, a subscription that the frame asks for stands or was refused: what is written from
        then on is told. Other requests may still be under way. Where the server waits for what the test has
        not done yet, or reads no more, this returns after ``timeout`` seconds, which may be 0.
        """
        connection = self._connection()
        before = set(connection.session.subscriptions) if connection is not None else set()
        await self.send_input({"type": "websocket.receive", "text": text})
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        taken = asyncio.ensure_future(self.input_queue.join())
        await asyncio.wait([taken, self.future], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        taken.cancel()
        if connection is None:
            return
        asked = connection.session.subscriptions.keys() - before
        while asked & connection.session.subscriptions.keys() and connection._joining():
            left = end - loop.time()
            if left <= 0 or not connection.tasks or self.future.done():
                return
            await asyncio.wait(connection.tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    @property
    def input_queue(self) -> Any:
        """What the server is to read."""
        if self._input_queue is None:
            self._input_queue = _Read()
        return self._input_queue

    def _connection(self) -> Connection | None:
        """Return the server's end, where that is a router's."""
        ends = (each for each in hub_of_loop().listeners if isinstance(each, Connection))
        return next((end for end in ends if end.caller.scope.get(MARK) is self._mark), None)

    async def receive_json_from(self, timeout: float = 5) -> Any:
        """Return the next frame's value; waits ``timeout`` seconds at the most."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        if self.output_queue.empty():
            await settle()
        # a thread or a task may write while this waits, and in tests nothing reads the log at its own time
        while self.output_queue.empty() and not self.future.done() and loop.time() < end:
            await asyncio.sleep(STEP)
            await settle()
        answer = await self.receive_output(max(end - loop.time(), STEP))
        if answer["type"] != "websocket.send":
            raise AssertionError(f"The server sent {answer} where a frame was expected.")
        return msgspec.json.decode(answer["text"])

    async def receive_nothing(self, timeout: float = 0, interval: float = 0) -> bool:
        """Tell whether the server, having done all there is to do, has sent nothing."""
        await settle()
        return bool(self.output_queue.empty())

    async def disconnect(self, code: int = 1000, timeout: float = 5) -> None:
        """Close the socket, unless a frame that did not come in time has ended it."""
        if self.future is not None and self.future.cancelled():
            return  # what the test is to end with is that it waited in vain
        await self.send_input({"type": "websocket.disconnect", "code": code})
        await self.wait(timeout)
