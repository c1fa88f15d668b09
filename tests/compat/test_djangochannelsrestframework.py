"""djangochannelsrestframework by its own paths: the names, the frames, the observers and the settings."""

from __future__ import annotations

from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import path
from rest_framework import generics as drf
from rest_framework.permissions import BasePermission as DRFPermission

from drf_concord.compat.djangochannelsrestframework.consumers import AsyncAPIConsumer, view_as_consumer
from drf_concord.compat.djangochannelsrestframework.decorators import action
from drf_concord.compat.djangochannelsrestframework.exceptions import ActionMissingException
from drf_concord.compat.djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from drf_concord.compat.djangochannelsrestframework.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PaginatedModelListMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    StreamedPaginatedListMixin,
    UpdateModelMixin,
)
from drf_concord.compat.djangochannelsrestframework.observer import model_observer
from drf_concord.compat.djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from drf_concord.compat.djangochannelsrestframework.observer.model_observer import Action
from drf_concord.compat.djangochannelsrestframework.pagination import WebsocketLimitOffsetPagination
from drf_concord.compat.djangochannelsrestframework.permissions import AllowAny, IsAuthenticated
from drf_concord.compat.djangochannelsrestframework.settings import api_settings
from drf_concord.testing import async_test
from tests.app import models, views
from tests.websocket.cases import SocketCase, database

from .paths import found_at, rows_of

ACTIONS = ["Create", "Delete", "List", "Patch", "Retrieve", "Update"]
TABLE = {
    "consumers": {
        "AsyncAPIConsumer": "<websocket.consumers.AsyncAPIConsumer",
        "GenericAsyncAPIConsumer": "<websocket.generics.GenericAsyncAPIConsumer",
        "DjangoViewAsConsumer": "websocket.viewed.DjangoViewAsConsumer",
        "view_as_consumer": "websocket.view_as_consumer",
    },
    "decorators": {"action": "websocket.decorators.action"},
    "generics": {"GenericAsyncAPIConsumer": "<websocket.generics.GenericAsyncAPIConsumer"},
    "mixins": {
        **{f"{name}ModelMixin": f"websocket.mixins.{name}ModelMixin" for name in ACTIONS},
        "PaginatedModelListMixin": "<websocket.mixins.PaginatedModelListMixin",
        "StreamedPaginatedListMixin": "<websocket.mixins.StreamedPaginatedListMixin",
    },
    "pagination": {"WebsocketLimitOffsetPagination": "<websocket.pagination.WebsocketLimitOffsetPagination"},
    "observer": {
        "model_observer": "websocket.observers.model_observer",
        "observer": "websocket.observers.observer",
    },
    "observer.model_observer": {
        "ModelObserver": "websocket.observers.ModelObserver",
        "Action": "websocket.Action",
    },
    "observer.generics": {
        "ObserverModelInstanceMixin": "websocket.instances.ObserverModelInstanceMixin",
        "action": "websocket.decorators.action",
    },
    "permissions": {
        "AllowAny": "<websocket.permissions.BasePermission",
        "BasePermission": "<websocket.permissions.BasePermission",
        "IsAuthenticated": "<websocket.permissions.BasePermission",
        "WrappedDRFPermission": "<websocket.permissions.BasePermission",
    },
    "apps": {"DjangoChannelsRestFrameworkConfig": "<compat.installing.BesideConcord"},
}
NoteSerializer = views.serializer_for(models.Note, ["id", "text"])


@pytest.mark.parametrize(("module", "name", "ours"), rows_of(TABLE))
def test_paths(module: str, name: str, ours: str) -> None:
    found, expected = found_at("djangochannelsrestframework", module, name, ours)
    assert issubclass(found, expected) if ours[0] == "<" else found is expected


