"""Rows of other models that change what a view shows."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers, viewsets

from drf_concord.live import RealtimeMixin, mixins
from drf_concord.testing import APICommunicator, async_test, get_headers_for_user
from drf_concord.triggers.plan import captured_models
from drf_concord.websocket import RealtimeRouter
from tests.app import models

from .cases import SocketCase, database


class OwnerSerializer(serializers.ModelSerializer):
    items = serializers.SerializerMethodField()

    class Meta:
        model = get_user_model()
        fields = ["id", "items"]

    def get_items(self, user: Any) -> list[str]:
        return sorted(user.item_set.values_list("text", flat=True))


class LiveOwners(RealtimeMixin, viewsets.ModelViewSet):
    """Shows with each user what is his."""

    serializer_class = OwnerSerializer
    depends_on = {"app.Item": "owner"}


def view_with(**depends_on: Any) -> Any:
    return type("View", (LiveOwners,), {"depends_on": depends_on.get("of", depends_on)})


class Depending(SocketCase):
    async def follow(self, view: Any, **more: Any) -> APICommunicator:
        router = RealtimeRouter()
        router.register(view)
        application = AuthMiddlewareStack(router.consumer)
        headers = await get_headers_for_user(self.user)
        socket = APICommunicator(application, "/", headers, subprotocols=["concord.v1"])
        await socket.connect()
        self.opened.append(socket)
        assert (await socket.receive_json_from())["type"] == "welcome"
        frame = {"action": "subscribe", "request_id": 1, "model": "auth.User", **more}
        await socket.send_json_to(frame)
        return socket

    async def items(self, socket: APICommunicator) -> list[tuple[str, list[str]]]:
        """Return what was told of this case's own user."""
        return [
            (change["action"], change["instance"]["items"])
            for frame in await self.all_from(socket)
            for change in frame.get("changes", ())
            if change["pk"] == self.user.pk
        ]

    @async_test
    async def test_a_row_that_comes_changes_moves_and_goes(self) -> None:
        ada = await self.person("ada")
        for more in ({}, {"value": self.user.pk}):
            socket = await self.follow(LiveOwners, **more)
            assert await self.items(socket) == []
            item = await database(models.Item.objects.create)(text="a", owner=self.user)
            assert await self.items(socket) == [("UPDATED", ["a"])]
            await database(models.Item.objects.update)(text="b")
            assert await self.items(socket) == [("UPDATED", ["b"])]
            await database(models.Item.objects.update)(owner=ada)
            assert await self.items(socket) == [("UPDATED", [])]
            await database(models.Item.objects.update)(owner=self.user)
            await database(item.delete)()
            assert await self.items(socket) == [("UPDATED", [])]

    @async_test
    async def test_each_change_of_such_a_row_is_one_event(self) -> None:
        await database(models.Item.objects.create)(text="a", owner=self.user)
        socket = await self.follow(LiveOwners, mode="events")
        assert await self.items(socket) == []
        await database(models.Item.objects.update)(text="b")
        await database(models.Item.objects.update)(text="c")
        assert await self.items(socket) == [("UPDATED", ["c"])] * 2

    @async_test
    async def test_where_it_is_not_recorded_nobody_is_left_to_believe_it(self) -> None:
        recorded = [model for model in captured_models() if model is not models.Item]
        for depends_on, named, logged in (
            ({models.Item: "owner"}, "app.Item", 'Add "app.Item"'),
            ({models.Item: "text"}, "what the view depends on", "View.depends_on: app.Item.text"),
            ({None: "text"}, "what the view depends on", "View.depends_on cannot be read"),
        ):
            with (
                mock.patch.object(mixins, "captured_models", return_value=recorded),
                self.assertLogs("drf_concord") as logs,
            ):
                socket = await self.follow(view_with(of=depends_on))
                frame = await socket.receive_json_from()
            assert (frame["type"], frame["code"]) == ("error", 500)
            assert named in frame["message"]
            assert logged in logs.output[0]


@pytest.mark.parametrize(
    ("depends_on", "said"),
    [
        ({"app.Nothing": "owner"}, "Nothing"),
        ({"nonsense": "owner"}, "'nonsense' is no model"),
        ({"app.Item": "nobody"}, "nobody"),
        ({"app.Item": "text"}, "app.Item.text is no foreign key to the primary key of auth.User"),
        ({"app.Item": "folder"}, "app.Item.folder is no foreign key"),
        ({"app.Item": "tags"}, "app.Item.tags is no foreign key"),
        ({"app.Folder": "items"}, "app.Folder.items is no foreign key"),
    ],
)
def test_what_names_no_object_of_the_view(depends_on: dict[str, str], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^View\.depends_on: ") as caught:
        view_with(of=depends_on).dependents()
    assert said in str(caught.value)


def test_a_key_that_the_log_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.Item, "concord_routes", ["folder"])
    with pytest.raises(ImproperlyConfigured, match=r"name it in app\.Item\.concord_routes"):
        view_with(of={"app.Item": "owner"}).dependents()
