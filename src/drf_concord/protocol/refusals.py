"""Whom a lock refuses: what the gate asks before every write."""

from __future__ import annotations

from hmac import compare_digest

from .claims import DELETE, WRITE
from .lock_states import Lock, State

__all__ = ["covers", "holds", "refuses", "token_lost"]

# what else in a scope covers an operation; PATCH is only another way to update
_COVERED_BY = {"destroy": DELETE, "partial_update": "update"}


def refuses(
    lock: Lock,
    operation: str,
    holder: str | None,
    token_hash: str | None,
    now: int,
    *,
    need_token: bool,
) -> bool:
    """Return whether a lock stands against an operation of somebody.

    Args:
        lock: as it stands.
        operation: an unsafe one, see `covers`.
        holder: who asks.
        token_hash: the hash of the token they showed, if any.
        now: the time.
        need_token: whether a holder has to show it.
    """
    if not lock.live(now) or not covers(lock, operation):
        return False
    return not holds(lock, holder, token_hash, now, need_token=need_token)


def covers(lock: Lock, operation: str) -> bool:
    """Return whether an unsafe operation is in the scope of a lock.

    Args:
        lock: of which only the scope counts.
        operation: `update`, `partial_update`, `destroy` or the name of an action.
    """
    names = {WRITE, operation, _COVERED_BY.get(operation, operation)}
    return not names.isdisjoint(lock.scope)


def holds(lock: Lock, holder: str | None, token_hash: str | None, now: int, *, need_token: bool) -> bool:
    """Return whether somebody has a live hold, and so may work under it; nobody holds a freeze.

    Args:
        lock: as it stands.
        holder: who asks; None has nothing.
        token_hash: the hash of the token they showed, which then has to be the right one.
        now: the time.
        need_token: whether they have to show it.
    """
    working = lock.state(now) in (State.HELD, State.BREAKING)
    if not working or holder is None or holder != lock.holder:
        return False
    return not need_token if token_hash is None else _is_token(lock, token_hash)


def token_lost(lock: Lock, holder: str | None, token_hash: str | None, now: int) -> bool:
    """Return whether a token was shown that is not the live token of whoever showed it.

    Args:
        lock: as it stands.
        holder: who showed it.
        token_hash: the hash of the token; None when none was shown.
        now: the time.
    """
    if token_hash is None:
        return False
    own = holder is not None and holder == lock.holder
    return not (own and lock.live(now) and _is_token(lock, token_hash))


def _is_token(lock: Lock, token_hash: str) -> bool:
    # in constant time, so that the delay of an answer tells nothing about the hash
    kept = lock.token_hash
    return kept is not None and compare_digest(kept.encode(), token_hash.encode())
