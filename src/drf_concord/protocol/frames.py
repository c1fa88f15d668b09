"""The frames of the websocket: what a client may send, what the server answers, and how each is read.

A frame is read in two steps. The first only finds its members, so that the ``request_id`` can be echoed to
the letter even when the second, which reads each member, fails.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

__all__ = [
    "MAX_DEPTH",
    "MAX_FRAME",
    "Ack",
    "BadFrame",
    "Call",
    "Ping",
    "Pong",
    "Since",
    "Subscribe",
    "Unsubscribe",
    "members",
    "read",
    "request_key",
]

MAX_FRAME = 262_144
"""The longest frame a client may send, in bytes."""
MAX_DEPTH = 32
"""How deep arrays and objects may be nested."""
MAX_KEY = 128
"""The longest ``idempotency_key``, in characters, which are those of ASCII that can be seen."""

NULL = b"null"


class BadFrame(Exception):
    """A frame cannot be read.

    Attributes:
        detail: what is wrong, for people.
        request_id: of the frame, as sent; ``null`` when it could not be read.
        action: of the frame, or None.
    """

    def __init__(self, detail: str, request_id: bytes = NULL, action: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.request_id = request_id
        self.action = action


class Call(Struct, frozen=True):
    """A REST-like action on a model's view."""

    action: str
    model: str | None = None
    pk: str | int | None = None
    data: Raw | UnsetType = UNSET
    query: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    if_match: str | None = None
    if_none_match: str | None = None
    lock_token: str | None = None
    merge: bool = False
    idempotency_key: Annotated[str, Meta(max_length=MAX_KEY, pattern="^[!-~]+$")] | None = None


class Since(Struct, frozen=True):
    """Where a client stopped."""

    epoch: str
    position: str


class Subscribe(Struct, frozen=True):
    """Follow a view's objects: one, a group, or its list."""

    model: str
    group_by: str | None = None
    value: Any | UnsetType = UNSET
    arguments: dict[str, Any] = {}
    query: dict[str, Any] = {}
    snapshot: bool = False
    since: Since | None = None
    have: list[str | int] | None = None
    mode: Literal["state", "events"] = "state"


class Unsubscribe(Struct, frozen=True):
    """Stop following."""


class Ack(Struct, frozen=True):
    """Everything up to this frame has been taken in."""

    seq: int


class Ping(Struct, frozen=True):
    """Are you there?"""


class Pong(Struct, frozen=True):
    """I am."""


Frame = Call | Subscribe | Unsubscribe | Ack | Ping | Pong

_members = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder()


def members(text: str | bytes) -> dict[str, Raw]:
    """Return the members of a frame, unread.

    Raises:
        BadFrame: it is not a JSON object, too long, or nested too deep.
    """
    if len(text) > MAX_FRAME:
        raise BadFrame(f"A frame may have {MAX_FRAME} bytes at the most.")
    if _depth(text) > MAX_DEPTH:
        raise BadFrame(f"A frame may be nested {MAX_DEPTH} deep at the most.")
    try:
        return _members.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadFrame("A frame is a JSON object.") from None


def _depth(text: str | bytes) -> int:
    """Return an upper bound of the nesting; brackets in strings count, but only where there are many."""
    opening = ("[", "{", "]", "}") if isinstance(text, str) else (b"[", b"{", b"]", b"}")
    if text.count(opening[0]) + text.count(opening[1]) <= MAX_DEPTH:  # type: ignore[arg-type]
        return 0
    depth = deepest = 0
    quoted = escaped = False
    for char in text if isinstance(text, str) else text.decode("utf-8", "replace"):
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def read(found: dict[str, Raw]) -> tuple[Frame, bytes]:
    """Read a frame's members.

    Returns:
        The frame and its ``request_id`` as sent, ``null`` when there is none.

    Raises:
        BadFrame: an action or member is missing or has a wrong type.
    """
    request_id = bytes(found.get("request_id", NULL))
    action = _read_text(found.get("action"), request_id)
    kind: Any = _KINDS.get(action or "", Call)
    if action is None:
        if "model" not in found:
            raise BadFrame("Say an action, or a model to subscribe to.", request_id)
        kind = Subscribe
    values = {name: raw for name, raw in found.items() if name in kind.__struct_fields__}
    return _convert(kind, values, request_id, action), request_id


_KINDS = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "ack": Ack,
    "ping": Ping,
    "pong": Pong,
}


@functools.cache  # msgspec reads the annotations anew each time, for 0.3 ms
def _fields(kind: type[Struct]) -> tuple[tuple[str, bool, Any], ...]:
    """Return a frame's members: name, whether it has to be there, decoder (None leaves it unread)."""
    return tuple(
        (field.name, field.required, None if _is_raw(field.type) else msgspec.json.Decoder(field.type))
        for field in msgspec.structs.fields(kind)
    )


def _is_raw(annotation: Any) -> bool:
    return bool(annotation == (Raw | UnsetType))


def _convert(kind: Any, values: dict[str, Raw], request_id: bytes, action: str | None) -> Any:
    read_values = {}
    for name, required, decoder in _fields(kind):
        raw = values.get(name)
        if raw is None:
            if required:
                raise BadFrame(f"The member {name} is missing.", request_id, action)
        elif decoder is None:
            read_values[name] = raw
        else:
            try:
                read_values[name] = decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise BadFrame(f"The member {name} is wrong: {error}.", request_id, action) from None
    return kind(**read_values)


def _read_text(raw: Raw | None, request_id: bytes) -> str | None:
    if raw is None or bytes(raw) == NULL:
        return None
    try:
        return _text.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        raise BadFrame("The action is a text.", request_id) from None


def request_key(request_id: bytes) -> bytes:
    """Return what two spellings of one ``request_id`` have in common."""
    try:
        return msgspec.json.encode(_any.decode(request_id))
    except (msgspec.DecodeError, msgspec.EncodeError, UnicodeError):
        return request_id
