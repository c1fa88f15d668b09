"""Capture: what the triggers add to a bare commit, with no Django in the way.

On PostgreSQL without waiting for the disk (``synchronous_commit`` off): the processors are to be saturated,
which do the work of the triggers, and not the disk, behind which that work would hide.
"""

from __future__ import annotations

import threading
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

from django.db import connection

from .app.models import Guarded, Numbered
from .measure import Bar, Row, interleave, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database

__all__ = ["run"]

TOPIC = "capture of a bare commit"
SQLITE, POSTGRESQL = Bar(25), Bar(40)
COMMITS = 200  # per turn, on SQLite
WRITERS = 4  # on PostgreSQL
TURN = 0.4  # seconds, on PostgreSQL
TABLES = {"without triggers": Numbered._meta.db_table, "with triggers": Guarded._meta.db_table}


def run(database: Database, seconds: float) -> list[Row]:
    """Return what a commit costs more when its table has triggers."""
    return _sqlite(seconds) if database.vendor == "sqlite" else _postgresql(seconds)


def _sqlite(seconds: float) -> list[Row]:
    ways = {name: _commits(table) for name, table in TABLES.items()}
    rounds = interleave(ways, seconds=seconds, per_round=5)
    added = [1e6 * d / COMMITS for d in rounds.differences("with triggers", "without triggers")]
    bare = [1e6 * t / COMMITS for t in rounds.times["without triggers"]]
    return [
        row(TOPIC, "one commit without triggers", bare, unit="us"),
        row(TOPIC, "added by triggers", added, unit="us", bar=SQLITE),
    ]


def _commits(table: str) -> Callable[[], float]:
    connection.ensure_connection()
    raw: Any = connection.connection
    statement = f"UPDATE {table} SET count = count + 1 WHERE id = ?"
    numbers = cycle(range(1, 100))

    def commits() -> float:
        begin = time.perf_counter()
        for _ in range(COMMITS):
            raw.execute(statement, (next(numbers),))
        return time.perf_counter() - begin

    return commits


def _postgresql(seconds: float) -> list[Row]:
    # the time of one commit with all writers at work, so that a longer one is a lower throughput
    ways = {name: _throughput(table) for name, table in TABLES.items()}
    rounds = interleave(ways, seconds=seconds, per_round=1)
    slower = [100 * (1 - r) for r in rounds.ratios("without triggers", "with triggers")]
    bare = [1 / t for t in rounds.times["without triggers"]]
    return [
        row(TOPIC, f"commits of {WRITERS} writers without triggers", bare, unit="/s"),
        row(TOPIC, "fewer with triggers", slower, unit="%", bar=POSTGRESQL),
    ]


def _throughput(table: str) -> Callable[[], float]:
    statement = f"UPDATE {table} SET count = count + 1 WHERE id = $1".encode()
    writers = [_writer() for _ in range(WRITERS)]
    for writer in writers:
        writer.pgconn.prepare(b"bench", statement)

    def turn() -> float:
        counts = [0] * WRITERS
        end = time.perf_counter() + TURN

        def work(number: int) -> None:
            execute = writers[number].pgconn.exec_prepared
            keys = cycle([str(k).encode() for k in range(1 + 20 * number, 21 + 20 * number)])
            while time.perf_counter() < end:
                execute(b"bench", [next(keys)])
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return TURN / sum(counts)

    return turn


def _writer() -> Any:
    import psycopg

    parameters = connection.get_connection_params()
    names = ("dbname", "host", "port", "user", "password")
    known = {name: parameters[name] for name in names if name in parameters}
    return psycopg.connect(**known, autocommit=True, options="-c synchronous_commit=off")
