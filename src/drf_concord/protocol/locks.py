"""The rules of locks: how one is taken, kept and ended.

Each rule takes a lock as it stands and the time, and returns the lock as it stands afterwards, or
raises why not. What may happen at all is in TRANSITIONS; who may do it is here.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

from .claims import (
    DELETE,
    WRITE,
    Claim,
    Limits,
    Mode,
    microseconds,
    operations,
    parse_claim,
    seconds_within,
    ttl_within,
)
from .errors import AlreadyLocked, InvalidLock, LockForbidden, LockLimit, LockLost, NotLocked
from .lock_states import LIVE, TRANSITIONS, Event, Lock, State, diagram
from .refusals import covers, holds, refuses, token_lost

__all__ = [
    "DELETE",
    "MAX_PERIOD",
    "TRANSITIONS",
    "WRITE",
    "Claim",
    "Event",
    "Limits",
    "Lock",
    "Mode",
    "Outcome",
    "State",
    "acquire",
    "break_",
    "covers",
    "diagram",
    "hand_over",
    "holds",
    "parse_claim",
    "refuses",
    "release",
    "renew",
    "token_lost",
]

MAX_PERIOD: Final = 86_400
"""The longest time a broken hold may be drained, in seconds."""


class Outcome(StrEnum):
    """How a lock was acquired."""

    ACQUIRED = "acquired"
    """It is new, and so is its token."""
    KEPT = "kept"
    """The same was asked before: nothing moved, the first token counts."""
    OVERRIDDEN = "overridden"
    """A freeze ended a live hold, whose holder should be told."""


def acquire(
    lock: Lock, claim: Claim, now: int, limits: Limits, *, need_token: bool = False
) -> tuple[Lock, Outcome]:
    """Take a lock, or freeze the object.

    A claim with the holder, client id and mode of the live lock is that request once more, and
    changes nothing. A holder whose claim or whose live hold has no id starts over: the new token
    counts, the old one is lost. A freeze overrides any hold, and nothing overrides a freeze.

    Args:
        lock: as it stands.
        claim: what is wanted.
        now: the time.
        limits: what may be asked for.
        need_token: whether a holder has to show the token; then programs of one holder exclude each
            other, and those without an id cannot be told apart and never start over.

    Raises:
        InvalidLock: the claim is out of range.
        AlreadyLocked: somebody else has it, or the same holder in another program.
        LockLimit: the holder's own hold has lasted for as long as is allowed.
    """
    claim = claim.checked(limits)
    state = lock.state(now)
    own = claim.holder is not None and claim.holder == lock.holder
    named = claim.client is not None and lock.client is not None
    if state in LIVE and own and named and (claim.client, claim.mode) == (lock.client, lock.mode):
        return lock, Outcome.KEPT

    event = Event.FREEZE if claim.mode is Mode.FREEZE else Event.ACQUIRE
    again = state is State.HELD and event is Event.ACQUIRE
    if again and own and (named or need_token):
        detail = "You have locked this object in another window or program; end that lock first."
        raise AlreadyLocked(detail, retry_after=lock.remaining(now))
    if (state, event) not in TRANSITIONS or (again and not own):
        raise AlreadyLocked(retry_after=lock.remaining(now))

    taken = Lock(
        generation=lock.generation + 1,
        mode=claim.mode,
        holder=claim.holder,
        client=claim.client,
        token_hash=claim.token_hash,
        scope=operations(claim.scope),
        reason=claim.reason,
        # to start over is no way round the longest time a hold may last
        acquired_at=lock.acquired_at if again else now,
        renewed_at=now,
    )
    overrides = event is Event.FREEZE and state in LIVE
    outcome = Outcome.OVERRIDDEN if overrides else Outcome.ACQUIRED
    return _lasting(taken, claim.ttl, now, limits), outcome


def renew(lock: Lock, holder: str | None, ttl: float | None, now: int, limits: Limits) -> Lock:
    """Let a lock last for a ttl from now, also a hold that has expired and that nobody took.

    A hold ends after the longest time it may last, whatever is asked for.

    Args:
        lock: as it stands.
        holder: who asks.
        ttl: in seconds, checked here; None for the default of a hold.
        now: the time.
        limits: what may be asked for.

    Raises:
        InvalidLock: the ttl is out of range, or this freeze has no end that could be moved.
        LockForbidden: the lock belongs to nobody, or nobody asks.
        LockLost: it was released, broken, or taken by somebody else.
        LockLimit: it has lasted for as long as is allowed.
    """
    _require_holder(lock, holder, Event.RENEW, now)
    if lock.mode is Mode.FREEZE and (lock.expires_at is None or ttl is None):
        detail = "A freeze without an end is not renewed; one with an end needs a new ttl."
        raise InvalidLock(detail, member="ttl")
    ttl = ttl_within(ttl, lock.mode, limits)
    return _lasting(replace(lock, renewed_at=now), ttl, now, limits)


def hand_over(
    lock: Lock, holder: str | None, to: str, token_hash: str | None, now: int, limits: Limits
) -> Lock:
    """Give a hold to somebody else, with its scope and reason, for the default ttl.

    Args:
        lock: as it stands.
        holder: who gives it.
        to: who gets it: somebody else, or another program of the same holder.
        token_hash: the hash of the new token; the old one is lost.
        now: the time.
        limits: somebody else gets the whole of them, the same holder what is left.

    Raises:
        InvalidLock: `to` is nobody, or the lock is a freeze, under which nobody can work.
        LockForbidden: the lock belongs to nobody, or nobody asks.
        LockLost: it was released, broken, or taken by somebody else.
        LockLimit: it has lasted for as long as is allowed.
    """
    if not to:
        raise InvalidLock("A lock is handed over to somebody; name them.", member="to")
    if lock.state(now) is State.FROZEN:
        raise InvalidLock("A freeze is not handed over; release it instead.", member="to")
    _require_holder(lock, holder, Event.HAND_OVER, now)
    given = replace(
        lock,
        generation=lock.generation + 1,
        holder=to,
        client=None,
        token_hash=token_hash,
        acquired_at=lock.acquired_at if to == holder else now,
        renewed_at=now,
    )
    return _lasting(given, None, now, limits)


def release(lock: Lock, holder: str | None, now: int, *, privileged: bool = False) -> Lock:
    """End a lock; nothing happens when there is none any more.

    Args:
        lock: as it stands.
        holder: who asks. A hold that belongs to nobody is released by anybody.
        now: the time.
        privileged: whether they may end a freeze. Somebody else's hold is broken, not released.

    Raises:
        LockForbidden: it is somebody else's hold, or a freeze.
    """
    state = lock.state(now)
    own = lock.holder is None or lock.holder == holder
    # an expired hold of somebody else refuses nobody, and is still theirs to renew
    if (state, Event.RELEASE) not in TRANSITIONS or (state is State.EXPIRED and not own):
        return lock
    if state is State.FROZEN:
        if not privileged:
            detail = "This object is frozen; ask somebody who may freeze objects to release it."
            raise LockForbidden(detail)
    elif not own:
        raise LockForbidden
    return _released(lock)


def break_(lock: Lock, now: int, period: float) -> Lock:
    """End somebody else's lock, at once or after a period in which its holder may finish.

    A freeze or a hold that belongs to nobody ends at once: nobody can be working under it.

    Args:
        lock: as it stands.
        now: the time.
        period: in seconds, checked here; the lock never lasts longer than without this.

    Raises:
        InvalidLock: the period is out of range.
        NotLocked: nothing is locked; a hold that has expired is not either.
    """
    period = seconds_within("period", period, MAX_PERIOD, zero=True)
    if (lock.state(now), Event.BREAK) not in TRANSITIONS:
        raise NotLocked
    if lock.mode is Mode.FREEZE or lock.holder is None:
        return _released(lock)
    end = now + microseconds(period)
    if lock.expires_at is not None:
        end = min(end, lock.expires_at)
    return replace(lock, expires_at=end, broken=True)


def _require_holder(lock: Lock, holder: str | None, event: Event, now: int) -> None:
    if holder is None or (lock.holder is None and lock.live(now)):
        raise LockForbidden
    # who comes here believes to have it: that it was released or taken is the same news to them
    if lock.holder != holder or (lock.state(now), event) not in TRANSITIONS:
        raise LockLost


def _lasting(lock: Lock, ttl: float | None, now: int, limits: Limits) -> Lock:
    if ttl is None and (lock.mode is Mode.FREEZE or lock.holder is None):
        return replace(lock, expires_at=None)
    end = now + microseconds(limits.ttl if ttl is None else ttl)
    if lock.mode is Mode.HOLD:
        end = min(end, lock.acquired_at + microseconds(limits.max_hold))
    if end <= now:
        raise LockLimit
    return replace(lock, expires_at=end)


def _released(lock: Lock) -> Lock:
    # the generation stays: a fencing number is never handed out twice
    return Lock(generation=lock.generation)
