"""The hub: one reader of the log per process and event loop, for every subscription of both doors.

A hint wakes it, a clock is the floor under the hints. Each reading is a tick; a tick's changes go to the
cohorts they may concern, and each cohort delivers on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import weakref
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from django.apps import apps
from django.conf import settings as django_settings
from django.db import connections

from .. import changes as log
from .. import transports, triggers
from ..conf import settings
from ..protocol.changes import Change, Op, Position
from ..protocol.errors import PositionLost
from ..triggers.plan import account_labels
from . import sharing
from .cohorts import Cohort, Member
from .looks import Spec, admit
from .pool import pool
from .sharing import Level
from .watch import can_watch, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

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


@dataclass(slots=True)
class Missed:
    """Some changes, by the label of their model."""

    by_label: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))

    def concerning(self, spec: Spec) -> Iterator[tuple[str, Change]]:
        """Yield (key of the followed object, change) for what may concern a spec; key "" stands for all."""
        for label, relation in _sources(spec):
            for change in self.by_label.get(label, ()):
                yield from _keys(spec, change, relation)


class Hub:
    """One reader of the log.

    Attributes:
        using: the database alias of all live models.
        position: everything up to it has been read.
        tick: how many readings there were; positions of ticks that somebody still waits for are kept.
        snapshots: bounds how many snapshots are read at a time.
    """

    def __init__(self, using: str = "default") -> None:
        self.using = using
        self.position = Position("", "")
        self.tick = 0
        self.snapshots = asyncio.Semaphore(SNAPSHOTS)
        self.listeners: set[Listener] = set()
        self._positions: dict[int, Position] = {}
        self._cohorts: dict[tuple[Spec, Any], Cohort] = {}
        self._levels: dict[tuple[Any, str], Level] = {}
        self._by_label: dict[str, set[Cohort]] = defaultdict(set)
        self._routed: dict[tuple[str, str, str], set[Cohort]] = defaultdict(set)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._started: asyncio.Task[None] | None = None
        self._missed: dict[Position, tuple[int, Missed]] = {}
        self._reading = asyncio.Lock()
        self._catching: asyncio.Future[None] | None = None

    # Life

    async def start(self) -> None:
        """Begin to read, from now on; returns when the position is known."""
        if self._started is None:
            self._started = asyncio.create_task(self._begin())
        await asyncio.shield(self._started)

    async def _begin(self) -> None:
        await pool.run(partial(triggers.verify_once, self.using))
        self.position = await pool.run(partial(log.position, self.using))
        self._positions[0] = self.position
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._beat())]
        self._tasks += [
            asyncio.create_task(transport.listen(self._wake.set))
            for transport in transports.transports(self.using)
        ]
        if can_watch(self.using):
            self._tasks.append(asyncio.create_task(watch(self.using, self._wake.set)))

    @property
    def started(self) -> bool:
        """Whether it reads the log."""
        return self._started is not None and self._started.done()

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
                await asyncio.wait_for(self._wake.wait(), poll * 2 ** min(failures, 6))
            self._wake.clear()
            try:
                await self.step()
                failures = 0
            except Exception:
                failures += 1
                if failures == 1:
                    logger.exception("The change log could not be read; trying again.")

    async def _start_again(self) -> None:
        with contextlib.suppress(Exception):
            self.position = await pool.run(partial(log.position, self.using))
            self.tick += 1
            self._positions[self.tick] = self.position
            self._missed.clear()
            for cohort in list(self._cohorts.values()):
                cohort.look_again()

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

    def _distribute(self, found: list[Change]) -> None:
        self._missed.clear()
        touched: dict[Cohort, list[tuple[str, Change]]] = defaultdict(list)
        for change in found:
            for cohort in self._concerned(change):
                for label, relation in _sources(cohort.spec):
                    if label == change.model:
                        touched[cohort] += _keys(cohort.spec, change, relation)
        if any(change.model in account_labels() for change in found):
            self._accounts_changed(found)  # before the rest: a right that was lost counts at once
        for cohort, changes in touched.items():
            cohort.touch(changes)

    def _concerned(self, change: Change) -> set[Cohort]:
        """Return the cohorts a change may concern, without looking at the others."""
        found = set(self._by_label.get(change.model, ()))
        found |= self._routed.get((change.model, "pk", _text(change.model, change.pk)), set())
        if change.op is Op.TRUNCATE:
            return {c for c in self._cohorts.values() if change.model in {s[0] for s in _sources(c.spec)}}
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
        level = self._levels.get((member.spec.view, member.spec.action))
        if level is None:
            level = _first_level(member.spec.view)
        cohort = self._cohort(member, level)
        try:
            await cohort.join(member, snapshot=snapshot, since=since, have=have)
        finally:
            self._forget_if_empty(cohort)
        if cohort.holds > level:
            self._levels[member.spec.view, member.spec.action] = cohort.holds
            self.split(cohort, cohort.holds, {})

    def _cohort(self, member: Member, level: Level) -> Cohort:
        key = (member.spec, _who(member, level))
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(self, member.spec, level)
            self._route(cohort, add=True)
        return cohort

    def leave(self, member: Member) -> None:
        """Let a member go."""
        cohort, member.cohort = member.cohort, None
        if cohort is not None:
            cohort.members.pop(id(member), None)
            self._forget_if_empty(cohort)

    def _forget_if_empty(self, cohort: Cohort) -> None:
        if cohort.members or cohort.lock.locked():
            return
        for key, known in list(self._cohorts.items()):
            if known is cohort:
                del self._cohorts[key]
                self._route(cohort, add=False)

    def split(self, cohort: Cohort, level: Level, dirty: dict[str, Change]) -> None:
        """Part a cohort whose view turned out to look at who is asking."""
        self._levels[cohort.spec.view, cohort.spec.action] = level
        parts: dict[Any, list[Member]] = defaultdict(list)
        for member in cohort.members.values():
            parts[_who(member, level)].append(member)
        for key in [key for key, known in self._cohorts.items() if known is cohort]:
            del self._cohorts[key]
        self._route(cohort, add=False)
        cohort.members = {}
        for members in parts.values():
            part = self._cohort(members[0], level)
            if part.shown is None:
                part.shown = dict(cohort.shown or {})
            for member in members:
                part.members[id(member)] = member
                member.cohort = part
            if dirty:
                part.touch(dirty.items())

    def _route(self, cohort: Cohort, *, add: bool) -> None:
        change = set.add if add else set.discard
        for label, column, value in _routes(cohort.spec):
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
        _, found = await pool.run(partial(_resume, since, self.using))
        missed = Missed()
        for change in found:
            missed.by_label[change.model].append(change)
        if len(self._missed) > 64:
            self._missed.clear()
        self._missed[since] = (tick, missed)
        return missed

    # Accounts

    def _accounts_changed(self, found: list[Change]) -> None:
        """Ask again for everybody whose user row, groups or permissions changed."""
        users, everybody = set(), False
        user_label = django_settings.AUTH_USER_MODEL
        for change in found:
            if change.model.lower() == user_label.lower():
                users.add(change.pk)
            elif change.model in account_labels():
                named = [str(v) for c, pair in change.routes.items() if c == "user_id" for v in pair if v]
                users.update(named)
                everybody = everybody or not named
        for listener in list(self.listeners):
            seen = {str(getattr(m.view.request.user, "pk", None)) for m in listener.members() if m.view}
            if everybody or users & {*seen, str(getattr(listener.caller.user, "pk", None))}:
                for member in listener.members():
                    member.stale = True
                listener.spawn(self.refresh(listener))

    async def refresh(self, listener: Listener) -> None:
        """Read a socket's account again, end what it may not follow any more, and compare the rest."""
        await pool.run(listener.caller.refresh)
        for member in listener.members():
            try:
                await pool.run(partial(admit, member.spec, member))
            except Exception as refusal:
                self.leave(member)
                status = getattr(refusal, "status_code", 403)
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


