"""Feeds: the changes of one model's rows, one by one and with the state they led to, for whoever observes it.

Where a cohort tells what a view shows, a feed hands out the rows themselves. A row is read once for all who
observe its model, however many they are.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from django.core.exceptions import ObjectDoesNotExist

from ..protocol.changes import Change, Op
from ..triggers.plan import routed
from .accounts import copied
from .pool import pool
from .routes import key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Model

    from .hub import Hub

__all__ = ["Feed", "Moment", "Once", "Watcher", "feed_of"]

logger = logging.getLogger("drf_concord")

CHUNK = 500
"""How many changes are worked on at a time."""
BACKLOG = 100_000
"""How many changes of one model may wait; beyond that its observers are told that they miss some."""


class Once:
    """Work that several threads want the result of, done once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Any, threading.Lock] = {}
        self._found: dict[Any, Any] = {}

    def result(self, key: Any, work: Callable[[], Any]) -> Any:
        """Return what the work under this key came to; one that raised is tried again."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._found:
                self._found[key] = work()
            return self._found[key]


@dataclass(frozen=True, slots=True)
class Moment:
    """One change of one row.

    Attributes:
        change: as the log has it.
        pk: the key of the row; None when all rows of the model are gone.
        before: the row as it was, as far as the log tells: the key and the routing columns. None when it was
            not there. Of a row that is still there it has the other columns as they are now.
        after: the row as it is now, with the routing columns as this change left them; None when it is gone.
        now: the row as it is now, which is what may be shown, and to whom; None when it is gone.
        once: for what is to be found out once for this moment.
    """

    change: Change
    pk: Any
    before: Any
    after: Any
    now: Any = None
    once: Once = field(default_factory=Once)


class Watcher(Protocol):
    """Somebody who observes a model."""

    def prepare(self, moments: Sequence[Moment]) -> Any:
        """Make of some moments what is to be delivered; runs in a thread. Who raises has missed them."""

    def deliver(self, prepared: Any, tick: int) -> None:
        """Deliver what was prepared, without waiting.

        Args:
            prepared: what `prepare` returned.
            tick: of the hub, when the changes were read: who came since then knows of them.
        """

    def missed(self) -> None:
        """Some changes cannot be told any more."""


class Feed:
    """The changes of a model, for its watchers."""

    def __init__(self, hub: Hub, model: type[Model]) -> None:
        self.hub = hub
        self.model = model
        self.label = (model._meta.concrete_model or model)._meta.label
        self.labels = {m._meta.label for m in (model._meta.concrete_model or model, *model._meta.all_parents)}
        self.watchers: dict[Watcher, None] = {}  # in the order in which they came
        self._waiting: deque[tuple[int, list[Change]]] = deque()
        self._size = 0
        self._unborn: set[str] = set()  # gone before they could be read, and their end is none to tell
        self._task: asyncio.Task[None] | None = None

    def touch(self, changes: list[Change]) -> None:
        """Take in some changes of a tick."""
        changes = self._own([change for change in changes if change.model in self.labels])
        if not self.watchers:
            self._unborn.clear()
        if not changes or not self.watchers:
            return
        self._size += len(changes)
        if self._size > BACKLOG:
            logger.error("Too much of %s changed at a time; its observers were told.", self.model.__name__)
            self.lost()
            return
        for start in range(0, len(changes), CHUNK):
            self._waiting.append((self.hub.tick, changes[start : start + CHUNK]))
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def _own(self, changes: list[Change]) -> list[Change]:
        """Return what some changes of a tick say of objects of this model.

        With multi-table inheritance a row of a parent's table may be of another kind. So an object begins and
        ends with the row in its own table, which is recorded for that; the parents' rows, of which each
        transaction tells too, add to it what routing columns they have.
        """
        if len(self.labels) == 1:
            return changes
        parents: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            if change.model != self.label and change.pk:
                parents[key_text(change.model, change.pk)].append(change)
        found = []
        for change in changes:
            if change.op not in {Op.INSERT, Op.DELETE}:
                found.append(change)
            elif change.model == self.label:
                found.append(_whole(change, parents[key_text(change.model, change.pk)]))
        return found

    def lost(self) -> None:
        """Tell every watcher that changes were missed."""
        self._waiting.clear()
        self._size = 0
        self._unborn.clear()
        for watcher in list(self.watchers):
            watcher.missed()

    async def drained(self) -> None:
        """Wait until what has come so far is delivered."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _work(self) -> None:
        try:
            while self._waiting:
                tick, changes = self._waiting.popleft()
                self._size -= len(changes)
                watchers = list(self.watchers)
                try:
                    prepared = await pool.run(partial(self._prepare, changes, watchers))
                except Exception:
                    logger.exception("Changes of %s could not be read.", self.model.__name__)
                    for watcher in watchers:
                        watcher.missed()
                    continue
                for watcher, found in prepared:
                    if found is None:
                        watcher.missed()
                    else:
                        watcher.deliver(found, tick)
        finally:
            self._task = None

    def _prepare(self, changes: list[Change], watchers: Iterable[Watcher]) -> list[tuple[Watcher, Any]]:
        moments = list(_emptied_once(self._moments(changes)))
        prepared = []
        for watcher in watchers:
            try:
                prepared.append((watcher, watcher.prepare(moments)))
            except Exception:
                logger.exception("An observer of %s failed, and is told so.", self.model.__name__)
                prepared.append((watcher, None))
        return prepared

    def _moments(self, changes: list[Change]) -> Iterable[Moment]:
        keys = {c.pk: key_text(c.model, c.pk) for c in changes if c.pk}
        to_python = self.model._meta.pk.to_python
        wanted = {keys[c.pk] for c in changes if c.pk and c.op is not Op.DELETE}
        found = self.model._base_manager.using(self.hub.using).filter(pk__in=[to_python(k) for k in wanted])
        rows = {str(row.pk): row for row in found} if wanted else {}
        for change in changes:
            if change.op is Op.TRUNCATE:
                yield Moment(change, None, None, None)
                continue
            key = keys[change.pk]
            pk, row = to_python(key), rows.get(key)
            if change.op is Op.DELETE:
                if key in self._unborn:
                    self._unborn.discard(key)
                    continue
                yield Moment(change, pk, gone(self.model, pk, change, self.hub.using), None)
            elif row is None:
                # it is gone again, which comes later; of a parent's table it may be another kind of object
                if key in self._unborn or len(self._unborn) >= BACKLOG:
                    continue
                if change.op is Op.INSERT:
                    self._unborn.add(key)
                elif change.model == self.label and any(old != new for old, new in change.routes.values()):
                    # it went from where it was known; where it came to, nobody heard of it
                    self._unborn.add(key)
                    yield Moment(change, pk, gone(self.model, pk, change, self.hub.using), None)
            else:
                before = None if change.op is Op.INSERT else _with_routes(row, change, 0)
                after = _with_routes(row, change, 1)
                moved_on = any(
                    getattr(after, name) != getattr(row, name) for name in _routes(type(row), change)
                )
                yield Moment(change, pk, before, after, copied(row) if moved_on else after)


