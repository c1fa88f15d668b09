"""What followers could be told that is none of theirs, or never be told."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.db import OperationalError, transaction
from django.dispatch import Signal
from django.http import Http404
from django.urls import path
from rest_framework.permissions import BasePermission

from drf_concord.live.hub import Hub
from drf_concord.testing import async_test
from drf_concord.websocket import (
    AsyncAPIConsumer,
    GenericAsyncAPIConsumer,
    ObserverModelInstanceMixin,
    action,
    model_observer,
    observer,
    permissions,
)
from drf_concord.websocket.mixins import StreamedPaginatedListMixin
from drf_concord.websocket.pagination import WebsocketLimitOffsetPagination
from tests.app import models, views

from .cases import SocketCase, database
from .shelf import NotBanned, ShelfCase

rang = Signal()


class Groups(ShelfCase):
    @async_test
    async def test_what_moved_away_meanwhile_is_none_of_the_former_group(self) -> None:
        open_, closed = (folder.pk for folder in self.folders)
        item = await database(models.Item.objects.create)(text="a", folder_id=open_)
        await self.follow(folder=open_)

        @database
        def write() -> None:
            mine = models.Item.objects.filter(pk=item.pk)
            with transaction.atomic():
                mine.update(text="b")
                mine.update(folder_id=closed)
                mine.update(text="secret")

        await write()
        frames = await self.all_from()
        assert "secret" not in str(frames)
        assert [(f["action"], f["body"]) for f in frames] == [("delete", {"pk": item.pk})]

    @async_test
    async def test_an_owner_of_before_is_told_nothing_of_what_is_now(self) -> None:
        ada = await self.person("ada")
        item = await database(models.Item.objects.create)(text="a", owner=self.user)
        await self.follow(item=item.pk)

        @database
        def write() -> None:
            mine = models.Item.objects.filter(pk=item.pk)
            with transaction.atomic():
                mine.update(text="b")
                mine.update(owner=ada)
                mine.update(text="secret")

        await write()
        assert await self.all_from() == []

    @async_test
    async def test_what_moved_and_went_is_gone_for_the_group_it_was_in(self) -> None:
        old, new = (folder.pk for folder in self.folders)
        item = await database(models.Item.objects.create)(text="a", folder_id=old)
        await self.follow(folder=old, item=item.pk)
        await self.follow(folder=new, request_id=2)

        @database
        def write() -> None:
            with transaction.atomic():
                models.Item.objects.filter(pk=item.pk).update(folder_id=new)
                models.Item.objects.filter(pk=item.pk).delete()

        pk = item.pk
        await write()
        assert sorted(await self.news()) == [("delete", f"folder-{old}", pk), ("delete", f"item-{pk}", pk)]


class Waiting(permissions.BasePermission):
    async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return False


class Owner(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        if obj.text == "missing":
            raise Http404
        return True


class Door(AsyncAPIConsumer):
    permission_classes: Any = [NotBanned]

    @observer(rang)
    async def bell(self, message: Any) -> None:
        await self.send_json({"rang": True})

    @model_observer(models.Restaurant)
    async def restaurant(self, message: Any, action: Any) -> None:
        await self.send_json([action, message])

    @model_observer(models.Item)
    async def item(self, message: Any, action: Any) -> None:
        await self.send_json([action, message])

    @action()
    async def listen(self, **kwargs: Any) -> Any:
        return await self.bell.subscribe(), 201

    @action()
    async def eat(self, **kwargs: Any) -> Any:
        return await self.restaurant.subscribe(), 201

    @action()
    async def items(self, request_id: Any) -> Any:
        return await self.item.subscribe(request_id=request_id), 201


class Either(Door):
    permission_classes = [Waiting | Owner]


class Owned(Door):
    permission_classes = [Owner]


class Items(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = models.Item.objects.all()
    serializer_class = views.serializer_for(models.Item, ["id", "text"])
    permission_classes: Any = []


class ByAction(Items):
    def get_serializer_class(self, **kwargs: Any) -> Any:
        assert kwargs["action"] in {"subscribe_instance", "retrieve"}
        return self.serializer_class


class EitherItem(Items):
    permission_classes = [Waiting | Owner]


class Leaving(Items):
    """Leaves while it reads what changed."""

    def get_serializer_context(self, **kwargs: Any) -> Any:
        for table in list(self._followed):
            table.remove(self, None, None)
        return super().get_serializer_context(**kwargs)


class Twos(WebsocketLimitOffsetPagination):
    default_limit = 2


class Streamed(StreamedPaginatedListMixin, Items):
    pagination_class = Twos
    permission_classes = [NotBanned]

    def get_serializer_context(self, **kwargs: Any) -> Any:
        if kwargs.get("offset") is None:
            get_user_model().objects.filter(pk=self.scope["user"].pk).update(last_name="banned")
        return super().get_serializer_context(**kwargs)


class Sockets(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("door/", Door.as_asgi()),
                path("either/", Either.as_asgi()),
                path("owned/", Owned.as_asgi()),
                path("leaving/", Leaving.as_asgi()),
                path("action/", ByAction.as_asgi()),
                path("eitheritem/", EitherItem.as_asgi()),
                path("streamed/", Streamed.as_asgi()),
            ]
        )
    )
    path = "/door/"

    @async_test
    async def test_signals_ask_permissions_each_time(self) -> None:
        await self.ask({"action": "listen", "request_id": 1})
        await database(rang.send)(None)
        assert await self.all_from() == [{"rang": True}]
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(last_name="banned")
        assert await self.all_from() == []
        await database(rang.send)(None)
        frames = await self.all_from()
        assert [f.get("response_status") for f in frames] == [403]

    @async_test
    async def test_permissions_of_both_kinds_about_objects(self) -> None:
        socket = await self.open(self.user, "/either/")
        assert (await self.ask({"action": "items", "request_id": 1}, socket))["response_status"] == 201
        item = await database(models.Item.objects.create)(text="a")
        assert await self.all_from(socket) == [["create", {"pk": item.pk}]]

    @async_test
    async def test_permissions_of_both_kinds_about_an_instance(self) -> None:
        socket = await self.open(self.user, "/eitheritem/")
        item = await database(models.Item.objects.create)(text="a")
        frame = {"action": "subscribe_instance", "pk": item.pk, "request_id": 1}
        assert (await self.ask(frame, socket))["response_status"] == 201
        await database(models.Item.objects.filter(pk=item.pk).update)(text="b")
        assert [f["response_status"] for f in await self.all_from(socket)] == [200]

    @async_test
    async def test_what_a_permission_reads_of_the_gone_does_not_fail(self) -> None:
        socket = await self.open(self.user, "/owned/")
        await self.ask({"action": "items", "request_id": 1}, socket)
        await database(models.Item.objects.create)(text="missing")
        item = await database(models.Item.objects.create)(text="a")
        await self.all_from(socket)
        with self.assertNoLogs("drf_concord", "ERROR"):
            await database(item.delete)()
            await database(models.Item.objects.create)(text="missing")
            assert await self.all_from(socket) == []

    @async_test
    async def test_hooks_are_called_with_the_action(self) -> None:
        socket = await self.open(self.user, "/action/")
        item = await database(models.Item.objects.create)(text="a")
        frame = {"action": "subscribe_instance", "pk": item.pk, "request_id": 1}
        assert (await self.ask(frame, socket))["response_status"] == 201
        await database(models.Item.objects.filter(pk=item.pk).update)(text="b")
        assert [f["response_status"] for f in await self.all_from(socket)] == [200]

    @async_test
    async def test_a_stream_ends_for_who_may_not_see_it_any_more(self) -> None:
        await database(models.Item.objects.bulk_create)([models.Item(text=str(n)) for n in range(5)])
        socket = await self.open(self.user, "/streamed/")
        await socket.send_json_to({"action": "list", "request_id": 1})
        assert [(await socket.receive_json_from())["response_status"] for _ in range(2)] == [200, 403]

    @async_test
    async def test_a_refresh_that_failed_is_done_again(self) -> None:
        made: list[Any] = []
        real = Door.__init__

        def init(self: Any, **kwargs: Any) -> None:
            real(self, **kwargs)
            made.append(self)

        with mock.patch.object(Door, "__init__", init):
            await self.open(self.user)
        (consumer,) = made
        consumer._outdated = True
        failing = mock.patch.object(type(consumer.caller), "refresh", side_effect=RuntimeError)
        with failing, pytest.raises(RuntimeError):
            await consumer.refresh_caller()
        assert consumer._outdated

    @async_test
    async def test_a_log_that_could_not_be_read_at_first_is_read_later(self) -> None:
        hub = Hub()
        failing = mock.patch("drf_concord.changes.position", side_effect=OperationalError)
        with failing, pytest.raises(OperationalError):
            await hub.start()
        await hub.start()
        assert hub.started
        await hub.stop()

    @async_test
    async def test_what_was_ended_meanwhile_is_not_told(self) -> None:
        await self.ask({"action": "items", "request_id": 1})
        real = AsyncAPIConsumer.may_be_told_of

        async def ended(consumer: Any, obj: Any, following: Any) -> bool:
            said = await real(consumer, obj, following)
            await consumer.item.unsubscribe(request_id=1)
            return said

        with mock.patch.object(AsyncAPIConsumer, "may_be_told_of", ended):
            await database(models.Item.objects.create)(text="a")
            assert await self.all_from() == []

    @async_test
    async def test_an_object_that_was_left_while_it_was_read_is_not_told(self) -> None:
        socket = await self.open(self.user, "/leaving/")
        item = await database(models.Item.objects.create)(text="a")
        frame = {"action": "subscribe_instance", "pk": item.pk, "request_id": 1}
        assert (await self.ask(frame, socket))["response_status"] == 201
        await database(models.Item.objects.filter(pk=item.pk).update)(text="b")
        assert await self.all_from(socket) == []

    @async_test
    async def test_nothing_is_told_before_the_socket_is_open(self) -> None:
        sent: list[str] = []

        class Slow(AsyncAPIConsumer):
            permission_classes: Any = []

            async def connect(self) -> None:
                self._inbox.put_message({"type": "news"})
                for _ in range(5):
                    await asyncio.sleep(0)
                await self.accept()

            async def news(self, message: Any) -> None:
                await self.send_json({"news": True})

        async def send(event: Any) -> None:
            sent.append(event["type"])

        events: asyncio.Queue[Any] = asyncio.Queue()
        events.put_nowait({"type": "websocket.connect"})
        work = asyncio.ensure_future(
            Slow.as_asgi()({"type": "websocket", "path": "/", "headers": []}, events.get, send)
        )
        for _ in range(100):
            await asyncio.sleep(0)
        events.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await work
        assert sent == ["websocket.accept", "websocket.send"]
