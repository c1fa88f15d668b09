"""django-rest-live by its own paths: the names, the frames and the router."""

from __future__ import annotations

from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.test import TransactionTestCase, override_settings
from django.urls import path
from rest_framework.generics import GenericAPIView

from drf_concord.compat import rest_live
from drf_concord.compat.installing import BesideConcord
from drf_concord.compat.rest_live.consumers import RealtimeRouter as RouterOfConsumers
from drf_concord.compat.rest_live.consumers import SubscriptionConsumer
from drf_concord.compat.rest_live.mixins import RealtimeMixin
from drf_concord.compat.rest_live.routers import RealtimeRouter
from drf_concord.compat.rest_live.testing import (
    APICommunicator,
    async_test,
    force_login,
    get_headers_for_user,
)
from tests.app import models, views
from tests.settings import INSTALLED_APPS
from tests.websocket.cases import SocketCase, database

from .paths import found_at, rows_of

TABLE = {
    "mixins": {"RealtimeMixin": "<live.RealtimeMixin"},
    "routers": {"RealtimeRouter": "<websocket.RealtimeRouter"},
    "consumers": {
        "RealtimeRouter": "<websocket.RealtimeRouter",
        "SubscriptionConsumer": "<websocket.application.Application",
    },
    "testing": {
        name: f"testing.{name}" for name in ("APICommunicator", "async_test", "get_headers_for_user")
    },
    "apps": {"RestLiveConfig": "<compat.installing.BesideConcord"},
}


class Items(views.ItemViewSet, RealtimeMixin):
    pass


router = RealtimeRouter(True, "default")
router.register_all([Items])
closed = RealtimeRouter(public=False)
closed.register(Items)
application = AuthMiddlewareStack(
    URLRouter([path("ws/", router.as_consumer()), path("closed/", closed.as_consumer())])
)


@pytest.mark.parametrize(("module", "name", "ours"), rows_of(TABLE))
def test_paths(module: str, name: str, ours: str) -> None:
    found, expected = found_at("rest_live", module, name, ours)
    assert issubclass(found, expected) if ours[0] == "<" else found is expected


def test_names_of_the_package() -> None:
    assert (rest_live.CREATED, rest_live.UPDATED, rest_live.DELETED) == ("CREATED", "UPDATED", "DELETED")
    assert rest_live.get_group_name("app.Item") == "RESOURCE-app.Item"
    assert RouterOfConsumers is RealtimeRouter


def test_a_view_without_the_mixin_is_refused() -> None:
    with pytest.raises(RuntimeError):
        RealtimeRouter().register(views.ItemViewSet)


def test_a_view_is_told_of_changes_without_more() -> None:
    Items.register_signal_handler("default")

    class Nameless(RealtimeMixin, GenericAPIView):
        pass

    with pytest.raises(ImproperlyConfigured, match="Nameless names no model"):
        Nameless.register_signal_handler("default")


@pytest.mark.django_db
def test_a_view_is_made_of_the_scope_of_a_websocket() -> None:
    user = get_user_model().objects.create_user("guido")
    scope = {"type": "websocket", "path": "/ws/", "headers": [(b"host", b"testserver")], "user": user}
    view = Items.from_scope("retrieve", scope, {"pk": 7}, {"late": True})
    assert (type(view), view.action, view.kwargs) == (Items, "retrieve", {"pk": 7})
    assert (view.request.method, view.request.query_params.dict()) == ("GET", {"late": "true"})
    assert view.request.user == user
    nobody = Items.from_scope("list", {**scope, "user": None})
    assert (nobody.kwargs, nobody.request.user.is_authenticated) == ({}, False)


@pytest.mark.parametrize("package", ["rest_live", "django_object_lock", "djangochannelsrestframework"])
def test_an_app_stands_beside_the_tables(package: str) -> None:
    app = f"drf_concord.compat.{package}"
    with override_settings(INSTALLED_APPS=[*INSTALLED_APPS, app]):
        assert isinstance(apps.get_app_config(package), BesideConcord)
    alone = [name for name in INSTALLED_APPS if name not in {"drf_concord", "tests.app", "tests.kinds"}]
    with (
        pytest.raises(ImproperlyConfigured, match='Add "drf_concord" to INSTALLED_APPS'),
        override_settings(INSTALLED_APPS=[*alone, app]),
    ):
        pass


