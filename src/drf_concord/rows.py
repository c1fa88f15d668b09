"""The row lock and the database's clock, per vendor: what every guarded write starts with.

Each path into a row (the gate, a lock being taken, ``save()`` of a ``Lockable``) enters here, so they all
queue on the same row lock, and what they then read is what will be true when they commit.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connections, transaction
from django.utils.crypto import get_random_string

from .attempts import note_commit, waiting
from .conf import settings
from .fields import MYSQL_NOW, POSTGRESQL_NOW
from .protocol.errors import LockLost, ObjectLocked
from .protocol.locks import Lock, Mode, refuses, token_lost
from .transports import announce_on_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = [
    "Actor",
    "Entry",
    "acting",
    "ask",
    "claim_open_transactions",
    "current_actor",
    "enter",
    "entered",
    "forget_version",
    "identity",
    "key",
    "lock",
    "lock_value",
    "now",
    "peek",
]

Identity = tuple[str, str]

LOCK_COLUMNS = (
    "generation, mode, holder, client, token_hash, scope, reason, acquired_at, renewed_at, expires_at, broken"
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes: the key of the user as text, and the hash of the lock token that came along.

    ``token_hash`` is of the object that is written, whichever that is; ``tokens`` are of objects by name.
    """

    holder: str | None = None
    token_hash: str | None = None
    need_token: bool = False
    tokens: Mapping[Identity, str] = field(default_factory=dict, hash=False)

    def at(self, identity: Identity) -> Actor:
        """Return this actor before one object, with the token of that one and no other."""
        if self.token_hash is not None or identity not in self.tokens:
            return self
        return replace(self, token_hash=self.tokens[identity])

    def inside(self, identity: Identity) -> Actor:
        """Return this actor while an object is open: the token shown for it says nothing of others."""
        if self.token_hash is None:
            return self
        return replace(self, token_hash=None, tokens={**self.tokens, identity: self.token_hash})


@dataclass(slots=True)
class Entry:
    """One stay in the gate: the locked row, the database's time and the lock on the object.

    ``now`` is in microseconds since the epoch and was read after the row lock was granted.
    """

    using: str
    identity: Identity
    actor: Actor
    connection: BaseDatabaseWrapper
    now: int = 0
    lock: Lock = field(default_factory=Lock)
    found: bool = True
    open: bool = True
    cleared: set[str] = field(default_factory=set)  # operations that the lock was asked for, and allowed
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
    if not stack or pk is None:
        return None
    wanted, connection = key(model, pk), connections[using]
    # Context is copied into tasks and threads: there the entry may be of another connection, or over.
    return next(
        (e for e in reversed(stack) if e.identity == wanted and e.open and e.connection is connection), None
    )


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
        first: other rows to lock before this one and in this order, such as parents that the write touches.

    Raises:
        Busy: another writer has a row for longer than ``LOCK_TIMEOUT``.
    """
    actor = current_actor() if actor is None else actor
    connection = connections[using]
    outermost = not connection.in_atomic_block
    outer = _entries.get()
    name = key(model, pk) if pk is not None else (model._meta.label, "")
    entry = Entry(using, name, actor.at(name), connection)
    with transaction.atomic(using=using):
        if outermost:
            note_commit(connection)
        with waiting():
            if connection.vendor == "sqlite":
                _claim_sqlite(connection, actor)
            for other, other_pk in first:
                _lock_row(connection, other, other_pk, settings.LOCK_TIMEOUT)
            if pk is not None:
                entry.found = _lock_row(connection, model, pk, settings.LOCK_TIMEOUT)
        _read_state(connection, entry, announce=True)
        token, acted = _entries.set((*outer, entry)), _actor.set(actor.inside(name))
        try:
            yield entry
        finally:
            entry.open = False
            _actor.reset(acted)
            _entries.reset(token)
            _forget_versions(outer, using, name)
        # Who writes is said per transaction: an outer entry gets its own name back.
        previous = next((e.actor.holder for e in reversed(outer) if e.connection is connection), None)
        if not connection.needs_rollback:  # where it is rolled back, so is the name
            _restore_actor(connection, previous, outermost=outermost)
            announce_on_commit(using)


def lock(rows: Sequence[tuple[type[Model], Any]], *, using: str) -> None:
    """Lock rows in this order, in a transaction that is open, for as long as they take."""
    for model, pk in rows:
        _lock_row(connections[using], model, pk, None)


def ask(entry: Entry, operation: str) -> None:
    """Ask the lock of an entry whether its actor may do something.

    A lost token comes before the lock, or the holder who was robbed would never learn of it.

    Raises:
        LockLost, ObjectLocked
    """
    lock, actor, now = entry.lock, entry.actor, entry.now
    if actor.token_hash is not None and token_lost(lock, actor.holder, actor.token_hash, now):
        raise LockLost
    if refuses(lock, operation, actor.holder, actor.token_hash, now, need_token=actor.need_token):
        raise ObjectLocked(retry_after=lock.remaining(now))


def peek(model: type[Model], pk: Any, *, using: str, actor: Actor) -> Entry:
    """Read the time and an object's lock without locking anything: good for an early refusal, no more."""
    name = key(model, pk)
    entry = Entry(using, name, actor.at(name), connections[using], open=False)
    _read_state(entry.connection, entry, announce=False)
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
            try:
                with waiting():
                    _claim_sqlite(connection, current_actor())
            except OperationalError as error:
                if "no such table" not in str(error):  # a database of others, without our tables
                    raise


