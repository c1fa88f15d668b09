"""Locks on rows: the rules of ``protocol.locks`` applied to the ``Lock`` row of an object.

Every function that changes a lock wants the entry of ``rows.enter``: the object's row lock is what makes
"nobody holds it, so I take it" one step, and keeps the object from changing under a lock just granted.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import connections, router, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils.crypto import salted_hmac

from . import rows
from .conf import settings
from .models import Lock as LockRow
from .protocol import locks as rules
from .protocol.errors import ConcordError, LockLimit, LockLost
from .protocol.locks import Claim, Limits, Lock, Mode, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import Model

__all__ = [
    "acquire",
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
    """Return who a user is to the locks, with the lock token that came along."""
    holder = str(user.pk) if user is not None and user.pk is not None else None
    hashed = hash_token(token) if token is not None else None
    return rows.Actor(holder, hashed, need_token=settings.LOCK_HOLDER == "client")


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
    lock, outcome = rules.acquire(entry.lock, claim, entry.now, limits())
    if outcome is Outcome.KEPT:
        return lock, outcome, _token(entry, claim, lock.generation) if claim.client else None
    _check_quota(entry, claim.holder)
    _store(entry, lock, locked)
    if outcome is Outcome.OVERRIDDEN:
        _announce(entry, lock, lock_broken)
    return lock, outcome, token


def _token(entry: rows.Entry, claim: Claim, generation: int) -> str:
    if claim.client is None:
        return secrets.token_urlsafe(32)
    # A client that names its lock may have lost the answer and ask again: it gets the same token again,
    # although only the hash is stored.
    parts = (*entry.identity, str(generation), claim.holder or "", claim.client)
    digest = salted_hmac("drf_concord.locks", "\0".join(parts), algorithm="sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _check_quota(entry: rows.Entry, holder: str | None) -> None:
    if holder is None:
        return
    live = Q(expires_at=None) | Q(expires_at__gt=entry.now)
    held = LockRow._base_manager.using(entry.using).filter(live, holder=holder).exclude(mode="")
    if held.count() >= settings.LOCKS_PER_USER:
        raise LockLimit(
            f"You hold {settings.LOCKS_PER_USER} locks, the most one user may. Release one first."
        )


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
    _check_token(entry)
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
    token = secrets.token_urlsafe(32)
    lock = rules.hand_over(entry.lock, entry.actor.holder, to, hash_token(token), entry.now, limits())
    return _store(entry, lock, locked), token


def _check_token(entry: rows.Entry) -> None:
    actor = entry.actor
    if actor.token_hash is not None and rules.token_lost(
        entry.lock, actor.holder, actor.token_hash, entry.now
    ):
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
    entry.lock = lock
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
    ttl (seconds), and released at the end.

    Raises:
        AlreadyLocked: somebody has it. LockLost: it was taken away while the block ran.
    """
    alias = using or router.db_for_write(type(obj), instance=obj)
    actor = actor_for(holder)
    claim = Claim(holder=actor.holder, ttl=ttl, reason=reason)
    with rows.enter(type(obj), obj.pk, using=alias, actor=actor) as entry:
        lock, _, token = acquire(entry, claim)
    holding = rows.Actor(actor.holder, hash_token(token) if token else None, actor.need_token)

    def step(change: Callable[[rows.Entry], Lock]) -> Lock:
        with rows.enter(type(obj), obj.pk, using=alias, actor=holding) as entry:
            return change(entry)

    stop, lost = threading.Event(), threading.Event()

    def keep() -> None:
        pause = (ttl if ttl is not None else settings.LOCK_TTL) / 3
        try:
            while not stop.wait(pause):
                step(lambda entry: renew(entry, ttl))
        except ConcordError:
            lost.set()
        finally:
            connections.close_all()

    thread = threading.Thread(target=keep, name="concord-hold", daemon=True)
    thread.start()
    try:
        with rows.acting(holding):
            yield lock
    finally:
        stop.set()
        thread.join()
    if lost.is_set():
        raise LockLost
    step(release)


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
    with rows.enter(type(obj), obj.pk, using=alias, actor=actor) as entry:
        return acquire(entry, claim)[0]


def release_lock(obj: Model, *, by: Any = None, using: str | None = None) -> Lock:
    """Release whatever lock there is on an object, a freeze too: for code that has asked who may."""
    alias = using or router.db_for_write(type(obj), instance=obj)
    with rows.enter(type(obj), obj.pk, using=alias, actor=actor_for(by)) as entry:
        return release(entry, privileged=True)
