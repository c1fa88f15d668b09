"""Locks on rows: the rules of ``protocol.locks`` applied to the ``Lock`` row of an object.

Every function that changes a lock wants the entry of ``rows.enter``: the object's row lock is what makes
"nobody holds it, so I take it" one step, and keeps the object from changing under a lock just granted.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connections, router, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils.crypto import salted_hmac

from . import former, rows
from .attempts import run
from .conf import settings
from .lockable import LockableMixin
from .models import Lock as LockRow
from .protocol import locks as rules
from .protocol.errors import Busy, ConcordError, LockForbidden, LockLimit, LockLost
from .protocol.locks import Claim, Limits, Lock, Mode, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import Model

__all__ = [
    "LockableMixin",
    "acquire",
    "acting",
    "actor_for",
    "break_lock",
    "describe",
    "freeze",
    "hand_over",
    "hold",
    "holder_name",
    "limits",
    "lock_broken",
    "locked",
    "release",
    "release_lock",
    "renew",
    "unlocked",
]

R = TypeVar("R")

logger = logging.getLogger("drf_concord")

locked = Signal()
"""A lock was taken. Sent after the commit, with ``label``, ``pk`` and ``lock``."""
unlocked = Signal()
"""A lock was released by its holder. Sent after the commit, with ``label``, ``pk`` and ``lock``."""
lock_broken = Signal()
"""A lock was ended by somebody else, or overridden by a freeze. Sent after the commit."""


def limits() -> Limits:
    """Return the limits the project set."""
    return Limits(ttl=settings.LOCK_TTL, max_ttl=settings.LOCK_MAX_TTL, max_hold=settings.LOCK_MAX_HOLD)


def actor_for(user: Any, token: str | None = None) -> rows.Actor:
    """Return who a user is to the locks, with the lock token that came along.

    Raises:
        TypeError: it is no user, such as the name of one.
    """
    try:
        holder = str(user.pk) if user is not None and user.pk is not None else None
    except AttributeError:
        raise TypeError(f"Pass a user where {user!r} was given: locks are those of users.") from None
    hashed = hash_token(token) if token is not None else None
    return rows.Actor(holder, hashed, need_token=settings.LOCK_HOLDER == "client")


@contextmanager
def acting(user: Any) -> Iterator[None]:
    """Write as a user: in this block ``save()`` and ``delete()`` pass the locks that user holds."""
    with rows.acting(actor_for(user)):
        yield


def hash_token(token: str) -> str:
    """Return what is kept of a token; 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def acquire(entry: rows.Entry, claim: Claim) -> tuple[Lock, Outcome, str | None]:
    """Take the lock on the object of an entry.

    Returns:
        The lock, what happened, and the token, which is not stored (None when a lock without an id is kept).

    Raises:
        AlreadyLocked: somebody has it. LockLimit: the holder has too many.
    """
    token = _token(entry, claim, entry.lock.generation + 1)
    claim = replace(claim, token_hash=hash_token(token))
    lock, outcome = rules.acquire(entry.lock, claim, entry.now, limits(), need_token=entry.actor.need_token)
    if outcome is Outcome.KEPT:
        return lock, outcome, _token(entry, claim, lock.generation) if claim.client else None
    if lock.mode is Mode.HOLD:
        _check_quota(entry, claim.holder)
    _store(entry, lock, locked)
    if outcome is Outcome.OVERRIDDEN:
        _announce(entry, lock, lock_broken)
    return lock, outcome, token


def _token(entry: rows.Entry, claim: Claim, generation: int) -> str:
    if claim.client is None:
        return secrets.token_hex(32)  # no dash, which a shell command would take for an option
    # A client that names its lock may have lost the answer and ask again: it gets the same token again,
    # although only the hash is stored.
    parts = (*entry.identity, str(generation), claim.holder or "", claim.client)
    return salted_hmac("drf_concord.locks", "\0".join(parts), algorithm="sha256").hexdigest()


def _check_quota(entry: rows.Entry, holder: str | None) -> None:
    if holder is None:
        return
    label, pk = entry.identity
    live = Q(expires_at=None) | Q(expires_at__gt=entry.now)
    held = LockRow._base_manager.using(entry.using).filter(live, holder=holder, mode=Mode.HOLD.value)
    if held.exclude(model=label, object_pk=pk).count() >= settings.LOCKS_PER_USER:
        raise LockLimit(f"{settings.LOCKS_PER_USER} locks are the most one user may hold. Release one first.")


def renew(entry: rows.Entry, ttl: float | None) -> Lock:
    """Renew the hold of the entry's actor for ``ttl`` seconds from now.

    Raises:
        LockLost: it is no longer the actor's. LockLimit: it was held as long as one may.
    """
    _check_token(entry)
    lock = rules.renew(entry.lock, entry.actor.holder, ttl, entry.now, limits())
    return _store(entry, lock, None)


