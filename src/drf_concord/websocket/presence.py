"""A consumer's socket as the hub knows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..conf import settings

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ..live import views
    from ..live.members import Member
    from ..protocol.changes import Position
    from .consumers import AsyncAPIConsumer

__all__ = ["Presence"]


class Presence:
    """Stands for a consumer, whose own names are the project's.

    Attributes:
        caller: who is calling.
    """

    def __init__(self, consumer: AsyncAPIConsumer) -> None:
        self.consumer = consumer
        self.caller: views.Caller = consumer.caller

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The work under way; what is detached may last for ever."""
        return self.consumer.socket.tasks - self.consumer.detached_tasks

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Read the account again, which is all that the hub asks for; until then it is not to be trusted."""
        self.consumer._outdated = object()
        return self.consumer.socket.spawn(work)

    def mark(self, position: Position) -> None:
        """Pass over a position: a consumer has no session mode."""

    def members(self) -> list[Member]:
        """Return none: what a consumer observes is not of a cohort."""
        return []

    def beat(self) -> None:
        """Read the account again when it is time."""
        now = asyncio.get_running_loop().time()
        if now - self.consumer._refreshed > settings.AUTH_REFRESH:
            self.consumer._refreshed = now
            self.spawn(self.consumer.refresh_caller())