def _read(position: Position, using: str) -> tuple[Position, list[Change]]:
    return log.read_after(position, using=using)


def _resume(position: Position, using: str) -> tuple[Position, list[Change]]:
    log.check_position(position, using=using)
    return log.read_after(position, using=using)


def _who(member: Member, level: Level) -> Any:
    if level is Level.SHARED:
        return None
    declared: Callable[[Any], Any] | None = sharing.declared_key(member.spec.view)
    if declared is not None:
        return ("declared", declared(member.view.request))
    user = member.view.request.user
    if level is Level.USER:
        return ("user", getattr(user, "pk", None))
    return ("connection", id(member.caller))


def _first_level(view: Any) -> Level:
    """Return for whom an answer of a view may hold at best."""
    if sharing.declared_key(view) is not None:
        return Level.USER
    if settings.SOCKET_MIDDLEWARE or sharing.never_shared(view):
        return Level.CONNECTION
    return Level.SHARED


def _sources(spec: Spec) -> list[tuple[str, str | None]]:
    """Return the labels whose changes concern a spec, each with the foreign key by which they do."""
    own = [spec.model, *spec.model._meta.all_parents]
    found: list[tuple[str, str | None]] = [(m._meta.label, None) for m in own]
    for model, relation in getattr(spec.view, "depends_on", {}).items():
        related = apps.get_model(model) if isinstance(model, str) else model
        found.append((related._meta.label, related._meta.get_field(relation).column))
    return found


def _routes(spec: Spec) -> Iterator[tuple[str, str | None, str]]:
    """Yield what the hub is to look a spec's cohort up by: a model's changes, or those with a value."""
    field = spec.field()
    for label, relation in _sources(spec):
        if relation is not None or field is None:
            yield label, None, ""
        elif field.primary_key:
            yield label, "pk", str(spec.converted())
        else:
            value = field.get_db_prep_value(spec.converted(), connections["default"])
            known = field.column in _recorded(label) and type(value) in {int, str, uuid.UUID}
            yield (label, field.column, str(value)) if known else (label, None, "")


def _recorded(label: str) -> set[str]:
    model = apps.get_model(label)
    declared = getattr(model, "concord_routes", None)
    fields = model._meta.local_concrete_fields
    if declared is None:
        return {f.column for f in fields if f.is_relation and not f.primary_key}
    return {f.column for f in fields if f.column in declared or f.name in declared}


def _keys(spec: Spec, change: Change, relation: str | None) -> Iterator[tuple[str, Change]]:
    if change.op is Op.TRUNCATE:
        yield "", change
    elif relation is None:
        yield _text(change.model, change.pk), change
    else:
        for value in change.routes.get(relation, ()):
            if value is not None:
                yield str(spec.model._meta.pk.to_python(value)), _related(change)


def _related(change: Change) -> Change:
    """Return a change of another row as one of this: its version and operation are not this object's."""
    return replace(change, op=Op.UPDATE, version=None, previous=None, columns=(), routes={})


def _text(label: str, pk: str) -> str:
    """Return a key as Python writes it; databases write some types in other ways."""
    try:
        return str(apps.get_model(label)._meta.pk.to_python(pk))
    except Exception:
        return pk
