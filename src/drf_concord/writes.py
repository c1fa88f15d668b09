"""The gate: every guarded write passes here. Lock the row, apply the rules, save, in one transaction.

A check made before the row lock decides nothing: between it and the save another writer may have come and
gone. Here the object is fetched again once its row is ours, and only that state is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.db import connections
from django.dispatch import Signal

from . import asking, rows
from .attempts import run
from .lockable import has_rule, own_rule
from .models import Lock, LockableModel, Versioned, parents
from .protocol.errors import AlreadyExists, ConcordError, ObjectLocked, PreconditionRequired, VersionMismatch
from .protocol.etags import TagList
from .protocol.preconditions import Current, Preconditions, Verdict, evaluate
from .pruning import after_write
from .triggers import verify_once
from .triggers.plan import moved_by_others

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from django.db.models import Model

__all__ = [
    "NOTHING",
    "RULED",
    "UNCONDITIONAL",
    "Intent",
    "check",
    "create",
    "parents",
    "run",
    "settle",
    "version_conflict",
    "write",
]

T = TypeVar("T", bound="Model")
R = TypeVar("R")

UNCONDITIONAL = Preconditions()
NOTHING = TagList()
"""The ``If-Match`` of a write that has to say what it is based on and does not: no state matches it."""
UNSTATED = "This change must say what it is based on; repeat it with the ETag you read in If-Match."
RULED = {"update", "partial_update", "destroy"}  # an action of the project's own may be what unlocks

version_conflict = Signal()
"""A write was refused: it was based on another state, and nothing was changed. Sent when the row is free
again, with ``label``, ``pk``, ``operation`` and ``holder``: the user's key as text, or None."""


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


def check(intent: Intent, entry: rows.Entry, current: Current | None, locked: bool = False) -> None:
    """Apply the rules to one state of an object: a lost token, the locks, then the preconditions.

    The lock comes before an ordinary precondition, as preconditions do not count where the answer without
    them would not be a success (RFC 9110 section 13.2.1).

    Args:
        intent: what is to be done.
        entry: the stay in the gate, with the lock that was taken on the object.
        current: the object's tag.
        locked: whether the project says that the object is locked.

    Raises:
        LockLost, ObjectLocked, PreconditionRequired, VersionMismatch, AlreadyExists
    """
    rows.ask(entry, intent.operation)
    if locked:
        raise ObjectLocked
    verdict = evaluate(intent.method, intent.preconditions, current, required=intent.required)
    if verdict is Verdict.REQUIRED:
        raise PreconditionRequired
    if verdict is Verdict.MISMATCH:
        raise VersionMismatch(UNSTATED if intent.preconditions.if_match == NOTHING else None)
    if verdict is Verdict.EXISTS:
        raise AlreadyExists


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
    wait: bool = True,
    locked: Callable[[T], bool] = own_rule,
    admit: Callable[[Any], T] | None = None,
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
        wait: whether to wait for the row where another writer has it.
        locked: says whether the project holds the object locked; asked for updates and deletes.
        admit: asks the permission for an object that was read with its row, in the place of ``fetch``; None
            where only ``fetch`` knows how to read it. Without ``wait`` only.

    Raises:
        rows.NotFree: without ``wait``, before anything was asked or done.
        ConcordError: as ``check``; Busy when the database did not get to it; Conflict when a constraint says
            that something was written at the same time.
    """

    def attempt() -> R:
        read = admit is not None
        with rows.enter(
            model, pk, using=using, actor=intent.actor, first=first, wait=wait, read=read
        ) as entry:
            verify_once(using)
            obj = fetch() if admit is None or entry.instance is None else admit(entry.instance)
            try:
                obj, is_locked = _asked(intent, obj, fetch, locked, using, first)
                check(intent, entry, current(obj, entry.now), is_locked)
            except ConcordError as refusal:
                if refused is not None:
                    refused(refusal, obj, entry)
                raise
            entry.cleared.add(intent.operation)
            entry.version = obj.__dict__.get("version") if isinstance(obj, Versioned) else None
            result = perform(obj)
            _end_lock(model, pk, entry, intent.operation)
            after_write(using)
            return result

    try:
        return run(attempt, using=using, conditional=intent.preconditions.guards)
    except VersionMismatch:
        _tell(intent, model, pk)
        raise


def _tell(intent: Intent, model: type[Model], pk: Any) -> None:
    label, key = model._meta.label, str(pk)
    version_conflict.send_robust(
        model, label=label, pk=key, operation=intent.operation, holder=intent.actor.holder
    )


def _asked(
    intent: Intent,
    obj: T,
    fetch: Callable[[], T],
    locked: Callable[[T], bool],
    using: str,
    held: Sequence[rows.Row],
) -> tuple[T, bool]:
    """Ask whether the object is locked, on rows that stay as they are until the write is over."""
    if intent.operation not in RULED or not has_rule(locked, obj):
        return obj, False
    before = asking.noted(obj)
    answer = locked(obj)
    more = [row for row in asking.asked(obj, before) if row not in held] if _queues(using) else []
    if not more:
        return obj, answer
    if isinstance(obj, LockableModel):
        asking.remember(type(obj))
    rows.lock(more, using=using)
    return _asked(intent, fetch(), fetch, locked, using, [*held, *more])


def _queues(using: str) -> bool:
    return connections[using].vendor != "sqlite"  # where a writer has the whole database


def create(actor: rows.Actor, *, model: type[Model], using: str, perform: Callable[[], R]) -> R:
    """Create an object in one transaction that says who wrote it.

    Raises:
        Conflict: a constraint says that the same was created at the same time.
    """

    def attempt() -> R:
        with rows.enter(model, using=using, actor=actor):
            verify_once(using)
            result = perform()
            after_write(using)
            return result

    return run(attempt, using=using, conditional=False)


def _end_lock(model: type[Model], pk: Any, entry: rows.Entry, operation: str) -> None:
    """End the lock of an object that is gone; who was let in for something else may not have deleted it."""
    lock = entry.lock
    if lock.mode is None or not (operation == "destroy" or lock.live(entry.now)):
        return
    # Asked of the row: "destroy" may only have marked it, and any action may have deleted it.
    if entry.connection.needs_rollback or model._base_manager.using(entry.using).filter(pk=pk).exists():
        return
    if operation != "destroy":
        rows.ask(entry, "destroy")
    Lock.forget(entry)


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
    if version is not None and version != before and not moved_by_others(type(obj)):
        return True
    return bool(connections[using].needs_rollback) or obj.read_version(using) is not None
