"""Hints between processes: that there is something new in the log, never what.

Writers call `announce_on_commit`; readers listen on each of `transports` and read the log when woken. Losing
every hint costs latency only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

from ..conf import settings
from .base import Transport
from .channel_layer import ChannelLayer
from .memory import Memory
from .postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Transport", "announce", "announce_on_commit", "transports"]

KINDS: dict[str, type[Transport]] = {kind.name: kind for kind in (Memory, ChannelLayer, Postgres)}

_instances: dict[tuple[str, str], Transport] = {}


def transports(using: str = "default") -> list[Transport]:
    """Return the transports of this process for a database alias: those of ``HINTS`` that are configured.

    A name in ``HINTS`` that is none is passed over: a hint is never worth a failed write.
    """
    found = {}
    for name in settings.HINTS:
        kind = KINDS.get(name)
        if kind is not None:
            transport = _instances.get((name, using)) or _instances.setdefault((name, using), kind(using))
            if transport.available():
                found[name] = transport
    if ChannelLayer.name in found:
        found.pop(Postgres.name, None)  # one way to the other processes is enough
    return list(found.values())


def announce(using: str) -> None:
    """Tell all who read the log of a database that there is something new; returns at once."""
    for transport in transports(using):
        transport.announce()


def announce_on_commit(
    using: str, connection: Any = None, *, before: Callable[[], None] | None = None
) -> None:
    """Announce when the open transaction commits, once for all that is written in it, else at once.

    Args:
        using: the alias of the database that was written to.
        connection: to that database, of this thread, where the caller has it at hand.
        before: called in that moment, before anybody is told; for whoever opened the transaction.
    """
    connection = connections[using] if connection is None else connection
    if not connection.in_atomic_block:
        announce(using)
        return
    hint: _Hint | None = getattr(connection, "_concord_hint", None)
    if before is not None or hint is None or not hint.waits_in(connection.run_on_commit):
        # kept on the connection, whose transaction it belongs to
        connection._concord_hint = hint = _Hint(using, connection.run_on_commit, before)
        connection.on_commit(hint.send, robust=True)


class _Hint:
    """What one transaction announces, and the queue of Django's in which it waits for the commit."""

    __slots__ = ("_before", "_queue", "_using", "send")

    def __init__(self, using: str, queue: list[Any], before: Callable[[], None] | None) -> None:
        self._using = using
        self._before = before
        self._queue: list[Any] | None = queue
        self.send: Callable[[], None] = self._send

    def waits_in(self, queue: list[Any]) -> bool:
        """Return whether this will be sent if what is written now is committed.

        Django takes entries out of the queue by replacing it, when a savepoint or the transaction is rolled
        back. An entry that is still there outlives whatever can be rolled back without what is written now.
        """
        if self._queue is not queue and self._queue is not None:
            waiting = any(function is self.send for _, function, _ in queue)
            self._queue = queue if waiting else None
        return self._queue is not None

    def _send(self) -> None:
        self._queue = None  # sent: whoever writes in this transaction after all needs another one
        if self._before is not None:
            self._before()
        announce(self._using)
