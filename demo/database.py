"""DATABASE_URL as Django's setting, and whether the database behind it answers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["SQLITE_FILE", "DatabaseProblem", "describe", "from_url", "verify"]

SQLITE_FILE = Path(__file__).resolve().parent / "db.sqlite3"
FORMS = "postgres://user:password@host:5432/name, or sqlite:////path/to/file"
ANSWER_WITHIN = 5  # seconds


class DatabaseProblem(Exception):
    """The database cannot be used; the text is what to tell the person who started the demo."""


def from_url(url: str) -> dict[str, Any]:
    """Return the entry of DATABASES of a DATABASE_URL; an empty one stands for the demo's own file.

    Raises:
        DatabaseProblem: the URL is not one of the forms that the demo understands.
    """
    if not url:
        return _sqlite(str(SQLITE_FILE))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DatabaseProblem(f"DATABASE_URL cannot be read ({error}). Use {FORMS}.") from error
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "sqlite" and name:
        return _sqlite(name)
    if parts.scheme not in {"postgres", "postgresql"} or not name:
        raise DatabaseProblem(f"DATABASE_URL is not one the demo understands. Use {FORMS}.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "OPTIONS": {
            # without a pool every request would open a connection of its own
            "pool": {"min_size": 1, "max_size": 20, "timeout": 10},
            **dict(parse_qsl(parts.query)),
        },
    }


def _sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            # how long a writer waits for another one, in seconds
            "timeout": 20,
            # readers and the writer do not wait for each other
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def describe(database: dict[str, Any]) -> str:
    """Name the database for a person, without its password."""
    if "sqlite3" in database["ENGINE"]:
        return f"SQLite, {database['NAME']}"
    return f"PostgreSQL, {database['NAME']} at {_server(database)}"


def _server(database: dict[str, Any]) -> str:
    host = database["HOST"] or database["OPTIONS"].get("host", "the local socket")
    return f"{host}:{database['PORT']}" if database["PORT"] else str(host)


def verify(database: dict[str, Any]) -> None:
    """Return when the database answers.

    Raises:
        DatabaseProblem: it does not, with what can be done about it.
    """
    if "sqlite3" in database["ENGINE"]:
        folder = Path(database["NAME"]).resolve().parent
        if not folder.is_dir():
            raise DatabaseProblem(f"DATABASE_URL names a file in {folder}, which is not a folder.")
        return
    try:
        import psycopg
        import psycopg_pool  # noqa: F401
    except ImportError:
        raise DatabaseProblem(
            "PostgreSQL needs the psycopg and psycopg-pool packages; `make demo` installs them."
        ) from None
    try:
        _connect(psycopg, database, database["NAME"])
    except psycopg.Error as error:
        reason = _reason(error)
        # every language quotes the name; a server that does not answer need not be waited for again
        if f'"{database["NAME"]}"' in str(error) and _lacks(psycopg, database):
            raise DatabaseProblem(
                f"PostgreSQL at {_server(database)} has no database {database['NAME']}."
                f" Create it with: {_createdb(database)}"
            ) from None
        raise DatabaseProblem(
            f"PostgreSQL at {_server(database)} does not let the demo in: {reason}"
        ) from None


def _connect(psycopg: Any, database: dict[str, Any], name: str, query: str = "SELECT 1") -> Any:
    options = {key: value for key, value in database["OPTIONS"].items() if key != "pool"}
    given = {
        "host": database["HOST"],
        "port": database["PORT"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "connect_timeout": ANSWER_WITHIN,
    }
    arguments = {key: value for key, value in given.items() if value} | options
    with psycopg.connect(dbname=name, **arguments) as connection:
        return connection.execute(query, [name] if "%s" in query else None).fetchone()


def _lacks(psycopg: Any, database: dict[str, Any]) -> bool:
    # the text of the first error is in the server's language; its catalogue is not
    try:
        names = "SELECT array_agg(datname::text) FROM pg_database WHERE datname <> %s"
        return database["NAME"] not in (_connect(psycopg, database, "postgres", names)[0] or [])
    except psycopg.Error:
        return False


def _createdb(database: dict[str, Any]) -> str:
    command = ["createdb"]
    for flag, key in (("-h", "HOST"), ("-p", "PORT"), ("-U", "USER")):
        if database[key]:
            command += [flag, database[key]]
    return shlex.join([*command, database["NAME"]])


def _reason(error: Exception) -> str:
    lines = str(error).removeprefix("connection failed: ").splitlines()
    return lines[0] if lines else type(error).__name__