class Notes(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    UpdateModelMixin,
    CreateModelMixin,
    DeleteModelMixin,
    ObserverModelInstanceMixin,
    GenericAsyncAPIConsumer,
):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = NoteSerializer

    async def get_action_name(self, content: Any) -> Any:
        if "nothing" in content:
            raise ActionMissingException
        return await super().get_action_name(content)

    @model_observer(models.Note, serializer_class=NoteSerializer)
    async def note_activity(self, message: Any, message_type: str, action: Action, **kwargs: Any) -> None:
        await self.send_json({"body": message, "action": action, "type": message_type})

    @action()
    async def follow(self, request_id: Any, **kwargs: Any) -> Any:
        await self.note_activity.subscribe(request_id=request_id)
        return {}, 201


class Pages(PaginatedModelListMixin, GenericAsyncAPIConsumer):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = NoteSerializer


class Stream(StreamedPaginatedListMixin, GenericAsyncAPIConsumer):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = NoteSerializer


class FixedPages(Pages):
    class pagination_class(WebsocketLimitOffsetPagination):
        default_limit = 2


class Hooks(AsyncAPIConsumer):
    """Opens and ends by the hooks of before."""

    permission_classes = [AllowAny]
    told: list[Any] = []

    async def websocket_connect(self, message: Any) -> None:
        self.told.append(message)
        await super().websocket_connect(message)

    async def websocket_disconnect(self, message: Any) -> None:
        self.told.append(message)
        await super().websocket_disconnect(message)

    @action()
    async def greet(self, **kwargs: Any) -> Any:
        return "hello", 200


class NoteView(drf.ListAPIView[models.Note]):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = NoteSerializer


class Nobody(DRFPermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return False


class Case(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("notes/", Notes.as_asgi()),
                path("pages/", Pages.as_asgi()),
                path("stream/", Stream.as_asgi()),
                path("fixed/", FixedPages.as_asgi()),
                path("hooks/", Hooks.as_asgi()),
                path("view/", view_as_consumer(NoteView.as_view())),
            ]
        )
    )
    path = "/notes/"
    reset_sequences = True

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        await database(models.Note.objects.bulk_create)(
            [models.Note(pk=n, text=f"n{n}") for n in (102, 103, 104)]
        )


def reply(action: Any, status: int, data: Any = None, errors: Any = ()) -> dict[str, Any]:
    known = {"action": action, "errors": list(errors), "response_status": status}
    return {**known, "request_id": 7, "data": data}


class Frames(Case):
    @async_test
    async def test_the_table(self) -> None:
        rows = [{"id": n, "text": f"n{n}"} for n in (102, 103, 104)]
        second = {"id": 102, "text": "b"}
        required = {"text": ["This field may not be null."]}
        for frame, expected in (
            ({"action": "list"}, reply("list", 200, rows)),
            ({"action": "retrieve", "pk": 102}, reply("retrieve", 200, rows[0])),
            ({"action": "patch", "pk": 102, "data": {"text": "b"}}, reply("patch", 200, second)),
            ({"action": "update", "pk": 102, "data": {"text": "b"}}, reply("update", 200, second)),
            ({"action": "create", "data": {"text": None}}, reply("create", 400, errors=[required])),
            ({"action": "delete", "pk": 104}, reply("delete", 204)),
            ({"action": "retrieve", "pk": 104}, reply("retrieve", 404, errors=["Not found"])),
            ({"action": "fly"}, reply("fly", 405, errors=['Method "fly" not allowed.'])),
            ({}, reply(None, 405, errors=["Unable to find action in message body."])),
            ({"nothing": 1}, reply(None, 405, errors=["Unable to find action in message body."])),
        ):
            assert await self.ask({**frame, "request_id": 7}) == expected, frame
        made = await self.ask({"action": "create", "data": {"text": "new"}})
        assert (made["response_status"], made["data"]["text"], made["request_id"]) == (201, "new", None)

    @async_test
    async def test_an_object_is_followed(self) -> None:
        asked = {"action": "subscribe_instance", "pk": 102, "request_id": 7}
        assert await self.ask(asked) == reply("subscribe_instance", 201)
        await database(models.Note.objects.filter(pk=102).update)(text="b")
        assert await self.socket.receive_json_from() == reply("update", 200, {"id": 102, "text": "b"})
        await database(models.Note.objects.filter(pk=102).delete)()
        assert await self.socket.receive_json_from() == reply("delete", 204, {"pk": 102})
        asked = {"action": "unsubscribe_instance", "pk": 102, "request_id": 7}
        assert await self.ask(asked) == reply("unsubscribe_instance", 204)

    @async_test
    async def test_a_model_is_observed(self) -> None:
        assert await self.ask({"action": "follow", "request_id": 7}) == reply("follow", 201, {})
        await database(models.Note.objects.filter(pk=103).update)(text="b")
        assert await self.socket.receive_json_from() == {
            "body": {"id": 103, "text": "b"},
            "action": "update",
            "type": "note.activity",
        }

    @async_test
    async def test_a_view(self) -> None:
        socket = await self.open(path="/view/")
        answer = await self.ask({"action": "list", "request_id": 7}, socket)
        assert answer == reply("list", 200, [{"id": n, "text": f"n{n}"} for n in (102, 103, 104)])

    @async_test
    async def test_the_hooks_of_the_socket(self) -> None:
        Hooks.told = []
        socket = await self.open(path="/hooks/")
        await socket.disconnect(1001)
        assert Hooks.told == [
            {"type": "websocket.connect"},
            {"type": "websocket.disconnect", "code": 1001},
        ]


