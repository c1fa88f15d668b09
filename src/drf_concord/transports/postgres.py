"""Hints over PostgreSQL's LISTEN and NOTIFY: what reaches the log reaches them, with nothing to install."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.core import mail
from django.db import connections

from .base import Outage
from .remote import IDLE, TIMEOUT, RemoteTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHANNEL", "Postgres"]

logger = logging.getLogger("drf_concord")

CHANNEL: Final = "drf_concord_hints"
"""The channel, of which each database has its own."""

SELF_TEST: Final = 5.0
"""How long a listener waits for the hint it sends to itself, in seconds."""

DEAF: Final = (
    "Listening for hints over postgres hears nothing (database %r): its own hint did not arrive within %g s,"
    " as behind a transaction pooler. Changes arrive later, by polling. Let this alias connect to PostgreSQL"
    ' itself, or configure a channel layer, or take "postgres" out of CONCORD["HINTS"].'
)

OURS: Final = ("cursor_factory", "row_factory", "context", "autocommit")
"""Parameters of Django's connection that are about how Django uses it."""


class Postgres(RemoteTransport):
    """Wakes up every process that listens to the same database.

    A hint is sent on a connection of its own, never in the writer's transaction: PostgreSQL lets only one
    transaction that notifies commit at a time, and all the others wait for it.
    """

    name: ClassVar[str] = "postgres"

    def __init__(self, using: str = "default") -> None:
        super().__init__(using)
        self._listening = 0

    def available(self) -> bool:
        """Return whether the alias is PostgreSQL, and its driver the one that can listen."""
        return self._available

    @cached_property
    def _available(self) -> bool:
        return connections[self.using].vendor == "postgresql" and find_spec("psycopg") is not None

    def idle(self) -> float:
        """Return how long a connection that nobody uses is kept, in seconds; not at all under tests."""
        return 0.0 if _under_tests() else IDLE

    def announce(self) -> None:
        """Leave word for the thread; under tests only where this process listens itself."""
        if self._listening or not _under_tests():
            super().announce()

    @contextmanager
    def sending(self) -> Iterator[Callable[[], None]]:
        """Give what notifies, on a connection of its own."""
        import psycopg

        with psycopg.connect(**self._parameters()) as connection:

            def send() -> None:
                connection.execute(f"NOTIFY {CHANNEL}")

            yield send

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` for every notification, and whenever there is a new connection."""
        outage = Outage(f"Listening for hints over {self.name}")
        tested = False
        self._listening += 1
        try:
            while True:
                try:
                    async with await self._connect() as connection:
                        await connection.execute(f"LISTEN {CHANNEL}")
                        outage.connected()
                        wake()
                        if not tested:
                            await self._test(connection, wake)
                            tested = True
                        await self._hear(connection, wake, outage)
                except Exception as error:
                    await asyncio.sleep(outage.failed(error))
        finally:
            self._listening -= 1

    async def _connect(self) -> Any:
        import psycopg

        return await psycopg.AsyncConnection.connect(**self._parameters())

    async def _test(self, connection: Any, wake: Callable[[], None]) -> None:
        # Sent on another connection: behind a pooler the answer to a NOTIFY of one's own may bring it along.
        self.announce()
        heard = [hint async for hint in connection.notifies(timeout=SELF_TEST, stop_after=1)]
        if heard:
            wake()
        else:
            logger.warning(DEAF, self.using, SELF_TEST)

    async def _hear(self, connection: Any, wake: Callable[[], None], outage: Outage) -> None:
        while True:
            async for _ in connection.notifies(timeout=IDLE):
                outage.over()
                wake()
            # a connection that was cut without a word looks like one on which nothing happens
            async with asyncio.timeout(TIMEOUT):
                await connection.execute("SELECT 1")
            outage.over()

    def _parameters(self) -> dict[str, Any]:
        given: dict[str, Any] = connections[self.using].get_connection_params()
        return {
            "application_name": "drf_concord hints",
            "connect_timeout": int(TIMEOUT),
            "tcp_user_timeout": int(TIMEOUT * 1000),  # milliseconds
            **{name: value for name, value in given.items() if name not in OURS},
            "autocommit": True,
        }


def _under_tests() -> bool:
    # Django's test runner cannot drop its database as long as somebody is connected.
    return hasattr(mail, "outbox")
