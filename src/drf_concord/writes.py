"""The gate: every guarded write passes here. Lock the row, apply the rules, save, in one transaction.

A check made before the row lock decides nothing: between it and the save another writer may have come and
gone. Here the object is fetched again once its row is ours, and only that state is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError, IntegrityError, OperationalError, connections

from . import rows
from .models import Lock, Versioned
from .protocol.errors import (
    AlreadyExists,
    Busy,
    ConcordError,
    Conflict,
    LockLost,
    ObjectLocked,
    PreconditionRequired,
    VersionMismatch,
)
from .protocol.locks import refuses, token_lost
from .protocol.preconditions import Current, Preconditions, Verdict, evaluate
from .triggers import verify_once
from .triggers.plan import moved_by_others

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from django.db.models import Model

__all__ = ["Intent", "check", "create", "parents", "run", "settle", "write"]

T = TypeVar("T", bound="Model")
R = TypeVar("R")

ATTEMPTS = 4
RETRY_AFTER = 1.0  # seconds

SERIALIZATION = {"40001", "40P01"}  # serialization failure, deadlock
UNAVAILABLE = {"55P03"}  # lock_timeout ran out
CLASHES = {"23505", "23503", "23P01"}  # unique, foreign key, exclusion
MYSQL_RETRY, MYSQL_BUSY, MYSQL_CLASH = {1213, 1020}, {1205}, {1062, 1451, 1452}


UNCONDITIONAL = Preconditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a caller wants to do to one object, and under which conditions, whichever door it came by.

    ``operation`` is what locks are asked for (``update``, ``destroy`` or an action's name), ``method`` the
    HTTP method whose rules the preconditions follow.
    """

    operation: str
    method: str
    actor: rows.Actor
    preconditions: Preconditions = UNCONDITIONAL
    required: bool = False


def check(intent: Intent, entry: rows.Entry, current: Current | None) -> None:
    """Apply the rules to one state of an object: a lost token, the lock, then the preconditions.

    The lock comes before an ordinary precondition, as preconditions do not count where the answer without
    them would not be a success (RFC 9110 section 13.2.1); a lost token comes before the lock, or the holder
    who was robbed would never learn of it.

    Raises:
        LockLost, ObjectLocked, PreconditionRequired, VersionMismatch, AlreadyExists
    """
    actor = intent.actor
    if actor.token_hash is not None and token_lost(entry.lock, actor.holder, actor.token_hash, entry.now):
        raise LockLost
    if refuses(
        entry.lock,
        intent.operation,
        actor.holder,
        actor.token_hash,
        entry.now,
        need_token=actor.need_token,
    ):
        raise ObjectLocked(retry_after=_seconds_left(entry))
    verdict = evaluate(intent.method, intent.preconditions, current, required=intent.required)
    if verdict is Verdict.REQUIRED:
        raise PreconditionRequired
    if verdict is Verdict.MISMATCH:
        raise VersionMismatch
    if verdict is Verdict.EXISTS:
        raise AlreadyExists


def _seconds_left(entry: rows.Entry) -> float | None:
    expires = entry.lock.expires_at
    return None if expires is None else max(0.0, (expires - entry.now) / 1e6)


