"""Who joins, leaves and is cut off while changes are being delivered: nobody else misses anything by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from drf_concord import changes
from drf_concord.live.cohorts import Cohort
from drf_concord.live.hub import hub_of_loop
from drf_concord.live.sharing import Level
from drf_concord.protocol.changes import Position
from drf_concord.testing import APICommunicator, async_test, settle
from tests.app import models

from .cases import SocketCase, database, until

ITEMS = {"action": "subscribe", "request_id": 1, "model": "app.Item", "snapshot": True}


@database
def write(pk: int, text: str) -> None:
    models.Item.objects.update_or_create(pk=pk, defaults={"text": text})


class Gate:
    """Lets the looks of cohorts wait, or does something when they have looked."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()
        self.open.set()
        self.afterwards: Callable[[], Any] | None = None

    def shut(self) -> None:
        self.open.clear()

    async def pass_through(self) -> None:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1


@contextmanager
def gate() -> Iterator[Gate]:
    looks, found = Cohort._look, Gate()

    async def look(self: Cohort, *args: Any) -> Any:
        await found.pass_through()
        seen = await looks(self, *args)
        afterwards, found.afterwards = found.afterwards, None
        if afterwards is not None:
            await afterwards()
        return seen

    with mock.patch.object(Cohort, "_look", look):
        yield found


class Joining(SocketCase):
    async def follow(self, **more: Any) -> APICommunicator:
        socket = await self.open(self.user, session=True)
        await socket.send_json_to({**ITEMS, **more}, timeout=0)  # it may have to wait for the gate
        return socket

    async def texts(self, socket: APICommunicator) -> list[tuple[str, int, Any]]:
        """Return what was told, as (action, key, text)."""
        return [
            (c["action"], c["pk"], c.get("instance", {}).get("text"))
            for frame in await self.all_from(socket)
            for c in frame.get("changes", ())
        ]

    @async_test
    async def test_a_mark_never_passes_what_waits_for_a_new_member(self) -> None:
        hub = hub_of_loop()
        wake = Cohort.wake

        async def news() -> None:
            for pk in (1, 2, 3):
                await write(pk, "new")
                await hub.step()  # each a tick of its own

        def told(cohort: Cohort) -> None:
            wake(cohort)
            if cohort.members:
                hub.beat()  # in this very moment: what is awake has not run yet

        with gate() as looks, mock.patch.object(Cohort, "wake", told):
            looks.afterwards = news
            socket = await self.follow()
            frames = await self.all_from(socket)
        before = next(n for n, frame in enumerate(frames) if frame["type"] == "changes")
        marks = [frame for frame in frames[:before] if frame["type"] == "mark"]
        assert marks
        for mark in marks:
            _, rest = await database(changes.read_after)(Position.decode(mark["position"]), using="default")
            assert [change.pk for change in rest if change.model == "app.Item"] == ["1", "2", "3"]

    @async_test
    async def test_who_is_cut_off_while_he_joins_takes_nothing_from_the_others(self) -> None:
        await write(1, "a")
        member = await self.follow()
        await self.all_from(member)
        hub = hub_of_loop()
        with gate() as looks:

            async def later() -> None:
                await write(1, "c")
                await hub.step()  # what the next one to join delivers first
                looks.shut()

            looks.shut()
            await write(1, "b")
            await hub.step()
            await until(lambda: looks.waiting == 1)
            other = await self.follow()
            cohort = next(iter(hub._cohorts.values()))
            await until(lambda: cohort.joining)
            looks.afterwards = later
            looks.open.set()
            await until(lambda: looks.waiting == 0)
            await until(lambda: looks.waiting == 1)
            listening = len(hub.listeners)
            other.future.cancel()
            await until(lambda: len(hub.listeners) < listening)
            looks.open.set()
            self.opened.remove(other)
            assert await self.texts(member) == [("UPDATED", 1, "b"), ("UPDATED", 1, "c")]
        await write(2, "d")
        assert await self.texts(member) == [("CREATED", 2, "d")]

    @async_test
    async def test_who_leaves_meanwhile_does_not_end_it_for_the_others(self) -> None:
        first, second = await self.follow(), await self.follow()
        for socket in (first, second):
            await self.all_from(socket)
        with gate() as looks:
            looks.shut()
            await write(1, "a")
            await hub_of_loop().step()
            await until(lambda: looks.waiting == 1)
            await first.send_json_to({"action": "unsubscribe", "request_id": 1}, timeout=0)
            await until(lambda: len(next(iter(hub_of_loop()._cohorts.values())).members) == 1)
            looks.open.set()
            assert await self.texts(second) == [("CREATED", 1, "a")]
            assert await self.all_from(first) == []

    @async_test
    async def test_who_joins_while_the_last_member_leaves_is_not_forgotten(self) -> None:
        first = await self.follow()
        await self.all_from(first)
        await write(1, "a")
        await settle()
        with gate() as looks:
            looks.shut()
            second = await self.follow()
            await until(lambda: looks.waiting == 1)
            await first.disconnect()
            self.opened.remove(first)
            looks.open.set()
            await settle()
        await self.all_from(second)
        await write(2, "b")
        assert await self.texts(second) == [("CREATED", 2, "b")]

    @async_test
    async def test_a_mark_does_not_pass_what_is_being_delivered(self) -> None:
        socket = await self.follow()
        await self.all_from(socket)
        with gate() as looks:
            looks.shut()
            await write(1, "a")
            await hub_of_loop().step()
            await until(lambda: looks.waiting == 1)
            hub_of_loop().beat()
            looks.open.set()
            frames = await self.all_from(socket)
        marks = [frame for frame in frames if frame["type"] == "mark"]
        for mark in marks:
            _, rest = await database(changes.read_after)(Position.decode(mark["position"]), using="default")
            assert [change.pk for change in rest if change.model == "app.Item"] == ["1"]
        assert frames[-1]["type"] == "changes"

    @async_test
    async def test_who_waits_while_the_cohort_is_split_is_in_one_of_the_parts(self) -> None:
        first = await self.follow()
        await self.all_from(first)
        hub = hub_of_loop()
        cohort = next(iter(hub._cohorts.values()))
        with gate() as looks:
            looks.shut()
            await write(1, "a")
            await hub.step()
            await until(lambda: looks.waiting == 1)
            second = await self.follow()
            await until(lambda: cohort.joining == 1)
            await write(2, "b")
            await hub.step()  # to be handed over
            hub.split(cohort, Level.USER, {})
            looks.open.set()
            await settle()
        assert cohort.closed
        assert ("CREATED", 2, "b") in await self.texts(first)
        await self.all_from(second)
        await write(3, "c")
        for socket in (first, second):
            assert await self.texts(socket) == [("CREATED", 3, "c")]

    @async_test
    async def test_nothing_is_kept_of_a_cohort_whose_last_member_left_while_it_worked(self) -> None:
        socket = await self.follow()
        await self.all_from(socket)
        hub = hub_of_loop()
        with gate() as looks:
            looks.shut()
            await write(1, "a")
            await hub.step()
            await until(lambda: looks.waiting == 1)
            await socket.disconnect()
            self.opened.remove(socket)
            looks.open.set()
            await settle()
        assert not hub._cohorts
        assert not hub._by_label
        for pk in range(2, 6):
            await write(pk, "x")
            await hub.step()
        hub.beat()
        assert len(hub._positions) == 1
