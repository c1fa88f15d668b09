"""Cohorts: subscriptions with one answer, so that a change costs one query and one encoding for them all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import APIException

from ..protocol.changes import Change, Op, Position
from ..protocol.errors import PositionLost
from ..protocol.rendered import PAGE, Rendered
from .looks import Look, Spec, look, pks_of
from .members import Member, told_to
from .pool import pool
from .resuming import differences, outdated
from .sharing import Level
from .telling import Trace, ahead, lost, render, told, trace

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from .hub import Hub

__all__ = ["Cohort"]

logger = logging.getLogger("drf_concord")

RETURNS = 32
"""For how many different clients that come back the answer is kept, until something changes."""
EVENTS = 10_000
"""How many changes may wait for one subscription that wants to be told of each."""
YIELD = 128
"""After how many sockets the sender lets others run."""


class Cohort:
    """Members with equal answers, and what they have been shown.

    Attributes:
        spec: what is followed.
        level: for whom answers were thought to hold when it was made.
        holds: for whom an answer of this cohort holds.
        joining: how many are about to become members.
        closed: the hub brings no more changes here.
        settled: everything of the log up to this tick has been delivered to the members.
    """

    def __init__(self, hub: Hub, spec: Spec, holds: Level) -> None:
        self.hub = hub
        self.spec = spec
        self.level = self.holds = holds
        self.members: dict[int, Member] = {}
        self.joining = 0
        self.closed = False
        self.shown: dict[str, Trace] | None = None
        self.lock = asyncio.Lock()
        self._dirty: dict[str, list[Change]] = {}
        self._waiting = 0
        self._dirty_since: int | None = None  # tick of the first change that waits
        self._busy_since: int | None = None  # the same of those that are being delivered
        self._task: asyncio.Task[None] | None = None
        self._open_since: int | None = None  # tick of a delivery that said: more follows
        self._generation = 0  # counts what makes the two below void
        self._cached: tuple[int, list[Rendered], set[str]] | None = None
        # what was told to clients that came back: with the same position and objects they get the same
        self._returned: dict[tuple[int, Position, tuple[str, ...]], tuple[list[Rendered], set[str]]] = {}

    @property
    def settled(self) -> int:
        """The last tick whose changes this cohort's members have."""
        since = self._outstanding_since()
        return self.hub.tick if since is None else since - 1

    def _outstanding_since(self) -> int | None:
        """Return the tick of the first change that is not delivered yet, or None."""
        return min((t for t in (self._busy_since, self._dirty_since) if t is not None), default=None)

    def touch(self, changes: Iterable[tuple[str, Change]], since: int | None = None) -> None:
        """Take in changes that may concern this cohort.

        Args:
            changes: each as (key of the object, change).
            since: the tick of the first of them; the hub's when None.
        """
        since = self.hub.tick if since is None else since
        self._dirty_since = since if self._dirty_since is None else min(since, self._dirty_since)
        for key, change in changes:
            if self.spec.events:
                self._dirty.setdefault(key, []).append(change)
                self._waiting += 1
            else:
                self._dirty[key] = [change]
        if self._waiting > EVENTS:
            self.end(503, "Too much changed at a time to tell each change. Subscribe again.")
        self._generation += 1
        self._cached = None
        self._returned.clear()
        self.wake()

    def wake(self) -> None:
        """Deliver what is outstanding, in the background."""
        if self._task is None and self.members:
            self._task = asyncio.create_task(self._work())

    async def drained(self) -> None:
        """Wait until what has come so far is delivered."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _work(self) -> None:
        try:
            while self._dirty and self.members:
                async with self.lock:
                    await self._deliver()
        finally:
            self._task = None

    async def _deliver(self) -> None:
        """Deliver what waits, and until that is done tell nobody that he has it; the lock is held.

        It has to come to its end: who was not told of what is remembered as shown is never told.
        """
        dirty, self._dirty, self._waiting = self._dirty, {}, 0
        self._busy_since, self._dirty_since = self._dirty_since, None
        try:
            if dirty and self.members:  # who is the first to join looks at the database himself
                await self._round(dirty, self.hub.tick)
        except Exception:
            logger.exception("The view %s failed while a change was delivered.", self.spec.view.__name__)
            self.end(500, "The view failed.")
        finally:
            self._busy_since = None

    def left_over(self, dirty: dict[str, list[Change]]) -> tuple[list[tuple[str, Change]], int | None]:
        """Return what others have to deliver now, and the tick of the first of it.

        Args:
            dirty: what was being delivered.
        """
        both, since = [*dirty.items(), *self._dirty.items()], self._outstanding_since()
        self._dirty, self._dirty_since = {}, None
        return [(key, change) for key, changes in both for change in changes], since

    def go_on_from(self, other: Cohort, members: Sequence[Member]) -> None:
        """Take over some members of a cohort that is parted, and what they know."""
        self.shown = dict(other.shown or {})
        self._open_since = other._open_since
        for member in members:
            self.members[id(member)] = member
            member.cohort = self

    async def _round(self, dirty: dict[str, list[Change]], tick: int) -> None:
        members = list(self.members.values())
        asked = [key for key in dirty if key]
        everything = len(asked) < len(dirty)  # a truncated table, or "look at all again"
        found = await self._look(members, None if everything else asked)
        if found.level > self.holds:
            self.hub.split(self, found.level, dirty)
            return
        if everything:
            asked = list({*(self.shown or ()), *found.shown})
        rendered = self._compare(asked, found, dirty)
        more = any(ahead(found.shown.get(key), dirty[key][-1]) for key in asked if key in dirty)
        await self._send(members, rendered, found, more=more)
        self._open_since = tick if more else None
        for member in members:
            if member.told and tick > member.told_at:
                member.told = set()  # the hub has read as far by now

    async def _look(self, members: Sequence[Member], keys: list[str] | None) -> Look:
        return await pool.run(partial(look, self.spec, members, keys))

    def _compare(
        self, keys: Iterable[str], found: Look, dirty: dict[str, list[Change]]
    ) -> list[tuple[str, Rendered]]:
        """Turn states into changes, and remember what is shown now."""
        assert self.shown is not None  # noqa: S101
        rendered = []
        for key in keys:
            now, before = found.shown.get(key), self.shown.get(key)
            changes = dirty.get(key, [])
            if self.spec.events and changes and changes[-1].op is Op.DELETE:
                now = None  # what is there again is an event that comes later
            if now is not None:
                self.shown[key] = trace(now)
                if self.shown[key] != before or changes:
                    known = before is not None
                    rendered += [(key, each) for each in told(self.spec, now, changes, known=known)]
            elif before is not None:
                del self.shown[key]
                rendered.append((key, lost(self.spec, before[0], changes)))
        if self.spec.events:
            rendered.sort(key=lambda each: each[1].event or 0)
        return rendered

    async def _send(
        self, members: Sequence[Member], rendered: Sequence[tuple[str, Rendered]], found: Look, *, more: bool
    ) -> None:
        changes = [change for _, change in rendered]
        single = self.spec.action == "retrieve"
        due = bool(changes) or more or self._open_since is not None
        if not due and not found.denied:
            return
        for number, member in enumerate(members, 1):
            status = found.denied.get(id(member)) if found.denied else None
            if status is not None:
                self.hub.leave(member)
                member.subscriber.end(status, "You may not follow this any more.")
                continue
            if not due or member.cohort is not self:  # it has left meanwhile
                continue
            mine = changes
            if single or member.unknown or member.told:
                mine = [c for c in map(partial(told_to, member, found), rendered) if c is not None]
            if mine or more or self._open_since is not None:
                self._tell(member, mine, more=more)
            if number % YIELD == 0:
                await asyncio.sleep(0)

    def _tell(self, member: Member, changes: list[Rendered], *, more: bool) -> None:
        """Tell one member; what goes wrong with it is no business of the others."""
        try:
            member.subscriber.deliver(changes, more=more)
        except Exception:
            logger.exception("A change of %s could not be delivered.", self.spec.label)
            self.hub.leave(member)
            with contextlib.suppress(Exception):
                member.subscriber.end(500, "The server failed.")

    def close_open(self) -> None:
        """End a delivery that said more would follow, when nothing did."""
        if self._open_since is not None and self.hub.tick > self._open_since + 1 and self._task is None:
            self._open_since = None
            for member in list(self.members.values()):
                if member.subscriber.sequenced:
                    self._tell(member, [], more=False)

    async def join(
        self, member: Member, *, snapshot: bool, since: Position | None, have: list[str] | None
    ) -> bool:
        """Bring a member up to date and let it follow.

        Returns:
            False when this cohort was closed before that, and the member is to look for another.

        Raises:
            TooLarge: there is more than one subscription may show. And whatever the view raises.
        """
        async with self.lock:
            await _to_its_end(self._deliver())
            if self.closed:
                return False
            if not self.members:  # whoever tried before may have left what only he may see
                self.shown, self.holds = None, self.level
            losses = self.hub.losses
            try:
                await self._bring_up_to_date(member, snapshot, since, have)
            except _Narrower as found:
                self.hub.split(self, found.level, {})
                return False
            if self.spec.events and losses != self.hub.losses:
                raise _refusal(410)
            self.members[id(member)] = member
            member.cohort = self
        if self._dirty:
            self.wake()
        return True

    async def _bring_up_to_date(
        self, member: Member, snapshot: bool, since: Position | None, have: list[str] | None
    ) -> None:
        position = self.hub.position
        resumed = reset = None
        if since is not None and have is not None:
            try:
                resumed = await self._resume(member, since, have)
            except PositionLost as lost:
                reset = str(lost.members["reason"])
        if resumed is not None and since is not None:
            # Where it stood: who is cut off before he has all of this resumes from there once more.
            member.subscriber.subscribed("resumed", since)
            for start in range(0, len(resumed), PAGE):
                more = start + PAGE < len(resumed)
                member.subscriber.deliver(resumed[start : start + PAGE], more=more)
            if self.spec.events:
                # the log was read further than the hub has
                member.told = {each.event for each in resumed if each.event is not None}
                member.told_at = self.hub.tick
        elif snapshot or since is not None:
            await self._begin(member, position, reset=reset)
        else:
            await self._load(member)
            member.subscriber.subscribed("live", position)

    def _hold(self, level: Level) -> None:
        """Note for whom an answer holds.

        Raises:
            _Narrower: not for all who share the answers here.
        """
        if level > self.holds and self.members:
            raise _Narrower(level)
        self.holds = max(self.holds, level)

    async def _seen_by(self, member: Member, keys: list[str] | None) -> Look:
        """Look for somebody who joins.

        Raises:
            APIException: he may not. _Narrower: this holds for fewer than the members.
        """
        found = await self._look([member], keys)
        if id(member) in found.denied:
            raise _refusal(found.denied[id(member)])
        self._hold(found.level)
        return found

    async def _load(self, member: Member) -> None:
        if self.shown is None:
            visible, level = await pool.run(partial(pks_of, self.spec, member))
            self._hold(level)
            self.shown = {key: (named, None) for key, named in visible.items()}
        if self.spec.action == "retrieve" and self.shown:
            found = await self._seen_by(member, list(self.shown))
            member.visible = not found.hidden.get(id(member))
            if not self.members:  # else somebody may know an earlier state
                self.shown |= {key: trace(now) for key, now in found.shown.items()}

    async def _begin(self, member: Member, position: Position, *, reset: str | None) -> None:
        """Send the objects there are, from one reading shared by all who come between two changes."""
        tick, generation = self.hub.tick, self._generation
        if self._cached is not None and self._cached[0] == tick and self.spec.action != "retrieve":
            _, items, keys = self._cached
        else:
            async with self.hub.snapshots:
                found = await self._seen_by(member, None)
            keys = set(found.shown)
            hidden = found.hidden.get(id(member), set())
            items = [render(s, "CREATED", None) for s in found.shown.values() if s.key not in hidden]
            if self.shown is None:
                self.shown = {key: trace(s) for key, s in found.shown.items()}
            member.visible = bool(items)
            if generation == self._generation:
                self._cached = (tick, items, keys)
        member.unknown = set(self.shown or ()) - keys
        if reset is not None:
            member.subscriber.reset(reset)
        member.subscriber.subscribed("snapshot", position)
        member.subscriber.snapshot(items)

    async def _resume(self, member: Member, since: Position, have: list[str]) -> list[Rendered]:
        """Return what brings a client that holds some objects up to date.

        Raises:
            PositionLost: nobody knows any more.
        """
        missed = await self.hub.missed(since)
        asking, generation = (self.hub.tick, since, tuple(have)), self._generation
        if asking in self._returned:
            result, keys = self._returned[asking]
            member.unknown = set(self.shown or ()) - keys
            return result
        concerned = missed.by_key(self.spec)
        if self.spec.events and sum(map(len, concerned.values())) > EVENTS:
            raise PositionLost(reason="overflow")
        visible, level = await pool.run(partial(pks_of, self.spec, member))
        self._hold(level)
        if self.shown is None:
            self.shown = {key: (named, None) for key, named in visible.items()}
        member.unknown = self.shown.keys() - visible.keys()
        held = set(have)
        asked = outdated(held, visible, concerned)
        found = await self._seen_by(member, asked) if asked else None
        shown = found.shown if found is not None else {}
        hidden = found.hidden.get(id(member), set()) if found is not None else set()
        member.visible = bool(visible) and not hidden
        seen = {key: now for key, now in shown.items() if key not in hidden}
        result = differences(self.spec, held, visible.keys() - hidden, seen, concerned)
        if self.spec.events:
            result.sort(key=lambda each: each.event or 0)
        if self.spec.action != "retrieve" and generation == self._generation:
            if len(self._returned) >= RETURNS:
                self._returned.clear()
            self._returned[asking] = result, set(visible)
        return result

    def end(self, status: int, message: str) -> None:
        """End every subscription of this cohort."""
        for member in list(self.members.values()):
            self.hub.leave(member)
            with contextlib.suppress(Exception):
                member.subscriber.end(status, message)

    def look_again(self) -> None:
        """Compare everything shown with everything there is: accounts changed, or the log was lost."""
        self.touch([("", _ANY)])

    def lost(self) -> None:
        """Go on after the log was lost: states can be compared, but what led to them nobody knows."""
        if self.spec.events:
            self.end(410, "Changes were lost. Subscribe again.")
        else:
            self.look_again()


_ANY = Change(0, 0, "", "", Op.TRUNCATE, None, None, (), {}, None, 0)


class _Narrower(Exception):
    """What somebody who joins was shown holds for fewer than share answers here."""

    def __init__(self, level: Level) -> None:
        super().__init__(level)
        self.level = level


def _refusal(status: int) -> APIException:
    refusal = APIException()
    refusal.status_code = status
    return refusal


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that is others' too: who is cancelled meanwhile goes when it is done."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