def _claim_sqlite(connection: BaseDatabaseWrapper, actor: Actor) -> None:
    # The first statement of the transaction writes: SQLite then waits for its turn (busy timeout) instead of
    # failing later, when a read lock cannot be raised to a write lock.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE concord_log SET actor = %s", [actor.holder])
        if not cursor.rowcount:  # a flush took the row; the log begins a new epoch
            cursor.execute(
                "INSERT INTO concord_log (id, epoch, actor) VALUES (1, %s, %s)",
                [get_random_string(22), actor.holder],
            )


def _lock_row(connection: BaseDatabaseWrapper, model: type[Model], pk: Any, wait: float | None) -> bool:
    if connection.vendor == "sqlite":
        return True  # the whole database is ours already
    found = True
    concrete = model._meta.concrete_model or model
    value = concrete._meta.pk.get_db_prep_value(pk, connection)
    with connection.cursor() as cursor:
        for table in reversed(_chain(model)):
            cursor.execute(_lock_sql(connection, concrete, table, wait), [value])
            found = cursor.fetchone() is not None and found
    return found


def _chain(model: type[Model]) -> list[type[Model]]:
    """Return the model and the parents its row is spread over, the topmost last."""
    concrete = model._meta.concrete_model or model
    tables = {f.model for f in concrete._meta.concrete_fields}
    return [concrete, *(p for p in concrete._meta.all_parents if p in tables)]


def _lock_sql(
    connection: BaseDatabaseWrapper, model: type[Model], table: type[Model], wait: float | None
) -> str:
    # Raw, and on the table alone: the view's queryset may be DISTINCT, grouped or outer-joined, and the
    # database refuses to lock those.
    quote = connection.ops.quote_name
    column = quote(table._meta.pk.column or "")
    plain = f"SELECT t.{column} FROM {quote(table._meta.db_table)} t"
    where = f"WHERE t.{column} = {_key_sql(quote, model, table)}"
    if connection.vendor == "postgresql":
        # NO KEY: rows that only reference this one by a foreign key need not wait.
        lock = "FOR NO KEY UPDATE OF t"
        if wait is None:
            return f"{plain} {where} {lock}"
        timeout = f"SELECT set_config('lock_timeout', '{max(1, int(wait * 1000))}', true)"
        return f"WITH s AS MATERIALIZED ({timeout}) {plain}, s {where} {lock}"
    seconds = f" WAIT {max(1, round(wait))}" if wait is not None and _is_mariadb(connection) else ""
    return f"{plain} {where} FOR UPDATE{seconds}"


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


def _read_state(connection: BaseDatabaseWrapper, entry: Entry, *, announce: bool) -> None:
    # One statement, after the row lock was granted: a clock or a lock row read by the statement that waited
    # would be from before the wait. It also tells PostgreSQL's triggers who writes.
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
            actor = "set_config('concord.actor', %s, true)" if postgresql and announce else "%s"
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


def _forget_versions(entries: tuple[Entry, ...], using: str, identity: Identity) -> None:
    for entry in entries:
        if entry.using == using and entry.identity == identity:
            entry.version = None
