"""Live subscriptions to views of REST framework: which views, what is pushed, what the view sees."""

from __future__ import annotations

from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter
from django.core.exceptions import ImproperlyConfigured
from rest_framework.generics import GenericAPIView
from rest_framework.viewsets import ModelViewSet

from drf_concord.live import RealtimeMixin
from drf_concord.testing import APICommunicator, async_test, get_headers_for_user
from drf_concord.websocket import RealtimeRouter
from tests.app.models import Folder, Item, Note, Slugged, Texted
from tests.kinds.models import Managed
from tests.websocket.cases import database

from . import live
from .live import ItemSerializer, ItemViewSet, LiveCase, application, router

ITEM = "app.Item"


def test_the_model_is_that_of_the_queryset_else_of_the_serializer() -> None:
    class Told(RealtimeMixin, GenericAPIView):
        queryset = Note.objects.none()
        serializer_class = ItemSerializer

    assert Told.get_model_class() is Note
    assert ItemViewSet.get_model_class() is Item


def test_a_view_that_names_no_model_is_told_the_remedy() -> None:
    class Unnamed(RealtimeMixin, ModelViewSet):
        def get_queryset(self) -> Any:
            return Note.objects.all()

        def get_serializer_class(self) -> Any:
            return ItemSerializer

    with pytest.raises(ImproperlyConfigured, match=r"Unnamed .*queryset = Model\.objects\.none\(\)"):
        RealtimeRouter().register(Unnamed)


def test_a_router_is_one_application_by_both_names() -> None:
    assert router.as_consumer() is router.consumer


class Views(LiveCase):
    """Which views can be followed, and what they see."""

    async def connected(self, path: str, headers: Any = (), app: Any = application) -> bool:
        socket = APICommunicator(app, path, headers)
        connected, _ = await socket.connect()
        if connected:
            await socket.disconnect()
        return connected

    @async_test
    async def test_any_generic_view_may_have_the_mixin_before_or_after_its_bases(self) -> None:
        labels = [ITEM, "app.Note", "kinds.Managed", "app.Slugged"]
        for number, label in enumerate(labels):
            await self.begin(request_id=number, model=label, value=1)
        await database(Item.objects.create)(text="x")
        await database(Note.objects.create)(text="x")
        await database(Managed.everything.create)(text="x")
        await database(Slugged.objects.create)(title="x")
        assert sorted(await self.news()) == [(number, "CREATED", 1) for number in range(4)]

    @async_test
    async def test_without_a_queryset_the_rows_are_the_default_managers(self) -> None:
        await self.begin(request_id=1, model="kinds.Managed", value=1)
        await database(Managed.everything.create)(pk=1, text="x", idle=True)
        assert await self.news() == []
        await database(Managed.everything.filter(pk=1).update)(idle=False)
        assert await self.news() == [(1, "CREATED", 1)]

    @async_test
    async def test_a_router_mounts_under_both_names_and_alone(self) -> None:
        headers = await get_headers_for_user(self.user)
        assert await self.connected("/ws/consumer/", headers)
        assert await self.connected("/ws/consumer/")
        assert not await self.connected("/ws/members/")
        assert await self.connected("/ws/members/", headers)
        alone = ProtocolTypeRouter({"websocket": router.consumer})
        assert await self.connected("/anywhere/", app=alone)

    @async_test
    async def test_the_origin_is_checked_however_the_router_is_mounted(self) -> None:
        for app in (application, router.consumer, live.validated):
            foreign = [(b"origin", b"https://evil.example")]
            own = [(b"origin", b"http://testserver")]
            assert not await self.connected("/ws/subscribe/", foreign, app)
            assert await self.connected("/ws/subscribe/", own, app)
        for app in (application, router.consumer):
            assert await self.connected("/ws/subscribe/", app=app)

    @async_test
    async def test_the_same_socket_takes_actions_for_every_view(self) -> None:
        made = await self.asked({"action": "create", "model": ITEM, "data": {"text": "a"}, "request_id": 1})
        shown = {"id": 1, "text": "a", "folder": None}
        head = {"action": "create", "errors": [], "response_status": 201, "request_id": 1}
        assert (list(made), made) == ([*head, "data"], {**head, "data": shown})
        for frame, status, data in (
            ({"action": "list"}, 200, [shown]),
            ({"action": "retrieve", "pk": 1}, 200, shown),
            ({"action": "patch", "pk": 1, "data": {"text": "b"}}, 200, {**shown, "text": "b"}),
            ({"action": "update", "pk": 1, "data": {"text": "c"}}, 200, {**shown, "text": "c"}),
            ({"action": "delete", "pk": 1}, 204, None),
        ):
            reply = await self.asked({**frame, "model": ITEM})
            assert (reply["response_status"], reply["data"]) == (status, data), frame
        assert (await self.asked({"action": "list", "model": "app.Note"}))["data"] == []

    @async_test
    async def test_the_view_sees_the_request_that_opened_the_socket(self) -> None:
        await self.begin(request_id=1, model=ITEM, value=1, arguments={"shelf": "top"})
        await self.begin(request_id=2, model=ITEM, group_by="id", value=1)
        folder = await database(Folder.objects.create)(name="f")
        await self.begin(request_id=3, model=ITEM, group_by="folder_id", value=folder.pk)
        ItemViewSet.seen.clear()
        await database(Item.objects.create)(text="x", folder=folder)
        await self.frames()
        seen = ItemViewSet.seen
        assert {(s["action"], s["user"], s["language"]) for s in seen} == {
            ("retrieve", "guido", "nl"),
            ("list", "guido", "nl"),
        }
        assert [s["kwargs"] for s in seen if s["kwargs"]] == [{"shelf": "top"}]
        cookie = dict(self.socket.scope["headers"])[b"cookie"].decode()
        assert {f"sessionid={s['session']}" for s in seen} == {cookie}


