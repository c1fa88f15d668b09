"""Consumers over a model, as independent suites test them."""

from __future__ import annotations

from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.test import override_settings
from rest_framework import serializers
from rest_framework.permissions import BasePermission as DRFPermission

from drf_concord.compat.djangochannelsrestframework.consumers import AsyncAPIConsumer
from drf_concord.compat.djangochannelsrestframework.decorators import action
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
from drf_concord.compat.djangochannelsrestframework.pagination import WebsocketLimitOffsetPagination

from .plain import WebsocketCommunicator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("hub_stops"),
]

User = get_user_model()


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ("id", "username", "email")


async def created(*names: str) -> list[Any]:
    create = database_sync_to_async(User.objects.create)
    return [await create(username=name, email=f"{name}@example.com") for name in names]


def shown(user: Any, **changes: Any) -> dict[str, Any]:
    return {"id": user.pk, "username": user.username, "email": user.email, **changes}


def answer(action: Any, data: Any, status: int = 200, request_id: Any = 1, errors: Any = ()) -> Any:
    return {
        "action": action,
        "errors": list(errors),
        "response_status": status,
        "request_id": request_id,
        "data": data,
    }


async def opened(consumer: Any) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(consumer, "/testws/")
    connected, _ = await communicator.connect()
    assert connected
    return communicator


async def ask(consumer: Any, frame: dict[str, Any]) -> Any:
    communicator = await opened(consumer)
    await communicator.send_json_to({"request_id": 1, **frame})
    response = await communicator.receive_json_from()
    await communicator.disconnect()
    return response


class Users(GenericAsyncAPIConsumer):
    queryset = User.objects.order_by("pk")
    serializer_class = UserSerializer


async def test_create() -> None:
    class AConsumer(CreateModelMixin, Users):
        pass

    assert not await database_sync_to_async(User.objects.all().exists)()
    data = {"username": "test101", "email": "42@example.com"}
    response = await ask(AConsumer(), {"action": "create", "data": data})
    user = await database_sync_to_async(User.objects.get)()
    assert response == answer("create", {"id": user.pk, **data}, 201)


async def test_create_refused() -> None:
    class AConsumer(CreateModelMixin, Users):
        pass

    response = await ask(AConsumer(), {"action": "create", "data": {"email": "x"}})
    assert (response["response_status"], response["data"]) == (400, None)
    assert response["errors"] == [
        {"username": ["This field is required."], "email": ["Enter a valid email address."]}
    ]


async def test_list() -> None:
    class AConsumer(ListModelMixin, Users):
        pass

    assert await ask(AConsumer(), {"action": "list"}) == answer("list", [])
    users = await created("test1", "test2")
    assert await ask(AConsumer(), {"action": "list"}) == answer("list", [shown(u) for u in users])


async def test_retrieve() -> None:
    class AConsumer(RetrieveModelMixin, Users):
        pass

    assert await ask(AConsumer(), {"action": "retrieve", "pk": 100}) == answer(
        "retrieve", None, 404, errors=["Not found"]
    )
    first, second = await created("test1", "test2")
    for user in (first, second):
        response = await ask(AConsumer(), {"action": "retrieve", "pk": user.pk})
        assert response == answer("retrieve", shown(user))


async def test_update() -> None:
    class AConsumer(UpdateModelMixin, Users):
        pass

    (user,) = await created("test1")
    response = await ask(AConsumer(), {"action": "update", "pk": user.pk, "data": {"username": "test101"}})
    assert response == answer("update", shown(user, username="test101"))
    response = await ask(AConsumer(), {"action": "update", "pk": user.pk, "data": {"email": "a@b.de"}})
    assert response["errors"] == [{"username": ["This field is required."]}]


async def test_patch() -> None:
    class AConsumer(PatchModelMixin, Users):
        pass

    (user,) = await created("test1")
    response = await ask(AConsumer(), {"action": "patch", "pk": user.pk, "data": {"email": "00@example.com"}})
    assert response == answer("patch", shown(user, email="00@example.com"))
    user = await database_sync_to_async(User.objects.get)(pk=user.pk)
    assert user.email == "00@example.com"


