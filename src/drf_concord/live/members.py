"""Who follows: one subscription, its far end, and what it may be told of what is told to all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .sharing import Level
from .telling import gone, told_as

if TYPE_CHECKING:
    from ..protocol.changes import Position
    from ..protocol.session import Rendered
    from .cohorts import Cohort
    from .looks import Look, Spec
    from .views import Caller

__all__ = ["Member", "Subscriber", "told_to"]


class Subscriber(Protocol):
    """The far end of a subscription: a socket's, or a stream's."""

    sequenced: bool

    def subscribed(self, how: str, position: Position) -> None:
        """Nothing from this position on is missed."""

    def snapshot(self, items: list[Rendered]) -> None:
        """These are the objects to begin with."""

    def deliver(self, changes: list[Rendered], *, more: bool) -> None:
        """These objects changed, in one transaction or some whole ones, unless ``more`` follows."""

    def reset(self, code: str) -> None:
        """What you have is void; a snapshot follows."""

    def end(self, status: int, message: str) -> None:
        """There will be no more."""


@dataclass(eq=False, slots=True)
class Member:
    """One subscription in its cohort."""

    subscriber: Subscriber
    caller: Caller
    spec: Spec
    view: Any = None
    cohort: Cohort | None = None
    stale: bool = False  # the account changed since the view was admitted
    level: Level = Level.SHARED  # how far it shares answers, and with whom: see `audience`
    key: Any = None  # what its view declares, found out when it was admitted
    who: Any = None
    visible: bool = False  # of a single object: whether this member was shown it
    unknown: set[str] = field(default_factory=set)  # gone before this member came, but not yet noticed
    told: set[int] = field(default_factory=set)  # events that were told when it came back, and come again
    told_at: int = 0  # the tick of that


def told_to(member: Member, found: Look, item: tuple[str, Rendered]) -> Rendered | None:
    """Return a change as one member may be told of it: object permissions, and what it never knew."""
    key, change = item
    if change.event in member.told:
        return None
    if change.action == "DELETED":
        if key in member.unknown:
            member.unknown.discard(key)
            return None
        if member.spec.action == "retrieve":
            was, member.visible = member.visible, False
            return change if was else None
        return change
    member.unknown.discard(key)
    if member.spec.action != "retrieve":
        return change
    was = member.visible
    member.visible = key not in found.hidden.get(id(member), ())
    if member.visible:
        return change if was or change.action == "CREATED" else told_as(change, "CREATED")
    return gone(found.shown[key].gone, None, pk=change.pk) if was else None
