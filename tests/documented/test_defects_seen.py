"""Defects of former systems, each in its own scenario: who was sent what was not for him."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.urls import path
from rest_framework import viewsets
from rest_framework.filters import BaseFilterBackend
from rest_framework.permissions import BasePermission, IsAuthenticated

from drf_concord.live import RealtimeMixin
from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import (
    GenericAsyncAPIConsumer,
    ObserverModelInstanceMixin,
    RealtimeRouter,
    action,
    model_observer,
    view_as_consumer,
)
from drf_concord.websocket.mixins import DeleteModelMixin, ListModelMixin, PatchModelMixin, RetrieveModelMixin
from tests.app.models import Folder, Item, Note
from tests.app.views import serializer_for
from tests.websocket.cases import SocketCase, database


class NotPrivate(BasePermission):
    """Nobody may see what says that it is private."""

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return "private" not in obj.text


class Public(BaseFilterBackend):
    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        return queryset.exclude(text__startswith="draft")


class Items(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = serializer_for(Item, ["id", "text"])
    permission_classes = [NotPrivate]
    filter_backends = [Public]
    group_by_fields = ["pk", "folder_id"]


class Members(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Note.objects.all()
    serializer_class = serializer_for(Note, ["id", "text"])
    permission_classes = [IsAuthenticated]


class ItemConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    DeleteModelMixin,
    ObserverModelInstanceMixin,
    GenericAsyncAPIConsumer,
):
    queryset = Item.objects.order_by("pk")
    serializer_class = serializer_for(Item, ["id", "text"])
    permission_classes = [NotPrivate]

    @model_observer(Item)
    async def news(self, message: Any, action: Any) -> None:
        await self.send_json({"news": message, "action": str(action)})

    @news.serializer
    def news(self, instance: Item, **kwargs: Any) -> Any:
        return {"id": instance.pk, "text": instance.text}

    @action()
    async def follow(self, **kwargs: Any) -> Any:
        await self.news.subscribe()
        return None, 201


class MemberConsumer(ListModelMixin, GenericAsyncAPIConsumer):
    queryset = Note.objects.all()
    serializer_class = serializer_for(Note, ["id", "text"])
    permission_classes = [IsAuthenticated]


router = RealtimeRouter()
router.register_all([Items, Members])
notes = Members.as_view({"get": "list"})
addresses: list[Any] = [
    path("ws/", router.consumer),
    path("items/", ItemConsumer.as_asgi()),
    path("members/", MemberConsumer.as_asgi()),
    path("view/", view_as_consumer(notes)),
]


class Seen(SocketCase):
    application = AuthMiddlewareStack(URLRouter(addresses))

    async def follow(self, socket: APICommunicator | None = None, **frame: Any) -> None:
        await (socket or self.socket).send_json_to(frame)
        assert await (socket or self.socket).receive_nothing()

    async def write(self, pk: int, text: str) -> None:
        """Save an object as a project does, made now if it is not there."""
        await database(Item.objects.update_or_create)(pk=pk, defaults={"text": text})

    @async_test
    async def test_who_follows_one_object_is_told_of_no_other(self) -> None:
        """D-1: one object was asked for and checked, and every row was sent."""
        for pk in (1, 2):
            await self.write(pk, "open")
        await self.follow(request_id=1, model="app.Item", value=1)
        await self.follow(type="subscribe", id=2, model="app.Item", action="retrieve", lookup_by=1)
        await self.write(2, "private")
        await self.write(3, "private, and new")
        asked = await self.ask({"action": "retrieve", "model": "app.Item", "pk": 2})
        assert asked["response_status"] == 403
        assert await self.all_from() == []
        await self.write(1, "seen")
        frames = await self.all_from()
        assert [(f["action"], f["instance"]["text"]) for f in frames] == [("UPDATED", "seen")] * 2
        await self.write(1, "private now")
        frames = await self.all_from()
        assert [f["instance"] for f in frames] == [{"pk": 1, "id": 1}] * 2

    @async_test
    async def test_a_check_that_fails_at_an_event_stops_the_data(self) -> None:
        """D-4: the refusal was sent, and the object after it; handlers of a model were not asked at all."""
        await self.write(1, "open")
        instance, observer = await self.open(self.user, "/items/"), await self.open(self.user, "/items/")
        await self.ask({"action": "subscribe_instance", "pk": 1, "request_id": 1}, instance)
        await self.ask({"action": "follow"}, observer)
        await self.write(1, "private")
        frames = await self.all_from(instance)
        assert [(f["response_status"], f["request_id"], f["data"]) for f in frames] == [(403, 1, None)]
        assert await self.all_from(observer) == []
        await self.write(1, "private again")
        assert await self.all_from(instance) + await self.all_from(observer) == []

    @async_test
    async def test_without_authentication_nobody_is_authenticated(self) -> None:
        """D-10: without middleware the user was a class, whose every attribute is true."""
        await database(Note.objects.create)(text="x")
        bare = URLRouter(addresses)
        for app, scope in ((bare, {}), (bare, {"user": None}), (bare, {"user": AnonymousUser})):
            for address, frame in (
                ("/members/", {"action": "list"}),
                ("/view/", {"action": "list"}),
                ("/ws/", {"action": "list", "model": "app.Note"}),
                ("/ws/", {"request_id": 1, "model": "app.Note", "value": 1}),
            ):
                socket = APICommunicator(app, address)
                socket.scope.update(scope)
                assert (await socket.connect())[0]
                reply = await self.ask(frame, socket)
                assert reply.get("response_status", reply.get("code")) == 403, (address, scope)
                assert reply.get("data") is None
                await socket.disconnect()

    @async_test
    async def test_who_logs_out_or_is_deactivated_hears_no_more(self) -> None:
        """D-13: permissions were asked when a subscription began, and of the user of that time."""
        ada = await self.person("ada")
        hers = await self.open(ada)
        for number, socket in enumerate((self.socket, hers)):
            await self.follow(socket, request_id=number, model="app.Note", value=1)
        cookie = dict(self.socket.scope["headers"])[b"cookie"].decode().partition("=")[2]

        def log_out() -> None:
            client = Client()
            client.cookies[settings.SESSION_COOKIE_NAME] = cookie
            client.logout()

        await database(log_out)()
        await database(get_user_model().objects.filter(pk=ada.pk).update)(is_active=False)
        await database(Note.objects.create)(pk=1, text="for members")
        for number, socket in enumerate((self.socket, hers)):
            (end,) = await self.all_from(socket)
            assert (end["type"], end["request_id"], end["code"]) == ("error", number, 403)
            again = await self.ask({"request_id": 9, "model": "app.Note", "value": 1}, socket)
            assert again["code"] == 403

    @async_test
    async def test_object_permissions_are_asked_of_actions(self) -> None:
        """D-14: `has_object_permission` was never called."""
        await self.write(1, "private")
        socket = await self.open(self.user, "/items/")
        for frame in (
            {"action": "retrieve", "pk": 1},
            {"action": "patch", "pk": 1, "data": {"text": "mine"}},
            {"action": "delete", "pk": 1},
            {"action": "subscribe_instance", "pk": 1, "request_id": 1},
        ):
            reply = await self.ask(frame, socket)
            assert (reply["response_status"], reply["data"]) == (403, None), frame
        assert (await database(Item.objects.get)()).text == "private"

    @async_test
    async def test_what_filters_hide_is_not_even_said_to_be_gone(self) -> None:
        """D-25: rows that nobody was shown were announced as gone, with their keys."""
        folder = await database(Folder.objects.create)(name="f")
        draft = await database(Item.objects.create)(pk=1, text="draft", folder=folder)
        await self.follow(request_id=1, model="app.Item", group_by="folder_id", value=folder.pk)
        await self.follow(type="subscribe", id=2, model="app.Item", action="list")
        await self.write(1, "draft, second")
        await database(draft.delete)()
        assert await self.all_from() == []
        await database(Item.objects.create)(pk=2, text="out", folder=folder)
        assert [f["action"] for f in await self.all_from()] == ["CREATED"] * 2