async def test_delete() -> None:
    class AConsumer(DeleteModelMixin, Users):
        pass

    user, _ = await created("test1", "test2")
    response = await ask(AConsumer(), {"action": "delete", "pk": user.pk})
    assert response == answer("delete", None, 204)
    assert await database_sync_to_async(User.objects.count)() == 1
    response = await ask(AConsumer(), {"action": "delete", "pk": user.pk})
    assert response == answer("delete", None, 404, errors=["Not found"])


async def test_lookup_field() -> None:
    class AConsumer(RetrieveModelMixin, PatchModelMixin, Users):
        lookup_field = "username"

    (user,) = await created("test1")
    response = await ask(AConsumer(), {"action": "retrieve", "username": "test1"})
    assert response == answer("retrieve", shown(user))
    frame = {"action": "patch", "username": "test1", "data": {"email": "n@example.com"}}
    assert (await ask(AConsumer(), frame))["data"]["email"] == "n@example.com"


async def test_lookup_url_kwarg() -> None:
    class AConsumer(RetrieveModelMixin, Users):
        lookup_field = "username"
        lookup_url_kwarg = "name"

    (user,) = await created("test1")
    response = await ask(AConsumer(), {"action": "retrieve", "name": "test1"})
    assert response == answer("retrieve", shown(user))


async def test_generic_consumer_with_own_action() -> None:
    class AConsumer(Users):
        @action()
        def get_user(self, pk: Any = None, **kwargs: Any) -> Any:
            user = self.get_object(pk=pk)
            return self.get_serializer(instance=user, action_kwargs=kwargs).data, 200

        @action()
        async def get_user_later(self, **kwargs: Any) -> Any:
            user = await database_sync_to_async(self.get_object)(**kwargs)
            return {"name": user.username}, 200

        @action()
        def names(self, **kwargs: Any) -> Any:
            found = self.filter_queryset(self.get_queryset(**kwargs), **kwargs)
            return [each.username for each in found], 200

    (user,) = await created("test1")
    assert await ask(AConsumer(), {"action": "get_user", "pk": user.pk}) == answer("get_user", shown(user))
    response = await ask(AConsumer(), {"action": "get_user", "pk": user.pk + 1})
    assert response == answer("get_user", None, 404, errors=["Not found"])
    response = await ask(AConsumer(), {"action": "get_user_later", "pk": user.pk})
    assert response == answer("get_user_later", {"name": "test1"})
    assert await ask(AConsumer(), {"action": "names"}) == answer("names", ["test1"])


async def test_get_queryset_by_the_frame() -> None:
    class AConsumer(ListModelMixin, Users):
        def get_queryset(self, **kwargs: Any) -> Any:
            queryset = super().get_queryset(**kwargs)
            if kwargs.get("starts"):
                queryset = queryset.filter(username__startswith=kwargs["starts"])
            return queryset

    users = await created("ada", "bob")
    response = await ask(AConsumer(), {"action": "list", "starts": "a"})
    assert response == answer("list", [shown(users[0])])


async def test_filter_queryset_of_its_own() -> None:
    class AConsumer(ListModelMixin, Users):
        def filter_queryset(self, queryset: Any, **kwargs: Any) -> Any:
            queryset = super().filter_queryset(queryset=queryset, **kwargs)
            return queryset.filter(username=kwargs["name"])

    users = await created("ada", "bob")
    response = await ask(AConsumer(), {"action": "list", "name": "bob"})
    assert response == answer("list", [shown(users[1])])


