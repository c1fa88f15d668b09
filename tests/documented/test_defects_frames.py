"""Defects of former systems, each in its own scenario: what frames and exceptions do to a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.urls import path
from rest_framework import authentication, viewsets
from rest_framework.response import Response
from rest_framework.views import APIView

from drf_concord.live import RealtimeMixin
from drf_concord.testing import async_test
from drf_concord.websocket import (
    GenericAsyncAPIConsumer,
    ObserverModelInstanceMixin,
    RealtimeRouter,
    action,
    view_as_consumer,
)
from drf_concord.websocket.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PaginatedModelListMixin,
    PatchModelMixin,
    RetrieveModelMixin,
)
from tests.app.models import Item, Slugged
from tests.app.views import serializer_for
from tests.websocket.cases import SocketCase, database, until


class Items(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = serializer_for(Item, ["id", "text"])


class ItemConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    CreateModelMixin,
    DeleteModelMixin,
    ObserverModelInstanceMixin,
    GenericAsyncAPIConsumer,
):
    queryset = Item.objects.order_by("pk")
    serializer_class = serializer_for(Item, ["id", "text"])
    under_way: set[Any] = set()

    @action(detached=True)
    async def wait(self, request_id: Any) -> None:
        self.under_way.add(request_id)
        try:
            await asyncio.Event().wait()
        finally:
            self.under_way.discard(request_id)

    @action(detached=True)
    async def fail(self, **kwargs: Any) -> None:
        raise RuntimeError("secret of the server")


class Pages(PaginatedModelListMixin, GenericAsyncAPIConsumer):
    """With the default settings, which name no size of a page."""

    queryset = Item.objects.order_by("pk")
    serializer_class = serializer_for(Item, ["id", "text"])


class BySlug(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Slugged.objects.all()
    serializer_class = serializer_for(Slugged, ["slug", "title"])
    lookup_field = "slug"


class Who(APIView):
    def get(self, request: Any) -> Response:
        return Response(request.user.username)


class Unauthenticated(Items):
    authentication_classes: list[Any] = []


METHODS = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
router = RealtimeRouter()
router.register(Items)


class Frames(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("ws/", router.consumer),
                path("items/", ItemConsumer.as_asgi()),
                path("pages/", Pages.as_asgi()),
                path("slugs/", BySlug.as_asgi()),
                path("view/", view_as_consumer(Items.as_view(METHODS))),
                path("who/", view_as_consumer(Who.as_view(), {"list": "get"})),
                path("open-view/", view_as_consumer(Unauthenticated.as_view(METHODS))),
            ]
        )
    )

    async def alive(self, socket: Any) -> None:
        frame = {"action": "list", "model": "app.Item", "request_id": "alive"}
        reply = await self.ask(frame, socket)
        assert (reply["response_status"], reply["request_id"]) == (200, "alive")

    @async_test
    async def test_no_frame_closes_the_socket_of_a_consumer(self) -> None:
        """D-12: each of these raised in the server, and the socket was closed."""
        await database(Item.objects.create)(pk=1, text="a")
        socket = await self.open(self.user, "/items/")
        for frame, status in (
            ("[1]", 400),
            ("no JSON", 400),
            ('"str"', 400),
            ({"action": "create"}, 400),
            ({"action": "create", "data": [1]}, 400),
            ({"action": "retrieve"}, 400),
            ({"action": ["list"]}, 405),
            ({"action": "subscribe_instance", "pk": 1}, 201),
            ({"action": "list", "consumer": 1, "self": 2, "scope": 3}, 200),
            ({"action": "retrieve", "pk": 1, "consumer": 1, "self": 2, "cls": 3, "action_kwargs": 4}, 200),
        ):
            reply = await self.ask(frame, socket)
            assert reply["response_status"] == status, (frame, reply)
            await self.alive(socket)

    @async_test
    async def test_pages_need_no_limit(self) -> None:
        """D-12: without a limit, and without a size in the settings, the socket was closed."""
        await database(Item.objects.create)(pk=1, text="a")
        reply = await self.ask({"action": "list"}, await self.open(self.user, "/pages/"))
        assert (reply["response_status"], reply["data"]["count"]) == (200, 1)

    @async_test
    async def test_an_event_finds_its_object_by_the_lookup_field(self) -> None:
        """D-12: the first event of an object that is looked up by another field closed the socket."""
        made = await database(Slugged.objects.create)(title="One")
        socket = await self.open(self.user, "/slugs/")
        await self.ask({"action": "subscribe_instance", "slug": "one", "request_id": 1}, socket)
        await database(made.save)()
        (event,) = await self.all_from(socket)
        assert (event["response_status"], event["data"]) == (200, {"slug": "one", "title": "One"})

    @async_test
    async def test_no_frame_closes_the_socket_of_a_router(self) -> None:
        """D-12: the same for frames of subscriptions."""
        subscribe = {"type": "subscribe", "id": 1, "model": "app.Item", "action": "list"}
        for frame in (
            "[1, 2]",
            "no JSON",
            {**subscribe, "model": ["app.Item"]},
            {**subscribe, "query_params": "a text"},
        ):
            reply = await self.ask(frame)
            assert reply.get("code", reply.get("response_status")) == 400, frame
        await self.alive(self.socket)

    @async_test
    async def test_whatever_happens_between_a_change_and_its_delivery(self) -> None:
        """D-12: what was gone already, unsubscribed already, or named twice closed the socket."""
        subscribe = {"type": "subscribe", "id": 1, "model": "app.Item", "action": "list"}
        await self.socket.send_json_to(subscribe)
        assert await self.socket.receive_nothing()

        def save_and_delete() -> None:
            item = Item.objects.create(text="a")
            item.save()
            item.delete()

        await database(save_and_delete)()
        assert await self.all_from() == []
        assert (await self.ask(subscribe))["code"] == 400
        await database(Item.objects.create)(text="b")
        await self.socket.send_json_to({"type": "unsubscribe", "id": 1})
        assert await self.all_from() == []
        await database(Item.objects.create)(text="c")
        assert await self.all_from() == []
        await self.alive(self.socket)

    @async_test
    async def test_nothing_goes_on_when_a_socket_is_closed(self) -> None:
        """D-22: of six actions under way three went on for ever; what one raised was not answered."""
        socket = await self.open(self.user, "/items/")
        reply = await self.ask({"action": "fail", "request_id": 7}, socket)
        assert (reply["response_status"], reply["request_id"]) == (500, 7)
        assert "secret" not in str(reply)
        for number in range(6):
            await socket.send_json_to({"action": "wait", "request_id": number})
        await until(lambda: len(ItemConsumer.under_way) == 6)
        await socket.disconnect()
        self.opened.remove(socket)
        await until(lambda: not ItemConsumer.under_way)

    @async_test
    async def test_each_socket_is_answered_as_its_own_user_on_itself(self) -> None:
        """D-5: one object served every socket, so that Alice was answered as Bob, and on his."""
        alice, bob = await self.person("alice"), await self.person("bob")
        hers, his = await self.open(alice, "/who/"), await self.open(bob, "/who/")
        for number in range(3):
            await hers.send_json_to({"action": "list", "request_id": number})
        await his.send_json_to({"action": "list", "request_id": 9})
        answers = [(f["request_id"], f["data"]) for f in await self.all_from(hers)]
        assert answers == [(0, "alice"), (1, "alice"), (2, "alice")]
        assert [(f["request_id"], f["data"]) for f in await self.all_from(his)] == [(9, "bob")]

    @async_test
    async def test_a_view_as_a_consumer_writes(self) -> None:
        """D-24: refused for want of a CSRF token, or answered with 200 and nothing done; `delete` unknown."""
        assert Items.authentication_classes[0] is authentication.SessionAuthentication
        for address in ("/view/", "/open-view/"):
            await database(Item.objects.create)(pk=1, text="a")
            socket = await self.open(self.user, address)
            reply = await self.ask({"action": "patch", "pk": 1, "data": {"text": "b"}}, socket)
            assert (reply["response_status"], reply["data"]) == (200, {"id": 1, "text": "b"}), address
            assert (await database(Item.objects.get)()).text == "b"
            reply = await self.ask({"action": "delete", "pk": 1}, socket)
            assert (reply["response_status"], reply["data"]) == (204, None), address
            assert not await database(Item.objects.exists)()
