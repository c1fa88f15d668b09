"""A listener on an event loop and a thread of its own, and a log that can be waited for."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from types import TracebackType

from drf_concord.transports import Transport

__all__ = ["PATIENCE", "Listening", "Logged"]

PATIENCE = 20.0
"""How long a test waits for what has to happen, in seconds; it is there long before, or never."""


class Listening:
    """Listens in a thread as long as the block lasts.

    Args:
        transport: what to listen on.
        wakes: how often it wakes by itself at the start, waited for before the block begins.
    """

    def __init__(self, transport: Transport, wakes: int = 1) -> None:
        self.wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=asyncio.run, args=[self._listen(transport)], daemon=True)
        self._first = wakes
        self._ready = threading.Event()

    def __enter__(self) -> Listening:
        self.thread.start()
        assert self._ready.wait(PATIENCE)
        for _ in range(self._first):
            self.hears()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def hears(self) -> None:
        """Wait for one wake-up."""
        self.wakes.get(timeout=PATIENCE)

    async def _listen(self, transport: Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(transport.listen(lambda: self.wakes.put(None)))
        self._ready.set()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()


class Logged(logging.Handler):
    """Keeps what is logged, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self.lines.append(record.getMessage())
            self._more.notify_all()

    def waits_for(self, text: str) -> None:
        """Wait until something with this text was logged."""
        with self._more:
            assert self._more.wait_for(lambda: self.of(text), PATIENCE), self.lines

    def of(self, text: str) -> list[str]:
        """Return what was logged with this text."""
        return [line for line in self.lines if text in line]
