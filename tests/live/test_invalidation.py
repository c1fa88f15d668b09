"""What the log cannot see, said by the project: every hub forgets, or looks again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import RequestFactory
from django.urls import path
from django.utils.functional import SimpleLazyObject
from rest_framework import serializers
from rest_framework.permissions import BasePermission

from drf_concord import changes
from drf_concord.live import RealtimeMixin, invalidate
from drf_concord.live.callers import Caller
from drf_concord.live.hub import Hub
from drf_concord.live.looks import Spec
from drf_concord.live.members import Member
from drf_concord.models import Change
from drf_concord.protocol.changes import Position
from drf_concord.protocol.session import Rendered
from drf_concord.rest import viewsets
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import RealtimeRouter
from tests.app import models
from tests.websocket.cases import SocketCase, database
from tests.websocket.shelf import ShelfCase

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]

WEATHER: dict[str, str] = {}
"""Another service, which answers by the text of an item; "sun" where it says nothing."""
BARRED: set[str] = set()
"""Another service, which says who may not come in."""


class NotBarred(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user.username not in BARRED


class ItemSerializer(serializers.ModelSerializer):
    weather = serializers.SerializerMethodField()

    class Meta:
        model = models.Item
        fields = ["id", "text", "folder", "weather"]

    def get_weather(self, obj: models.Item) -> str:
        return WEATHER.get(obj.text, "sun")


class Weather(RealtimeMixin, viewsets.ModelViewSet):
    """Shows what no row says, to whom no row lets in."""

    queryset = models.Item.objects.all()
    serializer_class = ItemSerializer
    permission_classes = [NotBarred]
    group_by_fields = ["pk", "folder_id"]


class NoteSerializer(serializers.ModelSerializer):
    weather = serializers.SerializerMethodField()

    class Meta:
        model = models.Note
        fields = ["id", "weather"]

    def get_weather(self, obj: models.Note) -> str:
        return WEATHER.get("note", "sun")


class Notes(RealtimeMixin, viewsets.ModelViewSet):
    queryset = models.Note.objects.all()
    serializer_class = NoteSerializer


router = RealtimeRouter()
router.register_all([Weather, Notes])
ITEMS = {"action": "subscribe", "request_id": 1, "model": "app.Item", "snapshot": True}


@contextmanager
def elsewhere() -> Iterator[None]:
    try:
        yield
    finally:
        WEATHER.clear()
        BARRED.clear()


class Far:
    """The far end of a subscription at another hub."""

    sequenced = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def subscribed(self, how: str, position: Position) -> None: ...

    def snapshot(self, items: list[Rendered]) -> None: ...

    def deliver(self, changes: list[Rendered], *, more: bool) -> None:
        self.told += [(change.action, change.pk) for change in changes]

    def reset(self, code: str) -> None: ...

    def end(self, status: int, message: str) -> None:
        self.told.append(status)


class Invalidations(SocketCase):
    application = AuthMiddlewareStack(URLRouter([path("ws/", router.consumer)]))

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        for pk, text in ((1, "a"), (2, "b")):
            await database(models.Item.objects.create)(pk=pk, text=text)

    def run(self, result: Any = None) -> Any:
        with elsewhere():
            return super().run(result)

    async def follow(self, **more: Any) -> tuple[APICommunicator, list[Any]]:
        socket = await self.open(self.user, session=True)
        await socket.send_json_to({**ITEMS, **more})
        return socket, await self.all_from(socket)

    async def told(self, socket: APICommunicator) -> list[tuple[Any, ...]]:
        return [
            (c["action"], c["pk"], c.get("instance", {}).get("weather"))
            for frame in await self.all_from(socket)
            for c in frame.get("changes", ())
        ]

    # A model

    @async_test
    async def test_subscribers_are_told_what_differs_and_nothing_else(self) -> None:
        socket, _ = await self.follow()
        for named in (models.Item, "app.Item"):
            WEATHER["a"] = str(named)
            assert await self.told(socket) == []
            await database(invalidate)(model=named)
            assert await self.told(socket) == [("UPDATED", 1, str(named))]

    @async_test
    async def test_a_version_that_did_not_move_stays_the_version(self) -> None:
        socket, begun = await self.follow()
        WEATHER["a"] = "rain"
        await database(invalidate)(model=models.Item)
        [frame] = await self.all_from(socket)
        [change], [item, _] = frame["changes"], begun[1]["items"]
        assert (change["version"], change["etag"]) == (item["version"], item["etag"])

    @async_test
    async def test_of_one_object_too(self) -> None:
        await self.socket.send_json_to({"request_id": 1, "model": "app.Item", "value": 1})
        assert await self.socket.receive_nothing()
        await database(invalidate)(model=models.Item)
        assert await self.socket.receive_nothing()
        WEATHER["a"] = "rain"
        await database(invalidate)(model=models.Item)
        assert (await self.socket.receive_json_from())["instance"]["weather"] == "rain"

    @async_test
    async def test_who_was_shown_nothing_is_told_each_object_once(self) -> None:
        folder = await database(models.Folder.objects.create)(name="f")
        await database(models.Item.objects.update)(folder=folder)
        await self.socket.send_json_to(
            {"request_id": 1, "model": "app.Item", "group_by": "folder_id", "value": folder.pk}
        )
        assert await self.socket.receive_nothing()
        for times in (2, 0):
            await database(invalidate)(model=models.Item)
            assert len(await self.all_from()) == times

    @async_test
    async def test_another_model_is_left_alone_and_one_that_is_depended_on_is_not(self) -> None:
        socket, _ = await self.follow()
        WEATHER["a"] = "rain"
        for other in (models.Note, get_user_model()):
            await database(invalidate)(model=other)
            assert await self.told(socket) == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Weather, "dependents", classmethod(lambda cls: [(models.Note, "item_id")]))
            await database(invalidate)(model=models.Note)
            assert await self.told(socket) == [("UPDATED", 1, "rain")]

    @async_test
    async def test_a_snapshot_that_is_kept_for_others_is_not_kept(self) -> None:
        await self.follow()
        WEATHER["a"] = "rain"
        await database(invalidate)(model=models.Item)
        _, begun = await self.follow()
        assert [item["instance"]["weather"] for item in begun[1]["items"]] == ["rain", "sun"]

    @async_test
    async def test_who_was_away_is_told_when_he_comes_back(self) -> None:
        socket, begun = await self.follow()
        await socket.disconnect()
        self.opened.remove(socket)
        WEATHER["a"] = "rain"
        await database(invalidate)(model=models.Item)
        since = {name: begun[0][name] for name in ("epoch", "position")}
        for have in ([1, 2], [1, 2]):  # the second time what was said to the first may be said again
            _, (first, second) = await self.follow(since=since, have=have)
            assert first["how"] == "resumed"
            told = {c["pk"]: c["instance"]["weather"] for c in second["changes"]}
            assert told == {1: "rain", 2: "sun"}

    @async_test
    async def test_with_each_change_told_it_is_none(self) -> None:
        socket, _ = await self.follow(mode="events")
        await database(invalidate)(model=models.Item)
        assert await self.told(socket) == []
        WEATHER["a"] = "rain"
        await database(invalidate)(model=models.Item)
        assert await self.told(socket) == [("UPDATED", 1, "rain")]

    # A user

    @async_test
    async def test_a_user_who_may_no_longer_is_let_go_and_others_stay(self) -> None:
        ada = await self.person("ada")
        other = await self.open(ada, session=True)
        await other.send_json_to(ITEMS)
        await self.all_from(other)
        socket, _ = await self.follow()
        BARRED.update({self.user.username, ada.username})
        await settle()
        assert await self.all_from(socket) == []
        await database(invalidate)(user=self.user)
        [end] = await self.all_from(socket)
        assert (end["type"], end["code"]) == ("end", 403)
        assert await self.all_from(other) == []
        await database(invalidate)(user=str(ada.pk))
        [end] = await self.all_from(other)
        assert (end["type"], end["code"]) == ("end", 403)

    @async_test
    async def test_nothing_is_told_of_a_user_who_is_forgotten(self) -> None:
        socket, _ = await self.follow()
        await database(invalidate)(user=self.user, model=get_user_model())
        assert await self.all_from(socket) == []

    # Transactions and other hubs

    @async_test
    async def test_what_is_rolled_back_was_never_said(self) -> None:
        socket, _ = await self.follow()
        WEATHER["a"] = "rain"
        BARRED.add(self.user.username)

        def undone() -> None:
            with transaction.atomic():
                invalidate(user=self.user, model=models.Item)
                transaction.set_rollback(True)

        await database(undone)()
        assert await self.all_from(socket) == []

    @async_test
    async def test_every_hub_is_told(self) -> None:
        await self.follow()  # so that work is done on the test's own thread
        hub, far = Hub(), Far()
        scope = {"type": "websocket", "headers": [(b"host", b"testserver")], "user": self.user}
        member = Member(far, Caller(scope), Spec(Weather, models.Item, "list", None, None))
        await hub.follow(member, snapshot=True)
        WEATHER["a"] = "rain"
        await hub.drain()
        assert far.told == []
        await database(invalidate)(model=models.Item)
        await hub.drain()
        assert far.told == [("UPDATED", "1")]
        member.stale = False
        hub.listeners.add(listener := Socket(member))  # type: ignore[arg-type]
        BARRED.add(self.user.username)
        await database(invalidate)(user=self.user)
        await hub.drain()
        await listener.working
        assert far.told[1:] == [403]


class Socket:
    """A socket as the hub knows it."""

    def __init__(self, member: Member) -> None:
        self.caller = member.caller
        self.member = member
        self.working: Any = None

    def members(self) -> list[Member]:
        return [self.member]

    def spawn(self, work: Any) -> None:
        self.working = work


class Observers(ShelfCase):
    @async_test
    async def test_observers_are_told_of_no_write_that_never_was(self) -> None:
        shelf = await self.shelf()
        await database(models.Item.objects.create)(pk=1, text="a", folder=self.folders[0])
        await self.follow(shelf, folder=self.folders[0].pk)
        await database(invalidate)(model=models.Item, user=self.user)
        assert await self.all_from(shelf) == []


# The call


@pytest.mark.django_db(transaction=True)
def test_both_are_said_in_one_row_of_no_model() -> None:
    user = get_user_model().objects.create_user("ada")
    since = changes.position("default")
    invalidate(user=SimpleLazyObject(lambda: user), model="app.Item")  # as `request.user` is
    _, [change] = changes.read_after(since, using="default")
    assert (change.model, change.pk, change.version) == ("invalidate", "", None)
    assert change.routes == {"user": (None, str(user.pk)), "model": (None, "app.Item")}


class ItemProxy(models.Item):
    class Meta:
        proxy = True
        app_label = "app"


@pytest.mark.django_db
def test_a_proxy_stands_for_its_model() -> None:
    invalidate(model=ItemProxy)
    assert Change.objects.get(model="invalidate").routes == '{"model": [null, "app.Item"]}'


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, TypeError, "Name a user, a model, or both"),
        ({"user": None, "model": None}, TypeError, "Name a user, a model, or both"),
        ({"user": Group(pk=1)}, TypeError, "Group is not the user model, auth.User"),
        ({"user": "ada"}, ValueError, "'ada' is neither a user nor"),
        ({"user": True}, ValueError, "True is neither"),
        ({"user": RequestFactory()}, ValueError, "is neither a user nor"),
        ({"model": "Item"}, ValueError, 'Write it as "app.Model"'),
        ({"model": "app.Nothing"}, ValueError, "There is no model 'app.Nothing'"),
        ({"model": models.Item(pk=1)}, TypeError, "is no model"),
        ({"model": int}, TypeError, "is no model"),
        ({"model": models.Versioned}, ValueError, "Versioned is abstract"),
    ],
)
def test_what_is_neither_is_said(given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        invalidate(**given)
    assert not Change.objects.filter(model="invalidate").exists()


@pytest.mark.django_db
def test_a_user_who_is_not_saved_is_nobody_to_forget() -> None:
    with pytest.raises(ValueError, match="not saved"):
        invalidate(user=get_user_model()())


@pytest.mark.django_db
def test_a_database_without_a_log_is_named() -> None:
    with (
        mock.patch.object(connection, "vendor", "mysql"),
        pytest.raises(RuntimeError, match="There is no log on mysql"),
    ):
        invalidate(model=models.Item)