async def test_serializer_class_by_action() -> None:
    class Short(serializers.ModelSerializer):
        class Meta:
            model = User
            fields = ("username",)

    class AConsumer(ListModelMixin, RetrieveModelMixin, Users):
        def get_serializer_class(self, **kwargs: Any) -> Any:
            return Short if kwargs["action"] == "list" else super().get_serializer_class(**kwargs)

    (user,) = await created("ada")
    assert await ask(AConsumer(), {"action": "list"}) == answer("list", [{"username": "ada"}])
    assert (await ask(AConsumer(), {"action": "retrieve", "pk": user.pk}))["data"] == shown(user)


async def test_serializer_context() -> None:
    class Contextual(serializers.ModelSerializer):
        told = serializers.SerializerMethodField()

        class Meta:
            model = User
            fields = ("told",)

        def get_told(self, obj: Any) -> Any:
            return [
                self.context["scope"]["type"],
                type(self.context["consumer"]).__name__,
                self.context["extra"],
            ]

    class AConsumer(ListModelMixin, Users):
        serializer_class = Contextual

        def get_serializer_context(self, **kwargs: Any) -> Any:
            return {**super().get_serializer_context(**kwargs), "extra": kwargs.get("extra")}

    await created("ada")
    response = await ask(AConsumer(), {"action": "list", "extra": 5})
    assert response["data"] == [{"told": ["websocket", "AConsumer", 5]}]


async def test_hooks_of_writes() -> None:
    class AConsumer(CreateModelMixin, UpdateModelMixin, PatchModelMixin, DeleteModelMixin, Users):
        def perform_create(self, serializer: Any, **kwargs: Any) -> None:
            serializer.save(first_name="created")

        def perform_update(self, serializer: Any, **kwargs: Any) -> None:
            serializer.save(first_name="updated")

        def perform_patch(self, serializer: Any, **kwargs: Any) -> None:
            serializer.save(first_name="patched")

        def perform_delete(self, instance: Any, **kwargs: Any) -> None:
            instance.is_active = False
            instance.save()

    get = database_sync_to_async(User.objects.get)
    await ask(AConsumer(), {"action": "create", "data": {"username": "a"}})
    user = await get()
    assert user.first_name == "created"
    await ask(AConsumer(), {"action": "update", "pk": user.pk, "data": {"username": "b"}})
    assert (await get()).first_name == "updated"
    await ask(AConsumer(), {"action": "patch", "pk": user.pk, "data": {"username": "c"}})
    assert (await get()).first_name == "patched"
    response = await ask(AConsumer(), {"action": "delete", "pk": user.pk})
    assert response["response_status"] == 204
    assert (await get()).is_active is False


async def test_all_mixins_together() -> None:
    class AConsumer(
        ListModelMixin,
        RetrieveModelMixin,
        PatchModelMixin,
        UpdateModelMixin,
        CreateModelMixin,
        DeleteModelMixin,
        GenericAsyncAPIConsumer,
    ):
        queryset = User.objects.all()
        serializer_class = UserSerializer

    communicator = await opened(AConsumer.as_asgi())

    async def tell(**frame: Any) -> Any:
        await communicator.send_json_to(frame)
        return await communicator.receive_json_from()

    made = await tell(action="create", data={"username": "ada"}, request_id=1)
    pk = made["data"]["id"]
    assert (await tell(action="list", request_id=2))["data"] == [made["data"]]
    assert (await tell(action="patch", pk=pk, data={"username": "eve"}, request_id=3))["data"][
        "username"
    ] == "eve"
    assert (await tell(action="delete", pk=pk, request_id=4))["response_status"] == 204
    assert (await tell(action="retrieve", pk=pk, request_id=5))["response_status"] == 404
    await communicator.disconnect()


async def test_object_permissions() -> None:
    class OwnOnly(DRFPermission):
        def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
            return obj.username == "mine"

    class AConsumer(RetrieveModelMixin, Users):
        permission_classes = [OwnOnly]

    mine, other = await created("mine", "other")
    assert (await ask(AConsumer(), {"action": "retrieve", "pk": mine.pk}))["response_status"] == 200
    assert (await ask(AConsumer(), {"action": "retrieve", "pk": other.pk}))["response_status"] == 403


