"""What this package adds to one operation of a view, for who describes an API: read from its classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from ..conf import settings
from . import mixins, tags
from .control import WRITES, controlled
from .decorators import is_guarded
from .feed import FeedMixin, has_feed
from .guards import GuardedMixin
from .locks import LOCK_ACTIONS, LockList, LockResourceMixin
from .states import STATES_ACTIONS, StatesLockMixin

__all__ = ["Kind", "Operation", "operation_of"]

NAMES = {"GET": "retrieve", "POST": "create", "PUT": "update", "PATCH": "partial_update", "DELETE": "destroy"}
OBJECT_WRITES = {"update", "partial_update", "destroy"}
PASSES: dict[str, type] = {
    "retrieve": mixins.RetrieveModelMixin,
    "list": mixins.ListModelMixin,
    "create": mixins.CreateModelMixin,
    "update": mixins.UpdateModelMixin,
    "partial_update": mixins.UpdateModelMixin,
    "destroy": mixins.DestroyModelMixin,
}
UPDATES, DESTROYS = mixins.LockableUpdateModelMixin, mixins.LockableDestroyModelMixin
ASKS_LOCKS = {"update": UPDATES, "partial_update": UPDATES, "destroy": DESTROYS}


class Kind(StrEnum):
    """What an operation is to this package."""

    RETRIEVE = auto()
    LIST = auto()
    CREATE = auto()
    WRITE = auto()
    """Passes the gate with its preconditions and its locks."""
    LOCKED = auto()
    """Is refused while the object is locked, and has no preconditions."""
    LOCK = auto()
    STATES = auto()
    LOCKS = auto()
    CHANGES = auto()
    """Tells what has changed in a list."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What this package adds to one operation.

    Attributes:
        kind: what it is.
        action: the name of the method of a viewset, or what it would be.
        required: whether ``If-Match`` has to be there.
        missing: the status where it has to be and is not, 412 or 428.
        shows: whether a 412 carries the current representation.
        merges: whether a PATCH is merged for who asks.
        streams: whether a list is a stream of events for who asks.
    """

    kind: Kind
    action: str
    required: bool = False
    missing: int = 412
    shows: bool = False
    merges: bool = False
    streams: bool = False


def operation_of(view: Any, method: str, *, addressed: bool) -> Operation | None:
    """Return what this package adds to an operation, or None where that is nothing.

    Args:
        view: the view, with its ``action`` where it is a viewset.
        method: in capital letters.
        addressed: whether the address names one object.
    """
    if isinstance(view, LockList):
        return Operation(Kind.LOCKS, "list")
    detail = getattr(view, "detail", None)
    about_one = addressed or tags.redefines(type(view), "get_object") if detail is None else bool(detail)
    named = "list" if method == "GET" and not about_one else NAMES.get(method, "")
    action: str = getattr(view, "action", None) or named
    missing = controlled(view)
    if isinstance(view, GuardedMixin):
        found = _ours(view, action, missing)
    elif missing is None or not about_one or not (action == "retrieve" or method in WRITES):
        found = None
    elif action == "retrieve":
        found = Operation(Kind.RETRIEVE, action)
    else:
        required = action in OBJECT_WRITES
        found = Operation(Kind.WRITE, action, required, missing if required else 412)
    asks = (ASKS_LOCKS[action], StatesLockMixin) if action in OBJECT_WRITES else ()
    return found or (Operation(Kind.LOCKED, action) if isinstance(view, asks) else None)


def _ours(view: Any, action: str, missing: int | None) -> Operation | None:
    if isinstance(view, LockResourceMixin) and action in LOCK_ACTIONS:
        return Operation(Kind.LOCK, action, shows=view.conflict_current)
    # to the view itself, who polls asks for the list
    polls = getattr(type(view), "list_changes", None) is FeedMixin.list_changes
    if polls and getattr(view, "action_map", {}).get("get") == "list_changes":
        return Operation(Kind.CHANGES, "list_changes")
    if action in STATES_ACTIONS:
        return Operation(Kind.STATES, action)
    if not (isinstance(view, PASSES.get(action, ())) or is_guarded(getattr(view, action, None))):
        return None
    if action == "list":
        view_class: Any = type(view)
        return Operation(Kind.LIST, action, streams=has_feed(view_class))
    if action in {"retrieve", "create"}:
        return Operation(Kind(action), action)
    said = view.precondition_required
    required = settings.REQUIRE_PRECONDITION if said is None else said
    required = required or (missing is not None and action in OBJECT_WRITES)
    merges = view.merge == "disjoint" and action == "partial_update"
    return Operation(Kind.WRITE, action, required, missing or 428, view.conflict_current, merges)
