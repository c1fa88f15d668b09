"""Conditions over a websocket: on a view that compares no tags they are refused, and none are given."""

from __future__ import annotations

from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.urls import path
from rest_framework import generics
from rest_framework import mixins as drf_mixins
from rest_framework import viewsets as drf_viewsets

from drf_concord.live import RealtimeMixin
from drf_concord.live.views import compares_tags, compares_versions
from drf_concord.rest import mixins, viewsets
from drf_concord.rest.decorators import optimistic_concurrency_control
from drf_concord.testing import async_test
from drf_concord.websocket import RealtimeRouter
from tests.app import models, views

from .cases import SocketCase, database


class PlainItems(drf_viewsets.ModelViewSet, RealtimeMixin):
    """REST framework's own: it knows nothing of If-Match."""

    queryset = models.Item.objects.all()
    serializer_class = views.serializer_for(models.Item, ["id", "text"])


class OwnItems(viewsets.ModelViewSet, RealtimeMixin):
    """The same, of ours."""

    queryset = models.Item.objects.all()
    serializer_class = PlainItems.serializer_class


class ContentItems(OwnItems):
    """Its tag is what it shows."""

    etag_from = "content"


router = RealtimeRouter()
router.register(PlainItems)
content = RealtimeRouter()
content.register(ContentItems)
guarded = RealtimeRouter()
guarded.register(OwnItems)


class PlainViews(SocketCase):
    application: Any = AuthMiddlewareStack(
        URLRouter(
            [
                path("ws/", router.consumer),
                path("guarded/", guarded.consumer),
                path("content/", content.consumer),
            ]
        )
    )

    def make(self) -> None:
        models.Item.objects.create(pk=1, text="a")

    @async_test
    async def test_a_condition_that_nobody_would_compare_is_refused(self) -> None:
        await database(self.make)()
        frame = {"model": "app.Item", "pk": 1, "data": {"text": "b"}, "if_match": '"1-0"'}
        for action in ("patch", "update", "delete"):
            answer = await self.ask({"action": action, **frame})
            assert answer["response_status"] == 400
            assert answer["errors"][0]["code"] == "malformed_precondition"
        assert await database(lambda: models.Item.objects.get().text)() == "a"
        plain = await self.ask({"action": "patch", **frame, "if_match": None})
        assert plain["response_status"] == 200

    @async_test
    async def test_a_tag_that_would_never_match_is_not_given(self) -> None:
        await database(self.make)()
        socket = await self.open(self.user, "/content/", session=True)
        frame = {"request_id": 1, "model": "app.Item"}
        await self.ask({"action": "subscribe", "snapshot": True, **frame}, socket)
        assert (await socket.receive_json_from())["items"][0]["etag"] is None
        await self.all_from(socket)
        read = await self.ask({"action": "retrieve", "pk": 1, **frame, "request_id": 2}, socket)
        write = {"pk": 1, "data": {"text": "b"}, "if_match": read["etag"], **frame, "request_id": 3}
        assert (await self.ask({"action": "patch", **write}, socket))["response_status"] == 200

    @async_test
    async def test_only_a_view_that_compares_tags_gives_them(self) -> None:
        await database(self.make)()
        ours = await self.open(self.user, "/guarded/", session=True)
        theirs = await self.open(self.user, session=True)
        subscribe = {"action": "subscribe", "request_id": 1, "model": "app.Item", "snapshot": True}
        tags = []
        for socket in (ours, theirs):
            await self.ask(subscribe, socket)
            tags.append((await socket.receive_json_from())["items"][0]["etag"])
        assert tags[0] is not None
        assert tags[1] is None


@optimistic_concurrency_control
class Controlled(generics.RetrieveUpdateAPIView):
    """REST framework's own, under the decorator."""


@optimistic_concurrency_control(lambda view: view.get_object().text)
class ByText(OwnItems):
    """Ours, with the tag of a function."""


@optimistic_concurrency_control
class ByVersion(OwnItems):
    """Ours, with the tag that it has anyway."""


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (OwnItems, True),
        (ByVersion, True),
        (PlainItems, False),
        (ContentItems, False),
        (ByText, False),
        (Controlled, False),
    ],
)
def test_whose_versions_are_tags(view: Any, expected: bool) -> None:
    assert compares_versions(view) is expected


class Mixed(drf_mixins.UpdateModelMixin, viewsets.GenericViewSet):
    """Ours by its base, and REST framework's by its update."""


class Before(mixins.UpdateModelMixin, mixins.DestroyModelMixin, drf_viewsets.ModelViewSet):
    """Ours go before."""


class Overridden(viewsets.ModelViewSet):
    """A method of the project's, which calls ours."""

    def update(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().update(request, *args, **kwargs)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (PlainItems, False),
        (generics.RetrieveUpdateAPIView, False),
        (generics.DestroyAPIView, False),
        (Mixed, False),
        (OwnItems, True),
        (Before, True),
        (Overridden, True),
        (Controlled, True),
        (drf_viewsets.ReadOnlyModelViewSet, True),
    ],
)
def test_who_compares_tags(view: Any, expected: bool) -> None:
    assert compares_tags(view) is expected
