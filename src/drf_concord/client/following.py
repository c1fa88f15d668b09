"""What somebody holds who follows: the objects, and the changes as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .errors import ClientError
from .session import State, Subscription
from .values import Change, Item, Pk

__all__ = ["LiveCollection"]


class LiveCollection:
    """What a GET would return, kept up to date; iterate over it to be told what changes.

    What changes is kept until it is looked at: one loop at a time.
    """

    def __init__(self, subscription: Subscription, leave: Callable[[LiveCollection], None]) -> None:
        self.subscription = subscription
        self._leave = leave
        self._changed = asyncio.Event()
        self._changes: list[Change] = []

    @property
    def items(self) -> list[Item]:
        """The objects as of now; after a cut, as of then, until the connection is back."""
        return list(self.subscription.collection.items.values())

    def get(self, pk: Pk) -> Item | None:
        """Return an object, or None."""
        return self.subscription.collection.items.get(pk)

    async def ready(self) -> LiveCollection:
        """Wait until the objects are there.

        Raises:
            ClientError: the server refused.
        """
        while not self.subscription.collection.loaded:
            await self._wait()
        return self

    async def close(self) -> None:
        """Follow this no longer."""
        self._leave(self)

    def __aiter__(self) -> LiveCollection:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            self._changes = self.subscription.take_news()[::-1]
            if not self._changes:
                try:
                    await self._wait()
                except _Closed:
                    raise StopAsyncIteration from None
        return self._changes.pop()

    async def _wait(self) -> None:
        if self.subscription.error is not None:
            raise self.subscription.error
        if self.subscription.state is State.ENDED:
            raise _Closed("This subscription is closed.", code="closed")
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """Let who waits look again."""
        self._changed.set()


class _Closed(ClientError):
    """We left ourselves."""
