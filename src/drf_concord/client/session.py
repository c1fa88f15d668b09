"""A live connection without the connection: frames go in, frames come out; no IO, no clock.

It outlives its sockets: `opened` begins a new one, and every subscription goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

from .collection import Collection
from .errors import ClientError, refusal
from .frames import (
    BadFrame,
    Bye,
    Changes,
    End,
    Mark,
    Ping,
    Refused,
    Reset,
    Snapshot,
    Subscribed,
    Welcome,
    read,
)
from .values import Change

__all__ = ["Outgoing", "Session", "State", "Subscription"]

Outgoing = dict[str, Any]
"""A frame to send, not yet encoded."""
AGAIN = frozenset({410, 503})
"""The codes of an `end` after which subscribing again may do."""
MAX_NEWS = 10_000
"""How many changes are kept for who does not look; then one `RESET` stands for them all."""

encode = msgspec.json.encode


class State(Enum):
    """Where a subscription stands.

    NEW: to be asked for. ASKED: asked for on this socket. STANDS: answered. ENDED: there will be no more.
    """

    NEW = "new"
    ASKED = "asked"
    STANDS = "stands"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscription, over all the sockets it lives through.

    Attributes:
        request: the members that say what is followed.
        collection: what is there.
        position: from where the collection goes on, as epoch and position; None where it has to begin afresh.
        arriving: the position of a snapshot that is not whole yet: what is there is older than that.
        attempts: how often it was ended by the server since it stood last.
        error: why there will be no more.
    """

    request: Mapping[str, Any]
    collection: Collection = field(default_factory=Collection)
    position: tuple[str, str] | None = None
    arriving: tuple[str, str] | None = None
    state: State = State.NEW
    attempts: int = 0
    error: ClientError | None = None
    request_id: int | None = None
    _news: list[Change] = field(default_factory=list)

    def resume(self) -> Outgoing:
        """Return the members that say from where to go on; none where it begins afresh."""
        if self.position is None or not self.collection.loaded:
            return {}
        epoch, position = self.position
        return {"since": {"epoch": epoch, "position": position}, "have": list(self.collection.items)}

    def take_news(self) -> list[Change]:
        """Return what changed since this was asked last."""
        news, self._news = self._news, []
        return news

    def tell(self, changes: Iterable[Change]) -> None:
        """Keep changes for who looks next."""
        self._news += changes
        if len(self._news) > MAX_NEWS:
            self._news = [Change("RESET")]


