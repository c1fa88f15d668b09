"""Sockets that share answers, and what one of them does or suffers: it is no business of the others."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any
from unittest import mock

from django.contrib.sessions.models import Session
from rest_framework.exceptions import PermissionDenied

from drf_concord.live import hub as hubs
from drf_concord.live.hub import hub_of_loop
from drf_concord.live.looks import Look
from drf_concord.live.sharing import Level
from drf_concord.protocol.errors import PositionLost
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import application
from tests.app import models, sockets

from .cases import SocketCase, database, until
from .test_joining import ITEMS, gate, write

UNNAMED = {name: value for name, value in ITEMS.items() if name != "request_id"}


@database
def owned(pk: int, owner: Any, text: str) -> None:
    models.Item.objects.update_or_create(pk=pk, defaults={"text": text, "owner": owner})


def by_last_name() -> ExitStack:
    """Let the private view share between people of one name, whose items begin with it."""
    patched = ExitStack()
    items = models.Item.objects
    for name, function in (
        ("visibility_key", lambda view, request: request.user.last_name),
        ("get_queryset", lambda view: items.filter(text__startswith=view.request.user.last_name)),
    ):
        patched.enter_context(mock.patch.object(sockets.LiveMine, name, function, create=True))
    return patched


class Intrusions(SocketCase):
    async def follow(self, user: Any = None, path: str = "/ws/", **more: Any) -> tuple[APICommunicator, Any]:
        """Return a socket that follows, and the frames it began with."""
        socket = await self.open(user or self.user, path, session=True)
        await socket.send_json_to({**ITEMS, **more})
        return socket, await self.all_from(socket)

    async def changes(self, socket: APICommunicator) -> list[tuple[str, int]]:
        return [(c["action"], c["pk"]) for f in await self.all_from(socket) for c in f.get("changes", ())]

    @staticmethod
    def resumption(frames: list[Any], *have: int) -> dict[str, Any]:
        return {"since": {name: frames[0][name] for name in ("epoch", "position")}, "have": list(have)}

    # What another may see

    @async_test
    async def test_who_waits_for_one_that_gives_up_is_not_shown_what_was_his(self) -> None:
        eve = await self.person("eve")
        await owned(1, self.user, "guido's")
        await owned(2, eve, "eve's")
        first = await self.open(self.user, "/mine/", session=True)
        second = await self.open(eve, "/mine/", session=True)
        hub_of_loop()._levels.clear()
        with gate() as looks:
            looks.shut()
            await first.send_json_to(ITEMS, timeout=0)
            await until(lambda: looks.waiting == 1)
            await second.send_json_to(ITEMS, timeout=0)
            await until(lambda: next(iter(hub_of_loop()._cohorts.values())).joining == 2)
            await first.send_json_to({"action": "unsubscribe", "request_id": 1}, timeout=0)
            await settle_a_little()
            looks.open.set()
            assert await self.all_from(first) == []
            shown = await self.all_from(second)
        assert [item["instance"]["text"] for item in shown[1]["items"]] == ["eve's"]

    @async_test
    async def test_who_became_another_is_told_nothing_of_those_he_was_with(self) -> None:
        for first, refreshed in (("eve", True), ("bob", True), ("eve", False)):  # either's view may be asked
            eve, bob = [
                await self.person(f"{name} {first} {refreshed}", last_name="red") for name in ("eve", "bob")
            ]
            with by_last_name() as patched:
                if not refreshed:  # not before the change that he may not see is looked at
                    patched.enter_context(mock.patch.object(hubs.Hub, "refresh", settle_a_little))
                order = (eve, bob) if first == "eve" else (bob, eve)
                following = {user.username[:3]: (await self.follow(user, "/mine/"))[0] for user in order}
                await database(type(eve).objects.filter(pk=eve.pk).update)(last_name="blue")
                await settle()
                await owned(1, None, f"red {first}")
                await owned(2, None, f"blue {first}")
                assert f"red {first}" not in str(told := await self.all_from(following["eve"]))
                assert (told[-1]["type"], told[-1]["code"]) == ("end", 410)
                assert f"blue {first}" not in str(told := await self.all_from(following["bob"]))
                assert f"red {first}" in str(told)

    @async_test
    async def test_a_socket_whose_session_ended_is_told_nothing_of_its_users_own(self) -> None:
        following = [(await self.follow(path="/mine/"))[0] for _ in range(2)]
        mine = [listener for listener in hub_of_loop().listeners if listener.members()]
        cohort = mine[0].members()[0].cohort
        assert cohort is not None
        first = next(iter(cohort.members.values()))
        out = next(listener for listener in mine if listener.members()[0] is not first)
        key = out.caller.session.session_key
        await database(Session.objects.filter(session_key=key).delete)()
        await hub_of_loop().refresh(out)
        await owned(1, self.user, "guido's")
        told = ["guido's" in str(await self.all_from(socket)) for socket in following]
        assert sorted(told) == [False, True]

    # What another does

    @async_test
    async def test_a_cohort_that_nobody_is_in_remembers_nothing(self) -> None:
        first, _ = await self.follow()
        with gate() as looks:
            looks.shut()
            await write(1, "a")
            await hub_of_loop().step()
            await until(lambda: looks.waiting == 1)
            second = await self.open(self.user, session=True)
            await second.send_json_to(ITEMS, timeout=0)
            cohort = next(iter(hub_of_loop()._cohorts.values()))
            await until(lambda: cohort.joining == 1)
            await first.disconnect()
            self.opened.remove(first)
            await write(7, "b")
            await hub_of_loop().step()
            looks.open.set()
            await settle()
        await self.all_from(second)
        await database(models.Item.objects.filter(pk=7).delete)()
        assert await self.changes(second) == [("DELETED", 7)]

    @async_test
    async def test_a_request_id_that_is_used_again_while_the_first_is_begun(self) -> None:
        await write(1, "a")
        for named in ({"request_id": 1}, {}):  # none at all is one, too
            await self.used_again({"action": "unsubscribe", **named}, {**UNNAMED, **named})

    async def used_again(self, unsubscribe: dict[str, Any], items: dict[str, Any]) -> None:
        socket = await self.open(self.user, session=True)
        with gate() as looks:
            looks.shut()
            await socket.send_json_to(items, timeout=0)
            await until(lambda: looks.waiting == 1)
            await socket.send_json_to(unsubscribe, timeout=0)
            await socket.send_json_to({**items, "value": 5, "group_by": "pk"}, timeout=0)
            await until(lambda: looks.waiting == 2)
            looks.open.set()
            frames = await self.all_from(socket)
        assert [frame["type"] for frame in frames] == ["subscribed", "snapshot"]
        assert frames[1]["items"] == []

    @async_test
    async def test_a_refusal_of_the_first_does_not_end_the_second_of_the_same_request_id(self) -> None:
        socket, _ = await self.follow()
        other, _ = await self.follow(await self.person("ada"))
        hub, user = hub_of_loop(), self.user.pk
        mine = next(x for x in hub.listeners if x.members() and x.caller.user.pk == user)
        [old] = mine.members()
        asked, go = asyncio.Event(), asyncio.Event()
        run = hubs.pool.run

        async def slow(work: Any) -> Any:
            if getattr(work, "func", None) is hubs.admit and work.args[1] is old:
                asked.set()
                await go.wait()
                raise PermissionDenied
            return await run(work)

        with mock.patch.object(hubs.pool, "run", slow):
            refreshing = asyncio.ensure_future(hub.refresh(mine))
            await asked.wait()
            await socket.send_json_to({"action": "unsubscribe", "request_id": 1})
            await socket.send_json_to(ITEMS)
            await until(lambda: any(m is not old and m.cohort is not None for m in mine.members()))
            go.set()
            await refreshing
        assert [frame["type"] for frame in await self.all_from(socket)] == ["subscribed", "snapshot"]
        old.subscriber.end(403, "You may not.")
        assert len(mine.members()) == 1
        await write(1, "a")
        assert await self.changes(socket) == await self.changes(other) == [("CREATED", 1)]

    @async_test
    async def test_one_to_whom_nothing_can_be_delivered_is_ended_alone(self) -> None:
        socket, _ = await self.follow()
        other, _ = await self.follow()
        [cohort] = hub_of_loop()._cohorts.values()
        broken = next(iter(cohort.members.values())).subscriber
        deliver = type(broken).deliver

        def fails(subscriber: Any, changes: Any, *, more: bool) -> None:
            if subscriber is broken:
                raise ZeroDivisionError
            deliver(subscriber, changes, more=more)

        with mock.patch.object(type(broken), "deliver", fails):
            await write(1, "a")
            frames = [*await self.all_from(socket), *await self.all_from(other)]
        assert sorted(frame["type"] for frame in frames) == ["changes", "end"]

    @async_test
    async def test_one_who_is_refused_while_he_joins_says_nothing_of_what_is_there(self) -> None:
        first, second = [await self.person(name, is_staff=True) for name in ("first", "second")]
        await database(models.Pair.objects.create)(pk=1, left=1, right=1)
        one, two = [await self.open(user, session=True) for user in (first, second)]
        pairs = {**ITEMS, "model": "app.Pair"}
        hub = hub_of_loop()
        with gate() as looks:
            looks.shut()
            await one.send_json_to(pairs, timeout=0)
            await until(lambda: looks.waiting == 1)
            await two.send_json_to(pairs, timeout=0)
            await until(lambda: next(iter(hub._cohorts.values())).joining == 2)
            await database(type(first).objects.filter(pk=first.pk).update)(is_staff=False)
            [member] = [m for x in hub.listeners for m in x.members() if x.caller.user.pk == first.pk]
            member.stale = True  # as it is from the tick of that on
            looks.open.set()
            [refused] = await self.all_from(one)
            begun = await self.all_from(two)
        assert (refused["type"], refused["code"]) == ("error", 403)
        assert [item["pk"] for item in begun[1]["items"]] == [1]
        await database(models.Pair.objects.all().delete)()
        assert await self.changes(two) == [("DELETED", 1)]

    # Positions

    @async_test
    async def test_no_mark_is_sent_while_a_subscription_of_the_socket_is_begun(self) -> None:
        await write(1, "old")
        socket, _ = await self.follow()
        hub = hub_of_loop()
        with gate() as looks:
            looks.shut()
            await socket.send_json_to({**ITEMS, "request_id": 2, "value": 1, "group_by": "pk"}, timeout=0)
            await until(lambda: looks.waiting == 1)
            hub.beat()
            looks.open.set()
            frames = await self.all_from(socket)
        assert [frame["type"] for frame in frames] == ["subscribed", "snapshot"]
        asked = asyncio.Event()

        async def not_yet(*_: Any) -> None:
            asked.set()

        with mock.patch.object(application, "follow", not_yet):
            await socket.send_json_to({**ITEMS, "request_id": 3, "value": 2, "group_by": "pk"}, timeout=0)
            await asked.wait()
            hub.beat()
            assert await self.all_from(socket) == []
        await socket.send_json_to({"action": "unsubscribe", "request_id": 3})
        await write(2, "new")
        await settle()
        hub.beat()
        assert (await self.all_from(socket))[-1]["type"] == "mark"

    @async_test
    async def test_who_is_cut_off_before_he_has_what_he_missed_misses_nothing(self) -> None:
        await write(1, "old")
        socket, begun = await self.follow()
        await socket.disconnect()
        self.opened.remove(socket)
        await write(1, "new")
        for _ in range(2):  # the second time from where the first was said to stand
            socket, begun = await self.follow(**self.resumption(begun, 1))
            assert [frame["type"] for frame in begun] == ["subscribed", "changes"]
            assert begun[1]["changes"][0]["instance"]["text"] == "new"

    @async_test
    async def test_who_never_knew_an_object_is_not_told_that_it_is_gone(self) -> None:
        await write(1, "old")
        _, begun = await self.follow()
        hub = hub_of_loop()
        missed = hub.missed

        async def later(since: Any) -> Any:
            await database(models.Item.objects.all().delete)()
            return await missed(since)

        with mock.patch.object(hub, "missed", later):
            socket, frames = await self.follow(**self.resumption(begun))
        assert [frame["type"] for frame in frames] == ["subscribed"]
        assert await self.changes(socket) == []

    # When a cohort is parted

    @async_test
    async def test_parted_members_are_told_what_those_they_come_to_know_already(self) -> None:
        await write(1, "a")
        socket, _ = await self.follow()
        hub = hub_of_loop()
        [shared] = hub._cohorts.values()
        hub._levels[shared.spec.view, shared.spec.action] = Level.USER  # learnt from another list of the view
        other, _ = await self.follow()
        assert len(hub._cohorts) == 2
        await database(models.Item.objects.filter(pk=1).delete)()
        look = type(shared)._look

        async def personal(cohort: Any, *args: Any) -> Look:
            found = await look(cohort, *args)
            if cohort is shared:
                await until(lambda: all(c is shared or c._task is None for c in hub._cohorts.values()))
                found.level = Level.USER
            return found

        with mock.patch.object(type(shared), "_look", personal):
            assert await self.changes(socket) == await self.changes(other) == [("DELETED", 1)]
        assert shared.closed

    @async_test
    async def test_a_delivery_that_said_more_would_follow_is_ended_after_a_split_too(self) -> None:
        socket, _ = await self.follow()
        hub = hub_of_loop()
        [cohort] = hub._cohorts.values()
        [member] = cohort.members.values()
        member.subscriber.deliver([], more=True)
        cohort._open_since = hub.tick
        hub.split(cohort, Level.USER, {})
        for name in "abc":
            await database(models.Folder.objects.create)(name=name)
            await hub.step()
        hub.beat()
        frames = [frame for frame in await self.all_from(socket) if frame["type"] == "changes"]
        assert [frame["more"] for frame in frames] == [True, False]

    @async_test
    async def test_who_joins_while_the_log_is_lost_is_not_left_to_believe_he_has_each_event(self) -> None:
        hub = hub_of_loop()

        async def lose() -> None:
            await write(1, "lost")
            with mock.patch.object(hubs, "_read", side_effect=PositionLost(reason="epoch")):
                await hub.step()

        with gate() as looks:
            looks.afterwards = lose
            _, frames = await self.follow(mode="events")
        assert (frames[-1]["type"], frames[-1]["code"]) == ("error", 410)


async def settle_a_little(*_: Any) -> None:
    """Let the event loop do what it can do without waiting."""
    for _ in range(30):
        await asyncio.sleep(0)
