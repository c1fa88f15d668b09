"""What this package adds to one operation of a view, for who describes an API: read from its classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rest_framework.mixins import DestroyModelMixin as PlainDestroy
from rest_framework.mixins import UpdateModelMixin as PlainUpdate

from ..conf import settings
from . import mixins, tags
from .control import WRITES, controlled
from .decorators import is_guarded
from .guards import GuardedMixin
from .locks import LOCK_ACTIONS, LockList, LockResourceMixin
from .states import StatesLockMixin

__all__ = ["Kind", "Operation", "operation_of"]

NAMES = {"GET": "retrieve", "POST": "create", "PUT": "update", "PATCH": "partial_update", "DELETE": "destroy"}
OBJECT_WRITES = {"update", "partial_update", "destroy"}
PASSES = {
    "retrieve": mixins.RetrieveModelMixin,
    "list": mixins.ListModelMixin,
    "create": mixins.CreateModelMixin,
    "update": mixins.UpdateModelMixin,
    "partial_update": mixins.UpdateModelMixin,
    "destroy": mixins.DestroyModelMixin,
}
ASKS_LOCKS = (StatesLockMixin, mixins.LockableUpdateModelMixin, mixins.LockableDestroyModelMixin)


class Kind(StrEnum):
    """What an operation is to this package."""

    RETRIEVE = "retrieve"
    LIST = "list"
    CREATE = "create"
    WRITE = "write"
    """Passes the gate with its preconditions and its locks."""
    LOCKED = "locked"
    """Is refused while the object is locked, and has no preconditions."""
    LOCK = "lock"
    STATES = "states"
    LOCKS = "locks"


@dataclass(frozen=True, slots=True)
class Operation:
    """What this package adds to one operation."""

    kind: Kind
    action: str
    required: bool = False
    """Whether ``If-Match`` has to be there."""
    missing: int = 428
    """The status where it has to be and is not: 412 or 428."""
    explains: bool = False
    """Whether a 412 says what changed."""
    shows: bool = False
    """Whether it carries the current representation too."""
    merges: bool = False


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
    own: str | None = getattr(view, "action", None)
    action = own or ("list" if method == "GET" and not about_one else NAMES.get(method, ""))
    if isinstance(view, GuardedMixin):
        return _ours(view, action) or _locked(view, action)
    missing = controlled(view)
    if missing is None or not about_one:
        return _locked(view, action)
    if action == "retrieve":
        return Operation(Kind.RETRIEVE, action)
    if method not in WRITES:
        return None
    required = action in OBJECT_WRITES
    return Operation(Kind.WRITE, action, required=required, missing=missing if required else 412)


def _ours(view: Any, action: str) -> Operation | None:
    if isinstance(view, LockResourceMixin) and action in LOCK_ACTIONS:
        return Operation(Kind.LOCK, action, explains=True, shows=view.conflict_current)
    if isinstance(view, StatesLockMixin) and action.startswith("states_"):
        return Operation(Kind.STATES, action)
    if not (isinstance(view, PASSES.get(action, ())) or is_guarded(getattr(view, action, None))):
        return None
    if action in {"retrieve", "list", "create"}:
        return Operation(Kind(action), action)
    required = view.precondition_required
    required = settings.REQUIRE_PRECONDITION if required is None else required
    return Operation(
        Kind.WRITE,
        action,
        required=required or (controlled(view) is not None and action in OBJECT_WRITES),
        missing=controlled(view) or 428,
        explains=True,
        shows=view.conflict_current,
        merges=view.merge == "disjoint" and action == "partial_update",
    )


def _locked(view: Any, action: str) -> Operation | None:
    plain = PlainDestroy if action == "destroy" else PlainUpdate
    asked = isinstance(view, ASKS_LOCKS) and isinstance(view, plain) and action in OBJECT_WRITES
    if asked and not isinstance(view, StatesLockMixin):
        ours = mixins.LockableDestroyModelMixin if action == "destroy" else mixins.LockableUpdateModelMixin
        asked = isinstance(view, ours)
    return Operation(Kind.LOCKED, action) if asked else None