def _emptied_once(moments: Iterable[Moment]) -> Iterator[Moment]:
    """Yield moments, and but once that all rows are gone: the log says it of each table of the objects."""
    before = None
    for moment in moments:
        if before is None or before.pk is not None or moment.pk is not None:
            yield moment
        before = moment


def _whole(change: Change, parents: list[Change]) -> Change:
    """Return the begin or end of an object with the routing columns that its parents' rows had then."""
    # nearest first: as what comes after found them, or what came before left them
    near = [(each, 0) for each in parents if each.id > change.id]
    near += [(each, 1) for each in reversed(parents) if each.id < change.id]
    routes = dict(change.routes)
    for each, known in near:
        for column, values in each.routes.items():
            value = values[known]
            routes.setdefault(column, (value, None) if change.op is Op.DELETE else (None, value))
    return replace(change, routes=routes)


def feed_of(hub: Hub, model: type[Model]) -> Feed:
    """Return the feed of a model."""
    feed = hub.feeds.get(model)
    if feed is None:
        feed = hub.feeds[model] = Feed(hub, model)
    return feed


def _routes(model: type[Model], change: Change) -> dict[str, tuple[object, object]]:
    """Return the routing columns of a change, by the attributes that hold them."""
    found = {}
    for part in (model, *model._meta.all_parents):
        for column in routed(part):
            if column.column in change.routes:
                old, new = change.routes[column.column]
                found[column.attname] = (column.to_python(old), column.to_python(new))
    return found


def _with_routes(row: Any, change: Change, side: int) -> Any:
    """Return a copy of a row with its routing columns as they were before a change, or after it."""
    other = copied(row)
    for name, values in _routes(type(row), change).items():
        if getattr(other, name) != values[side]:
            setattr(other, name, values[side])
    return other


def gone(model: type[Model], pk: Any, change: Change, using: str) -> Any:
    """Return what is known of a row that is gone; to read another column raises ``DoesNotExist``."""
    routes = _routes(model, change)
    known = {model._meta.pk.attname: pk, **{name: values[0] for name, values in routes.items()}}
    for parent in model._meta.all_parents:
        known[parent._meta.pk.attname] = pk
    names = [f.attname for f in model._meta.concrete_fields if f.attname in known]
    row: Any = model.from_db(using, names, [known[name] for name in names])

    def refresh_from_db(*args: Any, **kwargs: Any) -> None:
        raise ObjectDoesNotExist(
            f"Of a deleted {model.__name__} only its key and the columns of concord_routes are known."
        )

    row.refresh_from_db = refresh_from_db
    return row