def release(entry: rows.Entry, *, privileged: bool = False) -> Lock:
    """Release the lock; releasing a free object is no error.

    Raises:
        LockForbidden: it is somebody else's, or a freeze and the actor is not ``privileged``.
    """
    _check_token(entry, demand=not privileged)
    if entry.lock.mode is None:
        return entry.lock
    lock = rules.release(entry.lock, entry.actor.holder, entry.now, privileged=privileged)
    return _store(entry, lock, unlocked)


def break_lock(entry: rows.Entry, period: float = 0) -> Lock:
    """End a lock whoever holds it, after ``period`` seconds in which its holder may finish."""
    lock = rules.break_(entry.lock, entry.now, period)
    return _store(entry, lock, lock_broken)


def hand_over(entry: rows.Entry, to: str) -> tuple[Lock, str]:
    """Give the actor's hold to another user (primary key as text); returns the lock and its new token."""
    _check_token(entry)
    _check_quota(entry, to)
    token = secrets.token_hex(32)
    lock = rules.hand_over(entry.lock, entry.actor.holder, to, hash_token(token), entry.now, limits())
    return _store(entry, lock, locked), token


def _check_token(entry: rows.Entry, *, demand: bool = True) -> None:
    # The token has to be the lock's, not the lock live: an expired one that nobody took may be renewed.
    actor, lock = entry.actor, entry.lock
    if actor.token_hash is None:
        own = lock.mode is Mode.HOLD and lock.holder is not None and lock.holder == actor.holder
        if demand and actor.need_token and own:
            raise LockForbidden("This lock is of another window or program. Send its Lock-Token.")
    elif actor.holder != lock.holder or not compare_digest(lock.token_hash or "", actor.token_hash):
        raise LockLost


def _store(entry: rows.Entry, lock: Lock, signal: Signal | None) -> Lock:
    label, pk = entry.identity
    values = {
        "generation": lock.generation,
        "mode": lock.mode or "",
        "holder": lock.holder,
        "client": lock.client,
        "token_hash": lock.token_hash,
        "scope": ",".join(lock.scope),
        "reason": lock.reason,
        "acquired_at": lock.acquired_at,
        "renewed_at": lock.renewed_at,
        "expires_at": lock.expires_at,
        "broken": lock.broken,
    }
    rows_of_locks = LockRow._base_manager.using(entry.using)
    if not rows_of_locks.filter(model=label, object_pk=pk).update(**values):
        rows_of_locks.create(model=label, object_pk=pk, **values)
    frozen, entry.lock = entry.lock.mode is Mode.FREEZE, lock
    if frozen and lock.mode is not Mode.FREEZE:
        former.restore(entry)
    if signal is not None:
        _announce(entry, lock, signal)
    return lock


def _announce(entry: rows.Entry, lock: Lock, signal: Signal) -> None:
    label, pk = entry.identity
    transaction.on_commit(
        lambda: signal.send(LockRow, label=label, pk=pk, lock=lock), using=entry.using, robust=True
    )


def describe(lock: Lock, now: int, *, viewer: str | None, disclose: bool) -> dict[str, object]:
    """Return a lock as people and programs are told of it.

    Args:
        lock: the lock, free or not.
        now: the database's time in microseconds.
        viewer: the primary key of the user who asks, as text.
        disclose: whether this caller may learn who holds it.
    """
    state = lock.state(now)
    free = state in {State.FREE, State.EXPIRED}
    mine = not free and lock.holder is not None and lock.holder == viewer
    return {
        "state": "free" if free else "frozen" if state is State.FROZEN else "held",
        "mine": mine,
        "mode": None if free or lock.mode is None else lock.mode.value,
        "scope": None if free else _scope(lock),
        "reason": "" if free else lock.reason,
        "holder": holder_name(lock.holder) if not free and (disclose or mine) else None,
        "acquired_at": None if free else iso(lock.acquired_at),
        "expires_at": None if free or lock.expires_at is None else iso(lock.expires_at),
        # for who has another clock
        "expires_in": None if free or lock.expires_at is None else (lock.expires_at - now) / 1_000_000,
        "generation": lock.generation,
    }


def _scope(lock: Lock) -> str | list[str]:
    return lock.scope[0] if lock.scope in {(rules.WRITE,), (rules.DELETE,)} else list(lock.scope)


