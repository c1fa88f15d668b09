"""Defects of former systems, each in its own scenario: what each subscriber costs, and who waits for whom."""

from __future__ import annotations

import gc
import json
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.db import connection
from django.urls import path
from rest_framework import serializers, viewsets

from drf_concord.live import RealtimeMixin
from drf_concord.live.hub import hub_of_loop
from drf_concord.live.pool import pool
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import (
    GenericAsyncAPIConsumer,
    ObserverModelInstanceMixin,
    RealtimeRouter,
    model_observer,
)
from drf_concord.websocket.mixins import RetrieveModelMixin
from tests.app.models import Folder, Item
from tests.concurrency.threads import PATIENCE, Call
from tests.kinds.models import Paragraph, Report
from tests.websocket.cases import SocketCase, database

SIDE_BY_SIDE = 4
ROWS = 5_000
FORMER = 82  # bytes for each row of each subscription


class ItemSerializer(serializers.ModelSerializer):
    """Works for as long as a test wants it to."""

    meeting: threading.Barrier
    shown, release = threading.Event(), threading.Event()

    class Meta:
        model = Item
        fields = ["id", "text"]

    def to_representation(self, instance: Item) -> Any:
        if instance.text == "meet":
            self.meeting.wait(PATIENCE)
        if instance.text == "slow":
            self.shown.set()
            assert self.release.wait(PATIENCE)
        return super().to_representation(instance)