class Frames(SocketCase):
    application = application

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.item = await database(models.Item.objects.create)(text="a")

    @async_test
    async def test_a_list_is_followed(self) -> None:
        asked = {"type": "subscribe", "id": 1337, "model": "app.Item", "action": "list"}
        await self.socket.send_json_to(asked)
        assert await self.socket.receive_nothing()
        await database(models.Item.objects.filter(pk=self.item.pk).update)(text="b")
        frame = await self.socket.receive_json_from()
        instance = frame.pop("instance")
        assert frame == {"type": "broadcast", "id": 1337, "model": "app.Item", "action": rest_live.UPDATED}
        assert (instance["id"], instance["text"]) == (self.item.pk, "b")
        await self.socket.send_json_to({"type": "unsubscribe", "id": 1337})
        await database(self.item.delete)()
        assert await self.socket.receive_nothing()

    @async_test
    async def test_one_object_is_followed(self) -> None:
        asked = {"type": "subscribe", "id": 1, "model": "app.Item", "action": "retrieve"}
        await self.socket.send_json_to({**asked, "lookup_by": self.item.pk})
        other = await database(models.Item.objects.create)(text="other")
        assert await self.socket.receive_nothing(), f"{other} is another's"
        pk = self.item.pk
        await database(self.item.delete)()
        frame = await self.socket.receive_json_from()
        assert (frame["id"], frame["action"], frame["instance"]) == (1, "DELETED", {"pk": pk, "id": pk})

    @async_test
    async def test_the_texts_of_errors(self) -> None:
        item = {"type": "subscribe", "id": 1, "model": "app.Item"}
        action = "`action` must be present and the value must be either `list` or `retrieve`."
        unknown = "Model app.Nothing not registered for realtime updates."
        nowhere = "Instance not found. Make sure 'lookup_by' is set to a valid ID"
        before = "Attempted to unsubscribe for request ID before subscribing."
        for frame, code, message in (
            ({"type": "subscribe", "id": 1, "action": "list"}, 400, "No model specified."),
            ({**item, "action": "fly"}, 400, action),
            ({**item, "type": "fly"}, 400, "unknown message type `fly`."),
            ({**item, "model": "app.Nothing", "action": "list"}, 404, unknown),
            ({**item, "action": "retrieve", "lookup_by": 10**6}, 404, nowhere),
            ({"type": "unsubscribe", "id": 1}, 404, before),
        ):
            expected = {"type": "error", "id": 1, "code": code, "message": message}
            assert await self.ask(frame) == expected, frame


class Registered(SubscriptionConsumer):
    registry = {"app.Item": Items}


class ClosedConsumer(Registered):
    public = False


class Mounted(SocketCase):
    """Each way in which projects mounted it."""

    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("ws/", Registered.as_asgi()),
                path("made/", router.as_consumer().as_asgi()),
                path("closed/", ClosedConsumer.as_asgi()),
            ]
        )
    )

    @async_test
    async def test_views_of_a_registry_are_followed(self) -> None:
        for place in ("/ws/", "/made/", "/closed/"):
            socket = await self.open(self.user, place)
            await socket.send_json_to({"type": "subscribe", "id": 1, "model": "app.Item", "action": "list"})
            assert await socket.receive_nothing(), place
            await database(models.Item.objects.create)(text="a")
            assert (await socket.receive_json_from())["action"] == "CREATED", place

    @async_test
    async def test_a_consumer_that_is_not_public_is_for_who_is_logged_in(self) -> None:
        stranger = APICommunicator(self.application, "/closed/")
        assert await stranger.connect() == (False, 4003)


def test_a_consumer_is_what_a_router_is_made_of() -> None:
    made = RealtimeRouter().consumer
    assert isinstance(made, SubscriptionConsumer)
    assert made.as_asgi() is made
    assert Registered.as_asgi() is not Registered.as_asgi()


def test_what_a_consumer_cannot_do_is_said() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Connecting.connect\(\) would never be called"):

        class Connecting(SubscriptionConsumer):
            def connect(self) -> None:
                pass

    misnamed = type("Misnamed", (SubscriptionConsumer,), {"registry": {"app.Note": Items}})
    with pytest.raises(RuntimeError, match="Items is registered as"):
        misnamed.as_asgi()


class LoggedIn(SocketCase):
    application = application
    path = "/closed/"

    @async_test
    async def test_the_cookies_of_a_user_open_a_socket(self) -> None:
        backend = "django.contrib.auth.backends.ModelBackend"
        for login in (force_login(self.user), force_login(self.user, backend)):
            cookies = await login
            assert [cookies["sessionid"]["path"], self.user.backend] == ["/", backend]
            header = cookies.output(header="", sep="; ").encode()
            socket = APICommunicator(application, self.path, [(b"cookie", header)])
            assert (await socket.connect())[0]
            await socket.disconnect()

    @async_test
    async def test_a_backend_that_is_not_there_finds_nobody(self) -> None:
        cookies = await force_login(self.user, "no.such.Backend")
        header = f"sessionid={cookies['sessionid'].value}".encode()
        stranger = APICommunicator(application, self.path, [(b"cookie", header)])
        assert await stranger.connect() == (False, 4003)


class Closed(TransactionTestCase):
    @async_test
    async def test_a_closed_router_is_for_who_is_logged_in(self) -> None:
        stranger = APICommunicator(application, "/closed/")
        assert await stranger.connect() == (False, 4003)
        user = await database(self.user)()
        known = APICommunicator(application, "/closed/", await get_headers_for_user(user))
        assert (await known.connect())[0]
        await known.disconnect()

    def user(self) -> Any:
        from django.contrib.auth import get_user_model

        return get_user_model().objects.create_user("ada")
