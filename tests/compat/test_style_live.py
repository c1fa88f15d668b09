"""Views that are followed, as independent suites test them: with the helpers of the package itself."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async as db
from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.auth import get_user_model
from django.test import TransactionTestCase
from django.urls import path
from rest_framework import generics, permissions, serializers, viewsets

from drf_concord.compat.rest_live import CREATED, DELETED, UPDATED
from drf_concord.compat.rest_live.mixins import RealtimeMixin
from drf_concord.compat.rest_live.routers import RealtimeRouter
from drf_concord.compat.rest_live.testing import APICommunicator, async_test, get_headers_for_user
from tests.app.models import Folder, Item, Keyed, Texted

User = get_user_model()


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "folder"]


def application(*views: Any, public: bool = True) -> Any:
    router = RealtimeRouter(public=public)
    router.register_all(views)
    return AuthMiddlewareStack(URLRouter([path("ws/subscribe/", router.as_consumer())]))


class Items(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer


class Case(TransactionTestCase):
    views: Any = [Items]
    public = True

    async def asyncSetUp(self) -> None:
        self.folder = await db(Folder.objects.create)(name="folder")
        self.client = APICommunicator(application(*self.views, public=self.public), "/ws/subscribe/")
        connected, _ = await self.client.connect()
        assert connected

    async def asyncTearDown(self) -> None:
        await self.client.disconnect()

    async def subscribe(self, client: Any = None, **frame: Any) -> None:
        client = client or self.client
        given = {"type": "subscribe", "id": 1337, "model": "app.Item", "action": "list"}
        await client.send_json_to({**given, **frame})
        assert await client.receive_nothing()

    async def told(self, action: str, item: Any, id: Any = 1337, client: Any = None) -> None:
        frame = await (client or self.client).receive_json_from()
        assert frame == {
            "type": "broadcast",
            "id": id,
            "model": "app.Item",
            "action": action,
            "instance": item,
        }

    def shown(self, item: Any) -> dict[str, Any]:
        return {"id": item.pk, "text": item.text, "folder": item.folder_id}


class BasicListTests(Case):
    @async_test
    async def test_create(self) -> None:
        await self.subscribe()
        item = await db(Item.objects.create)(text="task", folder=self.folder)
        await self.told(CREATED, self.shown(item))

    @async_test
    async def test_update(self) -> None:
        item = await db(Item.objects.create)(text="task")
        await self.subscribe()
        item.text = "other"
        await db(item.save)()
        await self.told(UPDATED, self.shown(item))

    @async_test
    async def test_delete(self) -> None:
        item = await db(Item.objects.create)(text="task")
        pk = item.pk
        await self.subscribe()
        await db(item.delete)()
        await self.told(DELETED, {"pk": pk, "id": pk})

    @async_test
    async def test_unsubscribe(self) -> None:
        await self.subscribe()
        await self.client.send_json_to({"type": "unsubscribe", "id": 1337})
        await db(Item.objects.create)(text="task")
        assert await self.client.receive_nothing()

    @async_test
    async def test_two_subscriptions(self) -> None:
        await self.subscribe(id=1)
        await self.subscribe(id=2)
        item = await db(Item.objects.create)(text="task")
        frames = [await self.client.receive_json_from() for _ in range(2)]
        assert sorted(each["id"] for each in frames) == [1, 2]
        await self.client.send_json_to({"type": "unsubscribe", "id": 1})
        await db(item.save)()
        await self.told(UPDATED, self.shown(item), id=2)
        assert await self.client.receive_nothing()

    @async_test
    async def test_two_clients(self) -> None:
        other = APICommunicator(application(Items), "/ws/subscribe/")
        await other.connect()
        await self.subscribe()
        await self.subscribe(other, id="text")
        item = await db(Item.objects.create)(text="task")
        await self.told(CREATED, self.shown(item))
        await self.told(CREATED, self.shown(item), id="text", client=other)
        await other.disconnect()

    @async_test
    async def test_nothing_without_subscription(self) -> None:
        await db(Item.objects.create)(text="task")
        assert await self.client.receive_nothing()

    @async_test
    async def test_no_id_is_ignored(self) -> None:
        await self.client.send_json_to({"type": "subscribe", "model": "app.Item", "action": "list"})
        assert await self.client.receive_nothing()

    @async_test
    async def test_drf_writes_are_told(self) -> None:
        from rest_framework.test import APIRequestFactory

        await self.subscribe()
        view = sync_to_async(Items.as_view({"post": "create"}))
        answer = await view(APIRequestFactory().post("/", {"text": "by http"}))
        assert answer.status_code == 201
        frame = await self.client.receive_json_from()
        assert (frame["action"], frame["instance"]) == (CREATED, answer.data)


class RetrieveTests(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.item = await db(Item.objects.create)(text="task")

    @async_test
    async def test_update(self) -> None:
        await self.subscribe(action="retrieve", lookup_by=self.item.pk)
        self.item.text = "b"
        await db(self.item.save)()
        await self.told(UPDATED, self.shown(self.item))

    @async_test
    async def test_delete(self) -> None:
        pk = self.item.pk
        await self.subscribe(action="retrieve", lookup_by=pk)
        await db(self.item.delete)()
        await self.told(DELETED, {"pk": pk, "id": pk})

    @async_test
    async def test_others_are_not_told(self) -> None:
        await self.subscribe(action="retrieve", lookup_by=self.item.pk)
        await db(Item.objects.create)(text="other")
        assert await self.client.receive_nothing()

    @async_test
    async def test_unsubscribe(self) -> None:
        await self.subscribe(action="retrieve", lookup_by=self.item.pk)
        await self.client.send_json_to({"type": "unsubscribe", "id": 1337})
        await db(self.item.save)()
        assert await self.client.receive_nothing()


class ErrorTests(Case):
    async def refused(self, frame: Any, code: int) -> None:
        await self.client.send_json_to(frame)
        error = await self.client.receive_json_from()
        assert (error["type"], error["id"], error["code"]) == ("error", 1337, code)
        assert error["message"]

    @async_test
    async def test_unregistered_model(self) -> None:
        await self.refused({"type": "subscribe", "id": 1337, "model": "app.Folder", "action": "list"}, 404)

    @async_test
    async def test_no_model(self) -> None:
        await self.refused({"type": "subscribe", "id": 1337, "action": "list"}, 400)

    @async_test
    async def test_no_action(self) -> None:
        await self.refused({"type": "subscribe", "id": 1337, "model": "app.Item"}, 400)

    @async_test
    async def test_bad_type(self) -> None:
        await self.refused({"type": "explode", "id": 1337, "model": "app.Item", "action": "list"}, 400)

    @async_test
    async def test_no_instance(self) -> None:
        frame = {"type": "subscribe", "id": 1337, "model": "app.Item", "action": "retrieve"}
        await self.refused({**frame, "lookup_by": 10**6}, 404)
        await self.refused(frame, 404)

    @async_test
    async def test_unsubscribe_from_nothing(self) -> None:
        await self.refused({"type": "unsubscribe", "id": 1337}, 404)


class Private(RealtimeMixin, generics.ListAPIView):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer
    permission_classes = [permissions.IsAuthenticated]


class PermissionTests(Case):
    views = [Private]

    @async_test
    async def test_nobody(self) -> None:
        frame = {"type": "subscribe", "id": 1337, "model": "app.Item", "action": "list"}
        await self.client.send_json_to(frame)
        assert await self.client.receive_json_from() == {
            "type": "error",
            "id": 1337,
            "code": 403,
            "message": "Unauthorized to subscribe to app.Item for action list",
        }

    @async_test
    async def test_somebody(self) -> None:
        user = await db(User.objects.create_user)("ada")
        headers = await get_headers_for_user(user)
        client = APICommunicator(application(Private), "/ws/subscribe/", headers)
        await client.connect()
        await self.subscribe(client)
        item = await db(Item.objects.create)(text="task")
        await self.told(CREATED, self.shown(item), client=client)
        await client.disconnect()


class ClosedRouterTests(TransactionTestCase):
    @async_test
    async def test_nobody(self) -> None:
        client = APICommunicator(application(Items, public=False), "/ws/subscribe/")
        connected, code = await client.connect()
        assert not connected
        assert code == 4003

    @async_test
    async def test_somebody(self) -> None:
        user = await db(User.objects.create_user)("ada")
        headers = await get_headers_for_user(user)
        client = APICommunicator(application(Items, public=False), "/ws/subscribe/", headers)
        assert (await client.connect())[0]
        await client.disconnect()


class OwnItems(RealtimeMixin, viewsets.ModelViewSet):
    serializer_class = ItemSerializer
    queryset = Item.objects.none()

    def get_queryset(self) -> Any:
        found = Item.objects.filter(text__startswith=self.request.query_params.get("starts", ""))
        if "folder" in self.kwargs:
            found = found.filter(folder=self.kwargs["folder"])
        return found


class QuerysetTests(Case):
    views = [OwnItems]

    @async_test
    async def test_view_kwargs(self) -> None:
        await self.subscribe(view_kwargs={"folder": self.folder.pk})
        await db(Item.objects.create)(text="other")
        assert await self.client.receive_nothing()
        item = await db(Item.objects.create)(text="a", folder=self.folder)
        await self.told(CREATED, self.shown(item))

    @async_test
    async def test_query_params(self) -> None:
        await self.subscribe(query_params={"starts": "a"})
        await db(Item.objects.create)(text="b")
        assert await self.client.receive_nothing()
        item = await db(Item.objects.create)(text="ab")
        await self.told(CREATED, self.shown(item))

    @async_test
    async def test_leaving_and_entering_the_queryset(self) -> None:
        item = await db(Item.objects.create)(text="a")
        await self.subscribe(query_params={"starts": "a"})
        item.text = "b"
        await db(item.save)()
        await self.told(DELETED, {"pk": item.pk, "id": item.pk})
        item.text = "a2"
        await db(item.save)()
        await self.told(CREATED, self.shown(item))


class ByUser(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Item.objects.all()

    class serializer_class(ItemSerializer):
        class Meta(ItemSerializer.Meta):
            fields = ["id", "who"]

        who = serializers.SerializerMethodField()

        def get_who(self, obj: Any) -> str:
            return str(self.context["request"].user.username)


class RequestTests(TransactionTestCase):
    @async_test
    async def test_user_in_the_serializer(self) -> None:
        user = await db(User.objects.create_user)("ada")
        headers = await get_headers_for_user(user)
        client = APICommunicator(application(ByUser), "/ws/subscribe/", headers)
        await client.connect()
        await client.send_json_to({"type": "subscribe", "id": 1, "model": "app.Item", "action": "list"})
        assert await client.receive_nothing()
        item = await db(Item.objects.create)(text="task")
        frame = await client.receive_json_from()
        assert frame["instance"] == {"id": item.pk, "who": "ada"}
        await client.disconnect()


class KeyedSerializer(serializers.ModelSerializer):
    class Meta:
        model = Keyed
        fields = ["id", "text"]


class KeyedView(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Keyed.objects.all()
    serializer_class = KeyedSerializer


class TextedSerializer(serializers.ModelSerializer):
    class Meta:
        model = Texted
        fields = ["code", "text"]


class TextedView(RealtimeMixin, viewsets.ModelViewSet):
    queryset = Texted.objects.all()
    serializer_class = TextedSerializer
    lookup_field = "code"


class KeyTests(Case):
    views = [KeyedView, TextedView]

    @async_test
    async def test_uuid(self) -> None:
        row = await db(Keyed.objects.create)(text="a")
        await self.subscribe(model="app.Keyed", action="retrieve", lookup_by=str(row.pk))
        await db(Keyed.objects.filter(pk=row.pk).update)(text="b")
        frame = await self.client.receive_json_from()
        assert frame["instance"] == {"id": str(row.pk), "text": "b"}

    @async_test
    async def test_lookup_field(self) -> None:
        row = await db(Texted.objects.create)(code="x", text="a")
        await self.subscribe(model="app.Texted", action="retrieve", lookup_by="x")
        row.text = "b"
        await db(row.save)()
        frame = await self.client.receive_json_from()
        assert frame["instance"] == {"code": "x", "text": "b"}
        await db(row.delete)()
        frame = await self.client.receive_json_from()
        assert (frame["action"], frame["instance"]["code"]) == (DELETED, "x")


# ------------------------------------------------------------------------------------- the router


def test_view_without_the_mixin() -> None:
    class Plain(generics.ListAPIView):
        queryset = Item.objects.all()

    with pytest.raises(RuntimeError):
        RealtimeRouter().register(Plain)


def test_second_view_of_a_model() -> None:
    router = RealtimeRouter()
    router.register(Items)
    with pytest.raises(RuntimeError):
        router.register(Private)


def test_two_routers() -> None:
    for uid in ("default", "other"):
        RealtimeRouter(uid=uid).register(Items)


def test_model_of_a_view() -> None:
    assert Items().get_model_class() is Item


def test_router_in_an_application() -> None:
    router = RealtimeRouter(False)
    routes = URLRouter([path("ws/", router.as_consumer(), name="live")])
    assert ProtocolTypeRouter({"websocket": AuthMiddlewareStack(routes)})
    assert router.public is False


def test_names() -> None:
    assert (CREATED, UPDATED, DELETED) == ("CREATED", "UPDATED", "DELETED")