class Items(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    group_by_fields = ["pk", "folder_id"]


class ItemConsumer(RetrieveModelMixin, ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    @model_observer(Item)
    async def news(self, message: Any) -> None:
        await self.send_json(message)

    @news.groups_for_signal
    def news(self, instance: Item, **kwargs: Any) -> Any:
        yield f"{instance.folder_id} {instance.owner_id}"


router = RealtimeRouter()
router.register(Items)
application = AuthMiddlewareStack(
    URLRouter([path("ws/", router.consumer), path("items/", ItemConsumer.as_asgi())])
)


class Cost(SocketCase):
    application = application

    async def statements(self, subscribers: int, path: str, frame: dict[str, Any]) -> int:
        """How many statements read the object after a change when so many follow it."""
        sockets = [await self.open(self.user, path) for _ in range(subscribers)]
        for number, socket in enumerate(sockets):
            await socket.send_json_to({**frame, "request_id": number})
            await settle()
            while not await socket.receive_nothing():
                await socket.receive_json_from()
        await database(Item.objects.filter(pk=1).update)(text=f"for {subscribers} at {path}")
        seen: list[str] = []

        def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
            seen.append(sql)
            return execute(sql, *rest)

        with ExitStack() as stack:
            await database(lambda: stack.enter_context(connection.execute_wrapper(note)))()
            await settle()
        for socket in sockets:
            (frame,) = await self.all_from(socket)
            assert "for" in str(frame)
            await socket.disconnect()
            self.opened.remove(socket)
        return sum("app_item" in sql for sql in seen)  # and not how often the log was looked at

    @async_test
    async def test_twenty_subscribers_cost_as_many_statements_as_one(self) -> None:
        """D-19: each subscriber was one more query and one more serialization."""
        await database(Item.objects.create)(pk=1, text="a")
        for address, frame in (
            ("/ws/", {"model": "app.Item", "value": 1}),
            ("/items/", {"action": "subscribe_instance", "pk": 1}),
        ):
            one = await self.statements(1, address, frame)
            assert await self.statements(20, address, frame) == one > 0, address

    @async_test
    async def test_what_a_list_shows_is_kept_once_for_all_who_follow_it(self) -> None:
        """D-21: each subscription to a list kept every key of it."""
        folder = await database(Folder.objects.create)(name="f")
        items = [Item(folder=folder) for _ in range(ROWS)]
        await database(Item.objects.bulk_create)(items)
        sockets = [await self.open(self.user) for _ in range(11)]
        frame = {"request_id": 1, "model": "app.Item", "group_by": "folder_id", "value": folder.pk}

        async def follow(socket: APICommunicator) -> int:
            await socket.send_json_to(frame)
            assert await socket.receive_nothing()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await follow(sockets[0])
            for socket in sockets[1:]:
                after = await follow(socket)
        finally:
            tracemalloc.stop()
        assert after - before < ROWS * FORMER  # ten more cost less than one did

    @async_test
    async def test_loading_rows_that_are_observed_costs_nothing(self) -> None:
        """D-23: groups were computed for each row that was loaded, and read what had been left out."""
        assert ItemConsumer.news
        await database(Item.objects.bulk_create)([Item(text=str(n)) for n in range(20)])
        report = await database(Report.objects.create)(title="r")
        await database(Paragraph.objects.bulk_create)([Paragraph(report=report) for _ in range(50)])

        def load() -> None:
            with self.assertNumQueries(1):
                assert len(Item.objects.only("id")[:20]) == 20
            with self.assertNumQueries(1):
                assert len(Item.objects.defer("folder", "owner")) == 20
            with self.assertNumQueries(1):
                assert len(Paragraph.objects.all()) == 50

        await database(load)()


class SideBySide:
    """Sockets as they are outside of tests: work runs in the threads of the pool, and the hub by itself."""

    def __init__(self) -> None:
        self.sockets: list[APICommunicator] = []

    async def __aenter__(self) -> SideBySide:
        return self

    async def open(self, path: str) -> APICommunicator:
        socket = APICommunicator(application, path)
        socket.inline = False
        assert (await socket.connect())[0]
        self.sockets.append(socket)
        return socket

    async def __aexit__(self, *exc: Any) -> None:
        ItemSerializer.release.set()
        for socket in self.sockets:
            await socket.disconnect()
        await hub_of_loop().stop()
        pool.close()


async def next_from(socket: APICommunicator) -> Any:
    return json.loads((await socket.receive_output(PATIENCE))["text"])


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/ws/", "/items/"])
def test_no_socket_waits_for_another(path: str) -> None:
    """D-20: all sockets of a process shared one thread, one after the other."""
    Item.objects.create(pk=1, text="meet")

    async def run() -> None:
        ItemSerializer.meeting = threading.Barrier(SIDE_BY_SIDE)
        async with SideBySide() as sides:
            sockets = [await sides.open(path) for _ in range(SIDE_BY_SIDE)]
            for socket in sockets:
                await socket.send_json_to({"action": "retrieve", "model": "app.Item", "pk": 1})
            assert [(await next_from(socket))["response_status"] for socket in sockets] == [200] * len(
                sockets
            )

    async_to_sync(run)()


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/ws/", "/items/"])
def test_no_action_waits_for_one_about_something_else(path: str) -> None:
    """D-20: actions of a socket were done one after the other."""
    Item.objects.bulk_create(Item(pk=pk, text="meet") for pk in range(1, SIDE_BY_SIDE + 1))

    async def run() -> None:
        ItemSerializer.meeting = threading.Barrier(SIDE_BY_SIDE)
        async with SideBySide() as sides:
            socket = await sides.open(path)
            for pk in range(1, SIDE_BY_SIDE + 1):
                await socket.send_json_to({"action": "retrieve", "model": "app.Item", "pk": pk})
            found = [(await next_from(socket))["response_status"] for _ in range(SIDE_BY_SIDE)]
            assert found == [200] * SIDE_BY_SIDE

    async_to_sync(run)()


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/ws/", "/items/"])
def test_no_event_waits_for_an_action(path: str) -> None:
    """D-20: what happened was told after the slow action of that socket, if it was told."""
    Item.objects.create(pk=1, text="slow")
    Item.objects.create(pk=2, text="a")

    async def run() -> None:
        ItemSerializer.shown.clear()
        ItemSerializer.release.clear()
        async with SideBySide() as sides:
            socket = await sides.open(path)
            if path == "/ws/":
                await socket.send_json_to({"request_id": 2, "model": "app.Item", "value": 2})
                await settle()
            else:
                await socket.send_json_to({"action": "subscribe_instance", "pk": 2, "request_id": 2})
                await next_from(socket)
            await socket.send_json_to({"action": "retrieve", "model": "app.Item", "pk": 1, "request_id": 1})
            await sync_to_async(ItemSerializer.shown.wait, thread_sensitive=False)(PATIENCE)
            await sync_to_async(Call(write).result, thread_sensitive=False)()
            assert (await next_from(socket))["request_id"] == 2
            ItemSerializer.release.set()
            assert (await next_from(socket))["request_id"] == 1

    def write() -> None:
        Item.objects.filter(pk=2).update(text="b")

    async_to_sync(run)()
