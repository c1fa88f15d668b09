"""One websocket without the socket: what goes out for what came in.

Text goes in, commands and frames come out; nothing here waits or looks at a clock. A shell moves the bytes:
it sends what ``deliver`` and its like return, and does what ``receive`` says.

In plain mode a frame is sent as it is. In session mode every pushed frame has a number, the client
acknowledges numbers, and past the window of bytes on the way the session keeps only the latest state of each
object until there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .frames import (
    MAX_FRAME,
    NULL,
    Ack,
    BadFrame,
    Call,
    Ping,
    Subscribe,
    Unsubscribe,
    members,
    read,
    request_key,
)
from .rendered import MAX_PENDING, PAGE, Overflow, Rendered, changes_text, items_text, keep, size

__all__ = [
    "SUBPROTOCOL",
    "Command",
    "Follow",
    "Leave",
    "Overflow",
    "Perform",
    "Rendered",
    "Session",
    "reply_text",
]

SUBPROTOCOL = "concord.v1"
WINDOW = 1_048_576
"""How many bytes may be on the way to a client that has not acknowledged them."""
MAX_SUBSCRIPTIONS = 100

encode = msgspec.json.encode


def reply_text(
    action: str | None, request_id: bytes, status: int, *, data: bytes, errors: bytes, more: bytes = b""
) -> str:
    """Return the frame of a reply: five keys, and whatever comes after them; bytes are JSON already."""
    return (
        b'{"action":%s,"errors":%s,"response_status":%d,"request_id":%s,"data":%s%s}'
        % (encode(action), errors, status, request_id, data, more)
    ).decode()


@dataclass(frozen=True, slots=True)
class Perform:
    """Do a call and send its reply."""

    call: Call
    request_id: bytes


@dataclass(frozen=True, slots=True)
class Follow:
    """Begin a subscription.

    Attributes:
        frame: what is asked for.
        request_id: as sent.
        key: what other spellings of it have in common.
        named: the member of answers that has the request id.
        single: whether one object is asked for that has to be there.
        texts: what refusals say, by their code, where that is not our own.
    """

    frame: Subscribe
    request_id: bytes
    key: bytes
    named: str = "request_id"
    single: bool = False
    texts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leave:
    """End a subscription."""

    key: bytes


Command = Perform | Follow | Leave


@dataclass(slots=True)
class Session:
    """The state of one socket.

    Attributes:
        sequenced: session mode; else plain mode.
        subscriptions: those that were asked for, by the key of their request id.
    """

    sequenced: bool = False
    window: int = WINDOW
    max_pending: int = MAX_PENDING
    subscriptions: dict[bytes, Follow] = field(default_factory=dict)
    seq: int = 0
    _unacked: deque[tuple[int, int]] = field(default_factory=deque)
    _on_the_way: int = 0
    _backlog: deque[tuple[bytes, list[Rendered], bool]] = field(default_factory=deque)
    _pending: dict[bytes, dict[str, Rendered]] = field(default_factory=dict)
    _pending_bytes: int = 0
    _open: set[bytes] = field(default_factory=set)  # of what is kept, more follows

    def receive(self, text: str | bytes) -> tuple[list[Command], list[str]]:
        """Take in one frame.

        Returns:
            What to do, and what to send at once.
        """
        try:
            frame, request_id = read(members(text))
        except BadFrame as bad:
            return [], [self._bad(text, bad)]
        key = request_key(request_id)
        if isinstance(frame, Call):
            return [Perform(frame, request_id)], []
        if isinstance(frame, Subscribe):
            follow = Follow(frame, request_id, key)
            refusal = self.admit(follow)
            return ([follow], []) if refusal is None else ([], [refusal])
        if isinstance(frame, Unsubscribe):
            if key not in self.subscriptions:
                return [], [self.error(request_id, 404, "There is no subscription with this request_id.")]
            self.forget(key)
            return [Leave(key)], []
        if isinstance(frame, Ack):
            return [], self._acknowledge(frame.seq)
        return [], ['{"type":"pong"}'] if isinstance(frame, Ping) else []

    def _bad(self, text: str | bytes, bad: BadFrame) -> str:
        try:
            found = members(text)
        except BadFrame:
            found = {}
        subscribing = bad.action in {"subscribe", "unsubscribe"} or (
            bad.action is None and "action" not in found and {"model", "value", "group_by"} & set(found)
        )
        if subscribing:
            return self.error(bad.request_id, 400, bad.detail)
        return self.reply(bad.action, bad.request_id, 400, errors=encode([bad.detail]))

    def stands(self, follow: Follow) -> bool:
        """Return whether the client has not ended a subscription; another may have its request id by now."""
        return self.subscriptions.get(follow.key) is follow

    def forget(self, key: bytes) -> None:
        """Drop a subscription and what is kept for it."""
        self.subscriptions.pop(key, None)
        self._drop(key)

    def _drop(self, key: bytes) -> None:
        self._backlog = deque(page for page in self._backlog if page[0] != key)
        self._open.discard(key)
        for kept in self._pending.pop(key, {}).values():
            self._pending_bytes -= size(kept.session())

    def reply(
        self,
        action: str | None,
        request_id: bytes,
        status: int,
        *,
        data: bytes = NULL,
        errors: bytes = b"[]",
        etag: str | None = None,
        code: str | None = None,
    ) -> str:
        """Return the reply to a call: five keys, and in session mode the tag and the code."""
        more = b',"etag":%s,"code":%s' % (encode(etag), encode(code)) if self.sequenced else b""
        return reply_text(action, request_id, status, data=data, errors=errors, more=more)

    def error(self, request_id: bytes, code: int, message: str, named: str = "request_id") -> str:
        """Return the answer to a subscription frame that cannot be done."""
        return (
            b'{"type":"error","%s":%s,"code":%d,"message":%s}'
            % (named.encode(), request_id, code, encode(message))
        ).decode()

    def admit(self, follow: Follow) -> str | None:
        """Take in a subscription; returns the refusal where its name is in use, or there are too many."""
        refusal = None
        if follow.key in self.subscriptions:
            refusal = f"This {follow.named} is in use by a subscription."
        elif len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
            refusal = f"A socket may have {MAX_SUBSCRIPTIONS} subscriptions."
        if refusal is not None:
            return self.error(follow.request_id, 400, refusal, follow.named)
        self.subscriptions[follow.key] = follow
        return None

    def welcome(self, connection: str, epoch: str, ping: float, pong: float) -> str:
        """Return the first frame of session mode; times in seconds, sizes in bytes."""
        return encode(
            {
                "type": "welcome",
                "connection": connection,
                "ping": ping,
                "pong": pong,
                "window": self.window,
                "max_frame": MAX_FRAME,
                "epoch": epoch,
            }
        ).decode()

    def subscribed(self, key: bytes, how: str, epoch: str, position: str, keep: int) -> str:
        """Return the acknowledgement: from this position on nothing is missed."""
        rest: dict[str, Any] = {"how": how, "epoch": epoch, "position": position, "keep": keep}
        head = f'{{"type":"subscribed","request_id":{self._id(key)},'
        return head + encode(rest).decode()[1:]

    def snapshot(self, key: bytes, items: list[Rendered]) -> list[str]:
        """Return the objects a subscription begins with, in pages; what the window has no room for waits."""
        starts = range(0, max(1, len(items)), PAGE)
        for start in starts:
            self._backlog.append((key, items[start : start + PAGE], start != starts[-1]))
        return self._flush()

    def _page(self, key: bytes, items: list[Rendered], *, more: bool) -> str:
        return self._push("snapshot", key, f",{items_text(items, more=more)}}}")

    def deliver(self, key: bytes, model: str, changes: list[Rendered], *, more: bool = False) -> list[str]:
        """Return the frames for some changes; none when they have to wait for the client.

        Raises:
            Overflow: too much waits for this client already.
        """
        request_id = self._id(key)
        if not self.sequenced:
            head = f'{{"type":"broadcast","request_id":{request_id}'
            return [head + change.plain(model) for change in changes]
        if self._pending or self._backlog or self._on_the_way > self.window:
            self._keep(key, changes)
            (self._open.add if more else self._open.discard)(key)
            return []
        return [self._changes(key, changes, more=more)]

    def _changes(self, key: bytes, changes: list[Rendered], *, more: bool) -> str:
        return self._push("changes", key, f",{changes_text(changes, more=more)}}}")

    def _push(self, kind: str, key: bytes, tail: str) -> str:
        self.seq += 1
        frame = f'{{"type":"{kind}","request_id":{self._id(key)},"seq":{self.seq}{tail}'
        length = size(frame)
        self._unacked.append((self.seq, length))
        self._on_the_way += length
        return frame

    def _keep(self, key: bytes, changes: list[Rendered]) -> None:
        self._pending_bytes += keep(self._pending.setdefault(key, {}), changes)
        if self._pending_bytes > self.max_pending:
            raise Overflow

    def _acknowledge(self, seq: int) -> list[str]:
        while self._unacked and self._unacked[0][0] <= seq:
            self._on_the_way -= self._unacked.popleft()[1]
        return self._flush()

    def _flush(self) -> list[str]:
        """Return what waited and has room now: pages of snapshots first, then the latest states."""
        frames = []
        while self._backlog and self._on_the_way <= self.window:
            key, items, more = self._backlog.popleft()
            frames.append(self._page(key, items, more=more))
        if not self._backlog and self._on_the_way <= self.window:
            pending, self._pending, self._pending_bytes = self._pending, {}, 0
            unfinished, self._open = self._open, set()
            frames += [
                self._changes(key, list(kept.values()), more=key in unfinished)
                for key, kept in pending.items()
            ]
        return frames

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent, so that a mark passes nothing."""
        return not self._pending and not self._backlog

    def mark(self, epoch: str, position: str) -> str:
        """Return the frame that says: up to this position you have everything."""
        self.seq += 1
        return encode({"type": "mark", "seq": self.seq, "epoch": epoch, "position": position}).decode()

    def reset(self, key: bytes, code: str) -> str:
        """Return the frame that says: drop your copy, a snapshot follows."""
        self._drop(key)
        return self._push("reset", key, f',"code":"{code}"}}')

    def end(self, key: bytes, code: int) -> str:
        """Return the frame that ends a subscription from the server's side, and forget it."""
        request_id = self._id(key)
        self.forget(key)
        return f'{{"type":"end","request_id":{request_id},"code":{code}}}'

    def bye(self, code: int, after_ms: int) -> str:
        """Return the frame before a planned close."""
        frame = {"type": "bye", "code": code, "reconnect": code >= 4500, "after_ms": after_ms}
        return encode(frame).decode()

    def _id(self, key: bytes) -> str:
        return self.subscriptions[key].request_id.decode()
