"""The row lock and the database's clock, per vendor: what every guarded write starts with.

Each path into a row (the gate, a lock being taken, ``save()`` of a ``Lockable``) enters here, so they all
queue on the same row lock, and what they then read is what will be true when they commit.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from .conf import settings
from .fields import MYSQL_NOW, POSTGRESQL_NOW
from .protocol.locks import Lock, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = [
    "Actor",
    "Entry",
    "acting",
    "claim_open_transactions",
    "current_actor",
    "enter",
    "entered",
    "forget_version",
    "identity",
    "key",
    "lock_value",
    "now",
    "peek",
]

LOCK_COLUMNS = (
    "generation, mode, holder, client, token_hash, scope, reason, acquired_at, renewed_at, expires_at, broken"
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes: the key of the user as text, and the hash of the lock token that came along."""

    holder: str | None = None
    token_hash: str | None = None
    need_token: bool = False


@dataclass(slots=True)
class Entry:
    """One stay in the gate: the locked row, the database's time and the lock on the object.

    ``now`` is in microseconds since the epoch and was read after the row lock was granted.
    """

    using: str
    identity: tuple[str, str]
    actor: Actor
    now: int = 0
    lock: Lock = field(default_factory=Lock)
    found: bool = True
    cleared: bool = False  # the locks were asked and this write may pass them
    version: int | None = None  # of the locked row, while this entry is sure of it


NOBODY = Actor()

_actor: ContextVar[Actor] = ContextVar("concord_actor", default=NOBODY)
_entries: ContextVar[tuple[Entry, ...]] = ContextVar("concord_entries", default=())


def current_actor() -> Actor:
    """Return who is writing on this thread or task, as far as anybody said."""
    return _actor.get()


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Write as somebody: locks of that holder let ``save()`` and ``delete()`` pass in this block."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def identity(model: type[Model]) -> type[Model]:
    """Return the model an object is known by: with multi-table inheritance the topmost parent."""
    concrete = model._meta.concrete_model or model
    while parents := [p for p, link in concrete._meta.parents.items() if link is not None]:
        concrete = parents[0]
    return concrete


def key(model: type[Model], pk: Any) -> tuple[str, str]:
    """Return (label, primary key as text), under which an object's lock is kept."""
    root = identity(model)
    return root._meta.label, str(root._meta.pk.to_python(pk))


def entered(model: type[Model], pk: Any, using: str) -> Entry | None:
    """Return the entry this thread or task has on a row, or None when it has none."""
    stack = _entries.get()
    if not stack:
        return None
    wanted = key(model, pk)
    return next((e for e in reversed(stack) if e.using == using and e.identity == wanted), None)


@contextmanager
def enter(
    model: type[Model],
    pk: Any = None,
    *,
    using: str,
    actor: Actor | None = None,
    first: Sequence[tuple[type[Model], Any]] = (),
) -> Iterator[Entry]:
    """Open a transaction, lock a row and read the time and the object's lock.

    Args:
        model: the model of the object; with multi-table inheritance every table of it is locked.
        pk: its primary key; None for an object that is being created.
        using: the database alias to write to.
        actor: who writes; the current actor when None.
        first: other rows to lock before this one, such as parents that the write touches.
    """
    actor = current_actor() if actor is None else actor
    connection = connections[using]
    outermost = not connection.in_atomic_block
    outer = _entries.get()
    entry = Entry(using, key(model, pk) if pk is not None else (model._meta.label, ""), actor)
    with transaction.atomic(using=using):
        if connection.vendor == "sqlite":
            _claim_sqlite(connection, actor)
        for other, other_pk in sorted(first, key=lambda row: key(*row)):
            _lock_row(connection, other, other_pk)
        if pk is not None:
            entry.found = _lock_row(connection, model, pk)
        _read_state(connection, entry)
        token, acted = _entries.set((*outer, entry)), _actor.set(actor)
        try:
            yield entry
        finally:
            _actor.reset(acted)
            _entries.reset(token)
        # Who writes is said per transaction: an outer entry gets its own name back.
        previous = next((e.actor.holder for e in reversed(outer) if e.using == using), None)
        _restore_actor(connection, previous, outermost=outermost)


def peek(model: type[Model], pk: Any, *, using: str, actor: Actor) -> Entry:
    """Read the time and an object's lock without locking anything: good for an early refusal, no more."""
    entry = Entry(using, key(model, pk), actor)
    _read_state(connections[using], entry)
    return entry


def now(using: str) -> int:
    """Return the database's clock in microseconds since the epoch."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        return time.time_ns() // 1000
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {POSTGRESQL_NOW if connection.vendor == 'postgresql' else MYSQL_NOW}")
        return int(cursor.fetchone()[0])


def claim_open_transactions() -> None:
    """Take the write lock in transactions that are open already but have not written, on SQLite.

    With ATOMIC_REQUESTS the transaction begins before the first read of the request, and SQLite refuses at
    once to raise a read lock to a write lock when somebody else has written in between.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor == "sqlite" and connection.in_atomic_block:
            _claim_sqlite(connection, current_actor())


