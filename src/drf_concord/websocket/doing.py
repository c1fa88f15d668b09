"""What a consumer is at: requests of one socket run side by side, and each has its own."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Doing", "at", "doing"]


@dataclass(slots=True)
class Doing:
    """One request to a consumer, or one thing that it is told.

    Attributes:
        owner: the consumer. Contexts are inherited by tasks: what another's task is at is not ours.
        action: what it is called.
        arguments: the members of the frame.
        request: what DRF's permissions, filters and serializers see, once somebody has asked.
        permissions: those that were asked about the action.
        using: the database that objects are to be read from, when it matters.
        paginator: what makes its pages.
    """

    owner: Any
    action: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    request: Any = None
    permissions: list[Any] | None = None
    using: str | None = None
    paginator: Any = None


_current: ContextVar[Doing] = ContextVar("doing")


def doing(owner: Any) -> Doing:
    """Return what a consumer is at in this context."""
    found = _current.get(None)
    if found is None or found.owner is not owner:
        found = Doing(owner)
        _current.set(found)
    return found


@contextmanager
def at(owner: Any, action: str, arguments: Mapping[str, Any]) -> Iterator[Doing]:
    """Let a consumer be at something else for a while."""
    begun = Doing(owner, action, arguments)
    token = _current.set(begun)
    try:
        yield begun
    finally:
        _current.reset(token)