class Pushed(LiveCase):
    """What is pushed, and when."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.folders = [await database(Folder.objects.create)(name=name) for name in "ab"]

    @async_test
    async def test_an_object_from_its_beginning_to_its_end(self) -> None:
        # a value goes through the field's conversion; that there is no such object yet is no error
        await self.begin(request_id=1337, model=ITEM, value="1")
        pushed = {"type": "broadcast", "request_id": 1337, "model": ITEM}
        await database(Item.objects.create)(text="x")
        shown = {"id": 1, "text": "x", "folder": None}
        frame = await self.socket.receive_json_from()
        assert (list(frame), frame) == (
            [*pushed, "action", "instance"],
            {**pushed, "action": "CREATED", "instance": shown},
        )
        await database(Item.objects.filter(pk=1).update)(text="y")
        assert await self.socket.receive_json_from() == {
            **pushed,
            "action": "UPDATED",
            "instance": {**shown, "text": "y"},
        }
        await database(Item.objects.filter(pk=1).delete)()
        assert await self.socket.receive_json_from() == {
            **pushed,
            "action": "DELETED",
            "instance": {"pk": 1, "id": 1},
        }

    @async_test
    async def test_what_may_not_be_seen_yet_is_created_when_it_may(self) -> None:
        await database(Item.objects.create)(text="hidden")
        await self.begin(request_id=1, model=ITEM, value=1)
        await database(Item.objects.filter(pk=1).update)(text="shown")
        assert await self.news() == [(1, "CREATED", 1)]
        await database(Item.objects.filter(pk=1).update)(text="hidden")
        assert await self.news() == [(1, "DELETED", 1)]

    @async_test
    async def test_what_moves_leaves_one_group_and_enters_another(self) -> None:
        first, second = self.folders
        item = await database(Item.objects.create)(text="x", folder=first)
        await self.begin(request_id=14, model=ITEM, group_by="folder_id", value=first.pk)
        await self.begin(request_id=15, model=ITEM, group_by="folder_id", value=str(second.pk))
        item.folder = second
        await database(item.save)()
        assert sorted(await self.news()) == [(14, "DELETED", 1), (15, "CREATED", 1)]

    @async_test
    async def test_id_is_another_name_for_pk_and_pk_is_the_default(self) -> None:
        await self.begin(request_id=1, model="app.Note", group_by="id", value=1)
        await self.begin(request_id=2, model="app.Note", group_by="pk", value=1)
        await self.begin(request_id=3, model="app.Note", value=1)
        await database(Note.objects.create)(text="x")
        assert sorted(await self.news()) == [(n, "CREATED", 1) for n in (1, 2, 3)]
        frame = {"request_id": 4, "model": "app.Note", "group_by": "text", "value": "x"}
        assert (await self.asked(frame))["code"] == 400

    @async_test
    async def test_arguments_are_the_views(self) -> None:
        frame = {"model": "app.Texted", "group_by": "pk", "value": "one"}
        await self.begin(request_id=1, **frame, arguments={"text": "good"})
        await self.begin(request_id=2, **frame, arguments={"text": "other"})
        await database(Texted.objects.create)(code="one", text="good")
        (pushed,) = await self.frames()
        assert (pushed["request_id"], pushed["instance"]) == (1, {"code": "one", "text": "good"})

    @async_test
    async def test_what_is_gone_is_named_by_the_lookup_field_too(self) -> None:
        thing = await database(Slugged.objects.create)(title="A title")
        await self.begin(request_id=1, model="app.Slugged", value=thing.pk)
        pk = thing.pk
        await database(thing.delete)()
        (frame,) = await self.frames()
        assert frame["instance"] == {"pk": pk, "id": pk, "slug": "a-title"}

    @async_test
    async def test_after_unsubscribe_there_is_nothing(self) -> None:
        await self.begin(request_id=1338, model=ITEM, value=1)
        await self.begin(request_id=1339, model=ITEM, value=1)
        await self.begin(request_id=1338, action="unsubscribe")
        await database(Item.objects.create)(text="x")
        assert await self.news() == [(1339, "CREATED", 1)]
        # its request_id is free again
        await self.begin(request_id=1338, model=ITEM, value=1)
