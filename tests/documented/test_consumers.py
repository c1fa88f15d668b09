"""REST-like actions over a websocket: the documented table, and each name that consumers are used by."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.test import TransactionTestCase
from django.urls import re_path
from rest_framework import permissions, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from drf_concord.testing import APICommunicator, async_test, get_headers_for_user
from drf_concord.websocket import (
    AsyncAPIConsumer,
    ObserverModelInstanceMixin,
    action,
    model_observer,
    observer,
    view_as_consumer,
)
from drf_concord.websocket.generics import GenericAsyncAPIConsumer
from drf_concord.websocket.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PaginatedModelListMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from drf_concord.websocket.permissions import BasePermission
from tests.app.models import Folder, Item
from tests.websocket.cases import database

User = get_user_model()
NOW = 1732181234567


class MemberSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["id", "username", "email", "password"]
        extra_kwargs = {"password": {"write_only": True, "required": False}}

    def create(self, validated_data: Any) -> Any:
        return User.objects.create_user(validated_data["username"], validated_data["email"])


class MemberConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    UpdateModelMixin,
    CreateModelMixin,
    DeleteModelMixin,
    ObserverModelInstanceMixin,
    GenericAsyncAPIConsumer,
):
    queryset = User.objects.order_by("pk")
    serializer_class = MemberSerializer


class PagedMembers(PaginatedModelListMixin, GenericAsyncAPIConsumer):
    queryset = User.objects.order_by("pk")
    serializer_class = MemberSerializer


class Inhabitants(BasePermission):
    def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
        return scope["query_string"] != b"stranger"

    def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return action != "demolish"


class House(AsyncAPIConsumer):
    """Everything that a consumer may have, without a model of its own."""

    permission_classes = [Inhabitants & permissions.IsAuthenticated]

    @model_observer(Item)
    async def item_activity(
        self, message: Any, action: Any = None, subscribing_request_ids: Any = (), **kwargs: Any
    ) -> None:
        for request_id in subscribing_request_ids:
            await self.reply(action=str(action), data=message, request_id=request_id)

    @item_activity.serializer
    def item_activity(self, instance: Item, action: Any, **kwargs: Any) -> Any:
        return {"id": instance.pk, "text": instance.text}

    @item_activity.groups_for_signal
    def item_activity(self, instance: Item, **kwargs: Any) -> Any:
        yield f"-folder-{instance.folder_id}"

    @item_activity.groups_for_consumer
    def item_activity(self, folder: int, **kwargs: Any) -> Any:
        yield f"-folder-{folder}"

    @observer(user_logged_in)
    async def somebody_came(self, message: Any, **kwargs: Any) -> None:
        await self.send_json(message)

    @somebody_came.serializer
    def somebody_came(self, user: Any, **kwargs: Any) -> Any:
        return {"came": user.username}

    @action()
    async def watch(self, folder: int, request_id: Any, **kwargs: Any) -> Any:
        await self.item_activity.subscribe(folder=folder, request_id=request_id)
        return None, 201

    @action()
    async def unwatch(self, folder: int, request_id: Any, **kwargs: Any) -> Any:
        await self.item_activity.unsubscribe(folder=folder, request_id=request_id)
        return None, 204

    @action()
    async def open_door(self, **kwargs: Any) -> None:
        await self.somebody_came.subscribe()

    @action()
    def count(self, **kwargs: Any) -> Any:
        return {"folders": Folder.objects.count()}, 200

    @action()
    async def demolish(self, **kwargs: Any) -> Any:
        raise AssertionError("Nobody may.")


class Weather(APIView):
    def get(self, request: Any, town: str) -> Response:
        return Response({"town": town, "days": request.query_params["days"]})

    def put(self, request: Any, town: str) -> Response:
        return Response({"town": town, **request.data}, status=202)


application = AuthMiddlewareStack(
    URLRouter(
        [
            re_path(r"^ws/members/$", MemberConsumer.as_asgi()),
            re_path(r"^ws/pages/$", PagedMembers.as_asgi()),
            re_path(r"^ws/house/$", House.as_asgi()),
            re_path(r"^ws/weather/$", view_as_consumer(Weather.as_view(), {"look": "GET", "make": "PUT"})),
        ]
    )
)


class Documented(TransactionTestCase):
    reset_sequences = True

    async def asyncSetUp(self) -> None:
        self.members = [
            await database(User.objects.create_user)(f"member {n}", f"{n}@example.org") for n in (1, 2, 3, 4)
        ]
        self.sockets: list[APICommunicator] = []
        self.socket = await self.opened("members")

    async def asyncTearDown(self) -> None:
        for socket in self.sockets:
            await socket.disconnect()

    async def opened(self, name: str, user: Any = None) -> APICommunicator:
        headers = await get_headers_for_user(user or self.members[0])
        socket = APICommunicator(application, f"/ws/{name}/", headers)
        connected, _ = await socket.connect()
        assert connected
        self.sockets.append(socket)
        return socket

    async def asked(self, socket: APICommunicator, **frame: Any) -> Any:
        """Send a frame; returns status and data, or status and errors."""
        await socket.send_json_to({**frame, "request_id": NOW})
        reply = await socket.receive_json_from()
        assert list(reply) == ["action", "errors", "response_status", "request_id", "data"]
        assert (reply["action"], reply["request_id"]) == (frame.get("action"), NOW)
        if reply["response_status"] >= 400:
            assert reply["data"] is None
            return reply["response_status"], reply["errors"]
        assert reply["errors"] == []
        return reply["response_status"], reply["data"]

    @staticmethod
    def shown(number: int, **changed: Any) -> dict[str, Any]:
        return {"id": number, "username": f"member {number}", "email": f"{number}@example.org", **changed}

    @async_test
    async def test_the_table(self) -> None:
        socket = self.socket
        assert await self.asked(socket, action="list") == (200, [self.shown(n) for n in (1, 2, 3, 4)])
        assert await self.asked(socket, action="retrieve", pk=2) == (200, self.shown(2))
        changed = self.shown(2, email="new@example.org")
        data = {"email": "new@example.org"}
        assert await self.asked(socket, action="patch", pk=2, data=data) == (200, changed)
        changed = self.shown(3, username="renamed")
        assert await self.asked(socket, action="update", pk=3, data={"username": "renamed"}) == (200, changed)
        data = {"username": "fifth", "email": "5@example.org", "password1": "x", "shoe_size": 44}
        made = self.shown(5, username="fifth")
        assert await self.asked(socket, action="create", data=data) == (201, made)
        assert await self.asked(socket, action="delete", pk=4) == (204, None)
        assert await self.asked(socket, action="retrieve", pk=4) == (404, ["Not found"])

    @async_test
    async def test_refusals(self) -> None:
        socket = self.socket
        assert await self.asked(socket, action="juggle") == (405, ['Method "juggle" not allowed.'])
        assert (await self.asked(socket))[0] == 405
        status, errors = await self.asked(socket, action="update", pk=2, data={"email": "no address"})
        assert (status, sorted(errors[0])) == (400, ["email", "username"])
        # `email` is no member: the serializer raises KeyError
        status, errors = await self.asked(socket, action="create", data={"username": "sixth"})
        assert status == 500
        assert "KeyError" not in str(errors)
        assert (await self.asked(socket, action="list"))[0] == 200

    @async_test
    async def test_pages(self) -> None:
        found = {"count": 4, "results": [self.shown(2), self.shown(3)], "limit": 2, "offset": 1}
        assert await self.asked(await self.opened("pages"), action="list", limit=2, offset=1) == (200, found)

    @async_test
    async def test_an_object_that_is_followed(self) -> None:
        status, data = await self.asked(self.socket, action="subscribe_instance", pk=2)
        assert (status, data) == (201, None)
        await database(User.objects.filter(pk=2).update)(email="x@example.org")
        event = {"action": "update", "errors": [], "response_status": 200, "request_id": NOW}
        expected = {**event, "data": self.shown(2, email="x@example.org")}
        assert await self.socket.receive_json_from() == expected
        assert await self.asked(self.socket, action="unsubscribe_instance", pk=2) == (204, None)
        await database(User.objects.filter(pk=2).update)(email="y@example.org")
        assert await self.socket.receive_nothing()

    @async_test
    async def test_an_observer_with_groups(self) -> None:
        socket = await self.opened("house")
        first, second = [await database(Folder.objects.create)(name=name) for name in "ab"]
        assert await self.asked(socket, action="watch", folder=first.pk) == (201, None)
        item = await database(Item.objects.create)(text="chair", folder=first)
        await database(Item.objects.create)(text="table", folder=second)
        event = {"errors": [], "response_status": 200, "request_id": NOW}
        data = {"id": item.pk, "text": "chair"}
        assert await socket.receive_json_from() == {**event, "action": "create", "data": data}
        pk = item.pk
        await database(item.delete)()
        assert await socket.receive_json_from() == {**event, "action": "delete", "data": {"pk": pk}}
        assert await self.asked(socket, action="unwatch", folder=first.pk) == (204, None)
        await database(Item.objects.create)(text="bed", folder=first)
        assert await socket.receive_nothing()

    @async_test
    async def test_a_signal(self) -> None:
        socket = await self.opened("house")
        await socket.send_json_to({"action": "open_door"})
        assert await socket.receive_nothing()  # an action that returns nothing is not answered
        await database(user_logged_in.send)(User, request=None, user=self.members[1])
        assert await socket.receive_json_from() == {"came": "member 2"}

    @async_test
    async def test_permissions_of_both_kinds(self) -> None:
        socket = await self.opened("house")
        assert await self.asked(socket, action="count") == (200, {"folders": 0})
        refusal = ["You do not have permission to perform this action."]
        assert await self.asked(socket, action="demolish") == (403, refusal)
        stranger = APICommunicator(application, "/ws/house/")
        await stranger.connect()
        self.sockets.append(stranger)
        assert await self.asked(stranger, action="count") == (403, refusal)

    @async_test
    async def test_a_view_as_a_consumer(self) -> None:
        socket = await self.opened("weather")
        frame = {"parameters": {"town": "Oslo"}, "query": {"days": 3}}
        assert await self.asked(socket, action="look", **frame) == (200, {"town": "Oslo", "days": "3"})
        frame = {"parameters": {"town": "Oslo"}, "data": {"rain": False}}
        assert await self.asked(socket, action="make", **frame) == (202, {"town": "Oslo", "rain": False})
        assert (await self.asked(socket, action="list"))[0] == 405
