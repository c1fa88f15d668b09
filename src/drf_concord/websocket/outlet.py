"""Sending to one socket: at once when it takes it, in order and within bounds when it does not."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = ["LIMIT", "Outlet"]

LIMIT = 1_048_576
"""How many characters may wait for a socket that does not read."""


class Outlet:
    """The way out of one socket.

    A send is driven on the spot; only when the server makes it wait does a task take over, and what comes
    meanwhile queues. A queue and a task for every socket would cost a third of the throughput.
    """

    __slots__ = ("_held", "_queue", "_queued", "_send", "_task", "closed", "limit")

    def __init__(self, send: Callable[[Any], Awaitable[None]], limit: int = LIMIT) -> None:
        self._send: Any = send
        self._queue: deque[str] = deque()
        self._queued = 0
        self._task: asyncio.Task[None] | None = None
        self._held = False
        self.limit = limit
        self.closed = False

    def push(self, text: str) -> bool:
        """Send a frame, or queue it; never waits.

        Returns:
            False when it was neither sent nor queued: the socket is gone, or its queue is full.
        """
        if self.closed:
            return False
        if self._task is not None or self._held:
            if self._queued + len(text) > self.limit:
                return False
            self._queue.append(text)
            self._queued += len(text)
            return True
        sending = self._send({"type": "websocket.send", "text": text})
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return True
        except Exception:  # the server says in its own words that the peer is gone
            self.closed = True
            return False
        self._task = asyncio.ensure_future(self._drain(sending, waits_for))
        return True

    def hold(self) -> None:
        """Queue what comes, until the socket is open."""
        self._held = True

    def release(self) -> None:
        """Send what was queued meanwhile, and then at once again."""
        self._held, held, self._queued = False, list(self._queue), 0
        self._queue.clear()
        for text in held:
            self.push(text)

    async def _drain(self, sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
        try:
            await _rest(sending, waits_for)
            while self._queue:
                text = self._queue.popleft()
                self._queued -= len(text)
                await self._send({"type": "websocket.send", "text": text})
        except Exception:
            self.closed = True
        finally:
            self._task = None
            if self.closed:
                self._queue.clear()

    async def flushed(self, timeout: float) -> None:
        """Wait until everything queued is out, ``timeout`` seconds at the most."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout)

    def close(self) -> None:
        """Drop what is queued and send no more."""
        self.closed = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was driven by hand up to its first wait."""
    while True:
        if waits_for is not None:
            # The event loop wants to see this flag on what a task waits for; driving by hand took it off.
            waits_for._asyncio_future_blocking = True
        try:
            value = yield waits_for
        except BaseException as error:
            step: Any = coroutine.throw
            argument: Any = error
        else:
            step, argument = coroutine.send, value
        try:
            waits_for = step(argument)
        except StopIteration:
            return