def api(**values: Any) -> Any:
    return override_settings(DJANGO_CHANNELS_REST_API=values)


class Settings(Case):
    @async_test
    async def test_the_size_of_pages(self) -> None:
        pages, fixed = await self.open(path="/pages/"), await self.open(path="/fixed/")
        for values, socket, limit in (
            ({}, pages, 25),
            ({"PAGE_SIZE": 1}, pages, 1),
            ({"PAGE_SIZE": 1}, fixed, 2),
        ):
            with api(**values):
                data = (await self.ask({"action": "list"}, socket))["data"]
            assert list(data) == ["count", "results", "limit", "offset"]
            assert (data["count"], data["limit"], len(data["results"])) == (3, limit, min(limit, 3))
        asked = (await self.ask({"action": "list", "limit": 1, "offset": 1}, pages))["data"]
        assert (asked["limit"], asked["offset"], asked["results"][0]["id"]) == (1, 1, 103)

    @async_test
    async def test_pages_are_streamed(self) -> None:
        with api(PAGE_SIZE=2):
            socket = await self.open(path="/stream/")
            await socket.send_json_to({"action": "list", "request_id": 7})
            told = [await socket.receive_json_from() for _ in range(2)]
        assert [[each["id"] for each in page["data"]["results"]] for page in told] == [[102, 103], [104]]

    @async_test
    async def test_the_class_of_pages(self) -> None:
        with api(DEFAULT_PAGINATION_CLASS="tests.compat.pages.Two"):
            answer = await self.ask({"action": "list"}, await self.open(path="/pages/"))
        assert len(answer["data"]["results"]) == 2

    @async_test
    async def test_the_permissions(self) -> None:
        own = "drf_concord.compat.djangochannelsrestframework.permissions.IsAuthenticated"
        with api(DEFAULT_PERMISSION_CLASSES=[own]):
            assert [IsAuthenticated] == api_settings.DEFAULT_PERMISSION_CLASSES
            assert (await self.ask({"action": "list"}))["response_status"] == 200
            stranger = await self.open()
            assert (await self.ask({"action": "list"}, stranger))["response_status"] == 403
            for_all = await self.ask({"action": "greet"}, await self.open(path="/hooks/"))
            assert for_all["response_status"] == 200, "the classes of a consumer win"
        with api(DEFAULT_PERMISSION_CLASSES=[Nobody]):
            refused = ["You do not have permission to perform this action."]
            answer = await self.ask({"action": "list", "request_id": 7})
            assert answer == reply("list", 403, errors=refused)


def test_a_setting_that_is_none() -> None:
    with pytest.raises(AttributeError, match="Invalid API setting: 'COLOUR'"):
        _ = api_settings.COLOUR
