"""The hub: one reader of the log per process and event loop, for every subscription of both doors.

A hint wakes it, a clock is the floor under the hints. Each reading is a tick; a tick's changes go to the
cohorts they may concern, and each cohort delivers on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings as django_settings
from django.db import connections

from .. import changes as log
from .. import transports, triggers
from ..conf import settings
from ..protocol.changes import Change, Op, Position
from ..protocol.errors import PositionLost
from ..triggers.plan import account_labels
from . import invalidation, sharing
from .cohorts import Cohort
from .locknews import LABEL, LockNews
from .looks import MOVED, admit, audience, moved
from .members import Member
from .pool import pool
from .routes import Missed, key_text, keys_of, routes, sources
from .sharing import Level
from .tending import tend
from .watch import can_watch, watch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from django.db.models import Model

    from .feeds import Feed
    from .views import Caller

__all__ = ["Hub", "Missed", "hub_of_loop"]

logger = logging.getLogger("drf_concord")

POLL = {"sqlite": 0.02, "postgresql": 0.25}
"""How often the log is read without a hint, in seconds."""
MARK = 1.0
"""How often sockets are told their position, at the most, in seconds."""
SNAPSHOTS = 4
"""How many snapshots are read from the database at a time."""


class Listener(Protocol):
    """A socket as the hub knows it."""

    caller: Caller

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The work under way."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> Any:
        """Run something beside the socket, until it ends."""

    def mark(self, position: Position) -> None:
        """Everything up to this position was delivered."""

    def members(self) -> list[Member]:
        """Return its subscriptions."""

    def beat(self) -> None:
        """A second has passed."""


class Hub:
    """One reader of the log.

    Attributes:
        using: the database alias of all live models.
        position: everything up to it has been read.
        tick: how many readings there were; positions of ticks that somebody still waits for are kept.
        losses: how often the log was lost.
        snapshots: bounds how many snapshots are read at a time.
        feeds: of the models that are observed.
    """

    def __init__(self, using: str = "default") -> None:
        self.using = using
        self.position = Position("", "")
        self.tick = 0
        self.losses = 0
        self.snapshots = asyncio.Semaphore(SNAPSHOTS)
        self.listeners: set[Listener] = set()
        self.feeds: dict[type[Model], Feed] = {}
        self._positions: dict[int, Position] = {}
        self._cohorts: dict[tuple[Any, ...], Cohort] = {}
        self._levels: dict[tuple[Any, str], Level] = {}
        self._by_label: dict[str, set[Cohort]] = defaultdict(set)
        self._routed: dict[tuple[str, str, str], set[Cohort]] = defaultdict(set)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._started: asyncio.Task[None] | None = None
        self._missed: dict[Position, tuple[int, Missed]] = {}
        self._reading = asyncio.Lock()
        self._catching: asyncio.Future[None] | None = None
        self._again: set[Listener] = set()
        self._locks = LockNews(self)

    # Life

    async def start(self) -> None:
        """Begin to read, from now on; returns when the position is known."""
        if self._started is None or _failed(self._started):
            self._started = asyncio.create_task(self._begin())
        await asyncio.shield(self._started)

    async def _begin(self) -> None:
        await pool.run(partial(triggers.verify_once, self.using))
        self.position = await pool.run(partial(log.position, self.using))
        self._positions[0] = self.position
        if pool.inline:
            return  # whoever tests steps it: nothing may read, or hold a connection, at its own time
        own = (self._run(), self._beat(), tend(self.using))
        self._tasks = [asyncio.create_task(work) for work in own]
        self._tasks += [
            asyncio.create_task(transport.listen(self._wake.set))
            for transport in transports.transports(self.using)
        ]
        if can_watch(self.using):
            self._tasks.append(asyncio.create_task(watch(self.using, self._wake.set)))

    @property
    def started(self) -> bool:
        """Whether it reads the log."""
        return self._started is not None and self._started.done() and not _failed(self._started)

    async def stop(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._started = None

    async def _run(self) -> None:
        poll = 0.25 if can_watch(self.using) else POLL.get(connections[self.using].vendor, 0.25)
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                # before Python 3.12 `wait_for` loses a cancellation that comes together with the event
                async with asyncio.timeout(poll * 2 ** min(failures, 6)):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.step()
                failures = 0
            except Exception:
                failures += 1
                if failures == 1:
                    logger.exception("The change log could not be read; trying again.")

    async def _start_again(self) -> None:
        self.losses += 1
        with contextlib.suppress(Exception):
            self.position = await pool.run(partial(log.position, self.using))
            self.tick += 1
            self._positions[self.tick] = self.position
            self._missed.clear()
            for cohort in list(self._cohorts.values()):
                cohort.lost()
            for feed in list(self.feeds.values()):
                feed.lost()

    async def step(self) -> int:
        """Read the log once and set the deliveries going; returns how many changes there were."""
        async with self._reading:
            before = self.position
            try:
                self.position, found = await pool.run(partial(_read, before, self.using))
            except PositionLost as lost:
                logger.warning("The log was lost (%s): every subscriber gets a fresh copy.", lost.members)
                await self._start_again()
                return 0
            if self.position != before:
                self.tick += 1
                self._positions[self.tick] = self.position
            if found:
                self._distribute(found)
            return len(found)

    async def catch_up(self) -> None:
        """Read the log once, from a moment that is not before this call; callers of one moment share it."""
        if self._catching is None:
            self._catching = asyncio.ensure_future(self._catch_up())
        await asyncio.shield(self._catching)

    async def _catch_up(self) -> None:
        await asyncio.sleep(0)
        self._catching = None
        await self.step()

    async def drain(self) -> None:
        """Read what is there and wait until all of it is delivered: for tests, instead of sleeping."""
        await self.step()
        for cohort in list(self._cohorts.values()):
            await cohort.drained()
        for feed in list(self.feeds.values()):
            await feed.drained()
        await self._locks.drained()

    def _distribute(self, found: list[Change]) -> None:
        self._missed.clear()
        touched: dict[Cohort, list[tuple[str, Change]]] = defaultdict(list)
        for change in (*found, *invalidation.again(found)):
            for cohort in self._concerned(change):
                for label, relation in sources(cohort.spec):
                    if label == change.model:
                        keys = list(keys_of(cohort.spec, change, relation))
                        if keys:
                            touched[cohort] += keys
        forgotten = invalidation.forgotten(found)
        if forgotten or any(change.model in account_labels() for change in found):
            self._accounts_changed(found, forgotten)  # before the rest: a right that was lost counts at once
        for cohort, changes in touched.items():
            cohort.touch(changes)
        for feed in self.feeds.values():
            feed.touch(found)
        self._locks.note((c for c in found if c.model == LABEL), self._cohorts.values())

    def _concerned(self, change: Change) -> set[Cohort]:
        """Return the cohorts a change may concern, without looking at the others."""
        found = set(self._by_label.get(change.model, ()))
        found |= self._routed.get((change.model, "pk", key_text(change.model, change.pk)), set())
        if change.op is Op.TRUNCATE:
            return {c for c in self._cohorts.values() if change.model in {s[0] for s in sources(c.spec)}}
        for column, values in change.routes.items():
            for value in values:
                found |= self._routed.get((change.model, column, str(value)), set())
        return found

    # Subscriptions

    async def follow(
        self,
        member: Member,
        *,
        snapshot: bool = False,
        since: Position | None = None,
        have: list[str] | None = None,
    ) -> None:
        """Admit a member, as a GET would, and let it follow.

        Raises:
            APIException, PermissionDenied, Http404: it may not. TooLarge: there are too many objects.
        """
        await self.start()
        await pool.run(partial(admit, member.spec, member))
        await self.catch_up()  # what was written before the subscription is no news to it
        while not await self._join(member, snapshot, since, have):
            pass  # the cohort was split, or let go, while this member waited for it

    async def _join(
        self, member: Member, snapshot: bool, since: Position | None, have: list[str] | None
    ) -> bool:
        level = self._levels.get((member.spec.view, member.spec.action))
        if level is None:
            level = _first_level(member.spec.view)
        member.level, member.who = level, audience(member, member.spec, level)
        cohort = self._cohort(member)
        cohort.joining += 1
        try:
            joined = await cohort.join(member, snapshot=snapshot, since=since, have=have)
        finally:
            cohort.joining -= 1
            if cohort.holds > cohort.level and not cohort.closed:
                self.split(cohort, cohort.holds, {})
            self.forget_if_empty(cohort)
        return joined

    def _cohort(self, member: Member, *, alone: bool = False) -> Cohort:
        """Return the cohort of those who share answers with a member, or one of its own beside that."""
        key: tuple[Any, ...] = (member.spec, member.who)
        if alone and key in self._cohorts:
            key = (*key, object())
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(self, member.spec, member.level)
            self._route(cohort, add=True)
        return cohort

    def leave(self, member: Member) -> None:
        """Let a member go."""
        cohort, member.cohort = member.cohort, None
        if cohort is not None:
            cohort.members.pop(id(member), None)
            self.forget_if_empty(cohort)

    def forget_if_empty(self, cohort: Cohort) -> None:
        """Let a cohort go that nobody is in, or is about to join."""
        if not cohort.members and not cohort.joining:
            self._close(cohort)

    def _close(self, cohort: Cohort) -> None:
        cohort.closed = True
        for key in [key for key, known in self._cohorts.items() if known is cohort]:
            del self._cohorts[key]
            self._route(cohort, add=False)

    def split(self, cohort: Cohort, level: Level, dirty: dict[str, list[Change]]) -> None:
        """Part a cohort whose view turned out to look at who is asking.

        Args:
            cohort: the cohort.
            level: for whom its answers hold.
            dirty: what it was about to tell its members.
        """
        self._levels[cohort.spec.view, cohort.spec.action] = level
        parts: dict[Any, list[Member]] = defaultdict(list)
        for member in cohort.members.values():
            member.level, member.who = level, audience(member, member.spec, level)
            parts[member.who].append(member)
        self._close(cohort)
        outstanding, since = cohort.left_over(dirty)
        cohort.members = {}
        for members in parts.values():
            # not one that is there already: what those were shown, these were not
            part = self._cohort(members[0], alone=True)
            part.go_on_from(cohort, members)
            if outstanding:
                part.touch(outstanding, since)

    def _route(self, cohort: Cohort, *, add: bool) -> None:
        change = set.add if add else set.discard
        for label, column, value in routes(cohort.spec):
            known = self._by_label[label] if column is None else self._routed[label, column, value]
            change(known, cohort)
            if not known:
                if column is None:
                    del self._by_label[label]
                else:
                    del self._routed[label, column, value]

    async def missed(self, since: Position) -> Missed:
        """Return the changes since a position, read once for all who come back with it.

        Raises:
            PositionLost: reading on from there could miss something.
        """
        known = self._missed.get(since)
        if known is not None and known[0] == self.tick:
            return known[1]
        tick = self.tick
        _, found = await pool.run(partial(log.resume_from, since, using=self.using))
        missed = Missed.of(found)
        if len(self._missed) > 64:
            self._missed.clear()
        self._missed[since] = (tick, missed)
        return missed

    # Accounts

    def _accounts_changed(self, found: list[Change], forgotten: set[str]) -> None:
        """Ask again for everybody who is to be forgotten, or whose row, groups or permissions changed."""
        users, everybody = set(forgotten), False
        user_label = django_settings.AUTH_USER_MODEL
        for change in found:
            if change.model.lower() == user_label.lower():
                users.add(key_text(user_label, change.pk))
            elif change.model in account_labels():
                named = [
                    key_text(user_label, str(value))
                    for column, pair in change.routes.items()
                    if column == "user_id"
                    for value in pair
                    if value
                ]
                users.update(named)
                everybody = everybody or not named
        for listener in list(self.listeners):
            seen = {str(getattr(m.view.request.user, "pk", None)) for m in listener.members() if m.view}
            if everybody or users & (seen | listener.caller.pks):
                for member in listener.members():
                    member.stale = True
                listener.spawn(self.refresh(listener))
                self._again.add(listener)

    async def refresh(self, listener: Listener) -> None:
        """Read a socket's account again, end what it may not follow any more, and compare the rest."""
        await pool.run(listener.caller.refresh)
        for member in listener.members():
            status = None
            try:
                await pool.run(partial(admit, member.spec, member))
                status = MOVED if moved(member, member.spec) else None
            except Exception as refusal:
                status = getattr(refusal, "status_code", 403)
            if status is not None:
                self.leave(member)
                member.subscriber.end(status, "You may not follow this any more.")
                continue
            member.stale = False
            if member.cohort is not None and member.cohort.holds > Level.SHARED:
                member.cohort.look_again()

    # Marks

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(MARK)
            self.beat()

    def beat(self) -> None:
        """Do what is done once a second: tell sockets their position, and let them look at the clock."""
        for cohort in self._cohorts.values():
            cohort.close_open()
        self._locks.beat(self._cohorts.values())
        # whoever logs out is told of before his session is gone
        again, self._again = self._again & self.listeners, set()
        for listener in again:
            listener.spawn(self.refresh(listener))
        oldest = min((c.settled for c in self._cohorts.values()), default=self.tick)
        for listener in list(self.listeners):
            ticks = [m.cohort.settled for m in listener.members() if m.cohort is not None]
            if ticks and min(ticks) in self._positions:
                listener.mark(self._positions[min(ticks)])
            listener.beat()
        for tick in [t for t in self._positions if t < oldest]:
            del self._positions[tick]


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub_of_loop() -> Hub:
    """Return the hub of the running event loop: one per process and loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub()
    return hub


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _read(position: Position, using: str) -> tuple[Position, list[Change]]:
    return log.read_after(position, using=using)


def _first_level(view: Any) -> Level:
    """Return for whom an answer of a view may hold at best."""
    if sharing.declared_key(view) is not None:
        return Level.USER
    if settings.SOCKET_MIDDLEWARE or sharing.never_shared(view):
        return Level.CONNECTION
    return Level.SHARED