def _claim_sqlite(connection: BaseDatabaseWrapper, actor: Actor) -> None:
    # The first statement of the transaction writes: SQLite then waits for its turn (busy timeout) instead of
    # failing later, when a read lock cannot be raised to a write lock.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE concord_log SET actor = %s", [actor.holder])


def _lock_row(connection: BaseDatabaseWrapper, model: type[Model], pk: Any) -> bool:
    if connection.vendor == "sqlite":
        return True  # the whole database is ours already
    found = True
    with connection.cursor() as cursor:
        for table in reversed(_chain(model)):
            column = table._meta.pk
            sql = _lock_sql(connection, table._meta.db_table, column.column or "")
            cursor.execute(sql, [column.get_db_prep_value(pk, connection)])
            found = cursor.fetchone() is not None and found
    return found


def _chain(model: type[Model]) -> list[type[Model]]:
    """Return the model and the parents its row is spread over, the topmost last."""
    concrete = model._meta.concrete_model or model
    tables = {f.model for f in concrete._meta.concrete_fields}
    return [concrete, *(p for p in concrete._meta.all_parents if p in tables)]


def _lock_sql(connection: BaseDatabaseWrapper, table: str, column: str) -> str:
    # Raw, and on the table alone: the view's queryset may be DISTINCT, grouped or outer-joined, and the
    # database refuses to lock those.
    quote = connection.ops.quote_name
    wait = settings.LOCK_TIMEOUT
    plain = f"SELECT t.{quote(column)} FROM {quote(table)} t"
    where = f"WHERE t.{quote(column)} = %s"
    if connection.vendor == "postgresql":
        # NO KEY: rows that only reference this one by a foreign key need not wait.
        lock = "FOR NO KEY UPDATE OF t"
        if wait is None:
            return f"{plain} {where} {lock}"
        timeout = f"SELECT set_config('lock_timeout', '{int(wait * 1000)}', true)"
        return f"WITH s AS MATERIALIZED ({timeout}) {plain}, s {where} {lock}"
    seconds = f" WAIT {max(1, round(wait))}" if wait and _is_mariadb(connection) else ""
    return f"{plain} {where} FOR UPDATE{seconds}"


def _is_mariadb(connection: BaseDatabaseWrapper) -> bool:
    return bool(getattr(connection, "mysql_is_mariadb", False))


def _read_state(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    # One statement, after the row lock was granted: a clock or a lock row read by the statement that waited
    # would be from before the wait.
    label, pk = entry.identity
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            entry.now = time.time_ns() // 1000  # SQLite's clock is this process's
            if not pk:
                return
            cursor.execute(
                f"SELECT {LOCK_COLUMNS} FROM concord_lock WHERE model = %s AND object_pk = %s",
                [label, pk],
            )
            row = cursor.fetchone()
        else:
            postgresql = connection.vendor == "postgresql"
            actor = "set_config('concord.actor', %s, true)" if postgresql else "%s"
            now = POSTGRESQL_NOW if postgresql else MYSQL_NOW
            cursor.execute(
                f"SELECT {actor}, {now}, {LOCK_COLUMNS} FROM (SELECT 1) one"
                " LEFT JOIN concord_lock ON model = %s AND object_pk = %s",
                [entry.actor.holder or "", label, pk],
            )
            _, entry.now, *row = cursor.fetchone()
    if row and row[0] is not None:
        entry.lock = lock_value(row)


def lock_value(row: Sequence[Any]) -> Lock:
    """Return the lock that a row holds, given its LOCK_COLUMNS in order."""
    (
        generation,
        mode,
        holder,
        client,
        token_hash,
        scope,
        reason,
        acquired,
        renewed,
        expires,
        broken,
    ) = row
    return Lock(
        generation=generation,
        mode=Mode(mode) if mode else None,
        holder=holder,
        client=client,
        token_hash=token_hash,
        scope=tuple(scope.split(",")) if scope else (),
        reason=reason,
        acquired_at=acquired,
        renewed_at=renewed,
        expires_at=expires,
        broken=bool(broken),
    )


def _restore_actor(connection: BaseDatabaseWrapper, holder: str | None, *, outermost: bool) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE concord_log SET actor = %s", [holder])
    elif connection.vendor == "postgresql" and not outermost:
        # On PostgreSQL the name ends with the transaction by itself.
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('concord.actor', %s, true)", [holder or ""])


def forget_version(using: str) -> None:
    """Say that rows of this database were written in bulk: open entries no longer know their version."""
    for entry in _entries.get():
        if entry.using == using:
            entry.version = None
