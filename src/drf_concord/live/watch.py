"""Noticing that somebody has written to a SQLite file, much sooner than by reading the log ever so often."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_watch", "watch"]

SOON, LATER = 0.001, 0.004
"""How long to wait for the next look at the file, in seconds; a look takes some microseconds and reads no
table. Where somebody has written in the last thousand looks the next one comes sooner."""


def can_watch(using: str) -> bool:
    """Tell whether a database is a SQLite file."""
    connection: Any = connections[using]
    return connection.vendor == "sqlite" and not connection.is_in_memory_db()


async def watch(using: str, wake: Callable[[], None]) -> None:
    """Call ``wake`` whenever a connection of any process has committed something."""
    # a connection of its own: for the one that writes, the number stays as it is
    name = connections[using].get_connection_params()["database"]
    connection = sqlite3.connect(name, timeout=0, isolation_level=None)
    try:
        seen, quiet = None, 0
        while True:
            try:
                found = connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.OperationalError:  # without WAL, while somebody writes
                found = None
            quiet += 1
            if found != seen:
                seen, quiet = found, 0
                wake()
            await asyncio.sleep(SOON if quiet < 1_000 else LATER)
    finally:
        connection.close()
