"""The lock on an object as a value, and the table of its states.

All times are in microseconds since the epoch and come in as arguments; nothing ends by itself, an
expiry is compared with `now` when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .claims import Mode

__all__ = ["LIVE", "TRANSITIONS", "Event", "Lock", "State", "diagram"]


class State(StrEnum):
    """Where a lock stands at a moment."""

    FREE = "free"
    """Nobody has it."""
    HELD = "held"
    """Its holder has it, until it expires."""
    EXPIRED = "expired"
    """A hold that ran out and that nobody took: it refuses nobody, its holder may renew it."""
    BREAKING = "breaking"
    """A broken hold in its drain period: its holder may finish, and cannot renew it."""
    FROZEN = "frozen"
    """Nobody may touch the object."""


class Event(StrEnum):
    """What can happen to a lock."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    RELEASE = "release"
    BREAK = "break"
    EXPIRE = "expire"
    HAND_OVER = "hand over"
    FREEZE = "freeze"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.FREE, Event.ACQUIRE): State.HELD,
    (State.FREE, Event.FREEZE): State.FROZEN,
    (State.HELD, Event.ACQUIRE): State.HELD,  # by its own holder, who starts over
    (State.HELD, Event.RENEW): State.HELD,
    (State.HELD, Event.HAND_OVER): State.HELD,
    (State.HELD, Event.RELEASE): State.FREE,
    (State.HELD, Event.BREAK): State.BREAKING,
    (State.HELD, Event.EXPIRE): State.EXPIRED,
    (State.HELD, Event.FREEZE): State.FROZEN,
    (State.EXPIRED, Event.ACQUIRE): State.HELD,
    (State.EXPIRED, Event.RENEW): State.HELD,
    (State.EXPIRED, Event.HAND_OVER): State.HELD,
    (State.EXPIRED, Event.RELEASE): State.FREE,
    (State.EXPIRED, Event.FREEZE): State.FROZEN,
    (State.BREAKING, Event.RELEASE): State.FREE,
    (State.BREAKING, Event.BREAK): State.BREAKING,  # sooner, never later
    (State.BREAKING, Event.EXPIRE): State.FREE,
    (State.BREAKING, Event.FREEZE): State.FROZEN,
    (State.FROZEN, Event.RENEW): State.FROZEN,
    (State.FROZEN, Event.RELEASE): State.FREE,
    (State.FROZEN, Event.BREAK): State.FREE,
    (State.FROZEN, Event.EXPIRE): State.FREE,
}
"""What can happen in which state, and where it leads; who may do it is in the rules."""

LIVE: Final = frozenset({State.HELD, State.BREAKING, State.FROZEN})
"""The states in which a lock refuses somebody."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock on one object.

    Attributes:
        generation: the fencing number: one more with every new holder or token, and never less.
        mode: what it is for; None when it was released.
        holder: who has it; None when it belongs to nobody.
        client: tells programs of one holder apart.
        token_hash: the hash of the token its holder was given.
        scope: the operations it covers.
        reason: for the people who are refused.
        acquired_at: when its holder got it, in microseconds since the epoch.
        renewed_at: when its expiry was last set, in microseconds since the epoch.
        expires_at: from when on it is over, in microseconds since the epoch; None for without end.
        broken: whether somebody else ended it.
    """

    generation: int = 0
    mode: Mode | None = None
    holder: str | None = None
    client: str | None = None
    token_hash: str | None = None
    scope: tuple[str, ...] = ()
    reason: str = ""
    acquired_at: int = 0
    renewed_at: int = 0
    expires_at: int | None = None
    broken: bool = False

    def state(self, now: int) -> State:
        """Return where this lock stands."""
        if self.mode is None:
            return State.FREE
        over = self.expires_at is not None and self.expires_at <= now
        if self.mode is Mode.FREEZE:
            return State.FREE if over else State.FROZEN
        if self.broken:
            return State.FREE if over else State.BREAKING
        return State.EXPIRED if over else State.HELD

    def live(self, now: int) -> bool:
        """Return whether it still refuses anybody."""
        return self.state(now) in LIVE

    def remaining(self, now: int) -> float | None:
        """Return how long it is still live, in seconds; None for without end."""
        if not self.live(now):
            return 0
        return None if self.expires_at is None else (self.expires_at - now) / 1_000_000


def diagram() -> str:
    """Return TRANSITIONS as a Mermaid state diagram."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(event)
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.FREE}", *lines, ""])
