"""Who follows an observer: who may, who may not any more, and how much."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from drf_concord.live import feeds
from drf_concord.live.hub import hub_of_loop
from drf_concord.testing import async_test, settle
from drf_concord.websocket import followings
from drf_concord.websocket.presence import Presence
from tests.app import models

from .cases import database
from .shelf import NotBanned, Shelf, ShelfCase


class Followings(ShelfCase):
    """What followers may be told, and what ends them."""

    # Who may be told

    @async_test
    async def test_permissions_are_asked_at_every_delivery(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        await self.follow(item=item.pk, request_id=5)
        await self.follow(item=item.pk, request_id=6)

        @database
        def write() -> None:
            get_user_model().objects.filter(pk=self.user.pk).update(last_name="banned")
            models.Item.objects.filter(pk=item.pk).update(text="secret")

        await write()
        frames = await self.all_from()
        assert sorted(frame["request_id"] for frame in frames) == [5, 6]
        for frame in frames:
            assert (frame["action"], frame["response_status"], frame["data"]) == ("follow", 403, None)
        await database(models.Item.objects.filter(pk=item.pk).update)(text="more")
        assert await self.all_from() == []

    @async_test
    async def test_an_account_that_is_not_read_yet_is_not_trusted(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        await self.follow(item=item.pk)

        def spawn(presence: Presence, work: Any) -> None:
            presence.consumer._outdated = True
            work.close()  # it takes its time

        @database
        def write() -> None:
            get_user_model().objects.filter(pk=self.user.pk).update(last_name="banned")
            models.Item.objects.filter(pk=item.pk).update(text="secret")

        with mock.patch.object(Presence, "spawn", spawn):
            await write()
            assert [frame["response_status"] for frame in await self.all_from()] == [403]

    @async_test
    async def test_objects_that_somebody_may_not_see_are_not_told_to_him(self) -> None:
        folder = self.folders[0].pk
        ada = await self.person("ada")
        hers = await self.shelf(ada)
        for socket in (self.socket, hers):
            await self.follow(socket, folder=folder)
        item = await database(models.Item.objects.create)(text="a", folder_id=folder, owner=ada)
        pk = item.pk
        await database(item.delete)()  # told of neither: it was gone before it could be read
        item = await database(models.Item.objects.create)(text="a", folder_id=folder, owner=ada)
        await settle()
        await database(item.delete)()
        assert await self.news() == []
        told = await self.news(hers)
        assert [each[0] for each in told] == ["create", "delete"]
        assert pk not in {each[2] for each in told} or pk == told[0][2]

    # Bounds

    @async_test
    async def test_how_much_one_socket_may_follow(self) -> None:
        for number in range(100):
            await self.follow(item=1, request_id=number)
        reply = await self.ask({"action": "follow", "item": 1, "request_id": 100})
        assert reply["response_status"] == 400
        await self.follow(item=2, request_id=99)  # one that it has may name more groups

    @async_test
    async def test_a_subscription_names_so_many_groups(self) -> None:
        for number in range(followings.GROUPS):
            await self.follow(item=number)
        reply = await self.ask({"action": "follow", "item": 500, "request_id": 1})
        assert reply["response_status"] == 400

    @async_test
    async def test_a_log_that_was_lost_is_told(self) -> None:
        await self.follow(item=1, request_id=4)
        await hub_of_loop()._start_again()
        (frame,) = await self.all_from()
        assert (frame["action"], frame["response_status"], frame["request_id"]) == ("follow", 410, 4)
        await database(models.Item.objects.create)(pk=1)
        assert await self.all_from() == []

    @async_test
    async def test_too_much_at_a_time_is_told(self) -> None:
        await self.follow(item=1, request_id=4)
        with mock.patch.object(feeds, "BACKLOG", 2):
            await database(models.Item.objects.bulk_create)([models.Item(text="a") for _ in range(3)])
            assert [frame["response_status"] for frame in await self.all_from()] == [410]

    @async_test
    async def test_a_socket_that_is_gone_is_forgotten(self) -> None:
        await self.follow(item=1)
        table = Shelf.item_news.table()
        assert table.groups() == ["item-1"]
        await self.socket.disconnect()
        self.opened.remove(self.socket)
        assert table.groups() == []
        assert table not in hub_of_loop().feeds[models.Item].watchers

    @async_test
    async def test_only_the_request_that_may_not_any_more_ends(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        frame = {"action": "follow", "item": item.pk}
        await self.ask({**frame, "banned_as": "banned"})
        await self.ask({**frame, "request_id": 2})

        def may(permission: Any, request: Any, view: Any) -> bool:
            return request.user.last_name != view.frame.get("banned_as")

        @database
        def write() -> None:
            get_user_model().objects.filter(pk=self.user.pk).update(last_name="banned")
            models.Item.objects.filter(pk=item.pk).update(text="b")

        with mock.patch.object(NotBanned, "has_permission", may):
            await write()
            refused, told = await self.all_from()
            assert (refused["response_status"], refused["request_id"], told["ids"]) == (403, None, [2])
            await database(models.Item.objects.filter(pk=item.pk).update)(text="c")
            assert [frame["ids"] for frame in await self.all_from()] == [[2]]

    @pytest.mark.postgresql
    @async_test
    async def test_a_table_that_is_emptied(self) -> None:
        await self.follow(item=1)
        await self.follow(item=2, request_id=2)

        @database
        def truncate() -> None:
            with connection.cursor() as cursor:
                cursor.execute("TRUNCATE app_item CASCADE")

        await truncate()
        told = [("delete", "item-1", None), ("delete", "item-2", None)]
        assert sorted(await self.news()) == told
