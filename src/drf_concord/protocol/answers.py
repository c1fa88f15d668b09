"""The frames a server sends, as types: for the schema, for clients, and for tests of what is really sent.

The session writes them as text, with parts that are encoded once for many sockets.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from .frames import Ack, Call, Ping, Pong, Subscribe, Unsubscribe

__all__ = [
    "Broadcast",
    "Broken",
    "Bye",
    "Change",
    "Changes",
    "Created",
    "End",
    "Expired",
    "Gone",
    "LockState",
    "Locked",
    "Mark",
    "Refused",
    "Reply",
    "Reset",
    "SessionReply",
    "Snapshot",
    "SnapshotItem",
    "Subscribed",
    "Unlocked",
    "Welcome",
    "schema",
]


class Reply(Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a call, in plain mode."""

    action: str | None
    errors: list[Any]
    response_status: int
    request_id: Any
    data: Any


class SessionReply(Reply, frozen=True, forbid_unknown_fields=True):
    """The answer to a call, in session mode."""

    etag: str | None
    code: str | None


class Broadcast(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="broadcast"):
    """A change, in plain mode."""

    request_id: Any
    model: str
    action: Literal["CREATED", "UPDATED", "DELETED"]
    instance: dict[str, Any]


class Refused(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="error"):
    """A subscription that cannot be, or is no more."""

    request_id: Any
    code: int
    message: str


class Welcome(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="welcome"):
    """The first frame of session mode; times in seconds, sizes in bytes."""

    connection: str
    ping: float
    pong: float
    window: int
    max_frame: int
    epoch: str


class Subscribed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="subscribed"):
    """From this position on nothing is missed; it can be resumed from for ``keep`` seconds."""

    request_id: Any
    how: Literal["live", "snapshot", "resumed"]
    epoch: str
    position: str
    keep: int


class SnapshotItem(Struct, frozen=True, forbid_unknown_fields=True):
    """An object to begin with."""

    pk: Any
    etag: str | None
    version: int | None
    instance: dict[str, Any]


class Snapshot(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="snapshot"):
    """One page of the objects to begin with."""

    request_id: Any
    seq: int
    items: list[SnapshotItem]
    more: bool


class Change(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="UPDATED"):
    """An object as it is now, which the client may have."""

    pk: Any
    etag: str | None
    version: int | None
    instance: dict[str, Any]


class Created(Change, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="CREATED"):
    """An object as it is now, which the client did not have."""


class Gone(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="DELETED"):
    """An object that is no longer there, or no longer to be seen."""

    pk: Any
    etag: str | None
    version: int | None
    reason: Literal["deleted", "left"]


class LockState(Struct, frozen=True, forbid_unknown_fields=True):
    """The lock on an object as this caller may know it."""

    state: Literal["free", "held", "frozen"]
    mine: bool
    mode: Literal["hold", "freeze"] | None
    scope: str | list[str] | None
    reason: str
    holder: str | None
    acquired_at: str | None
    expires_at: str | None
    generation: int


class Locked(Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="LOCKED"):
    """The object is locked: by somebody new, for longer, or by another rule."""

    pk: Any
    etag: str | None
    version: int | None
    lock: LockState


class Unlocked(Locked, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="UNLOCKED"):
    """Whoever had the lock released it."""


class Broken(Locked, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="BROKEN"):
    """Somebody else ended the lock, or let its holder finish within ``expires_at``."""


class Expired(Locked, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="EXPIRED"):
    """The lock ran out."""


class Changes(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="changes"):
    """What whole transactions changed, unless ``more`` follows."""

    request_id: Any
    seq: int
    changes: list[Change | Created | Gone | Locked | Unlocked | Broken | Expired]
    more: bool


class Mark(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="mark"):
    """Everything up to this position was sent."""

    seq: int
    epoch: str
    position: str


class Reset(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reset"):
    """Drop your copy, a snapshot follows."""

    request_id: Any
    seq: int
    code: Literal["expired", "epoch", "overflow", "schema"]


class End(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="end"):
    """There will be no more of this subscription; the code is an HTTP status."""

    request_id: Any
    code: int


class Bye(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bye"):
    """A close is coming."""

    code: int
    reconnect: bool
    after_ms: int


def schema() -> dict[str, Any]:
    """Return the JSON Schema of every frame, under ``$defs``."""
    kinds = (
        *(Call, Subscribe, Unsubscribe, Ack, Ping, Pong),
        *(Reply, SessionReply, Broadcast, Refused, Welcome, Subscribed, Snapshot, Changes, Mark, Reset),
        *(End, Bye),
    )
    _, found = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": found}
