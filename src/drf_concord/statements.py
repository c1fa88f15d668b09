"""The statements that lock a row and read what goes with it, in each database's words.

Raw, and on the tables alone: a view's queryset may be DISTINCT, grouped or outer-joined, and the database
refuses to lock those.
"""

from __future__ import annotations

import functools
import json
import re
import time
from typing import TYPE_CHECKING, Any

from django.db import connections

from .fields import MYSQL_NOW, POSTGRESQL_NOW

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = ["LOCK_COLUMNS", "Statement", "chain", "lock_row", "plain_cursor", "read_state", "send", "state_of"]

Statement = tuple[str, list[Any]]

PLACEHOLDER = re.compile(r"(?<!%)%s")
CURSORS = ("cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor")
LOCK_COLUMNS = (
    "generation, mode, holder, client, token_hash, scope, reason, acquired_at, renewed_at, expires_at, broken"
)


def send(connection: BaseDatabaseWrapper, cursor: Any, statements: Sequence[Statement]) -> list[Any]:
    """Run statements one after the other, in one message where the driver can; return a row of each, or None.

    Also in one message PostgreSQL gives each statement a snapshot of its own: a later one sees what was
    committed while an earlier one waited.
    """
    if len(statements) > 1 and _takes_several(connection):
        cursor.execute("; ".join(sql for sql, _ in statements), [p for _, given in statements for p in given])
        found = [cursor.fetchone()]
        while cursor.nextset():
            found.append(cursor.fetchone())
        return found
    rows = []
    for sql, parameters in statements:
        cursor.execute(sql, parameters)
        rows.append(cursor.fetchone())
    return rows


