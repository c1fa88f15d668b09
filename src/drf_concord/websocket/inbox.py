"""What is brought to one consumer from elsewhere: in order, one at a time, and not without end."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from ..live.pool import pool
from .doing import at

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from .consumers import AsyncAPIConsumer

__all__ = ["LIMIT", "Inbox"]

logger = logging.getLogger("drf_concord")

LIMIT = 10_000
"""How many messages may wait for a consumer whose handlers are slow, before it is closed with 4508."""


class Inbox:
    """Calls a consumer's handlers, beside its requests; what one of them raises stops no other."""

    def __init__(self, consumer: AsyncAPIConsumer) -> None:
        self._consumer = consumer
        self._waiting: deque[Callable[[], Awaitable[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._held = True

    def open(self) -> None:
        """Begin: the socket can take frames."""
        self._held = False
        self._go_on()

    def put(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something when its turn comes; never waits."""
        if self._closed:
            return
        if len(self._waiting) >= LIMIT:
            self._closed = True
            self._waiting.clear()
            self._consumer.socket.slow()
            return
        self._waiting.append(work)
        self._go_on()

    def _go_on(self) -> None:
        if self._task is None and self._waiting and not self._held:
            self._task = self._consumer.socket.spawn(self._work())

    def put_message(self, message: dict[str, Any]) -> None:
        """Hand a message of a Channels layer to the method that its type names."""
        self.put(lambda: self._handle(message))

    async def _work(self) -> None:
        try:
            while self._waiting:
                try:
                    # the task that spawned this one may be at something of another consumer
                    with at(self._consumer, "", {}):
                        await self._waiting.popleft()()
                except Exception:
                    logger.exception("A handler of %s failed.", type(self._consumer).__name__)
        finally:
            self._task = None

    async def _handle(self, message: dict[str, Any]) -> None:
        name = str(message.get("type", "")).replace(".", "_")
        handler = None if name.startswith("_") else getattr(self._consumer, name, None)
        if not callable(handler):
            logger.error("%s has no handler for messages of type %r.", type(self._consumer).__name__, name)
        elif inspect.iscoroutinefunction(handler):
            await handler(message)
        else:
            await pool.run(lambda: handler(message))

    def close(self) -> None:
        """Drop what waits, and take in no more."""
        self._closed = True
        self._waiting.clear()
