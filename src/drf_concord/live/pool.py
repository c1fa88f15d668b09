"""The threads in which a process's websockets talk to the database.

Django's own way has one thread for all sockets of a process, so that one slow query delays every socket; and
it closes and opens connections by the rules of HTTP requests. These threads keep their connection while it is
healthy, end when there is nothing to do, and close it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from ..conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pool", "pool"]

R = TypeVar("R")

IDLE = 30.0
"""After how many seconds without work a thread ends and closes its connection."""
TRUSTED = 5.0
"""For how many seconds after its last use a connection is taken to be alive without asking."""


class Pool:
    """A bounded number of threads with a queue."""

    def __init__(self) -> None:
        self._inline: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # how many threads have no work, less the work that waits: to take some does not change it
        self._threads = self._free = 0

    @property
    def inline(self) -> bool:
        """Whether this event loop has everything run on the caller's thread."""
        return asyncio.get_running_loop() in self._inline

    def run_inline(self) -> None:
        """Run what this event loop asks for on the caller's thread, for tests.

        There a second connection would not see what the test has written. The tests of another loop may
        have another client, which waits for what threads do.
        """
        self._inline.add(asyncio.get_running_loop())

    async def run(self, work: Callable[[], R]) -> R:
        """Run some synchronous database work in a thread, in a copy of the caller's context.

        A caller that is cancelled does not wait for it, but the work is done all the same.
        """
        if self.inline or _in_memory():
            return await sync_to_async(work, thread_sensitive=True)()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._lock:
            self._queue.put((contextvars.copy_context(), work, loop, future))
            self._free -= 1
            if self._free < 0 and self._threads < settings.SOCKET_THREADS:
                self._threads += 1
                self._free += 1
                threading.Thread(target=self._serve, name="concord-pool", daemon=True).start()
        return await future

    def close(self) -> None:
        """Let every thread end, and with it its connection, once the work that is queued is done."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)
            # they count no longer: work that comes before they have ended needs threads of its own
            self._free -= self._threads
            self._threads = 0

    def _serve(self) -> None:
        used = 0.0
        try:
            while (item := self._next()) is not None:
                context, work, loop, future = item
                result: Any = None
                error: BaseException | None = None
                try:
                    _revive(asked_again=time.monotonic() - used > TRUSTED)
                    result = context.run(work)
                except BaseException as caught:
                    error = caught
                used = time.monotonic()
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, future, result, error)
                with self._lock:
                    self._free += 1
                del item, context, work, future, result, error
        finally:
            connections.close_all()

    def _next(self) -> Any:
        """Return the next work, or None when this thread may end."""
        while True:
            try:
                return self._queue.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if not self._queue.empty():
                        continue  # it came while we were giving up
                    self._free -= 1
                    self._threads -= 1
                return None


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError(f"work raised {error!r}"))
    else:
        future.set_exception(error)


def _revive(*, asked_again: bool) -> None:
    """Close connections of this thread that a database restart has broken; they open again when used."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or connection.needs_rollback:
            connection.close()  # work that died in a transaction must not hand it on
        elif (asked_again or connection.errors_occurred) and not connection.is_usable():
            connection.close()
        else:
            connection.errors_occurred = False


def _in_memory() -> bool:
    """Whether the database is in this process's memory: a second connection would find its tables locked."""
    named = connections.settings["default"]
    return _is_in_memory(named["ENGINE"], str(named["NAME"]))


@functools.lru_cache(maxsize=16)
def _is_in_memory(engine: str, name: str) -> bool:
    connection = connections["default"]  # each task of an event loop would make one of its own to ask it
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())  # type: ignore[attr-defined]


pool = Pool()