def write(
    intent: Intent,
    *,
    model: type[Model],
    pk: Any,
    using: str,
    fetch: Callable[[], T],
    current: Callable[[T, int], Current],
    perform: Callable[[T], R],
    refused: Callable[[ConcordError, T, rows.Entry], None] | None = None,
    first: Sequence[tuple[type[Model], Any]] = (),
) -> R:
    """Do one write to one object, guarded: the only check that counts is made on the locked row.

    Args:
        intent: what, by whom, under which conditions.
        model: the model of the object whose row is locked.
        pk: its primary key.
        using: the database alias to write to.
        fetch: gets the object again once its row is locked; visibility and permission decide again there.
        current: computes the object's tag from that state and the time (microseconds).
        perform: validates and saves; a full save of a locked, fresh row reverts nobody.
        refused: adds to a refusal what this caller may know of the object.
        first: rows to lock before this one, such as the parents it touches.

    Raises:
        ConcordError: as ``check``; Busy when the database did not get to it; Conflict when a constraint says
            that something was written at the same time.
    """
    verify_once(using)

    def attempt() -> R:
        with rows.enter(model, pk, using=using, actor=intent.actor, first=first) as entry:
            obj = fetch()
            try:
                check(intent, entry, current(obj, entry.now))
            except ConcordError as refusal:
                if refused is not None:
                    refused(refusal, obj, entry)
                raise
            entry.cleared = True
            entry.version = obj.__dict__.get("version") if isinstance(obj, Versioned) else None
            result = perform(obj)
            if intent.operation == "destroy":
                Lock.forget(entry)
            return result

    return run(attempt, using=using, conditional=intent.preconditions.guards)


def create(actor: rows.Actor, *, model: type[Model], using: str, perform: Callable[[], R]) -> R:
    """Create an object in one transaction that says who wrote it.

    Raises:
        Conflict: a constraint says that the same was created at the same time.
    """
    verify_once(using)

    def attempt() -> R:
        with rows.enter(model, using=using, actor=actor):
            return perform()

    return run(attempt, using=using, conditional=False)


def run(attempt: Callable[[], R], *, using: str, conditional: bool) -> R:
    """Run a transaction, again where another one got in its way and nothing has been decided yet.

    A second attempt asks all the rules again, so that a tag which meanwhile got old is a mismatch. Inside
    somebody else's transaction there is no second attempt: what was read there is read.
    """
    nested = connections[using].in_atomic_block
    for left in reversed(range(ATTEMPTS)):
        try:
            return attempt()
        except (OperationalError, IntegrityError) as error:
            kind = _classify(error)
            if kind is None:
                raise
            if kind == "clash":
                raise Conflict from error
            if kind == "retry" and not nested and left:
                continue
            if kind == "retry" and nested and conditional:
                raise VersionMismatch from error
            raise Busy(retry_after=RETRY_AFTER) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _classify(error: DatabaseError) -> str | None:
    """Return "retry", "busy" or "clash" for errors that another writer caused, else None."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        known = (("retry", SERIALIZATION), ("busy", UNAVAILABLE), ("clash", CLASHES))
        return next((kind for kind, states in known if state in states), None)
    number = error.args[0] if error.args else None
    if isinstance(number, int):
        numbers = (("retry", MYSQL_RETRY), ("busy", MYSQL_BUSY), ("clash", MYSQL_CLASH))
        return next((kind for kind, known_numbers in numbers if number in known_numbers), None)
    text = str(error)
    if "is locked" in text:  # SQLite: database is locked, database table is locked
        return "busy"
    if "UNIQUE constraint" in text or "FOREIGN KEY constraint" in text:
        return "clash"
    return None


def settle(obj: Any, *, using: str, before: Any = None) -> bool:
    """Make sure an object carries the version its row has, after it was saved in the gate.

    Args:
        obj: the object that was saved.
        using: the alias it was written to.
        before: its version before the write; when it did not move, something else than ``save()`` wrote.

    Returns:
        False when the object is gone.
    """
    if obj is None or obj.pk is None:
        return False
    if not isinstance(obj, Versioned):
        return True
    version = obj.__dict__.get("version")
    if version is None or version == before or moved_by_others(type(obj)):
        return obj.read_version(using) is not None
    return True


def parents(obj: Model) -> list[tuple[type[Model], Any]]:
    """Return the rows that a write to this object touches: they are locked first, so that two writers who
    come by different ways do not wait for each other.
    """
    names = obj.touches if isinstance(obj, Versioned) else ()
    found: list[tuple[type[Model], Any]] = []
    for name in names:
        field: Any = obj._meta.get_field(name)
        value = getattr(obj, field.attname)
        if value is not None and field.target_field.primary_key:
            found.append((field.related_model, value))
    return found
