"""The frames that a server sends in session mode, each member checked."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

__all__ = [
    "BadFrame",
    "Bye",
    "Changed",
    "Changes",
    "End",
    "Frame",
    "Mark",
    "Ping",
    "Refused",
    "Reset",
    "Row",
    "Snapshot",
    "Subscribed",
    "Welcome",
    "read",
]

Pk = str | int


class BadFrame(Exception):
    """The server sent a frame that breaks the protocol."""


class Welcome(Struct, frozen=True):
    """The first frame; times in seconds, sizes in bytes."""

    ping: float
    pong: float
    window: int
    max_frame: int


class Subscribed(Struct, frozen=True):
    """From this position on nothing is missed."""

    request_id: Any
    how: str
    epoch: str
    position: str


class Row(Struct, frozen=True):
    """An object of a snapshot."""

    pk: Pk
    instance: dict[str, Any]
    etag: str | None = None
    version: int | None = None


class Snapshot(Struct, frozen=True):
    """A page of the objects there are."""

    request_id: Any
    seq: int
    items: list[Row]
    more: bool = False


class Changed(Struct, frozen=True):
    """One change."""

    action: str
    pk: Pk
    etag: str | None = None
    version: int | None = None
    instance: dict[str, Any] | None = None
    reason: str | None = None
    lock: dict[str, Any] | None = None


class Changes(Struct, frozen=True):
    """The changes of one transaction, or of some whole ones, unless more of them follow."""

    request_id: Any
    seq: int
    changes: list[Changed]
    more: bool = False


class Mark(Struct, frozen=True):
    """Everything up to here was sent."""

    seq: int
    epoch: str
    position: str


class Reset(Struct, frozen=True):
    """The copy is void."""

    request_id: Any
    seq: int
    code: str = ""


class End(Struct, frozen=True):
    """There will be no more; the code is an HTTP status."""

    request_id: Any
    code: int


class Refused(Struct, frozen=True):
    """A subscription could not be made."""

    request_id: Any
    code: int
    message: str = ""


class Bye(Struct, frozen=True):
    """A close is coming."""

    code: int
    reconnect: bool = True
    after_ms: float = 0


class Ping(Struct, frozen=True):
    """Are you there?"""


Frame = Welcome | Subscribed | Snapshot | Changes | Mark | Reset | End | Refused | Bye | Ping

_KINDS: dict[object, type[Frame]] = {
    "welcome": Welcome,
    "subscribed": Subscribed,
    "snapshot": Snapshot,
    "changes": Changes,
    "mark": Mark,
    "reset": Reset,
    "end": End,
    "error": Refused,
    "bye": Bye,
    "ping": Ping,
}


def read(frame: Any) -> Frame | None:
    """Return a decoded frame with its members checked, or None for a type that is not known.

    Raises:
        BadFrame: it is no frame, or a member is missing or has a wrong type.
    """
    if not isinstance(frame, dict):
        raise BadFrame("A frame is a JSON object.")
    kind = _KINDS.get(frame.get("type")) if isinstance(frame.get("type"), str) else None
    if kind is None:
        return None
    try:
        return msgspec.convert(frame, kind)
    except msgspec.ValidationError as error:
        raise BadFrame(f"The frame {frame['type']} is wrong: {error}.") from None
