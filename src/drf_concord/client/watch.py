"""A live collection for programs without an event loop: one runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from .errors import ConnectionFailed
from .live import Live
from .values import Change, Item

__all__ = ["Watch"]

T = TypeVar("T")


class Watch:
    """What a GET would return, kept up to date; use it in a `with` statement, and iterate over its changes.

    Args:
        live: the connection, not yet opened.
        model: what to follow, and `members` how, as `Live.subscribe` takes them.
    """

    def __init__(self, live: Live, model: Any, members: Mapping[str, Any]) -> None:
        self._live = live
        self._model = model
        self._members = members
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def items(self) -> list[Item]:
        """The objects as of now."""
        return self._run(self._items())

    async def _items(self) -> list[Item]:
        return self._collection.items

    def __enter__(self) -> Watch:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self._stop(self._loop)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; a loop over the changes in another thread ends."""
        if self._loop is not None:
            self._run(self._leave())
            self._stop(self._loop)

    async def _leave(self) -> None:
        await self._live.close()
        # a loop over the changes in another thread has to hear of it before this event loop stops
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Change:
        try:
            return self._run(anext(self._collection))
        except StopAsyncIteration:
            raise StopIteration from None

    async def _open(self) -> None:
        await self._live.__aenter__()
        try:
            self._collection = await self._live.subscribe(self._model, **self._members).ready()
        except BaseException:
            await self._live.close()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise ConnectionFailed("This watch is not open: use it in a with statement.", code="closed")
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
