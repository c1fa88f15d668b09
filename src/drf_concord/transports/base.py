"""What every transport of hints does, and how the ones with a connection live through an outage.

A hint says "there is something to read in the log" and nothing else: it may be lost, repeated or late, and
no change is missed for it, because the log is also read without one.
"""

from __future__ import annotations

import logging
import os
import random
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import WeakSet

from ..protocol.backoff import delay

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outage", "Transport"]

logger = logging.getLogger("drf_concord")

PROVEN: Final = 1.0
"""How long a connection has to last before its end counts as a new failure, in seconds."""

RETRY_CAP: Final = 5.0
"""The longest wait between two attempts, in seconds; meanwhile changes arrive at the pace of polling."""


class Transport(ABC):
    """One way to wake up the readers of the log, for one database alias.

    Attributes:
        name: what it is called in the setting ``HINTS``.
        using: the database alias whose log it is about.
    """

    name: ClassVar[str]

    def __init__(self, using: str = "default") -> None:
        self.using = using
        _transports.add(self)

    @abstractmethod
    def available(self) -> bool:
        """Return whether it is configured here; it is asked on every write, so it has to be quick."""

    @abstractmethod
    def announce(self) -> None:
        """Wake up whoever listens, from any thread; returns at once and never raises."""

    @abstractmethod
    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on this event loop whenever somebody has announced; runs until cancelled.

        It also wakes when it begins to hear, and when it hears again: what was said before, nobody heard.
        """

    @abstractmethod
    def close(self) -> None:
        """Send what is still to be sent and let connections go, within a second; it may be used again."""

    @abstractmethod
    def forked(self) -> None:
        """Begin anew in a child process, which has none of its parent's threads and loops."""


class Outage:
    """Counts the failures in a row: how long to wait after each, and which one to tell people about."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0
        self._since: float | None = None

    def connected(self) -> None:
        """Note that a connection stands, which is not to say that it will do."""
        self._since = time.monotonic()

    def over(self) -> None:
        """Note that the connection does what it is for."""
        if self._failures > 1:
            logger.info("%s is back.", self._what)
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """Return how long to wait before trying again, in seconds.

        The first time it is nothing, and nobody is told: servers close idle connections, and a new one is
        had at once.
        """
        if self._since is not None and time.monotonic() - self._since >= PROVEN:
            self.over()
        self._since = None
        self._failures += 1
        if self._failures == 1:
            return 0.0
        if self._failures == 2:
            reason = f"{type(error).__name__}: {error}".strip().rstrip(":. ")
            logger.warning(
                "%s is down (%s). Changes arrive later, by polling, until it is back.", self._what, reason
            )
        return delay(self._failures - 2, random.random(), cap=RETRY_CAP)  # noqa: S311


_transports: WeakSet[Transport] = WeakSet()


def _forked() -> None:
    for transport in tuple(_transports):
        transport.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