async def test_method_of_a_request_in_permissions() -> None:
    methods = {}

    class Method(DRFPermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            methods[view.action] = request.method
            return True

    class AConsumer(ListModelMixin, CreateModelMixin, DeleteModelMixin, Users):
        permission_classes = [Method]

    await ask(AConsumer(), {"action": "list"})
    await ask(AConsumer(), {"action": "create", "data": {"username": "x"}})
    await ask(AConsumer(), {"action": "delete", "pk": 10**6})
    assert methods == {"list": "GET", "create": "POST", "delete": "DELETE"}


# -------------------------------------------------------------------------------------- pages


async def test_pages() -> None:
    class Two(WebsocketLimitOffsetPagination):
        default_limit = 2
        max_limit = 3

    class AConsumer(PaginatedModelListMixin, Users):
        pagination_class = Two

    users = await created("a", "b", "c", "d")
    data = {"count": 4, "results": [shown(u) for u in users[:2]], "limit": 2, "offset": 0}
    assert await ask(AConsumer(), {"action": "list"}) == answer("list", data)
    data = {"count": 4, "results": [shown(u) for u in users[1:4]], "limit": 3, "offset": 1}
    assert await ask(AConsumer(), {"action": "list", "limit": 3, "offset": 1}) == answer("list", data)
    data = {"count": 4, "results": [], "limit": 2, "offset": 10}
    assert await ask(AConsumer(), {"action": "list", "offset": 10}) == answer("list", data)
    assert (await ask(AConsumer(), {"action": "list", "limit": 100}))["data"]["limit"] == 3


@override_settings(DJANGO_CHANNELS_REST_API={"PAGE_SIZE": 1})
async def test_size_of_pages_of_the_settings() -> None:
    class AConsumer(PaginatedModelListMixin, Users):
        pass

    users = await created("a", "b")
    data = {"count": 2, "results": [shown(users[0])], "limit": 1, "offset": 0}
    assert await ask(AConsumer(), {"action": "list"}) == answer("list", data)


async def test_no_pages() -> None:
    class AConsumer(PaginatedModelListMixin, Users):
        pagination_class = None

    (user,) = await created("a")
    assert AConsumer().paginator is None
    assert await ask(AConsumer(), {"action": "list"}) == answer("list", [shown(user)])


async def test_streamed_pages() -> None:
    class Two(WebsocketLimitOffsetPagination):
        default_limit = 2

    class AConsumer(StreamedPaginatedListMixin, Users):
        pagination_class = Two

    users = await created("a", "b", "c")
    communicator = await opened(AConsumer())
    await communicator.send_json_to({"action": "list", "request_id": 1})
    first = {"count": 3, "results": [shown(u) for u in users[:2]], "limit": 2, "offset": 0}
    assert await communicator.receive_json_from() == answer("list", first)
    second = {"count": 3, "results": [shown(users[2])], "limit": 2, "offset": 2}
    assert await communicator.receive_json_from() == answer("list", second)
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_stream_is_cancelled() -> None:
    class One(WebsocketLimitOffsetPagination):
        default_limit = 1

    class AConsumer(StreamedPaginatedListMixin, Users):
        pagination_class = One
        sleep_time_between_pages = 60

    await created("a", "b")
    communicator = await opened(AConsumer())
    await communicator.send_json_to({"action": "list", "request_id": 1})
    assert (await communicator.receive_json_from())["data"]["offset"] == 0
    await communicator.send_json_to({"action": "list_cancel", "request_id": 2})
    response = await communicator.receive_json_from()
    assert (response["action"], response["request_id"]) == ("list_cancel", 2)
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_a_generic_consumer_is_a_consumer() -> None:
    assert issubclass(GenericAsyncAPIConsumer, AsyncAPIConsumer)
    assert (GenericAsyncAPIConsumer.lookup_field, GenericAsyncAPIConsumer.lookup_url_kwarg) == ("pk", None)
