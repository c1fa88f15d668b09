"""News of locks: who follows an object is told when its lock changes or runs out.

A lock is no part of its object, so its news carry no version, and nobody is told of the lock on an object
that he is not shown. What a lock looks like depends on who asks: whether it is his own, and whether he may
know whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import locks, rows
from ..conf import settings
from ..models import Lock as LockRow
from ..protocol.locks import Lock, Mode, State
from ..protocol.session import Rendered
from .looks import DENIALS, json_of, request_of
from .middleware import within
from .pool import pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..protocol.changes import Change
    from .cohorts import Cohort
    from .hub import Hub
    from .members import Member

__all__ = ["LABEL", "LockNews"]

logger = logging.getLogger("drf_concord")

LABEL = LockRow._meta.label
Name = tuple[str, str]  # the label of the model an object is known by, and its primary key as text
Robbed = dict[Name, set[str]]  # who had a lock until somebody else took it from them
ACTIONS = {
    State.HELD: "LOCKED",
    State.FROZEN: "LOCKED",
    State.BREAKING: "BROKEN",
    State.EXPIRED: "EXPIRED",
}


class Told(NamedTuple):
    """What there is to tell of one lock.

    Attributes:
        ends: when it ends by itself, in microseconds since the epoch; None when it does not.
        texts: for each member by its id.
    """

    ends: int | None
    texts: dict[int, Rendered]


class LockNews:
    """Tells the session-mode subscribers of one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ends: dict[Name, int] = {}
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, found: Iterable[Change], cohorts: Iterable[Cohort]) -> None:
        """Take in changes of locks, and tell of them in the background."""
        names: set[Name] = set()
        robbed: Robbed = defaultdict(set)
        for change in found:
            labels, pks = (change.routes.get(column, ()) for column in ("model", "object_pk"))
            of = {(str(a), str(b)) for a, b in zip(labels, pks, strict=False) if None not in (a, b)}
            names |= of
            before, after = change.routes.get("holder", (None, None))
            # from one hand into another, and not by who had it: a freeze, or a hold that was taken over
            if None not in (before, after) and before not in (after, change.actor):
                for name in of:
                    robbed[name].add(str(before))
        self._start(names, cohorts, robbed)

    def beat(self, cohorts: Iterable[Cohort]) -> None:
        """Look at the locks whose time has come; whether it really has, the database says."""
        now = time.time() * 1_000_000
        due = {name for name, end in self._ends.items() if end <= now}
        for name in due:
            del self._ends[name]
        self._start(due, cohorts, {})

    def _start(self, names: set[Name], cohorts: Iterable[Cohort], robbed: Robbed) -> None:
        if names:
            task = asyncio.create_task(self._tell(names, list(cohorts), robbed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drained(self) -> None:
        """Wait until what has come so far is told."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # where all of them were done, gather() does not let their callbacks run

    async def _tell(self, names: set[Name], cohorts: list[Cohort], robbed: Robbed) -> None:
        async with self._turn:  # one after the other: a later reading is of a later state
            followed = _followed(names, cohorts)
            if not followed:
                return
            try:
                told = await pool.run(partial(_read, followed, self._hub.using, robbed))
            except Exception:
                logger.exception("Locks could not be read; nobody was told of their change.")
                return
            for (name, key), news in told.items():
                if news.ends is not None:
                    self._ends[name] = news.ends
                for cohort, members in followed[name, key]:
                    _deliver(cohort, members, key, news)


def _deliver(cohort: Cohort, members: list[Member], key: str, news: Told) -> None:
    for member in members:
        # meanwhile the object or the member may have gone
        if id(member) not in cohort.members or key not in (cohort.shown or ()):
            continue
        with contextlib.suppress(Exception):
            member.subscriber.deliver([news.texts[id(member)]], more=False)


Followed = dict[tuple[Name, str], list[tuple["Cohort", list["Member"]]]]


def _followed(names: set[Name], cohorts: list[Cohort]) -> Followed:
    """Return who is shown the objects: by name and key, the cohorts with their members in session mode."""
    found: Followed = defaultdict(list)
    by_label: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        by_label[name[0]].append(name)
    for cohort in cohorts:
        if not cohort.shown:
            continue
        for name in by_label.get(rows.identity(cohort.spec.model)._meta.label, ()):
            key = name[1]
            if key not in cohort.shown:
                continue
            members = [m for m in cohort.members.values() if _is_told(m, key)]
            if members:
                found[name, key].append((cohort, members))
    return found


def _is_told(member: Member, key: str) -> bool:
    if not member.subscriber.sequenced or key in member.unknown:
        return False
    return member.visible if member.spec.action == "retrieve" else True


def _read(
    followed: Mapping[tuple[Name, str], Any], using: str, robbed: Robbed
) -> dict[tuple[Name, str], Told]:
    now = rows.now(using)
    by_label: dict[str, set[str]] = defaultdict(set)
    for (label, pk), _ in followed:
        by_label[label].add(pk)
    kept: dict[Name, Lock] = {}
    for label, pks in by_label.items():
        for row in LockRow._base_manager.using(using).filter(model=label, object_pk__in=pks):
            kept[label, row.object_pk] = row.value()
    found = {}
    for (name, key), cohorts in followed.items():
        lock = kept.get(name, Lock())
        texts: dict[tuple[bool, bool, bool], Rendered] = {}
        each: dict[int, Rendered] = {}
        for cohort, members in cohorts:
            for member in members:
                holder = _holder(member)
                mine = lock.holder is not None and lock.holder == holder
                lost = not mine and holder in robbed.get(name, ()) and lock.live(now)
                kind = (mine, mine or _may_name(member, cohort.spec.model, key, using), lost)
                if kind not in texts:
                    action = "BROKEN" if lost else _action(lock, now)
                    texts[kind] = _rendered(action, lock, now, member, key, mine=mine, disclose=kind[1])
                each[id(member)] = texts[kind]
        ends = lock.expires_at if lock.live(now) else None
        found[name, key] = Told(ends, each)
    return found


def _holder(member: Member) -> str | None:
    # whom the view's own authentication classes found: the socket itself may know nobody, or somebody else
    user = member.caller.user if member.view is None else member.view.request.user
    pk = getattr(user, "pk", None)
    return None if pk is None else str(pk)


def _may_name(member: Member, model: Any, key: str, using: str) -> bool:
    """Return whether a member may know who holds a lock, as ``DISCLOSURE`` says."""
    if settings.DISCLOSURE != "editors":
        return bool(settings.DISCLOSURE == "everyone")
    if _holder(member) is None or not hasattr(member.view, "may_change"):
        return False
    obj = model._base_manager.using(using).filter(pk=key).first()
    if obj is None:
        return False
    view = copy.copy(member.view)  # the view is asked for other permissions by other threads
    try:
        return within(request_of(member.spec, member.caller), lambda: bool(view.may_change(obj)))
    except DENIALS:
        return False  # the project's middleware knows him no more


def _rendered(
    action: str, lock: Lock, now: int, member: Member, key: str, *, mine: bool, disclose: bool
) -> Rendered:
    told = locks.describe(lock, now, viewer=lock.holder if mine else None, disclose=disclose)
    pk = json_of(member.spec.model._meta.pk.to_python(key))
    return Rendered(action, pk, "null", lock=json.dumps(told))


def _action(lock: Lock, now: int) -> str:
    state = lock.state(now)
    if state in ACTIONS:
        return ACTIONS[state]
    if lock.broken:
        return "BROKEN"
    # the end of a freeze leaves it as it is; whoever releases a lock takes its mode away
    return "EXPIRED" if lock.mode is Mode.FREEZE else "UNLOCKED"
