"""The databases a run works on: made for it, and dropped at its end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["VENDORS", "Database", "Missing", "pooled"]

VARIABLE = "CONCORD_BENCH_DATABASE"
POSTGRESQL = {
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
}


class Missing(Exception):
    """A database server does not answer; the text says what to start."""


@dataclass(frozen=True, slots=True)
class Database:
    """One empty database: what it is called in the table, and what its server says it is."""

    vendor: str
    title: str


@contextmanager
def _sqlite() -> Iterator[Database]:
    import sqlite3

    folder = tempfile.mkdtemp(prefix="drf-concord-bench-")
    options = {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"}
    name = str(Path(folder) / "bench.sqlite3")
    try:
        with _named({"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}):
            yield Database("sqlite", f"SQLite {sqlite3.sqlite_version} (WAL, synchronous NORMAL)")
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgresql() -> Iterator[Database]:
    import psycopg

    server = {name.lower(): value for name, value in POSTGRESQL.items()}
    name = f"drf_concord_bench_{os.getpid()}"
    try:
        admin = psycopg.connect(**server, dbname="postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        where = f"{POSTGRESQL['HOST']}:{POSTGRESQL['PORT']}"
        reason = str(error).splitlines()[0]
        raise Missing(
            f"PostgreSQL is not reachable at {where}: start it, or set PGHOST ({reason})"
        ) from error
    with admin:
        shown = [admin.execute(f"SHOW {what}").fetchone()[0] for what in ("fsync", "synchronous_commit")]
        title = f"PostgreSQL {admin.info.server_version // 10000} (fsync {shown[0]}, commit {shown[1]})"
        admin.execute(f"CREATE DATABASE {name}")
        try:
            with _named({"ENGINE": "django.db.backends.postgresql", "NAME": name, **POSTGRESQL}):
                yield Database("postgresql", title)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _named(settings: dict[str, Any]) -> Iterator[None]:
    # Through the environment, for all processes of a run; connections stay open, as a server keeps them.
    os.environ[VARIABLE] = json.dumps({**settings, "CONN_MAX_AGE": None})
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def pooled() -> None:
    """Let this process take its connections from a pool, as a server under ASGI should.

    Django gives each request a thread of its own there, and a connection that stays open stays behind.
    """
    settings = json.loads(os.environ[VARIABLE])
    if settings["ENGINE"].endswith("postgresql"):
        settings |= {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 4, "max_size": 32}}}
        os.environ[VARIABLE] = json.dumps(settings)


VENDORS: dict[str, Callable[[], AbstractContextManager[Database]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
}
