"""Observers of models: groups, several subscriptions, and what the log has seen, in its order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from unittest import mock

from django.db import connection, transaction

from drf_concord.testing import async_test, settle
from drf_concord.websocket import Action, AsyncAPIConsumer, model_observer
from drf_concord.websocket.observers import ModelObserver
from tests.app import models

from .cases import database
from .shelf import Shelf, ShelfCase


class Observers(ShelfCase):
    """What is told, and to which group."""

    @async_test
    async def test_what_a_handler_is_called_with(self) -> None:
        folder = self.folders[0].pk
        assert await self.follow(folder=folder) == [f"folder-{folder}"]
        item = await database(models.Item.objects.create)(text="a", folder_id=folder)
        assert await self.socket.receive_json_from() == {
            "body": {"pk": item.pk, "folder": folder, "text": "a"},
            "action": "create",
            "type": "item.news",
            "ids": [1],
            "group": f"folder-{folder}",
            "own": True,
        }

    @async_test
    async def test_in_the_order_of_the_log_whoever_writes(self) -> None:
        folder = self.folders[0].pk
        group = f"folder-{folder}"
        await self.follow(folder=folder)

        @database
        def write() -> list[int]:
            made = models.Item.objects.bulk_create([models.Item(text=t, folder_id=folder) for t in "ab"])
            keys = sorted(each.pk for each in made)
            models.Item.objects.filter(pk=keys[0]).update(text="c")
            with connection.cursor() as cursor:
                cursor.execute("UPDATE app_item SET text = 'd' WHERE id = %s", [keys[1]])
            models.Folder.objects.filter(pk=folder).delete()
            return keys

        await settle()
        first, second = await write()
        told = await self.news()
        # created and gone before anybody could read them
        assert told == []

        folder = self.folders[1].pk
        group = f"folder-{folder}"
        await self.follow(folder=folder, request_id=2)
        made = await database(models.Item.objects.bulk_create)(
            [models.Item(text=t, folder_id=folder) for t in "ab"]
        )
        first, second = sorted(each.pk for each in made)
        assert await self.news() == [("create", group, first), ("create", group, second)]

        @database
        def change() -> None:
            models.Item.objects.filter(pk=second).update(text="c")
            with connection.cursor() as cursor:
                cursor.execute("UPDATE app_item SET text = 'd' WHERE id = %s", [first])

        await change()
        assert await self.news() == [("update", group, second), ("update", group, first)]
        await database(models.Folder.objects.filter(pk=folder).delete)()
        assert sorted(await self.news()) == [("delete", group, first), ("delete", group, second)]

    @async_test
    async def test_what_is_rolled_back_is_not_told(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        await self.follow(item=item.pk)

        @database
        def write() -> None:
            with suppress(RuntimeError), transaction.atomic():
                models.Item.objects.filter(pk=item.pk).update(text="rolled back")
                raise RuntimeError
            with transaction.atomic():
                with suppress(RuntimeError), transaction.atomic():
                    models.Item.objects.filter(pk=item.pk).update(text="savepoint")
                    raise RuntimeError
                models.Item.objects.filter(pk=item.pk).update(text="c")

        await write()
        assert [f["body"]["text"] for f in await self.all_from()] == ["c"]

    @async_test
    async def test_what_moves_leaves_one_group_and_comes_to_the_other(self) -> None:
        old, new = (folder.pk for folder in self.folders)
        item = await database(models.Item.objects.create)(text="a", folder_id=old)
        await self.follow(folder=old)
        await self.follow(folder=new, request_id=2)
        await database(models.Item.objects.filter(pk=item.pk).update)(folder_id=new, text="theirs")
        left, came = await self.all_from()
        assert (left["action"], left["group"], left["ids"]) == ("delete", f"folder-{old}", [1])
        assert left["body"] == {"pk": item.pk}  # what it is now is none of theirs
        assert (came["action"], came["group"], came["ids"]) == ("create", f"folder-{new}", [2])
        assert came["body"]["text"] == "theirs"

    @async_test
    async def test_a_serializer_may_read_of_what_is_gone_what_the_log_knows(self) -> None:
        folder = self.folders[0].pk
        item = await database(models.Item.objects.create)(text="a", folder_id=folder)
        pk = item.pk
        await self.follow(folder=folder)
        await self.ask({"action": "follow_all", "what": "place_news"})
        await database(item.delete)()
        told, placed = await self.all_from()
        assert (told["action"], told["body"]) == ("delete", {"pk": pk})  # the serializer wanted the text
        assert placed == {"place": {"pk": pk, "folder": folder}, "action": "delete"}

    @async_test
    async def test_several_subscriptions_end_one_by_one(self) -> None:
        folder = self.folders[0].pk
        item = await database(models.Item.objects.create)(text="a", folder_id=folder)
        await self.follow(folder=folder)
        await self.follow(folder=folder, request_id={"any": [2]})
        await self.follow(item=item.pk, request_id=3)

        async def ids() -> list[Any]:
            await database(models.Item.objects.filter(pk=item.pk).update)(text="b")
            return [frame["ids"] for frame in await self.all_from()]

        assert await ids() == [[1, {"any": [2]}], [3]]
        frame = {"action": "unfollow", "folder": folder}
        assert (await self.ask({**frame, "request_id": 1}))["data"] == [f"folder-{folder}"]
        assert await ids() == [[{"any": [2]}], [3]]
        assert (await self.ask({**frame, "request_id": 9}))["data"] == []
        assert (await self.ask({"action": "unfollow", "request_id": 3}))["data"] == [f"item-{item.pk}"]
        assert await ids() == [[{"any": [2]}]]
        assert (await self.ask({"action": "unfollow", "every": True}))["data"] == [f"folder-{folder}"]
        assert await ids() == []

    @async_test
    async def test_unsubscribing_before_the_first_event(self) -> None:
        await self.follow(item=1)
        assert (await self.ask({"action": "unfollow", "request_id": 1}))["data"] == ["item-1"]
        await database(models.Item.objects.create)(pk=1)
        assert await self.all_from() == []

    @async_test
    async def test_what_was_written_before_is_no_news(self) -> None:
        await self.follow(item=77)
        item = await database(models.Item.objects.create)(text="a")
        await self.follow(item=item.pk, request_id=2)
        assert await self.all_from() == []

    @async_test
    async def test_a_row_is_read_and_told_once_however_many_follow(self) -> None:
        folder = self.folders[0].pk
        sockets = [self.socket, *[await self.shelf() for _ in range(4)]]
        for socket in sockets:
            await self.follow(socket, folder=folder)
        statements: list[str] = []

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            statements.append(sql)
            return execute(sql, *rest)

        @database
        def write() -> None:
            models.Item.objects.create(text="a", folder_id=folder)
            connection.execute_wrappers.append(note)

        await write()
        await settle()
        await database(lambda: connection.execute_wrappers.remove(note))()
        assert [len(await self.news(socket)) for socket in sockets] == [1] * 5
        assert sum('FROM "app_item"' in sql for sql in statements) == 1
        assert Shelf.read == 1

    @async_test
    async def test_nobody_follows_and_nothing_is_read(self) -> None:
        await self.follow(item=1)
        await database(models.Item.objects.create)(pk=2)
        assert await self.all_from() == []
        assert Shelf.read == 0

    @async_test
    async def test_a_handler_that_raises_stops_no_other(self) -> None:
        folder = self.folders[0].pk
        other = await self.shelf()
        for socket in (self.socket, other):
            await self.follow(socket, folder=folder)
        for text in ("explode", "b"):
            await database(models.Item.objects.create)(text=text, folder_id=folder)
        for socket in (self.socket, other):
            failed, told = await self.all_from(socket)
            assert (failed["response_status"], failed["request_id"]) == (500, 1)
            assert "secret" not in str(failed)
            assert told["body"]["text"] == "b"

    @async_test
    async def test_a_message_that_cannot_be_made_stops_no_other(self) -> None:
        folder = self.folders[0].pk
        await self.follow(folder=folder)
        items = [models.Item(text=text, folder_id=folder) for text in ("no message", "b")]
        await database(models.Item.objects.bulk_create)(items)
        assert [frame["body"]["text"] for frame in await self.all_from()] == ["b"]

    @async_test
    async def test_where_the_database_fails_who_follows_is_told_to_read_again(self) -> None:
        folder = self.folders[0].pk
        await self.follow(folder=folder)
        await database(models.Item.objects.create)(text="no database", folder_id=folder)
        (ended,) = await self.all_from()
        assert (ended["response_status"], ended["request_id"]) == (410, 1)
        await self.follow(folder=folder, request_id=2)
        await database(models.Item.objects.create)(text="b", folder_id=folder)
        assert [frame["body"]["text"] for frame in await self.all_from()] == ["b"]

    @async_test
    async def test_what_is_created_anew_is_not_what_is_gone(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        pk = item.pk
        await self.follow(item=pk)

        @database
        def replace() -> None:
            with transaction.atomic():
                models.Item.objects.filter(pk=pk).delete()
                models.Item.objects.create(pk=pk, text="new")

        await replace()
        told = [(frame["action"], frame["body"].get("text")) for frame in await self.all_from()]
        assert told == [("delete", None), ("create", "new")]

    @async_test
    async def test_many_to_many(self) -> None:
        item = await database(models.Item.objects.create)(text="a")
        tag = await database(models.Tag.objects.create)(name="t")
        await self.follow(item=item.pk)
        await self.ask({"action": "follow_all", "what": "tag_news"})
        await database(item.tags.add)(tag)
        assert await self.all_from() == [{"tags": {"pk": item.pk}, "action": "update"}]

    @async_test
    async def test_a_serializer_class(self) -> None:
        await self.ask({"action": "follow_all", "what": "watched_news"})
        row = await database(models.Watched.objects.create)(text="a")
        pk = row.pk
        assert await self.all_from() == [{"watched": {"id": pk, "text": "a"}, "action": "create"}]
        await database(row.delete)()
        assert await self.all_from() == [{"watched": {"pk": pk}, "action": "delete"}]

    @async_test
    async def test_what_is_not_recorded_cannot_be_followed(self) -> None:
        with mock.patch.object(Shelf.tag_news, "model", models.Bare):
            reply = await self.ask({"action": "follow_all", "what": "tag_news"})
        assert reply["response_status"] == 500
        reply = await self.ask({"action": "follow_all"})
        assert (reply["response_status"], reply["errors"]) == (
            400,
            [{"what": ["The member what is missing."]}],
        )

    # Its names

    @async_test
    async def test_observers_of_one_name_share_nothing(self) -> None:
        class Other(AsyncAPIConsumer):
            @model_observer(models.Item)
            async def item_news(self, message: Any) -> None:
                """Not that of the shelf."""

        await self.follow(item=1)
        assert Other.item_news.table().groups() == []

    @async_test
    async def test_the_class_has_the_observer_and_an_instance_its_method(self) -> None:
        assert isinstance(Shelf.item_news, ModelObserver)
        sent: list[Any] = []

        class Quiet(Shelf):
            async def send_json(self, content: Any, close: bool = False) -> None:
                sent.append(content)

        await Quiet().tag_news({"pk": 1}, action=Action.CREATE)
        assert sent == [{"tags": {"pk": 1}, "action": "create"}]
        await asyncio.sleep(0)
