"""Observers of models: groups, several subscriptions, and what the log has seen, in its order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.urls import path
from rest_framework.permissions import BasePermission

from drf_concord.live import feeds
from drf_concord.live.hub import hub_of_loop
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import Action, AsyncAPIConsumer, action, followings, model_observer
from drf_concord.websocket.observers import ModelObserver
from drf_concord.websocket.presence import Presence
from tests.app import models, views

from .cases import SocketCase, database


class NotBanned(BasePermission):
    """Asks the user's row, and of objects their owner."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user.last_name != "banned"

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return getattr(obj, "owner_id", None) in {None, request.user.pk}


class Shelf(AsyncAPIConsumer):
    """Follows items by folder, notes all together, and watched rows by nothing."""

    permission_classes: Any = [NotBanned]
    read = 0

    @model_observer(models.Item)
    async def item_news(
        self,
        message: Any,
        observer: Any,
        message_type: str,
        subscribing_request_ids: Any,
        group: str,
        **more: Any,
    ) -> None:
        if message.get("text") == "explode":
            raise RuntimeError("secret of the server")
        told = {"body": message, "action": more["action"], "ids": subscribing_request_ids}
        await self.send_json(
            {**told, "type": message_type, "group": group, "own": observer is Shelf.item_news}
        )

    @item_news.serializer
    def item_news(self, instance: Any, action: Action, **kwargs: Any) -> Any:
        Shelf.read += 1
        if instance.text == "no message":
            raise RuntimeError
        return {"pk": instance.pk, "folder": instance.folder_id, "text": instance.text}

    @item_news.groups_for_signal
    def item_news(self, instance: Any, **kwargs: Any) -> Any:
        yield f"folder-{instance.folder_id}"
        yield f"item-{instance.pk}"

    @item_news.groups_for_consumer
    def item_news(self, folder: Any = None, item: Any = None, **kwargs: Any) -> Any:
        if folder is not None:
            yield f"folder-{folder}"
        if item is not None:
            yield f"item-{item}"

    @model_observer(models.Item, many_to_many=True)
    async def tag_news(self, message: Any, action: Action) -> None:
        await self.send_json({"tags": message, "action": action})

    @model_observer(models.Watched, serializer_class=views.serializer_for(models.Watched))
    async def watched_news(self, message: Any, action: Action) -> None:
        await self.send_json({"watched": message, "action": action})

    @model_observer(models.Item)
    async def place_news(self, message: Any, action: Action) -> None:
        await self.send_json({"place": message, "action": action})

    @place_news.serializer
    def place_news(self, instance: Any, **kwargs: Any) -> Any:
        return {"pk": instance.pk, "folder": instance.folder_id}

    @action()
    async def follow(
        self, request_id: Any = None, folder: Any = None, item: Any = None, **kwargs: Any
    ) -> Any:
        return await self.item_news.subscribe(folder=folder, item=item, request_id=request_id), 201

    @action()
    async def unfollow(self, request_id: Any = None, every: bool = False, **kwargs: Any) -> Any:
        named = {name: kwargs[name] for name in ("folder", "item") if name in kwargs}
        return await self.item_news.unsubscribe(request_id=None if every else request_id, **named), 200

    @action()
    async def follow_all(self, what: str, request_id: Any = None) -> Any:
        return await getattr(self, what).subscribe(request_id=request_id), 201


class Observers(SocketCase):
    """One socket on the shelf; each test writes as somebody else would."""

    application = AuthMiddlewareStack(URLRouter([path("shelf/", Shelf.as_asgi())]))
    path = "/shelf/"

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        Shelf.read = 0
        self.folders = [await database(models.Folder.objects.create)(name=str(n)) for n in range(2)]

    async def shelf(self, user: Any = None) -> APICommunicator:
        return await self.open(user or self.user, "/shelf/")

    async def follow(self, socket: APICommunicator | None = None, request_id: Any = 1, **what: Any) -> Any:
        reply = await self.ask({"action": "follow", "request_id": request_id, **what}, socket)
        assert reply["response_status"] == 201, reply
        return reply["data"]

    async def news(self, socket: APICommunicator | None = None) -> list[tuple[Any, ...]]:
        return [(f["action"], f["group"], f["body"]["pk"]) for f in await self.all_from(socket)]

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
