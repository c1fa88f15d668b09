"""Lists that are followed over HTTP, as a stream of events."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.live.hub import hub_of_loop
from drf_concord.testing import async_test
from tests.app.models import Item

from .events import Copy, EventCase, database

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]


class Streams(EventCase):
    @async_test
    async def test_a_snapshot_and_then_a_change_by_update(self) -> None:
        await database(Item.objects.create)(pk=1, text="a")
        client = await self.open()
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-cache, private"
        assert client.headers["x-accel-buffering"] == "no"
        assert "Accept" in client.headers["vary"]
        subscribed, snapshot = await self.events(client)
        assert (subscribed.kind, subscribed.data["how"], subscribed.id) == ("subscribed", "snapshot", "")
        assert snapshot.data["items"][0]["instance"]["text"] == "a"
        await database(Item.objects.filter(pk=1).update)(text="b")
        (changes,) = await self.events(client)
        assert changes.data["changes"][0]["action"] == "UPDATED"
        assert changes.data["changes"][0]["instance"]["text"] == "b"
        assert changes.id
        await client.leave()
        assert not hub_of_loop().listeners
        assert not hub_of_loop()._cohorts

    @async_test
    async def test_what_went_while_away_is_told_and_no_more(self) -> None:
        for pk in range(1, 6):
            await database(Item.objects.create)(pk=pk, text="a")
        client = await self.open()
        copy = Copy().take(await self.events(client))
        await client.leave()
        await database(Item.objects.filter(pk=1).delete)()
        await database(Item.objects.filter(pk=2).update)(text="b")
        await database(Item.objects.create)(pk=6, text="a")
        client = await self.open(last=copy.last)
        events = await self.events(client)
        assert [e.kind for e in events] == ["subscribed", "changes"], events
        copy.take(events)
        assert {k: v["text"] for k, v in copy.objects.items()} == {2: "b", 3: "a", 4: "a", 5: "a", 6: "a"}