class Session:
    """The subscriptions of one client, and what the socket of the moment is told.

    Attributes:
        welcome: the first frame of the socket; None before it.
        bye: the last frame of a socket that is about to be closed.
        again: subscriptions that the server ended, and that `resubscribe` may ask for after a while.
    """

    def __init__(self) -> None:
        self.welcome: Welcome | None = None
        self.bye: Bye | None = None
        self.again: list[Subscription] = []
        self.subscriptions: list[Subscription] = []
        self._by_id: dict[int, Subscription] = {}
        self._last_id = 0
        self._unacknowledged = 0

    # What the client wants

    def subscribe(self, request: Mapping[str, Any]) -> tuple[Subscription, list[Outgoing]]:
        """Follow something; `request` has the members that say what: `model`, `group_by` and so on."""
        subscription = Subscription(request)
        self.subscriptions.append(subscription)
        return subscription, self.resubscribe(subscription)

    def resubscribe(self, subscription: Subscription) -> list[Outgoing]:
        """Ask for a subscription that does not stand, if there is a socket to ask on."""
        if self.welcome is None or subscription.state is not State.NEW:
            return []
        ask = self._ask(subscription)
        limit = self.welcome.max_frame
        if len(encode(ask)) > limit:
            # without what it has it cannot be told what left meanwhile: then it begins afresh
            ask = {name: value for name, value in ask.items() if name not in {"since", "have"}}
        if len(encode(ask)) > limit:
            detail = f"A subscription may have {limit} bytes at the most; make it shorter."
            self._drop(subscription, ClientError(detail, code="too_large"))
            return []
        return [ask]

    def unsubscribe(self, subscription: Subscription) -> list[Outgoing]:
        """Follow something no longer."""
        asked = subscription.state in {State.ASKED, State.STANDS}
        request_id = subscription.request_id
        self._drop(subscription)
        return [{"action": "unsubscribe", "request_id": request_id}] if asked else []

    def _drop(self, subscription: Subscription, error: ClientError | None = None) -> None:
        subscription.state, subscription.error = State.ENDED, error
        if subscription.request_id is not None:
            self._by_id.pop(subscription.request_id, None)
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
        if subscription in self.again:
            self.again.remove(subscription)

    def _ask(self, subscription: Subscription) -> Outgoing:
        # a new name each time: what is still on the way for the last one means nothing any more
        self._last_id += 1
        subscription.request_id = self._last_id
        subscription.state = State.ASKED
        self._by_id[self._last_id] = subscription
        who = {"action": "subscribe", "request_id": self._last_id}
        return {**who, **subscription.request, "snapshot": True, **subscription.resume()}

    def fail(self, error: ClientError) -> None:
        """End every subscription: there will be no socket any more."""
        for subscription in list(self.subscriptions):
            self._drop(subscription, error)

    # What happens to the socket

    def opened(self) -> None:
        """A new socket is there; its first frame will be `welcome`."""
        self._by_id.clear()
        self._unacknowledged = 0
        self.welcome = self.bye = None
        self.again = []
        for subscription in self.subscriptions:
            subscription.collection.interrupted()
            subscription.state, subscription.arriving = State.NEW, None

    def receive(self, frame: Any, size: int) -> list[Outgoing]:
        """Take in a decoded frame.

        Args:
            frame: as decoded.
            size: of its text, in bytes.

        Returns:
            What to send.

        Raises:
            BadFrame: the server broke the protocol; a new socket may help.
        """
        match read(frame):
            case Welcome() as welcome:
                if self.welcome is not None:
                    raise BadFrame("The server said welcome twice.")
                self.welcome = welcome
                return [frame for each in list(self.subscriptions) for frame in self.resubscribe(each)]
            case Ping():
                return [{"action": "pong"}]
            case Bye() as bye:
                self.bye = bye
            case Subscribed() as subscribed:
                self._subscribed(subscribed)
            case Snapshot() as page:
                self._tell(page.request_id, lambda c: c.load(page.items, more=page.more))
                return self._received(page.seq, size)
            case Changes() as changes:
                self._tell(changes.request_id, lambda c: c.change(changes.changes, more=changes.more))
                return self._received(changes.seq, size)
            case Mark() as mark:
                for each in self.subscriptions:
                    if each.state is State.STANDS and each.collection.whole:
                        each.position = (mark.epoch, mark.position)
                return self._received(mark.seq, size)
            case Reset() as reset:
                self._reset(reset)
                return self._received(reset.seq, size)
            case End() as end:
                self._ended(end.request_id, refusal(end.code, None))
            case Refused() as refused:
                self._ended(refused.request_id, refusal(refused.code, {"detail": refused.message}))
        return []

    def _find(self, request_id: Any) -> Subscription | None:
        return self._by_id.get(request_id) if isinstance(request_id, int) else None

    def _subscribed(self, frame: Subscribed) -> None:
        subscription = self._find(frame.request_id)
        if subscription is None:
            return
        subscription.state = State.STANDS
        if frame.how == "snapshot":
            subscription.position, subscription.arriving = None, (frame.epoch, frame.position)
            subscription.collection.begin()
        else:
            subscription.position = (frame.epoch, frame.position)

    def _reset(self, frame: Reset) -> None:
        subscription = self._find(frame.request_id)
        if subscription is not None:
            subscription.position = subscription.arriving = None
            subscription.collection.begin()

    def _tell(self, request_id: Any, take: Any) -> None:
        subscription = self._find(request_id)
        if subscription is None:
            return
        first = not subscription.collection.loaded
        news = take(subscription.collection)
        if subscription.collection.whole:
            subscription.attempts = 0
            if subscription.arriving is not None:
                subscription.position, subscription.arriving = subscription.arriving, None
        if not first:  # what was there to begin with is no news
            subscription.tell(news)

    def _ended(self, request_id: Any, error: ClientError) -> None:
        subscription = self._find(request_id)
        if subscription is None:
            return
        if error.status not in AGAIN:
            self._drop(subscription, error)
            return
        self._by_id.pop(request_id)
        subscription.state, subscription.position, subscription.arriving = State.NEW, None, None
        subscription.collection.interrupted()
        subscription.attempts += 1
        self.again.append(subscription)

    def _received(self, seq: int, size: int) -> list[Outgoing]:
        self._unacknowledged += size
        if self.welcome is None or self._unacknowledged < self.welcome.window // 2:
            return []
        self._unacknowledged = 0
        return [{"action": "ack", "seq": seq}]
