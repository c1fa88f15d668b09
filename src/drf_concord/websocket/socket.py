"""One socket and the work it has under way, whoever answers it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ..protocol.frames import MAX_FRAME
from .outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["FORBIDDEN", "SLOW", "UNAUTHENTICATED", "UNREADABLE", "Socket"]

IN_FLIGHT = 32
"""How many requests of one socket may be under way; more wait unread."""
SHARE = 4
"""How many requests of one socket may be worked on at a time."""
GRACE = 5.0
"""How long a close may take before the socket is dropped, in seconds."""
UNREADABLE, UNAUTHENTICATED, FORBIDDEN, SLOW = 4400, 4401, 4403, 4508


class Socket:
    """Reads frames, starts work for them, and sends; ends everything when the peer goes."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self.outlet = Outlet(send)
        self.tasks: set[asyncio.Task[None]] = set()
        self.heard = asyncio.get_running_loop().time()
        self._send = send
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._share = asyncio.Semaphore(SHARE)
        self._last: dict[Any, asyncio.Task[None]] = {}
        self._closer: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[Any] | None = None

    async def serve(
        self, receive: Callable[[], Awaitable[Any]], take: Callable[[str | bytes], Awaitable[None]]
    ) -> None:
        """Hand every frame to ``take`` until the socket ends."""
        self._serving = asyncio.current_task()
        try:
            while self._closer is None:
                event = await receive()
                if event["type"] != "websocket.receive":
                    return
                self.heard = asyncio.get_running_loop().time()
                text = event.get("text")
                if text is None:
                    text = event.get("bytes") or b""
                if len(text) > 4 * MAX_FRAME:
                    self.close(UNREADABLE)  # no client that means well is that far off
                else:
                    await take(text)
            await self._closer
        except asyncio.CancelledError:
            if self._closer is None or self._serving is None:
                raise
            self._serving.uncancel()  # it was us, who wait no longer for a peer that does not read

    async def start(self, work: Coroutine[Any, Any, None], about: Any = None) -> None:
        """Work on a request, beside others; requests about the same thing in the order they came.

        Waits while too many are under way, so that the peer has to.
        """
        try:
            await self._in_flight.acquire()
        except BaseException:
            work.close()
            raise
        before = self._last.get(about) if about is not None else None

        async def run() -> None:
            try:
                if before is not None:
                    await asyncio.wait([before])
                async with self._share:
                    await work
            finally:
                self._in_flight.release()

        task = self.spawn(run())
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
        if about is not None:
            self._last[about] = task
            task.add_done_callback(lambda done: self._forget(about, done))

    def _forget(self, about: Any, done: asyncio.Task[None]) -> None:
        if self._last.get(about) is done:
            del self._last[about]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the socket, until the socket ends."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def push(self, text: str) -> None:
        """Send a frame; a peer that does not read is closed, and may come back."""
        if not self.outlet.push(text):
            self.slow()

    def slow(self) -> None:
        """Close a socket that does not read; one that is gone needs nothing."""
        if not self.outlet.closed:
            self.close(SLOW)

    def close(self, code: int, last: str | None = None) -> None:
        """Close the socket, with a last frame where it can still be sent."""
        if self._closer is not None:
            return
        self.outlet.close()

        async def close() -> None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(GRACE):
                    if last is not None and code != SLOW:
                        await self._send({"type": "websocket.send", "text": last})
                    await self._send({"type": "websocket.close", "code": code})
                    return
            if self._serving is not None:
                self._serving.cancel()

        self._closer = asyncio.create_task(close())

    def end(self) -> None:
        """Stop everything: the peer is gone."""
        self.outlet.close()
        for task in self.tasks:
            task.cancel()
