"""What is asked for when a lock is taken: the claim, its limits, and the check of both."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from .errors import InvalidLock

__all__ = [
    "DELETE",
    "MAX_OPERATIONS",
    "WRITE",
    "Claim",
    "Limits",
    "Mode",
    "microseconds",
    "operations",
    "parse_claim",
    "seconds_within",
    "ttl_within",
]

WRITE: Final = "write"
"""The scope that covers every unsafe operation."""
DELETE: Final = "delete"
"""The scope that covers `destroy` only."""
MAX_OPERATIONS = 32
"""How many operations one scope may name."""
MAX_FREEZE = 100 * 365 * 86_400
"""The longest ttl of a freeze, in seconds: far away, but a date every database can store."""

_MEMBERS = frozenset({"ttl", "mode", "scope", "reason", "id"})
_OPERATION = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# JSON can carry both, databases and UTF-8 cannot
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


class Mode(StrEnum):
    """What a lock is for."""

    HOLD = "hold"
    """Somebody is working on the object: everybody else is refused until it expires."""
    FREEZE = "freeze"
    """Nobody is to touch the object: everybody is refused, whoever froze it too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long locks may last and how much may be said about them.

    Attributes:
        ttl: how long a hold lasts when nothing is said, in seconds.
        max_ttl: the longest that may be asked for at once, in seconds.
        max_hold: the longest that a hold may last with all its renewals, in seconds.
        max_reason: the longest reason, in characters.
    """

    ttl: int
    max_ttl: int
    max_hold: int
    max_reason: int = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish for a lock.

    Attributes:
        holder: who wants it; None for a lock that belongs to nobody.
        mode: what it is for.
        ttl: how long it is to last, in seconds. None is the default for a hold, and without end for
            a freeze and for a lock that belongs to nobody, since nobody would renew it.
        scope: the operations it covers, or a preset; None for `WRITE`.
        reason: for the people who are refused.
        client: tells programs of one holder apart; the `id` that a client proposes.
        token_hash: the hash of the token that the holder will show.
    """

    holder: str | None
    mode: Mode = Mode.HOLD
    ttl: float | None = None
    scope: tuple[str, ...] | str | None = None
    reason: str = ""
    client: str | None = None
    token_hash: str | None = None

    def checked(self, limits: Limits) -> Claim:
        """Return this claim with its mode and scope in their one form.

        Raises:
            InvalidLock: a value is of the wrong type or out of range; the error names it.
        """
        mode = _mode(self.mode)
        return replace(
            self,
            mode=mode,
            ttl=ttl_within(self.ttl, mode, limits),
            scope=operations(self.scope),
            reason=_reason(self.reason, limits),
        )


def parse_claim(
    data: object, *, limits: Limits, holder: str | None = None, token_hash: str | None = None
) -> Claim:
    """Read the claim a client sent; a member that is null counts as left out.

    Args:
        data: the decoded JSON, of any type and content.
        limits: what may be asked for.
        holder: who sent it, as the server knows.
        token_hash: the hash of the token that the server will hand out.

    Raises:
        InvalidLock: it is no object, has an unknown member, or a value it cannot have.
    """
    if not isinstance(data, Mapping):
        raise InvalidLock("A lock is asked for with a JSON object, which may be empty.")
    for name in data:
        if name not in _MEMBERS:
            known = ", ".join(sorted(_MEMBERS))
            raise InvalidLock(f"There is no such member; the members of a lock are {known}.", member=name)
    said = {name: value for name, value in data.items() if value is not None}
    return Claim(
        holder,
        mode=said.get("mode", Mode.HOLD),
        ttl=said.get("ttl"),
        scope=said.get("scope"),
        reason=said.get("reason", ""),
        client=_client(said.get("id")),
        token_hash=token_hash,
    ).checked(limits)


def operations(value: object) -> tuple[str, ...]:
    """Return a scope as the names it consists of; a preset is its own name.

    Raises:
        InvalidLock: it is neither a preset nor a list of names within the limits.
    """
    if value is None:
        return (WRITE,)
    if isinstance(value, str) and value in (WRITE, DELETE):
        return (value,)
    names = value if isinstance(value, list | tuple) and len(value) <= MAX_OPERATIONS else ()
    if names and all(isinstance(name, str) and _OPERATION.fullmatch(name) for name in names):
        return tuple(dict.fromkeys(names))
    raise InvalidLock(
        f'scope is "{WRITE}", "{DELETE}" or a list of 1 to {MAX_OPERATIONS} names of operations.',
        member="scope",
    )


def ttl_within(value: object, mode: Mode | None, limits: Limits) -> float | None:
    """Return a ttl if it is one for this mode, in seconds; None stays None.

    Raises:
        InvalidLock: it is not a number, or out of range.
    """
    # a freeze may last without end: a limit of hours would forbid only the milder ones
    longest = MAX_FREEZE if mode is Mode.FREEZE else limits.max_ttl
    return None if value is None else seconds_within("ttl", value, longest)


def seconds_within(member: str, value: object, longest: int, *, zero: bool = False) -> float:
    """Return a duration if it is one, in seconds.

    Args:
        member: what to call it in the error.
        value: what was sent, of any type.
        longest: the largest value allowed, in seconds.
        zero: whether it may be zero.

    Raises:
        InvalidLock: it is not a number in this range.
    """
    # a boolean is an int to Python; NaN and the infinities fail the comparison
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (0 < value <= longest or (zero and value == 0))
    ):
        return value
    least = "from 0" if zero else "above 0"
    raise InvalidLock(f"{member} is a number of seconds {least} up to {longest}.", member=member)


def microseconds(seconds: float) -> int:
    """Return a duration in microseconds, rounded up so that a short one is not none."""
    return math.ceil(seconds * 1_000_000)


def _mode(value: object) -> Mode:
    if isinstance(value, str) and value in {*Mode}:
        return Mode(value)
    raise InvalidLock(f"mode is one of {', '.join(Mode)}.", member="mode")


def _reason(value: object, limits: Limits) -> str:
    if not isinstance(value, str) or len(value) > limits.max_reason or _UNSTORABLE.search(value):
        longest = limits.max_reason
        raise InvalidLock(f"reason is a text of at most {longest} characters.", member="reason")
    return value


def _client(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value.lower()
    raise InvalidLock("id is a UUID in its usual form with hyphens.", member="id")
