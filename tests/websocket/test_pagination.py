"""Lists in pages, asked for one by one or streamed."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.routing import URLRouter
from django.test import override_settings
from django.urls import path
from rest_framework.filters import SearchFilter
from rest_framework.pagination import PageNumberPagination

from drf_concord.testing import async_test, settle
from drf_concord.websocket import GenericAsyncAPIConsumer
from drf_concord.websocket.mixins import (
    ListModelMixin,
    PaginatedModelListMixin,
    StreamedPaginatedListMixin,
)
from drf_concord.websocket.pagination import WebsocketLimitOffsetPagination
from tests.app import models, views

from .cases import SocketCase, database, until


class Bare(GenericAsyncAPIConsumer):
    queryset = models.Note.objects.all()
    serializer_class = views.serializer_for(models.Note, ["text"])
    filter_backends = [SearchFilter]
    search_fields = ["text"]


class Paged(PaginatedModelListMixin, Bare):
    """As our own pages are."""


class Numbered(ListModelMixin, Bare):
    """As REST framework's are."""

    class pagination_class(PageNumberPagination):
        page_size = 2


class Twos(WebsocketLimitOffsetPagination):
    default_limit = 2
    max_limit = 3


class Streamed(StreamedPaginatedListMixin, Bare):
    pagination_class = Twos


class Held(Streamed):
    """Waits between its pages until the test lets it go on, or for ever."""

    sleep_time_between_pages = 3600


class Pages(SocketCase):
    application = URLRouter(
        [
            path("paged/", Paged.as_asgi()),
            path("numbered/", Numbered.as_asgi()),
            path("streamed/", Streamed.as_asgi()),
            path("held/", Held.as_asgi()),
        ]
    )
    path = "/paged/"

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        await database(models.Note.objects.bulk_create)([models.Note(text=f"n{n}") for n in range(5)])

    async def page(self, path: str = "/paged/", **frame: Any) -> Any:
        socket = await self.open(path=path)
        return await self.ask({"action": "list", "request_id": 1, **frame}, socket)

    @staticmethod
    def texts(*numbers: int) -> list[Any]:
        return [{"text": f"n{n}"} for n in numbers]

    @async_test
    async def test_limit_and_offset(self) -> None:
        for frame, limit, offset, numbers in (
            ({}, 25, 0, range(5)),
            ({"limit": 2}, 2, 0, (0, 1)),
            ({"limit": 2, "offset": 3}, 2, 3, (3, 4)),
            ({"limit": "2", "offset": "4"}, 2, 4, (4,)),
            ({"offset": 9}, 25, 9, ()),
            ({"limit": 10**6}, 10_000, 0, range(5)),
        ):
            reply = await self.page(**frame)
            results = self.texts(*numbers)
            assert reply["data"] == {"count": 5, "results": results, "limit": limit, "offset": offset}, frame
        with override_settings(REST_FRAMEWORK={"PAGE_SIZE": 3}):
            assert (await self.page())["data"]["limit"] == 3

    @async_test
    async def test_limits_that_are_none(self) -> None:
        for frame in (
            {"limit": 0},
            {"limit": -1},
            {"limit": "x"},
            {"offset": True},
            {"offset": 2**70},
            {"limit": []},
        ):
            reply = await self.page(**frame)
            assert reply["response_status"] == 400, frame
            assert list(reply["errors"][0]) == list(frame)

    @async_test
    async def test_pages_of_rest_framework_and_filters_by_query(self) -> None:
        reply = await self.page("/numbered/", query={"page": 2})
        assert (reply["data"]["count"], reply["data"]["results"]) == (5, self.texts(2, 3))
        assert (await self.page("/numbered/", query={"page": 9}))["response_status"] == 404
        assert (await self.page(query={"search": "n3"}))["data"]["results"] == self.texts(3)
        assert (await self.page(query=[1]))["response_status"] == 400

    @async_test
    async def test_streamed(self) -> None:
        socket = await self.open(path="/streamed/")
        await socket.send_json_to({"action": "list", "request_id": 1})
        frames = [await socket.receive_json_from() for _ in range(3)]
        assert {(f["action"], f["response_status"], f["request_id"]) for f in frames} == {("list", 200, 1)}
        assert [f["data"]["results"] for f in frames] == [self.texts(0, 1), self.texts(2, 3), self.texts(4)]
        assert [f["data"]["offset"] for f in frames] == [0, 2, 4]
        await settle()
        assert await socket.receive_nothing()
        await socket.send_json_to({"action": "list", "limit": 9, "offset": 1})
        frames = [await socket.receive_json_from() for _ in range(2)]
        assert [f["data"]["results"] for f in frames] == [self.texts(1, 2, 3), self.texts(4)]
        reply = await self.ask({"action": "list", "limit": "x"}, socket)
        assert reply["response_status"] == 400

    @async_test
    async def test_a_stream_that_is_cancelled(self) -> None:
        socket = await self.open(path="/held/")
        for number in (1, 2):
            assert (await self.ask({"action": "list", "request_id": number}, socket))["request_id"] == number
        running = [task for task in asyncio.all_tasks() if task.get_name() == "list"]
        assert len(running) == 2
        reply = await self.ask({"action": "list_cancel", "request_id": 3}, socket)
        assert (reply["response_status"], reply["data"]) == (204, None)
        await until(lambda: all(task.done() for task in running))
        assert await socket.receive_nothing()