def plain_cursor(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    """Return a cursor for the statements of every guarded write: the driver's own, unless somebody watches.

    What Django wraps round a statement costs more than such a statement does. Who logs queries, has wrappers
    for them, or makes cursors of his own for a connection sees these as all others. To be used in a
    transaction, within ``connection.wrap_database_errors``.
    """
    connection.validate_no_broken_transaction()
    watched = connection.queries_logged or connection.execute_wrappers or "cursor" in vars(connection)
    kind: Any = type(connection)
    if watched or not _makes_djangos_cursors(kind):
        return connection.cursor()
    if connection.vendor == "sqlite":
        return _Sqlite(connection.connection.cursor())
    cursor = connection.cursor()
    return cursor.cursor if connection.vendor == "postgresql" else cursor


@functools.cache
def _makes_djangos_cursors(kind: type[Any]) -> bool:
    makers = (c for c in kind.__mro__ if not vars(c).keys().isdisjoint(CURSORS))
    return all(c.__module__.startswith("django.") for c in makers)


class _Sqlite:
    """A cursor of SQLite's driver, whose placeholders are question marks."""

    __slots__ = ("_cursor", "fetchone")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor, self.fetchone = cursor, cursor.fetchone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    @property
    def rowcount(self) -> int:
        """How many rows were written."""
        return self._cursor.rowcount

    def execute(self, sql: str, parameters: Sequence[Any]) -> None:
        """Run a statement that is written for Django."""
        self._cursor.execute(_question_marks(sql), parameters)


@functools.lru_cache(maxsize=128)
def _question_marks(sql: str) -> str:
    return PLACEHOLDER.sub("?", sql).replace("%%", "%")


def _takes_several(connection: BaseDatabaseWrapper) -> bool:
    if connection.vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    # psycopg2 shows the rows of the last one only, and the server binds parameters to one statement.
    return bool(is_psycopg3) and not connection.settings_dict["OPTIONS"].get("server_side_binding")


def lock_row(
    connection: BaseDatabaseWrapper, model: type[Model], pk: Any, wait: float | None, *, skip: bool = False
) -> list[Statement]:
    """Return the statements that lock an object's row, with multi-table inheritance in every table of it.

    Each finds a row where there is one; none are needed on SQLite, where a writer has the whole database.

    Args:
        connection: where the row is.
        model: the object's model.
        pk: its primary key.
        wait: how long to wait for another writer, in seconds; None for ever.
        skip: find nothing where there is another writer, rather than wait.
    """
    if connection.vendor == "sqlite":
        return []
    concrete = model._meta.concrete_model or model
    value = concrete._meta.pk.get_db_prep_value(pk, connection)
    return [(sql, [value]) for sql in _lock_sql(connection.alias, concrete, wait, skip=skip)]


@functools.lru_cache(maxsize=1024)
def _lock_sql(alias: str, concrete: type[Model], wait: float | None, *, skip: bool = False) -> list[str]:
    connection = connections[alias]
    tables = reversed(chain(concrete))
    return [_lock_table(connection, concrete, table, wait, skip=skip) for table in tables]


def chain(model: type[Model]) -> list[type[Model]]:
    """Return a model, concrete, and the parents its row is spread over, the topmost last."""
    concrete = model._meta.concrete_model or model
    tables = {f.model for f in concrete._meta.concrete_fields}
    return [concrete, *(p for p in concrete._meta.all_parents if p in tables)]


def _lock_table(
    connection: BaseDatabaseWrapper, model: type[Model], table: type[Model], wait: float | None, *, skip: bool
) -> str:
    quote = connection.ops.quote_name
    column = quote(table._meta.pk.column or "")
    plain = f"SELECT t.{column} FROM {quote(table._meta.db_table)} t"
    where = f"WHERE t.{column} = {_key_sql(quote, model, table)}"
    if connection.vendor == "postgresql":
        # NO KEY: rows that only reference this one by a foreign key need not wait.
        lock = "FOR NO KEY UPDATE OF t"
        if skip or wait is None:
            return f"{plain} {where} {lock}{' SKIP LOCKED' if skip else ''}"
        timeout = f"SELECT set_config('lock_timeout', '{max(1, int(wait * 1000))}', true)"
        return f"WITH s AS MATERIALIZED ({timeout}) {plain}, s {where} {lock}"
    seconds = f" WAIT {max(1, round(wait))}" if wait is not None and _is_mariadb(connection) else ""
    return f"{plain} {where} FOR UPDATE{' SKIP LOCKED' if skip else seconds}"


def _key_sql(quote: Callable[[str], str], model: type[Model], table: type[Model], given: str = "%s") -> str:
    """Return the key of an object's row in the table of a parent, where its own key is ``given``."""
    if table is model:
        return given
    linked = ((p, link) for p, link in model._meta.parents.items() if link is not None)
    parent, link = next((p, f) for p, f in linked if p is table or table in p._meta.all_parents)
    if not link.primary_key:  # a second base has keys of its own
        pk = quote(model._meta.pk.column or "")
        given = f"(SELECT {quote(link.column or '')} FROM {quote(model._meta.db_table)} WHERE {pk} = {given})"
    return _key_sql(quote, parent, table, given)


def _is_mariadb(connection: BaseDatabaseWrapper) -> bool:
    return bool(getattr(connection, "mysql_is_mariadb", False))


def read_state(
    connection: BaseDatabaseWrapper, label: str, pk: str, holder: str | None, *, announce: bool
) -> Statement:
    """Return the statement that reads the lock on an object, and before it the database's time.

    One statement, after the row lock was granted: a clock or a lock row read by the statement that waited
    would be from before the wait. It also tells PostgreSQL's triggers who writes. SQLite has no clock of its
    own, so there it is the lock alone, if there is one.

    Args:
        connection: where to read.
        label: of the model the object is known by.
        pk: its primary key as text; empty for one that is being created.
        holder: who writes.
        announce: whether the triggers are told.
    """
    if connection.vendor == "sqlite":
        return f"SELECT {LOCK_COLUMNS} FROM concord_lock WHERE model = %s AND object_pk = %s", [label, pk]
    where = "FROM concord_lock WHERE model = %s AND object_pk = %s"
    if connection.vendor == "postgresql":
        # One column for the lock, which is seldom there: the driver has something to do for each.
        actor = "set_config('concord.actor', %s, true)" if announce else "%s"
        sql = f"SELECT {POSTGRESQL_NOW}, {actor}, (SELECT json_build_array({LOCK_COLUMNS})::text {where})"
        return sql, [holder or "", label, pk]
    one = f"SELECT {MYSQL_NOW}, {LOCK_COLUMNS} FROM (SELECT 1) one"
    return f"{one} LEFT JOIN concord_lock ON model = %s AND object_pk = %s", [label, pk]


def state_of(connection: BaseDatabaseWrapper, row: Sequence[Any] | None) -> tuple[int, Sequence[Any] | None]:
    """Return the time, in microseconds, and the columns of the lock, if there is one, from what was read."""
    if connection.vendor == "sqlite" or row is None:
        return time.time_ns() // 1000, row  # SQLite's clock is this process's
    if connection.vendor == "postgresql":
        return row[0], None if row[2] is None else json.loads(row[2])
    return row[0], None if row[1] is None else row[1:]
