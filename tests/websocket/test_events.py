"""Subscriptions that are told of each change, and not only of the state it led to."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import transaction

from drf_concord.live import cohorts, hub
from drf_concord.protocol.errors import PositionLost
from drf_concord.testing import APICommunicator, async_test, settle
from tests.app import models

from .cases import SocketCase, database

EVENTS = {"action": "subscribe", "request_id": 1, "model": "app.Item", "mode": "events"}


@database
def write(*steps: tuple[int, str | None]) -> None:
    """Save objects, or delete them, one transaction each."""
    for pk, text in steps:
        if text is None:
            models.Item.objects.filter(pk=pk).delete()
        elif not models.Item.objects.filter(pk=pk).update(text=text):
            models.Item.objects.create(pk=pk, text=text)


class Events(SocketCase):
    async def follow(self, **more: Any) -> tuple[APICommunicator, Any]:
        socket = await self.open(self.user, session=True)
        return socket, await self.ask({**EVENTS, **more}, socket)

    async def told(self, socket: APICommunicator) -> list[tuple[str, int, str]]:
        """Return all that was told, as (action, key, text or reason)."""
        return [
            (c["action"], c["pk"], c["reason"] if c["action"] == "DELETED" else c["instance"]["text"])
            for frame in await self.all_from(socket)
            for c in frame["changes"]
        ]

    @async_test
    async def test_each_change_is_told_in_the_order_in_which_they_were_made(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        await write((1, "b"), (2, "x"), (1, "c"), (2, "y"), (1, "d"))
        assert await self.told(socket) == [
            ("UPDATED", 1, "d"),
            ("CREATED", 2, "y"),
            ("UPDATED", 1, "d"),
            ("UPDATED", 2, "y"),
            ("UPDATED", 1, "d"),
        ]

    @async_test
    async def test_by_default_the_state_is_told_once(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow(mode="state")
        await write((1, "b"), (1, "c"))
        assert await self.told(socket) == [("UPDATED", 1, "c")]

    @async_test
    async def test_only_the_change_that_led_to_this_state_has_its_tag(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        await write((1, "b"), (1, "c"))
        [frame] = await self.all_from(socket)
        first, last = frame["changes"]
        assert first["version"] < last["version"]
        assert first["etag"] is None
        patch = {"action": "patch", "model": "app.Item", "pk": 1, "data": {"text": "d"}}
        assert (await self.ask({**patch, "if_match": last["etag"]}))["response_status"] == 200

    @async_test
    async def test_what_is_gone_is_told_once_and_what_nobody_saw_not_at_all(self) -> None:
        await write((1, "a"), (3, "a"))
        socket, _ = await self.follow()
        await write((1, "b"), (2, "x"), (2, None), (3, "b"), (1, None), (3, "c"))
        assert await self.told(socket) == [
            ("UPDATED", 3, "c"),
            ("DELETED", 1, "deleted"),
            ("UPDATED", 3, "c"),
        ]

    @async_test
    async def test_a_key_that_is_used_again(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        await write((1, None), (1, "b"), (1, "c"))
        assert await self.told(socket) == [
            ("DELETED", 1, "deleted"),
            ("CREATED", 1, "c"),
            ("UPDATED", 1, "c"),
        ]

    @async_test
    async def test_who_comes_back_is_told_each_as_well(self) -> None:
        await write((1, "a"), (2, "a"))
        socket, subscribed = await self.follow()
        await socket.disconnect()
        self.opened.remove(socket)
        await write((1, "b"), (3, "x"), (2, None), (1, "c"))
        since = {name: subscribed[name] for name in ("epoch", "position")}
        socket, again = await self.follow(since=since, have=[1, 2])
        assert again["how"] == "resumed"
        assert await self.told(socket) == [
            ("UPDATED", 1, "c"),
            ("CREATED", 3, "x"),
            ("DELETED", 2, "deleted"),
            ("UPDATED", 1, "c"),
        ]

    @async_test
    async def test_one_object(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow(value=1)
        await write((1, "b"), (2, "x"), (1, "c"))
        assert await self.told(socket) == [("UPDATED", 1, "c")] * 2

    @async_test
    async def test_in_plain_mode(self) -> None:
        await write((1, "a"))
        await self.socket.send_json_to({"model": "app.Item", "request_id": 1, "value": 1, "mode": "events"})
        assert await self.all_from() == []
        await write((1, "b"), (1, "c"))
        assert [frame["action"] for frame in await self.all_from()] == ["UPDATED", "UPDATED"]

    @async_test
    async def test_several_changes_of_one_transaction(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        await database(transaction.atomic(lambda: [models.Item.objects.update(count=n) for n in range(3)]))()
        assert len(await self.told(socket)) == 3

    @async_test
    async def test_too_many_at_a_time_end_it(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        with mock.patch.object(cohorts, "EVENTS", 3):
            await write((1, "b"), (1, "c"), (1, "d"))
            await settle()
            assert len(await self.told(socket)) == 3
            await write((1, "e"), (1, "f"), (1, "g"), (1, "h"))
            [end] = await self.all_from(socket)
        assert (end["type"], end["code"]) == ("end", 503)
        await write((1, "i"))
        assert await self.all_from(socket) == []

    @async_test
    async def test_too_many_objects_at_a_time_end_it_too(self) -> None:
        socket, _ = await self.follow()
        with mock.patch.object(cohorts, "EVENTS", 2):
            await write((1, "a"), (2, "a"), (3, "a"))
            [end] = await self.all_from(socket)
        assert (end["type"], end["code"]) == ("end", 503)

    async def away(self, *steps: tuple[int, str | None]) -> dict[str, Any]:
        """Return what resumes a subscription that missed some changes."""
        await write((1, "a"))
        socket, subscribed = await self.follow()
        await socket.disconnect()
        self.opened.remove(socket)
        await write(*steps)
        return {"since": {name: subscribed[name] for name in ("epoch", "position")}, "have": [1]}

    @async_test
    async def test_too_many_while_somebody_was_away_are_a_fresh_copy(self) -> None:
        resumption = await self.away((1, "b"), (1, "c"), (1, "d"))
        with mock.patch.object(cohorts, "EVENTS", 2):
            socket, reset = await self.follow(**resumption)
        assert (reset["type"], reset["code"]) == ("reset", "overflow")
        assert [frame["type"] for frame in await self.all_from(socket)] == ["subscribed", "snapshot"]

    @async_test
    async def test_what_was_told_at_a_resume_is_not_told_again(self) -> None:
        resumption = await self.away((1, "b"))
        missed = hub.Hub.missed

        async def later(self: hub.Hub, since: Any) -> Any:
            await write((1, "c"))  # the hub has not read that yet
            return await missed(self, since)

        with mock.patch.object(hub.Hub, "missed", later):
            socket, _ = await self.follow(**resumption)
            told = await self.told(socket)
        assert told == [("UPDATED", 1, "c")] * 2
        await write((1, "d"))
        assert await self.told(socket) == [("UPDATED", 1, "d")]
        [cohort] = hub.hub_of_loop()._cohorts.values()
        assert not any(member.told for member in cohort.members.values())

    @async_test
    async def test_many_at_a_resume_come_in_parts(self) -> None:
        resumption = await self.away((1, "b"), (2, "x"), (1, "c"), (1, "d"), (1, "e"))
        with mock.patch.object(cohorts, "PAGE", 2):
            socket, _ = await self.follow(**resumption)
            frames = await self.all_from(socket)
        assert [(len(frame["changes"]), frame["more"]) for frame in frames] == [
            (2, True),
            (2, True),
            (1, False),
        ]

    @async_test
    async def test_what_is_there_again_before_it_was_missed(self) -> None:
        await write((1, "a"))
        socket, _ = await self.follow()
        look = cohorts.Cohort._look

        async def later(self: cohorts.Cohort, *args: Any) -> Any:
            await write((1, "b"))
            return await look(self, *args)

        await write((1, None))
        with mock.patch.object(cohorts.Cohort, "_look", later):
            await hub.hub_of_loop().step()
            [cohort] = hub.hub_of_loop()._cohorts.values()
            await cohort.drained()
        assert await self.told(socket) == [("DELETED", 1, "deleted"), ("CREATED", 1, "b")]

    @async_test
    async def test_a_log_that_is_lost_ends_it(self) -> None:
        events, _ = await self.follow()
        states, _ = await self.follow(mode="state")
        with mock.patch.object(hub, "_read", side_effect=PositionLost(reason="epoch")):
            await write((1, "a"))
            [end] = await self.all_from(events)
        assert (end["type"], end["code"]) == ("end", 410)
        assert await self.told(states) == [("CREATED", 1, "a")]
