"""Permissions of both kinds on consumers, by themselves and joined."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser
from django.urls import path
from rest_framework import permissions as drf

from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import AsyncAPIConsumer, GenericAsyncAPIConsumer, action
from drf_concord.websocket.mixins import RetrieveModelMixin
from drf_concord.websocket.permissions import AllowAny, BasePermission, IsAuthenticated
from tests.app import models, views

from .cases import SocketCase, database


class Named(BasePermission):
    """Who is called Ada; asked with the members of the frame."""

    def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
        return b"x-barred" not in dict(scope["headers"])

    def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return kwargs.get("as", scope["user"].username) == "ada"


class Later(BasePermission):
    """Answers when it has looked something up."""

    async def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
        return b"x-late" not in dict(scope["headers"])

    async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        count: int = await database(models.Note.objects.count)()
        return count > 0


class Plain:
    """Of no base class of ours."""

    def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return action == "retrieve"


class Silent(BasePermission):
    """Does not say yes."""

    def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> None:
        return None


def items(*classes: Any) -> Any:
    class Items(RetrieveModelMixin, GenericAsyncAPIConsumer):
        queryset = models.Item.objects.all()
        serializer_class = views.serializer_for(models.Item, ["id"])
        permission_classes = classes

        @action()
        async def own(self, **kwargs: Any) -> Any:
            return None, 200

        @action()
        async def list(self, **kwargs: Any) -> Any:
            await self.check_permissions("create")
            return None, 200

        @action()
        async def subscribe_instance(self, **kwargs: Any) -> Any:
            return None, 201

    return Items


class Permissions(SocketCase):
    path = "/x/"

    async def asyncSetUp(self) -> None:
        self.asked = AllowAny
        self.allow()
        await super().asyncSetUp()
        self.ada = await self.person("ada")
        self.item = await database(models.Item.objects.create)(owner=self.ada)

    def allow(self, *classes: Any) -> None:
        consumer = items(*classes) if classes else AsyncAPIConsumer
        self.application = AuthMiddlewareStack(URLRouter([path("x/", consumer.as_asgi())]))

    async def statuses(self, *classes: Any, action: str = "retrieve", **more: Any) -> list[int]:
        """Return what nobody, Guido and Ada are answered."""
        self.allow(*classes)
        found = []
        for user in (None, self.user, self.ada):
            socket = await self.open(user)
            reply = await self.ask({"action": action, "pk": self.item.pk, **more}, socket)
            found.append(reply["response_status"])
        return found

    @async_test
    async def test_each_kind_by_itself(self) -> None:
        assert await self.statuses(drf.IsAuthenticated) == [403, 200, 200]
        assert await self.statuses(IsAuthenticated) == [403, 200, 200]
        assert await self.statuses(Named) == [403, 403, 200]
        assert await self.statuses(Named, **{"as": "ada"}) == [200, 200, 200]
        assert await self.statuses(Plain) == [200, 200, 200]
        assert await self.statuses(Plain, action="own") == [403, 403, 403]
        assert await self.statuses(Silent) == [403, 403, 403]
        assert await self.statuses(views.IsOwnerOrOpen) == [403, 403, 200]

    @async_test
    async def test_joined(self) -> None:
        assert await self.statuses(drf.IsAuthenticated & Named) == [403, 403, 200]
        assert await self.statuses(Named & drf.IsAuthenticated) == [403, 403, 200]
        assert await self.statuses(Named | drf.IsAuthenticated) == [403, 200, 200]
        assert await self.statuses(drf.IsAdminUser | Named) == [403, 403, 200]
        assert await self.statuses(~Named) == [200, 200, 403]
        assert await self.statuses(~Named & IsAuthenticated) == [403, 200, 403]
        assert await self.statuses(~(Named | ~IsAuthenticated)) == [403, 200, 403]

    @async_test
    async def test_object_permissions_where_they_are_joined(self) -> None:
        owner = views.IsOwnerOrOpen
        assert await self.statuses(IsAuthenticated & owner) == [403, 403, 200]
        # who is let in by the first is not asked whose it is
        assert await self.statuses(IsAuthenticated | owner) == [403, 200, 200]
        # a permission that does not hold for the action says nothing of the object
        assert await self.statuses(Silent | owner) == [403, 403, 200]
        assert await self.statuses((~AllowAny) | owner) == [403, 403, 200]

    @async_test
    async def test_asynchronous(self) -> None:
        owner = views.IsOwnerOrOpen
        for classes in ([Later], [Later & AllowAny], [AllowAny & Later], [~~Later]):
            assert await self.statuses(*classes) == [403, 403, 403], classes
        assert await self.statuses(Later | owner) == [403, 403, 200]
        await database(models.Note.objects.create)(text="a")
        assert await self.statuses(Later) == [200, 200, 200]
        assert await self.statuses(owner | Later) == [200, 200, 200]
        assert await self.statuses(Later & owner) == [403, 403, 200]
        assert await self.statuses(~Later) == [403, 403, 403]

    @async_test
    async def test_the_method_that_a_permission_of_rest_framework_sees(self) -> None:
        reading = drf.IsAuthenticatedOrReadOnly
        assert await self.statuses(reading) == [200, 200, 200]
        assert await self.statuses(reading, action="subscribe_instance") == [201, 201, 201]
        assert await self.statuses(reading, action="own") == [403, 200, 200]
        assert await self.statuses(reading, action="list") == [403, 200, 200]  # it asks about another

    @async_test
    async def test_who_may_open_a_socket(self) -> None:
        for classes, header, opens in (
            ([Named], b"x-barred", False),
            ([Named & drf.IsAuthenticated], b"x-barred", True),  # that is asked for each action
            ([Named & Later], b"x-late", False),
            ([Named | Later], b"x-late", True),
            ([Later], b"x-barred", True),
            ([drf.IsAuthenticated], b"x-barred", True),
        ):
            self.allow(*classes)
            socket = APICommunicator(self.application, "/x/", [(header, b"1")])
            connected, code = await socket.connect()
            assert connected is opens, classes
            if connected:
                await socket.disconnect()
            else:
                assert code == 4403

    def test_a_class_is_no_user(self) -> None:
        for user in (AnonymousUser, AnonymousUser(), None):
            assert IsAuthenticated().has_permission({"user": user}, None, "list") is False
        assert IsAuthenticated().has_permission({}, None, "list") is False


class HalfLater(BasePermission):
    """Waits for one answer and not for the other."""

    async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return bool(await database(models.Note.objects.count)() == 0)


class LateDoor(BasePermission):
    """Waits for the other answer; what it does not wait for may use the database."""

    async def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
        return bool(message == {"type": "websocket.connect"})

    def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return not models.Note.objects.exists()


class Halves(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter([path("ws/", items(HalfLater, LateDoor, HalfLater & LateDoor).as_asgi())])
    )

    @async_test
    async def test_one_method_may_wait_and_the_other_not(self) -> None:
        assert (await self.ask({"action": "own"}))["response_status"] == 200
        await database(models.Note.objects.create)()
        assert (await self.ask({"action": "own"}))["response_status"] == 403
