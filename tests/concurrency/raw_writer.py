"""A process that writes past Django: `python -m tests.concurrency.raw_writer SETTINGS`, as JSON.

It says that it is ready by waiting for a line, and that it is done by writing one.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from typing import Any

ROWS = 20
TRANSACTIONS = 80
PATIENCE = 20.0  # seconds a writer waits for its turn


def write(settings: dict[str, Any]) -> None:
    """Write as a process of its own, and say so when done."""
    dice = random.Random(settings["seed"])
    run = _postgresql(settings) if "dsn" in settings else _sqlite(settings)
    sys.stdin.readline()  # all begin together
    for _ in range(TRANSACTIONS):
        run(_transaction(dice))
    print("done", flush=True)


def _transaction(dice: random.Random) -> list[tuple[str, list[Any]]]:
    """Return the statements of a transaction, with what ends it."""
    pause = ("PAUSE", [dice.random() * 0.004])
    statements: list[tuple[str, list[Any]]] = [("BEGIN", [])]
    if dice.random() < 0.5:  # takes its number long before its first change
        statements += [("INSERT INTO app_bare (text) VALUES ('x')", []), pause]
    # In one order, as who writes several rows should: else they wait for each other in a circle.
    codes = sorted(dice.sample(range(ROWS), dice.choice([1, 1, 2, 4])))
    for code in codes:
        statements.append(("UPDATE app_texted SET text = 'x' WHERE code = %s", [f"{code:02}"]))
        if dice.random() < 0.3:
            statements += [
                ("SAVEPOINT s", []),
                ("UPDATE app_texted SET text = 'y' WHERE code = %s", [f"{code:02}"]),
                ("ROLLBACK TO s" if dice.random() < 0.5 else "RELEASE s", []),
            ]
        statements.append(pause)
    if dice.random() < 0.2:
        statements.append(("UPDATE app_texted SET text = 'z' WHERE code >= %s", [f"{codes[-1]:02}"]))
    return [*statements, ("ROLLBACK" if dice.random() < 0.1 else "COMMIT", [])]


def _postgresql(settings: dict[str, Any]) -> Callable[[list[tuple[str, list[Any]]]], None]:
    import psycopg

    session = psycopg.connect(settings["dsn"], autocommit=True)

    def run(statements: list[tuple[str, list[Any]]]) -> None:
        try:
            for sql, params in statements:
                session.execute("SELECT pg_sleep(%s)" if sql == "PAUSE" else sql, params or None)
        except psycopg.errors.DeadlockDetected:
            session.execute("ROLLBACK")

    return run


def _sqlite(settings: dict[str, Any]) -> Callable[[list[tuple[str, list[Any]]]], None]:
    import sqlite3

    session = sqlite3.connect(settings["path"], isolation_level=None, timeout=PATIENCE)

    def run(statements: list[tuple[str, list[Any]]]) -> None:
        for sql, params in statements:
            if sql == "BEGIN":
                sql = "BEGIN IMMEDIATE"
            if sql != "PAUSE":
                session.execute(sql.replace("%s", "?"), params)

    return run


if __name__ == "__main__":
    write(json.loads(sys.argv[1]))
