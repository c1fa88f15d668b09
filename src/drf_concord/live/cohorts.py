"""Cohorts: subscriptions with one answer, so that a change costs one query and one encoding for them all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..protocol.changes import Change, Op, Position
from ..protocol.errors import PositionLost
from ..protocol.session import Rendered
from .looks import Look, Shown, Spec, json_of, look, pks_of
from .pool import pool
from .sharing import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .hub import Hub
    from .views import Caller

__all__ = ["Cohort", "Member", "Subscriber"]

logger = logging.getLogger("drf_concord")

Trace = tuple[str, int | None]
"""What is remembered of an object that is shown: what names it when it is gone, and a hash of its body."""

RETURNS = 32
"""For how many different clients that come back the answer is kept, until something changes."""
YIELD = 128
"""After how many sockets the sender lets others run."""


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
    visible: bool = False  # of a single object: whether this member was shown it
    unknown: set[str] = field(default_factory=set)  # gone before this member came, but not yet noticed


class Cohort:
    """Members with equal answers, and what they have been shown.

    Attributes:
        spec: what is followed.
        holds: for whom an answer of this cohort holds.
        settled: everything of the log up to this tick has been delivered to the members.
    """

    def __init__(self, hub: Hub, spec: Spec, holds: Level) -> None:
        self.hub = hub
        self.spec = spec
        self.holds = holds
        self.members: dict[int, Member] = {}
        self.shown: dict[str, Trace] | None = None
        self.lock = asyncio.Lock()
        self._dirty: dict[str, Change] = {}
        self._delivered = hub.tick
        self._task: asyncio.Task[None] | None = None
        self._open_since: int | None = None  # tick of a delivery that said: more follows
        self._cached: tuple[int, list[Rendered]] | None = None
        # what was told to clients that came back: with the same position and objects they get the same
        self._returned: dict[tuple[int, Position, tuple[str, ...]], list[Rendered]] = {}

    @property
    def settled(self) -> int:
        """The last tick whose changes this cohort's members have."""
        return self.hub.tick if self._task is None and not self._dirty else self._delivered

    def touch(self, changes: Iterable[tuple[str, Change]]) -> None:
        """Take in changes that may concern this cohort, as (key of the object, change)."""
        before = self._dirty
        for key, change in changes:
            before[key] = change
        self._cached = None
        self._returned.clear()
        self.wake()

    def wake(self) -> None:
        """Deliver what is outstanding, in the background."""
        if self._task is None and self.members:
            self._delivered = self.hub.tick - 1
            self._task = asyncio.create_task(self._work())

    async def drained(self) -> None:
        """Wait until what has come so far is delivered."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _work(self) -> None:
        try:
            while self._dirty and self.members:
                async with self.lock:
                    tick = self.hub.tick
                    dirty, self._dirty = self._dirty, {}
                    await self._round(dirty, tick)
                    self._delivered = tick
        except Exception:
            logger.exception("The view %s failed while a change was delivered.", self.spec.view.__name__)
            self.end(500, "The view failed.")
        finally:
            self._task = None
        if self._dirty and self.members:
            self.wake()

    async def _round(self, dirty: dict[str, Change], tick: int) -> None:
        if self.shown is None or not self.members:
            return  # the first member is still loading: it will look at the database itself
        members = list(self.members.values())
        asked = [key for key in dirty if key]
        everything = len(asked) < len(dirty)  # a truncated table, or "look at all again"
        found = await self._look(members, None if everything else asked)
        if found.level > self.holds:
            self.hub.split(self, found.level, dirty)
            return
        if everything:
            asked = list({**self.shown, **found.shown})
        rendered = self._compare(asked, found, dirty)
        ahead = any(_ahead(found.shown.get(key), dirty.get(key)) for key in asked)
        await self._send(members, rendered, found, more=ahead)
        self._open_since = tick if ahead else None

    async def _look(self, members: Sequence[Member], keys: list[str] | None) -> Look:
        return await pool.run(partial(look, self.spec, members, keys))

    def _compare(self, keys: Iterable[str], found: Look, dirty: dict[str, Change]) -> dict[str, Rendered]:
        """Turn states into changes, and remember what is shown now."""
        assert self.shown is not None  # noqa: S101
        rendered = {}
        for key in keys:
            now, before = found.shown.get(key), self.shown.get(key)
            change = dirty.get(key)
            if now is not None:
                trace = _trace(now)
                if trace != before or change is not None:
                    rendered[key] = render(now, "CREATED" if before is None else "UPDATED", change)
                self.shown[key] = trace
            elif before is not None:
                del self.shown[key]
                rendered[key] = _gone(before[0], change)
        return rendered

    async def _send(
        self, members: Sequence[Member], rendered: dict[str, Rendered], found: Look, *, more: bool
    ) -> None:
        changes = list(rendered.values())
        single = self.spec.action == "retrieve"
        told = bool(changes) or more or self._open_since is not None
        if not told and not found.denied:
            return
        for number, member in enumerate(members, 1):
            status = found.denied.get(id(member)) if found.denied else None
            if status is not None:
                self.hub.leave(member)
                member.subscriber.end(status, "You may not follow this any more.")
                continue
            if not told:
                continue
            mine = changes
            if single or member.unknown:
                mine = [c for c in map(partial(_for, member, found), rendered.items()) if c is not None]
            if mine or more or self._open_since is not None:
                member.subscriber.deliver(mine, more=more)
            if number % YIELD == 0:
                await asyncio.sleep(0)

    def close_open(self) -> None:
        """End a delivery that said more would follow, when nothing did."""
        if self._open_since is not None and self.hub.tick > self._open_since + 1 and self._task is None:
            self._open_since = None
            for member in self.members.values():
                if member.subscriber.sequenced:
                    member.subscriber.deliver([], more=False)

    async def join(
        self, member: Member, *, snapshot: bool, since: Position | None, have: list[str] | None
    ) -> None:
        """Bring a member up to date and let it follow.

        Raises:
            TooLarge: there is more than one subscription may show. And whatever the view raises.
        """
        async with self.lock:
            dirty, self._dirty = self._dirty, {}
            if dirty and self.members:
                await self._round(dirty, self.hub.tick)
            position = self.hub.position
            resumed = None
            if since is not None and have is not None:
                resumed = await self._resume(member, since, have)
            if resumed is None and (snapshot or since is not None):
                await self._begin(member, position, reset=since is not None and have is not None)
            elif resumed is not None:
                member.subscriber.subscribed("resumed", position)
                if resumed:
                    member.subscriber.deliver(resumed, more=False)
            else:
                await self._load(member)
                member.subscriber.subscribed("live", position)
            self.members[id(member)] = member
            member.cohort = self
        if self._dirty:
            self.wake()

    async def _load(self, member: Member) -> None:
        if self.shown is None:
            visible, level = await pool.run(partial(pks_of, self.spec, member))
            self.shown = {key: (named, None) for key, named in visible.items()}
            self.holds = max(self.holds, level)
        if self.spec.action == "retrieve" and self.shown:
            found = await self._look([member], list(self.shown))
            member.visible = not found.hidden.get(id(member))

    async def _begin(self, member: Member, position: Position, *, reset: bool) -> None:
        """Send the objects there are, from one reading shared by all who come between two changes."""
        tick = self.hub.tick
        if self._cached is not None and self._cached[0] == tick and self.spec.action != "retrieve":
            items = self._cached[1]
        else:
            async with self.hub.snapshots:
                found = await self._look([member], None)
            hidden = found.hidden.get(id(member), set())
            items = [render(s, "CREATED", None) for s in found.shown.values() if s.key not in hidden]
            if self.shown is None:
                self.shown = {key: _trace(s) for key, s in found.shown.items()}
                self.holds = max(self.holds, found.level)
            else:
                member.unknown = self.shown.keys() - found.shown.keys()
            member.visible = bool(items)
            if found.level <= self.holds:
                self._cached = (tick, items)
        if reset:
            member.subscriber.reset("expired")
        member.subscriber.subscribed("snapshot", position)
        member.subscriber.snapshot(items)

    async def _resume(self, member: Member, since: Position, have: list[str]) -> list[Rendered] | None:
        """Return what brings a client that holds some objects up to date; None when nobody knows any more."""
        try:
            missed = await self.hub.missed(since)
        except PositionLost:
            return None
        asking = (self.hub.tick, since, tuple(have))
        if asking in self._returned:
            return self._returned[asking]
        concerned = dict(missed.concerning(self.spec))
        visible, level = await pool.run(partial(pks_of, self.spec, member))
        if self.shown is None:
            self.shown = {key: (named, None) for key, named in visible.items()}
            self.holds = max(self.holds, level)
        held = set(have)
        asked = [key for key in visible if key not in held or key in concerned]
        found = await self._look([member], asked) if asked else None
        shown = found.shown if found is not None else {}
        hidden = found.hidden.get(id(member), set()) if found is not None else set()
        member.visible = bool(visible) and not hidden
        result = [
            render(now, "UPDATED" if key in held else "CREATED", concerned.get(key))
            for key, now in shown.items()
            if key not in hidden
        ]
        for key in held - (visible.keys() - hidden):
            pk = json_of(_value(self.spec, key))
            result.append(_gone(f'{{"pk":{pk},"id":{pk}}}', concerned.get(key), pk=pk))
        if self.spec.action != "retrieve" and max(level, found.level if found else level) <= self.holds:
            if len(self._returned) >= RETURNS:
                self._returned.clear()
            self._returned[asking] = result
        return result

    def end(self, status: int, message: str) -> None:
        """End every subscription of this cohort."""
        for member in list(self.members.values()):
            self.hub.leave(member)
            with contextlib.suppress(Exception):
                member.subscriber.end(status, message)

    def look_again(self) -> None:
        """Compare everything shown with everything there is: accounts changed, or the log was lost."""
        self._cached = None
        self._returned.clear()
        self._dirty[""] = _ANY
        self.wake()


_ANY = Change(0, 0, "", "", Op.TRUNCATE, None, None, (), {}, None, 0)


def _value(spec: Spec, key: str) -> Any:
    return spec.model._meta.pk.to_python(key)


def _for(member: Member, found: Look, item: tuple[str, Rendered]) -> Rendered | None:
    """Return a change as one member may be told of it: object permissions, and what it never knew."""
    key, change = item
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
        return change if was or change.action == "CREATED" else _as(change, "CREATED")
    return _gone(found.shown[key].gone, None, pk=change.pk) if was else None


def _as(change: Rendered, action: str) -> Rendered:
    return Rendered(action, change.pk, change.instance, change.etag, change.version, change.reason)


def _trace(shown: Shown) -> Trace:
    return shown.gone, hash(shown.instance)


def render(shown: Shown, action: str, change: Change | None) -> Rendered:
    """Return an object as subscribers are told of it; without a version column the change's id orders."""
    version = shown.version if shown.version is not None else change.id if change is not None else None
    return Rendered(action, shown.pk, shown.instance, shown.etag, version)


def _gone(named: str, change: Change | None, *, pk: str | None = None) -> Rendered:
    deleted = change is not None and change.op is Op.DELETE
    version = None if change is None else change.version if change.version is not None else change.id
    if pk is None:
        pk = json.dumps(json.loads(named)["pk"])
    return Rendered("DELETED", pk, named, None, version, "deleted" if deleted else "left")


def _ahead(shown: Shown | None, change: Change | None) -> bool:
    """Tell whether an object was read after a later change than the one that is delivered here."""
    if shown is None or change is None or shown.version is None or change.version is None:
        return False
    return shown.version > change.version
