"""Hints within one process: from the threads that write to the event loops that listen."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, ClassVar

from .base import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Memory"]


class _Listener:
    """One listener: its event loop, what to call there, and whether that is on its way already."""

    __slots__ = ("_loop", "_pending", "_wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = wake
        self._pending = False

    def tell(self) -> bool:
        """Have it woken up soon; return False when its loop is closed."""
        if not self._pending:
            self._pending = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                return False
        return True

    def _run(self) -> None:
        # first the mark, then the call: what is announced from here on needs another one
        self._pending = False
        self._wake()


class Memory(Transport):
    """Wakes up the event loops of this process; always there, and costs next to nothing."""

    name: ClassVar[str] = "memory"
    _lock: threading.Lock
    _listeners: tuple[_Listener, ...]

    def __init__(self, using: str = "default") -> None:
        super().__init__(using)
        self.forked()

    def available(self) -> bool:
        """Return True: every process has a memory."""
        return True

    def announce(self) -> None:
        """Wake up every listener, and drop those whose loop was closed without a word."""
        for listener in self._listeners:
            if not listener.tell():
                self._drop(listener)

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on this event loop whenever somebody in this process has announced."""
        listener = _Listener(wake)
        with self._lock:
            self._listeners = (*self._listeners, listener)
        wake()
        try:
            await asyncio.Event().wait()
        finally:
            self._drop(listener)

    def close(self) -> None:
        """Do nothing: a listener goes when it is cancelled."""

    def forked(self) -> None:
        """Forget the listeners: their loops run in the parent, and their wake-up pipes are the parent's."""
        self._lock = threading.Lock()
        # replaced, never changed: announce() reads it without the lock
        self._listeners = ()

    def _drop(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)