def iso(microseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, with microseconds."""
    return dt.datetime.fromtimestamp(microseconds / 1e6, tz=dt.UTC).isoformat().replace("+00:00", "Z")


def holder_name(holder: str | None) -> str | None:
    """Return the user name of a holder, or None when nobody, or nobody any more, is behind it."""
    if holder is None:
        return None
    user = get_user_model()._default_manager.filter(pk=holder).first()
    return user.get_username() if user is not None else None


@contextmanager
def hold(
    obj: Model, *, holder: Any, ttl: float | None = None, reason: str = "", using: str | None = None
) -> Iterator[Lock]:
    """Hold an object while the block runs: ``with locks.hold(task, holder=user, ttl=30):``.

    ``save()`` and ``delete()`` in the block pass the lock. It is renewed in the background every third of its
    ttl (seconds), and released at the end, also when the block raises. Inside a transaction, where nobody
    else can get at the row, and on an in-memory SQLite database it is not renewed: the block has its ttl.

    Raises:
        AlreadyLocked: somebody has it. LockLost: it was taken away while the block ran, or lapsed so that
            others could write. DoesNotExist: the object is gone.
    """
    alias = using or router.db_for_write(type(obj), instance=obj)
    model, pk, actor = type(obj), obj.pk, actor_for(holder)
    if actor.holder is None:
        raise ValueError("A hold is somebody's: pass a saved user as holder.")
    claim = Claim(holder=actor.holder, ttl=ttl, reason=reason)
    lock, _, token = _change(model, pk, alias, actor, lambda entry: acquire(entry, claim))
    holding = replace(actor, token_hash=hash_token(token or ""))

    def mine(change: Callable[[rows.Entry], R]) -> R:
        def checked(entry: rows.Entry) -> R:
            if rules.token_lost(entry.lock, holding.holder, holding.token_hash, entry.now):
                raise LockLost
            return change(entry)

        return _change(model, pk, alias, holding, checked)

    def end() -> None:
        keeper.stop()
        if keeper.lost:
            raise LockLost
        with suppress(ObjectDoesNotExist):  # deleted in the block, which ended the lock
            mine(release)

    keeper = _Keeper(lambda: mine(lambda entry: renew(entry, ttl)), _pause(ttl))
    if not _alone(alias):
        keeper.start()
    outer = rows.current_actor()
    tokens = {**(outer.tokens if outer.holder == actor.holder else {})}
    tokens[rows.key(model, pk)] = holding.token_hash or ""
    try:
        with rows.acting(replace(actor, tokens=tokens)):
            yield lock
    except BaseException:
        try:
            end()
        except (ConcordError, DatabaseError) as error:
            logger.warning("The lock on %s could not be released: %s", obj, error)
        raise
    end()


def _pause(ttl: float | None) -> float:
    return (ttl if ttl is not None else settings.LOCK_TTL) / 3


def _alone(alias: str) -> bool:
    connection: Any = connections[alias]
    in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
    return bool(connection.in_atomic_block or in_memory)


class _Keeper(threading.Thread):
    """Renews a lock in the background until it is stopped or the lock is lost."""

    def __init__(self, renew: Callable[[], object], pause: float) -> None:
        super().__init__(name="concord-hold", daemon=True)
        self.lost = False
        self._renew, self._pause, self._done = renew, pause, threading.Event()

    def run(self) -> None:
        try:
            while not self.lost and not self._done.wait(self._pause):
                self._step()
        finally:
            connections.close_all()  # of this thread; the caller's are its own

    def _step(self) -> None:
        try:
            self._renew()
        except (Busy, DatabaseError) as error:
            # The next step may get through; if none does, the lock lapses and the release says so.
            logger.warning("A lock could not be renewed: %s", error)
        except ObjectDoesNotExist:
            self._done.set()
        except ConcordError:
            self.lost = True

    def stop(self) -> None:
        """Wait until a renewal that has begun is over."""
        self._done.set()
        if self.ident is not None:
            self.join()


def _change(model: Any, pk: Any, using: str, actor: rows.Actor, change: Callable[[rows.Entry], R]) -> R:
    """Change the lock of an object that is there, on its row."""
    if pk is None:
        raise ValueError("An object that is not saved cannot be locked.")

    def attempt() -> R:
        with rows.enter(model, pk, using=using, actor=actor) as entry:
            if not model._base_manager.using(using).filter(pk=pk).exists():
                raise model.DoesNotExist(f"{model._meta.label} {pk} is gone, so it cannot be locked.")
            return change(entry)

    return run(attempt, using=using, conditional=False)


def freeze(
    obj: Model,
    *,
    by: Any = None,
    scope: str | tuple[str, ...] = rules.WRITE,
    reason: str = "",
    using: str | None = None,
) -> Lock:
    """Freeze an object until it is released; it overrides a hold."""
    alias = using or router.db_for_write(type(obj), instance=obj)
    actor = actor_for(by)
    claim = Claim(holder=actor.holder, mode=Mode.FREEZE, scope=scope, reason=reason)
    return _change(type(obj), obj.pk, alias, actor, lambda entry: acquire(entry, claim)[0])


def release_lock(obj: Model, *, by: Any = None, using: str | None = None) -> Lock:
    """Release a lock on an object, a freeze too: for code that has asked who may.

    Raises:
        LockForbidden: it is somebody else's hold, which is broken and not released.
    """
    alias = using or router.db_for_write(type(obj), instance=obj)
    return _change(type(obj), obj.pk, alias, actor_for(by), lambda entry: release(entry, privileged=True))
