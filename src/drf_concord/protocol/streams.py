"""One event stream without the stream: what is told goes in, the text of `text/event-stream` comes out.

Who reads takes an event at a time. While he does not, only the latest state of each object is kept, up to a
limit. An event carries an ``id`` from which a client that has taken it in may resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from .held import Held, Seal
from .positions import Position
from .rendered import MAX_PENDING, PAGE, Overflow, Rendered, changes_text, items_text, keep

__all__ = ["Stream", "event", "fields"]


def fields(**named: object) -> str:
    """Return the members of an event's data, as JSON without the braces."""
    return msgspec.json.encode(named).decode()[1:-1]


def event(kind: str, members: str, *, id: str | None = None, retry: int | None = None) -> str:
    """Return one event.

    Args:
        kind: its type.
        members: of its data, as JSON without the braces; JSON has no line ends of its own.
        id: from where to resume; empty where nothing can be resumed from; None leaves it as it was.
        retry: how long to wait before coming back, in milliseconds.
    """
    lines = [f"event: {kind}", f"data: {{{members}}}"]
    if id is not None:
        lines.insert(0, f"id: {id}".rstrip())
    if retry is not None:
        lines.insert(0, f"retry: {retry}")
    return "\n".join(lines) + "\n\n"


class Stream:
    """The state of one stream.

    Args:
        seal: makes the ids.
        max_pending: how many bytes are kept for a client that does not read.

    Attributes:
        over: whether the last event was taken.
    """

    def __init__(self, seal: Seal, max_pending: int = MAX_PENDING) -> None:
        self.over = False
        self.max_pending = max_pending
        self._seal = seal
        self._held = Held(seal)
        self._ready: deque[str] = deque()
        self._closing: str | None = None
        self._clear()

    def _clear(self) -> None:
        self._pages: deque[tuple[list[Rendered], bool]] = deque()
        self._kept: dict[str, Rendered] = {}
        self._bytes = 0
        self._due = self._more = False  # something was handed in that is to be told, and more follows
        self._told: Position | None = None  # who took everything so far has all up to here
        self._reached: Position | None = None  # who takes what waits as well has all up to here

    def _void(self) -> None:
        self._held = Held(self._seal)
        self._clear()

    def holds(self, pks: Iterable[str]) -> None:
        """Note what the client has from before."""
        self._held = Held(self._seal, pks)

    def reset(self, code: str) -> None:
        """What the client has is void; a snapshot follows."""
        self._void()
        # who is cut off here has nothing that could be resumed
        self._ready.append(event("reset", fields(code=code), id=""))

    def subscribed(self, how: str, position: Position, keep: int) -> None:
        """From this position on nothing is missed; a change stays in the log for ``keep`` seconds."""
        fresh = how == "snapshot"
        if fresh:
            self._void()
        self._told = self._reached = position
        members = fields(how=how, epoch=position.epoch, position=position.encode(), keep=keep)
        self._ready.append(event("subscribed", members, id="" if fresh else None))

    def snapshot(self, items: list[Rendered]) -> None:
        """Begin with these objects, a page at a time."""
        starts = range(0, max(1, len(items)), PAGE)
        self._pages.extend((items[start : start + PAGE], start != starts[-1]) for start in starts)

    def deliver(self, changes: Iterable[Rendered], *, more: bool = False) -> None:
        """Tell some changes; of those that wait, the latest of each object.

        Raises:
            Overflow: too much waits for this client already.
        """
        self._bytes += keep(self._kept, changes)
        self._due, self._more = True, more
        if self._bytes > self.max_pending:
            raise Overflow

    def mark(self, position: Position) -> None:
        """Everything up to a position has been handed in."""
        self._reached = position

    def end(self, code: int) -> None:
        """There will be no more; what waits may not be seen any more."""
        self.drop()
        self._closing = event("end", fields(code=code))

    def leave(self, code: int, after_ms: int) -> None:
        """Say goodbye when what waits was taken; the client comes back then."""
        members = fields(code=code, reconnect=True, after_ms=after_ms)
        self._closing = event("bye", members, retry=after_ms)

    def drop(self) -> None:
        """End without a word, and keep nothing."""
        self._void()
        self._ready.clear()
        self._closing = ""

    def take(self) -> str | None:
        """Return the next event; None while there is none. The last text may be empty."""
        if self._ready:
            return self._ready.popleft()
        if self._pages:
            return self._page()
        if self._due:
            return self._changes()
        if self._told is not None and self._reached is not None and self._reached != self._told:
            self._told = self._reached
            members = fields(epoch=self._told.epoch, position=self._told.encode())
            return event("mark", members, id=self._id())
        if self._closing is not None:
            self.over = True
        return self._closing

    def _page(self) -> str:
        items, more = self._pages.popleft()
        for item in items:
            self._held.put(_pk(item), there=True)
        # what has come since the snapshot may wait: it is not told by this
        return event("snapshot", items_text(items, more=more), id=None if more else self._id())

    def _changes(self) -> str:
        changes, more = list(self._kept.values()), self._more
        self._kept, self._bytes, self._due = {}, 0, False
        for change in changes:
            if change.lock is None:
                self._held.put(_pk(change), there=change.action != "DELETED")
        self._told = self._reached
        return event("changes", changes_text(changes, more=more), id=self._id())

    def _id(self) -> str:
        assert self._told is not None  # noqa: S101
        return self._seal.close(self._told, self._held.digest)


def _pk(each: Rendered) -> str:
    return str(msgspec.json.decode(each.pk))
