"""Following single objects of a consumer."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.db import connection
from django.urls import path

from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import GenericAsyncAPIConsumer, ObserverModelInstanceMixin
from drf_concord.websocket.observers import ModelObserver
from tests.app import models, views

from .cases import SocketCase, database


class Items(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    """Hides what is called "hidden" from all, and owned items from others; fails at "bad" ones."""

    queryset = models.Item.objects.exclude(text="hidden")
    serializer_class = views.serializer_for(models.Item, ["id", "text"])
    permission_classes = [views.IsOwnerOrOpen]

    def get_serializer_context(self, **kwargs: Any) -> dict[str, Any]:
        if kwargs.get("fail"):
            raise RuntimeError("secret of the server")
        return super().get_serializer_context(**kwargs)


class Mine(Items):
    """Reads by the caller."""

    def get_queryset(self, **kwargs: Any) -> Any:
        assert kwargs["mark"] == "kept"
        return models.Item.objects.filter(owner_id=self.scope["user"].pk)


class Texts(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    """Looked up by another field than the key."""

    queryset = models.Slugged.objects.all()
    serializer_class = views.serializer_for(models.Slugged, ["title", "slug"])
    lookup_field = "slug"


class Told(Items):
    """Says it in its own words."""

    async def handle_observed_action(self, action: Any, group: Any = None, **kwargs: Any) -> None:
        await self.send_json({"own": str(action), "group": group, "data": kwargs["data"]})


class Instances(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("items/", Items.as_asgi()),
                path("few/", Items.as_asgi(queryset=models.Item.objects.filter(text="a"))),
                path("mine/", Mine.as_asgi()),
                path("texts/", Texts.as_asgi()),
                path("told/", Told.as_asgi()),
            ]
        )
    )
    path = "/items/"

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.item = await database(models.Item.objects.create)(text="a")
        self.pk = self.item.pk

    async def write(self, **values: Any) -> None:
        await database(models.Item.objects.filter(pk=self.pk).update)(**values)

    async def follow(self, socket: APICommunicator | None = None, request_id: Any = 1, **more: Any) -> Any:
        frame = {"action": "subscribe_instance", "pk": self.pk, "request_id": request_id, **more}
        return await self.ask(frame, socket)

    async def leave(self, **more: Any) -> int:
        status: int = (await self.ask({"action": "unsubscribe_instance", **more}))["response_status"]
        return status

    @staticmethod
    def told(action: str, data: Any, request_id: Any = 1, status: int = 200) -> dict[str, Any]:
        rest = {"response_status": status, "request_id": request_id, "data": data}
        return {"action": action, "errors": [], **rest}

    @async_test
    async def test_its_life(self) -> None:
        assert await self.follow() == self.told("subscribe_instance", None, status=201)
        pk = self.pk
        await self.write(text="b")
        assert await self.all_from() == [self.told("update", {"id": pk, "text": "b"})]
        await database(self.item.delete)()
        assert await self.all_from() == [self.told("delete", {"pk": pk}, status=204)]
        await database(models.Item.objects.create)(pk=pk, text="again")
        assert await self.all_from() == [self.told("create", {"id": pk, "text": "again"})]
        retrieved = await self.ask({"action": "retrieve", "pk": pk})
        assert retrieved["data"] == {"id": pk, "text": "again"}

    @async_test
    async def test_what_is_not_there_cannot_be_followed(self) -> None:
        assert (await self.follow(pk=0))["errors"] == ["Not found"]
        assert (await self.follow(pk=[1]))["response_status"] == 404
        reply = await self.ask({"action": "subscribe_instance", "request_id": 1})
        assert (reply["response_status"], reply["errors"]) == (400, [{"pk": ["The member pk is missing."]}])
        await self.write(text="b")
        assert await self.all_from() == []

    @async_test
    async def test_two_requests_end_one_by_one(self) -> None:
        for request_id in (1, 2):
            await self.follow(request_id=request_id)
        assert await self.leave(pk=self.pk, request_id=3) == 404
        assert await self.leave(pk=0, request_id=1) == 404
        assert await self.leave(pk=self.pk, request_id=1) == 204
        await self.write(text="b")
        assert [frame["request_id"] for frame in await self.all_from()] == [2]
        await database(self.item.delete)()
        assert len(await self.all_from()) == 1
        assert await self.leave(pk=self.pk, request_id=2) == 204  # although it is gone
        assert await self.leave(pk=self.pk, request_id=2) == 404

    @async_test
    async def test_unsubscribing_without_a_request_id_ends_all(self) -> None:
        for request_id in (1, 2):
            await self.follow(request_id=request_id)
        assert await self.leave(pk=self.pk) == 204
        await self.write(text="b")
        assert await self.all_from() == []

    @async_test
    async def test_without_a_request_id(self) -> None:
        await self.ask({"action": "subscribe_instance", "pk": self.pk})
        await self.write(text="b")
        assert [frame["request_id"] for frame in await self.all_from()] == [None]

    @async_test
    async def test_what_leaves_the_queryset_is_told_once_and_told_of_when_it_is_back(self) -> None:
        await self.follow()
        for text in ("hidden", "hidden"):
            await self.write(text=text)
        (lost,) = await self.all_from()
        assert (lost["response_status"], lost["errors"], lost["data"]) == (404, ["Not found"], None)
        await self.write(text="seen")
        assert await self.all_from() == [self.told("create", {"id": self.pk, "text": "seen"})]
        await self.write(text="hidden")
        await settle()
        await database(self.item.delete)()
        assert [frame["response_status"] for frame in await self.all_from()] == [404]

    @async_test
    async def test_who_lost_the_object_is_told_so_and_not_what_it_is(self) -> None:
        ada = await self.person("ada")
        await self.follow()
        await self.write(text="hers", owner=ada)
        (refusal,) = await self.all_from()
        assert (refusal["response_status"], refusal["request_id"], refusal["data"]) == (403, 1, None)
        await self.write(text="his", owner=None)
        assert await self.all_from() == []

    @async_test
    async def test_gone_before_it_could_be_read(self) -> None:
        await self.follow()
        await self.write(text="b")
        await database(self.item.delete)()
        assert [frame["action"] for frame in await self.all_from()] == ["delete"]

    @async_test
    async def test_gone_between_its_change_and_the_look_at_it(self) -> None:
        await self.follow()

        def asked(*args: Any) -> bool:
            models.Item.objects.filter(pk=self.pk).delete()
            return True

        await self.write(text="b")
        with mock.patch.object(views.IsOwnerOrOpen, "has_permission", asked):
            assert await self.all_from() == [self.told("delete", {"pk": self.pk}, status=204)]

    @pytest.mark.postgresql
    @async_test
    async def test_a_table_that_is_emptied(self) -> None:
        await self.follow()

        @database
        def truncate() -> None:
            with connection.cursor() as cursor:
                cursor.execute("TRUNCATE app_item CASCADE")

        await truncate()
        assert await self.all_from() == [self.told("delete", {"pk": self.pk}, status=204)]

    @async_test
    async def test_gone_while_it_is_subscribed_to(self) -> None:
        begin = ModelObserver._begin

        async def late(observer: ModelObserver) -> int:
            await database(models.Item.objects.filter(pk=self.pk).delete)()
            return await begin(observer)

        with mock.patch.object(ModelObserver, "_begin", late):
            assert (await self.follow())["response_status"] == 404
        await database(models.Item.objects.create)(pk=self.pk)
        assert await self.all_from() == []

    @async_test
    async def test_a_serializer_that_raises(self) -> None:
        socket = await self.open(self.user)
        assert (await self.follow(fail=True))["response_status"] == 201
        await self.follow(socket)
        await self.write(text="b")
        (failed,) = await self.all_from()
        assert (failed["response_status"], failed["request_id"]) == (500, 1)
        assert "secret" not in str(failed)
        assert len(await self.all_from(socket)) == 1

    @async_test
    async def test_it_is_read_once_for_all(self) -> None:
        sockets = [self.socket, *[await self.open(self.user) for _ in range(4)]]
        for socket in sockets:
            await self.follow(socket)
        statements: list[str] = []

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            statements.append(sql)
            return execute(sql, *rest)

        @database
        def write() -> None:
            models.Item.objects.filter(pk=self.pk).update(text="b")
            connection.execute_wrappers.append(note)

        await write()
        await settle()
        await database(lambda: connection.execute_wrappers.remove(note))()
        assert [len(await self.all_from(socket)) for socket in sockets] == [1] * 5
        # the row for the feed, and the consumer's own query
        assert sum('FROM "app_item"' in sql for sql in statements) == 2

    @async_test
    async def test_a_consumer_that_is_mounted_twice_reads_two_querysets(self) -> None:
        few = await self.open(self.user, "/few/")
        for socket in (self.socket, few):
            await self.follow(socket)
        await self.write(text="secret")
        assert [frame["response_status"] for frame in await self.all_from(few)] == [404]
        assert [frame["response_status"] for frame in await self.all_from()] == [200]

    @async_test
    async def test_a_queryset_of_the_caller(self) -> None:
        ada = await self.person("ada")
        await self.write(owner=ada)
        hers, his = await self.open(ada, "/mine/"), await self.open(self.user, "/mine/")
        assert (await self.follow(his, mark="kept"))["response_status"] == 404
        assert (await self.follow(hers, mark="kept"))["response_status"] == 201
        await self.write(text="b")
        assert [frame["data"] for frame in await self.all_from(hers)] == [{"id": self.pk, "text": "b"}]
        assert await self.all_from(his) == []

    @async_test
    async def test_looked_up_by_another_field(self) -> None:
        row = await database(models.Slugged.objects.create)(title="One")
        socket = await self.open(self.user, "/texts/")
        frame = {"action": "subscribe_instance", "slug": "one", "request_id": 1}
        assert (await self.ask(frame, socket))["response_status"] == 201
        row.title = "Two"
        await database(row.save)()
        assert [f["data"] for f in await self.all_from(socket)] == [{"title": "Two", "slug": "two"}]
        frame = {"action": "unsubscribe_instance", "slug": "one", "request_id": 1}
        assert (await self.ask(frame, socket))["response_status"] == 204

    @async_test
    async def test_own_words(self) -> None:
        socket = await self.open(self.user, "/told/")
        await self.follow(socket)
        await self.write(text="b")
        data = {"id": self.pk, "text": "b"}
        assert await self.all_from(socket) == [{"own": "update", "group": str(self.pk), "data": data}]

    @async_test
    async def test_a_user_who_is_deactivated(self) -> None:
        ada = await self.person("ada")
        hers = await self.open(ada)
        await self.write(owner=ada)
        await self.follow(hers)

        @database
        def deactivate() -> None:
            get_user_model().objects.filter(pk=ada.pk).update(is_active=False)
            models.Item.objects.filter(pk=self.pk).update(text="secret")

        await deactivate()
        assert [frame["response_status"] for frame in await self.all_from(hers)] == [403]
