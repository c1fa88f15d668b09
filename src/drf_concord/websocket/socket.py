"""One socket and the work it has under way, whoever answers it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ..live.draining import DRAINING, TIMEOUT, return_after, sockets_of_loop
from ..protocol.frames import MAX_FRAME
from .outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["DRAINING", "FORBIDDEN", "RESTART", "SLOW", "UNAUTHENTICATED", "UNREADABLE", "Socket"]

IN_FLIGHT = 32
"""How many requests of one socket may be under way; more wait unread."""
SHARE = 4
"""How many requests of one socket may be worked on at a time."""
GRACE = 5.0
"""How long a close may take before the socket is dropped, in seconds."""
RESTART, UNREADABLE, UNAUTHENTICATED, FORBIDDEN, SLOW = 1012, 4400, 4401, 4403, 4508


class Socket:
    """Reads frames, starts work for them, and sends; ends everything when the peer goes.

    Args:
        bye: makes the last frame, from the close code and the milliseconds until the peer may come back;
            None in plain mode, where nothing is sent that was not asked for.
    """

    def __init__(
        self, send: Callable[[Any], Awaitable[None]], bye: Callable[[int, int], str] | None = None
    ) -> None:
        self.outlet = Outlet(send)
        self.tasks: set[asyncio.Task[None]] = set()
        self.heard = asyncio.get_running_loop().time()
        self._send = send
        self._bye = bye
        self._finishing = False
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
        sockets = sockets_of_loop()
        sockets.open.add(self)
        try:
            if sockets.draining:
                await self.leave(return_after(), asyncio.get_running_loop().time() + TIMEOUT)
            while self._closer is None:
                event = await receive()
                if event["type"] != "websocket.receive":
                    return
                if self._finishing:
                    continue  # asked too late; whoever is not answered asks again elsewhere
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
                self._drop()
                raise
            self._serving.uncancel()  # it was us, who wait no longer for a peer that does not read
        finally:
            sockets.open.discard(self)

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

    # When the process is about to stop

    async def finish(self, until: float) -> None:
        """Take nothing in any more, and send what is due for what was taken in, up to a time of the loop."""
        self._finishing = True
        while self.tasks and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self.tasks, timeout=left)
        await self.outlet.flushed(max(0.0, until - asyncio.get_running_loop().time()))

    async def leave(self, after: float, until: float) -> None:
        """Say goodbye and close; the peer may come back after some seconds."""
        self.close(*self._goodbye(after))
        left = until - asyncio.get_running_loop().time()
        if self._closer is not None and left > 0:
            await asyncio.wait([self._closer], timeout=left)

    def _goodbye(self, after: float) -> tuple[int, str | None]:
        if self._bye is None:
            return RESTART, None
        return DRAINING, self._bye(DRAINING, int(after * 1000))

    def _drop(self) -> None:
        """Say goodbye to the peer without waiting: the server waits no longer, and has cancelled us."""
        code, last = self._goodbye(return_after())
        events: list[dict[str, Any]] = [{"type": "websocket.close", "code": code}]
        if last is not None:
            events.insert(0, {"type": "websocket.send", "text": last})
        self.outlet.close()
        for event in events:
            sending: Any = self._send(event)
            with contextlib.suppress(Exception):  # the peer may be gone, and the socket closed
                sending.send(None)
                sending.close()  # it would have to wait
                return

    def end(self) -> None:
        """Stop everything: the peer is gone."""
        self.outlet.close()
        for task in self.tasks:
            task.cancel()
