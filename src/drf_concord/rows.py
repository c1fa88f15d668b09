"""The row lock and the database's clock, per vendor: what every guarded write starts with.

Each path into a row (the gate, a lock being taken, ``save()`` of a ``Lockable``) enters here, so they all
queue on the same row lock, and what they then read is what will be true when they commit.
"""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.db import DataError, OperationalError, connections, transaction
from django.utils.crypto import get_random_string

from . import keyed, statements
from .attempts import commit_noted, waiting
from .conf import settings
from .fields import MYSQL_NOW, POSTGRESQL_NOW
from .protocol.errors import LockLost, ObjectLocked
from .protocol.locks import Lock, Mode, refuses, token_lost
from .transports import announce_on_commit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = [
    "Actor",
    "Entry",
    "NotFree",
    "acting",
    "ask",
    "claim_open_transactions",
    "current_actor",
    "enter",
    "entered",
    "forget_version",
    "identity",
    "impatient",
    "key",
    "lock",
    "lock_value",
    "now",
    "peek",
]

Identity = tuple[str, str]
Row = tuple[type["Model"], Any]


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


UNLOCKED = Lock()


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
    lock: Lock = UNLOCKED
    found: bool = True
    instance: Model | None = None  # the object, where it was read in the moment its row was locked
    open: bool = True
    cleared: set[str] = field(default_factory=set)  # operations that the lock was asked for, and allowed
    excused: Model | None = None  # an operators' lock saves what it shows in this one, whatever rules say
    version: int | None = None  # of the locked row, while this entry is sure of it


class NotFree(Exception):
    """A row is not there, or another writer has it: for a caller that would not wait."""


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


@functools.lru_cache(maxsize=1024)
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


def entered(
    model: type[Model], pk: Any, using: str, connection: BaseDatabaseWrapper | None = None
) -> Entry | None:
    """Return the entry this thread or task has on a row, or None when it has none."""
    stack = _entries.get()
    if not stack or pk is None:
        return None
    wanted, connection = key(model, pk), connection or connections[using]
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
    first: Sequence[Row] = (),
    wait: bool = True,
    read: bool = False,
) -> Iterator[Entry]:
    """Open a transaction, lock a row and read the time and the object's lock.

    Args:
        model: the model of the object; with multi-table inheritance every table of it is locked.
        pk: its primary key; None for an object that is being created.
        using: the database alias to write to.
        actor: who writes; the current actor when None.
        first: other rows to lock before this one and in this order, such as parents that the write touches.
        wait: whether to wait for the row, or to be told at once that it is not free.
        read: whether to read the object with it, where it is not waited for.

    Raises:
        Busy: another writer has a row for longer than ``LOCK_TIMEOUT``.
        NotFree: without ``wait``, the row is not there or another writer has it.
    """
    actor = current_actor() if actor is None else actor
    connection = connections[using]
    outermost = not connection.in_atomic_block
    outer = _entries.get()
    name = key(model, pk) if pk is not None else (model._meta.label, "")
    entry = Entry(using, name, actor.at(name), connection)
    with transaction.atomic(using=using):
        if outermost:
            announce_on_commit(using, connection, before=commit_noted(connection))
        _take(entry, model, pk, first, wait=wait, read=read)
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
            if previous != actor.holder:
                _restore_actor(connection, previous, outermost=outermost)
            if not outermost:
                announce_on_commit(using, connection)


def lock(rows: Sequence[Row], *, using: str) -> None:
    """Lock rows in this order, in a transaction that is open, for as long as they take."""
    connection = connections[using]
    asked = [statement for row in rows for statement in statements.lock_row(connection, *row, None)]
    with connection.cursor() as cursor:
        statements.send(connection, cursor, asked)


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
    with entry.connection.cursor() as cursor:
        _note_state(entry, statements.send(entry.connection, cursor, _state(entry, announce=False)))
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
                with waiting(), connection.cursor() as cursor:
                    _claim_sqlite(connection, cursor, current_actor())
            except OperationalError as error:
                if "no such table" not in str(error):  # a database of others, without our tables
                    raise


def _claim_sqlite(connection: BaseDatabaseWrapper, cursor: Any, actor: Actor, *, wait: bool = True) -> None:
    # The first statement of the transaction writes: SQLite then waits for its turn (busy timeout) instead of
    # failing later, when a read lock cannot be raised to a write lock.
    if wait:
        _say_who(cursor, actor)
    else:
        with impatient(connection):
            _say_who(cursor, actor)


def _say_who(cursor: Any, actor: Actor) -> None:
    cursor.execute("UPDATE concord_log SET actor = %s", [actor.holder])
    if not cursor.rowcount:  # a flush took the row; the log begins a new epoch
        cursor.execute(
            "INSERT INTO concord_log (id, epoch, actor) VALUES (1, %s, %s)",
            [get_random_string(22), actor.holder],
        )


class impatient:
    """Let SQLite wait for nobody.

    Raises:
        NotFree: another connection has the database.
    """

    __slots__ = ("_cursor", "_errors", "_patience")

    def __init__(self, connection: Any) -> None:
        self._errors = (OperationalError, connection.Database.OperationalError)
        # On the driver's connection: these are no queries, and their way through Django costs more than they.
        self._cursor = connection.connection.cursor()

    def __enter__(self) -> None:
        (self._patience,) = self._cursor.execute("PRAGMA busy_timeout").fetchone()
        self._cursor.execute("PRAGMA busy_timeout = 0")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._cursor.execute(f"PRAGMA busy_timeout = {self._patience}").close()
        if isinstance(error, self._errors) and "is locked" in str(error):
            raise NotFree from error


def _take(entry: Entry, model: type[Model], pk: Any, first: Sequence[Row], *, wait: bool, read: bool) -> None:
    """Lock the rows, in this order, and read the state of the entry's object as it is then."""
    connection, patience = entry.connection, settings.LOCK_TIMEOUT
    asked = [s for row in first for s in statements.lock_row(connection, *row, patience)] if first else []
    whole = keyed.select(connection, model, pk) if read and not wait else None
    if whole is not None:
        own = [whole.free(connection, pk)]
    else:
        own = statements.lock_row(connection, model, pk, patience, skip=not wait) if pk is not None else []
    asked += own
    state = _state(entry, announce=True)
    try:
        with waiting(), connection.wrap_database_errors, statements.plain_cursor(connection) as cursor:
            if connection.vendor == "sqlite":
                _claim_sqlite(connection, cursor, entry.actor, wait=wait)
            found = statements.send(connection, cursor, [*asked, *state])
    except DataError as error:
        if wait:
            raise
        raise NotFree from error  # of a key that the database cannot even compare there is no row
    entry.found = all(found[len(asked) - len(own) : len(asked)])
    if not (wait or entry.found):
        raise NotFree
    if whole is not None:
        entry.instance = whole.instance(found[len(asked) - 1])
    _note_state(entry, found[len(asked) :])


def _state(entry: Entry, *, announce: bool) -> list[statements.Statement]:
    label, pk = entry.identity
    if not pk and entry.connection.vendor == "sqlite":
        return []
    return [statements.read_state(entry.connection, label, pk, entry.actor.holder, announce=announce)]


def _note_state(entry: Entry, found: Sequence[Any]) -> None:
    entry.now, lock = statements.state_of(entry.connection, found[0] if found else None)
    if lock is not None:
        entry.lock = lock_value(lock)


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
