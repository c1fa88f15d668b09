"""Consumers without a model, as independent suites test them: with the communicator of Channels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.http import Http404
from django.test import override_settings
from rest_framework import exceptions
from rest_framework import permissions as drf_permissions
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from drf_concord.compat.djangochannelsrestframework.consumers import (
    APIConsumerMetaclass,
    AsyncAPIConsumer,
    DjangoViewAsConsumer,
    view_as_consumer,
)
from drf_concord.compat.djangochannelsrestframework.decorators import action, detached
from drf_concord.compat.djangochannelsrestframework.exceptions import ActionMissingException
from drf_concord.compat.djangochannelsrestframework.permissions import (
    AllowAny,
    BasePermission,
    IsAuthenticated,
    WrappedDRFPermission,
)
from tests.app.models import Watched
from tests.app.views import serializer_for

from .plain import WebsocketCommunicator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("hub_stops"),
]

User = get_user_model()
FORBIDDEN = "You do not have permission to perform this action."
MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


async def ask(consumer: Any, frame: dict[str, Any], user: Any = None) -> Any:
    """Open a socket, send one frame, and return the answer."""
    communicator = WebsocketCommunicator(consumer, "/testws/")
    if user is not None:
        communicator.scope["user"] = user
    connected, _ = await communicator.connect()
    assert connected
    await communicator.send_json_to(frame)
    response = await communicator.receive_json_from()
    await communicator.disconnect()
    return response


def answer(action: Any, data: Any, status: int = 200, request_id: Any = 1, errors: Any = ()) -> Any:
    return {
        "action": action,
        "errors": list(errors),
        "response_status": status,
        "request_id": request_id,
        "data": data,
    }


# ----------------------------------------------------------------------------------- actions


async def test_async_action() -> None:
    results = {}

    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def test_async_action(self, pk: Any, **kwargs: Any) -> Any:
            results["test_action"] = pk
            return {"pk": pk}, 200

    frame = {"action": "test_async_action", "pk": 2, "request_id": 1}
    assert await ask(TestConsumer(), frame) == answer("test_async_action", {"pk": 2})
    assert results == {"test_action": 2}


async def test_sync_action() -> None:
    results = {}

    class TestConsumer(AsyncAPIConsumer):
        @action()
        def test_sync_action(self, pk: Any, **kwargs: Any) -> Any:
            results["test_sync_action"] = pk
            return {"pk": pk, "sync": True}, 200

    frame = {"action": "test_sync_action", "pk": 3, "request_id": 10}
    expected = answer("test_sync_action", {"pk": 3, "sync": True}, request_id=10)
    assert await ask(TestConsumer.as_asgi(), frame) == expected
    assert results == {"test_sync_action": 3}


async def test_sync_action_uses_the_database() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action(atomic=False)
        def count(self, **kwargs: Any) -> Any:
            return get_user_model().objects.count(), 200

        @action(atomic=True)
        def names(self, **kwargs: Any) -> Any:
            return list(get_user_model().objects.values_list("username", flat=True)), 200

    await database_sync_to_async(get_user_model().objects.create)(username="test1", email="test@example.com")
    assert await ask(TestConsumer(), {"action": "count", "request_id": 1}) == answer("count", 1)
    assert await ask(TestConsumer(), {"action": "names", "request_id": 1}) == answer("names", ["test1"])


async def test_atomic_action_is_rolled_back() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action(atomic=True)
        def fail(self, **kwargs: Any) -> Any:
            get_user_model().objects.create(username="gone")
            raise exceptions.ValidationError({"name": ["no"]})

        @action(atomic=False)
        def keep(self, **kwargs: Any) -> Any:
            get_user_model().objects.create(username="kept")
            raise exceptions.ValidationError("no")

    expected = answer("fail", None, 400, errors=[{"name": ["no"]}])
    assert await ask(TestConsumer(), {"action": "fail", "request_id": 1}) == expected
    expected = answer("keep", None, 400, errors=["no"])
    assert await ask(TestConsumer(), {"action": "keep", "request_id": 1}) == expected
    found = await database_sync_to_async(lambda: list(get_user_model().objects.values_list("username")))()
    assert found == [("kept",)]


async def test_action_with_a_name_of_its_own() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action(name="fancy")
        async def plain(self, **kwargs: Any) -> Any:
            return {}, 200

    assert await ask(TestConsumer(), {"action": "fancy", "request_id": 1}) == answer("fancy", {})
    refused = answer("plain", None, 405, errors=['Method "plain" not allowed.'])
    assert await ask(TestConsumer(), {"action": "plain", "request_id": 1}) == refused


async def test_action_gets_its_name_and_request_id() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def tell(self, action: str, request_id: Any, **kwargs: Any) -> Any:
            return {"action": action, "request_id": request_id, "more": kwargs}, 200

    response = await ask(TestConsumer(), {"action": "tell", "request_id": "a1", "x": 1, "y": [2]})
    data = {"action": "tell", "request_id": "a1", "more": {"x": 1, "y": [2]}}
    assert response == answer("tell", data, request_id="a1")


async def test_action_is_inherited_and_overridden() -> None:
    class Base(AsyncAPIConsumer):
        @action()
        async def one(self, **kwargs: Any) -> Any:
            return "base", 200

        @action()
        async def two(self, **kwargs: Any) -> Any:
            return "base", 200

    class Child(Base):
        @action()
        async def two(self, **kwargs: Any) -> Any:
            return "child", 202

    assert await ask(Child(), {"action": "one", "request_id": 1}) == answer("one", "base")
    assert await ask(Child(), {"action": "two", "request_id": 1}) == answer("two", "child", 202)


async def test_methods_that_are_no_actions_cannot_be_called() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def hidden(self, **kwargs: Any) -> Any:
            return {}, 200

    expected = answer("hidden", None, 405, errors=['Method "hidden" not allowed.'])
    assert await ask(TestConsumer(), {"action": "hidden", "request_id": 1}) == expected


async def test_no_action_in_the_frame() -> None:
    class TestConsumer(AsyncAPIConsumer):
        pass

    expected = answer(None, None, 405, errors=["Unable to find action in message body."])
    assert await ask(TestConsumer(), {"request_id": 1}) == expected


async def test_without_request_id() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def ping(self, **kwargs: Any) -> Any:
            return "pong", 200

    assert await ask(TestConsumer(), {"action": "ping"}) == answer("ping", "pong", request_id=None)


async def test_several_requests_on_one_socket() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def double(self, number: int, **kwargs: Any) -> Any:
            return number * 2, 200

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    assert (await communicator.connect())[0]
    for number in range(5):
        await communicator.send_json_to({"action": "double", "number": number, "request_id": number})
        response = await communicator.receive_json_from()
        assert response == answer("double", number * 2, request_id=number)
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_action_may_reply_itself() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def own(self, request_id: Any, **kwargs: Any) -> None:
            await self.reply(action="own", data={"n": 1}, status=203, request_id=request_id)
            await self.send_json({"free": "form"})

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "own", "request_id": 7})
    assert await communicator.receive_json_from() == answer("own", {"n": 1}, 203, 7)
    assert await communicator.receive_json_from() == {"free": "form"}
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_what_cannot_be_an_action() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are free

        @action(atomic=True)
        async def asynchronous(self: Any, **kwargs: Any) -> Any:
            return {}, 200

    with pytest.raises(ValueError):  # noqa: PT011 - the words are free

        @action(detached=True)
        def synchronous(self: Any, **kwargs: Any) -> Any:
            return {}, 200


# ------------------------------------------------------------------------------- detached actions


async def test_detached_action_stops_no_other() -> None:
    go_on = asyncio.Event()

    class TestConsumer(AsyncAPIConsumer):
        @action(detached=True)
        async def slow(self, **kwargs: Any) -> Any:
            await go_on.wait()
            return "slow", 200

        @action()
        async def quick(self, **kwargs: Any) -> Any:
            return "quick", 200

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "slow", "request_id": 1})
    await communicator.send_json_to({"action": "quick", "request_id": 2})
    assert await communicator.receive_json_from() == answer("quick", "quick", request_id=2)
    go_on.set()
    assert await communicator.receive_json_from() == answer("slow", "slow", request_id=1)
    await communicator.disconnect()


async def test_detached_action_is_cancelled_when_the_socket_ends() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    class TestConsumer(AsyncAPIConsumer):
        @action(detached=True)
        async def endless(self, **kwargs: Any) -> Any:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "endless", "request_id": 1})
    await asyncio.wait_for(started.wait(), 5)
    await communicator.disconnect()
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_the_end_of_a_detached_action_is_told_to_a_hook() -> None:
    ended = asyncio.Event()

    class TestConsumer(AsyncAPIConsumer, metaclass=APIConsumerMetaclass):
        def handle_detached_task_completion(self, task: asyncio.Task[None]) -> None:
            assert task.done()
            assert task not in self.detached_tasks
            ended.set()

        @action(detached=True)
        async def brief(self, **kwargs: Any) -> Any:
            return "brief", 200

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "brief", "request_id": 1})
    assert await communicator.receive_json_from() == answer("brief", "brief", request_id=1)
    await asyncio.wait_for(ended.wait(), 5)
    await communicator.disconnect()


async def test_detached_action_that_refuses() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action(detached=True)
        async def refuse(self, **kwargs: Any) -> Any:
            raise exceptions.NotFound

    expected = answer("refuse", None, 404, errors=["Not found"])
    assert await ask(TestConsumer(), {"action": "refuse", "request_id": 1}) == expected


async def test_detached_helper() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def begin(self, **kwargs: Any) -> Any:
            await self.later(3)
            return "begun", 202

        @detached
        async def later(self, number: int) -> None:
            await self.send_json({"later": number})

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "begin", "request_id": 1})
    frames = [await communicator.receive_json_from() for _ in range(2)]
    assert answer("begin", "begun", 202) in frames
    assert {"later": 3} in frames
    await communicator.disconnect()


# ------------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    ("raised", "status", "errors"),
    [
        (exceptions.NotFound(), 404, ["Not found"]),
        (Http404(), 404, ["Not found"]),
        (exceptions.PermissionDenied(), 403, [FORBIDDEN]),
        (exceptions.ValidationError({"name": ["bad"]}), 400, [{"name": ["bad"]}]),
        (exceptions.ValidationError(["one", "two"]), 400, ["one", "two"]),
        (exceptions.Throttled(wait=3), 429, ["Request was throttled. Expected available in 3 seconds."]),
        (exceptions.NotAuthenticated(), 401, ["Authentication credentials were not provided."]),
        (exceptions.APIException(), 500, ["A server error occurred."]),
        (exceptions.MethodNotAllowed("x"), 405, ['Method "x" not allowed.']),
    ],
)
async def test_exceptions_of_rest_framework(raised: Exception, status: int, errors: Any) -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def fail(self, **kwargs: Any) -> Any:
            raise raised

    expected = answer("fail", None, status, errors=errors)
    assert await ask(TestConsumer(), {"action": "fail", "request_id": 1}) == expected


async def test_handle_exception_of_its_own() -> None:
    class Teapot(Exception):
        pass

    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def brew(self, **kwargs: Any) -> Any:
            raise Teapot

        async def handle_exception(self, exc: Exception, action: Any, request_id: Any) -> None:
            if isinstance(exc, Teapot):
                await self.reply(action=action, errors=["short"], status=418, request_id=request_id)
            else:
                await super().handle_exception(exc, action, request_id)

    expected = answer("brew", None, 418, errors=["short"])
    assert await ask(TestConsumer(), {"action": "brew", "request_id": 1}) == expected
    refused = await ask(TestConsumer(), {"action": "fly", "request_id": 1})
    assert refused["response_status"] == 405


async def test_action_name_from_elsewhere() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def get_action_name(self, content: Any, **kwargs: Any) -> Any:
            if "stream" not in content:
                raise ActionMissingException()
            return content.pop("stream"), content

        @action()
        async def news(self, x: Any = None, **kwargs: Any) -> Any:
            return x, 200

    assert await ask(TestConsumer(), {"stream": "news", "x": 5, "request_id": 1}) == answer("news", 5)
    expected = answer(None, None, 405, errors=["Unable to find action in message body."])
    assert await ask(TestConsumer(), {"action": "news", "request_id": 1}) == expected


# ------------------------------------------------------------------------------------ permissions


async def test_permissions_of_an_action() -> None:
    called = {}

    class NoRetrieve(BasePermission):
        async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
            called["told"] = (action, kwargs)
            return action != "retrieve"

    class TestConsumer(AsyncAPIConsumer):
        permission_classes = (NoRetrieve,)

        @action()
        async def retrieve(self, **kwargs: Any) -> Any:
            return {}, 200

        @action()
        async def other(self, **kwargs: Any) -> Any:
            return {}, 200

    expected = answer("retrieve", None, 403, errors=[FORBIDDEN])
    assert await ask(TestConsumer(), {"action": "retrieve", "pk": 1, "request_id": 1}) == expected
    assert called["told"][0] == "retrieve"
    assert called["told"][1]["pk"] == 1
    assert await ask(TestConsumer(), {"action": "other", "request_id": 1}) == answer("other", {})


async def test_can_connect_refuses() -> None:
    class Nobody(BasePermission):
        async def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
            return False

    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [Nobody]

    communicator = WebsocketCommunicator(TestConsumer.as_asgi(), "/testws/")
    connected, _ = await communicator.connect()
    assert not connected


async def test_can_connect_gets_the_message() -> None:
    told = []

    class Curious(BasePermission):
        async def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
            told.append((scope["type"], message))
            return True

    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [Curious]

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    assert (await communicator.connect())[0]
    await communicator.disconnect()
    assert told == [("websocket", {"type": "websocket.connect"})]


async def test_is_authenticated() -> None:
    class TestConsumer(AsyncAPIConsumer):
        permission_classes = (IsAuthenticated,)

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return self.scope["user"].username, 200

    user = await database_sync_to_async(get_user_model().objects.create)(username="ada")
    frame = {"action": "hello", "request_id": 1}
    assert await ask(TestConsumer(), frame, user) == answer("hello", "ada")
    for nobody in (None, AnonymousUser()):
        assert await ask(TestConsumer(), frame, nobody) == answer("hello", None, 403, errors=[FORBIDDEN])


async def test_a_permission_that_says_nothing_refuses() -> None:
    class Silent(BasePermission):
        pass

    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [Silent]

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return {}, 200

    assert (await ask(TestConsumer(), {"action": "hello", "request_id": 1}))["response_status"] == 403


class Yes(BasePermission):
    async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return True


class No(BasePermission):
    async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("permission", "may"),
    [
        (Yes & Yes, True),
        (Yes & No, False),
        (Yes | No, True),
        (No | No, False),
        (~No, True),
        (~Yes, False),
        ((Yes & ~No) | No, True),
        (AllowAny & Yes, True),
        (IsAuthenticated | Yes, True),
    ],
)
async def test_permissions_are_joined(permission: Any, may: bool) -> None:
    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [permission]

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return {}, 200

    response = await ask(TestConsumer(), {"action": "hello", "request_id": 1})
    assert response["response_status"] == (200 if may else 403)


async def test_permissions_of_rest_framework() -> None:
    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [drf_permissions.IsAdminUser]

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return {}, 200

    create = database_sync_to_async(get_user_model().objects.create)
    boss = await create(username="boss", is_staff=True)
    user = await create(username="user")
    frame = {"action": "hello", "request_id": 1}
    assert await ask(TestConsumer(), frame, boss) == answer("hello", {})
    assert await ask(TestConsumer(), frame, user) == answer("hello", None, 403, errors=[FORBIDDEN])


async def test_wrapped_permissions_of_rest_framework() -> None:
    class TestConsumer(AsyncAPIConsumer):
        def get_permissions(self, action: str, **kwargs: Any) -> Any:
            return [WrappedDRFPermission(drf_permissions.IsAuthenticated())]

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return {}, 200

    user = await database_sync_to_async(get_user_model().objects.create)(username="user")
    frame = {"action": "hello", "request_id": 1}
    assert await ask(TestConsumer(), frame, user) == answer("hello", {})


async def test_get_permissions_by_action() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def get_permissions(self, action: str, **kwargs: Any) -> Any:
            return [No()] if action == "secret" else [Yes()]

        @action()
        async def secret(self, **kwargs: Any) -> Any:
            return {}, 200

        @action()
        async def public(self, **kwargs: Any) -> Any:
            return {}, 200

    assert (await ask(TestConsumer(), {"action": "secret"}))["response_status"] == 403
    assert (await ask(TestConsumer(), {"action": "public"}))["response_status"] == 200


# ------------------------------------------------------------------------------------- the socket


async def test_accept_of_its_own() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.send_json({"welcome": True})

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    assert (await communicator.connect())[0]
    assert await communicator.receive_json_from() == {"welcome": True}
    await communicator.disconnect()


async def test_send_of_a_text() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def raw(self, **kwargs: Any) -> None:
            await self.send(text_data='{"raw": 1}')
            with pytest.raises(ValueError, match="text_data"):
                await self.send(bytes_data=b"x")

    assert await ask(TestConsumer(), {"action": "raw", "request_id": 1}) == {"raw": 1}


async def test_a_name_in_the_layer_before_connecting() -> None:
    names = []

    class TestConsumer(AsyncAPIConsumer):
        async def connect(self) -> None:
            names.append(self.channel_name)
            await self.channel_layer.group_add("red", self.channel_name)
            await super().connect()

        async def news(self, message: Any) -> None:
            await self.send_json({"n": message["n"]})

    with override_settings(CHANNEL_LAYERS=MEMORY):
        communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
        assert (await communicator.connect())[0]
        assert names[0]
        await get_channel_layer().group_send("red", {"type": "news", "n": 1})
        assert await communicator.receive_json_from() == {"n": 1}
        await communicator.disconnect()


async def test_permissions_call_those_they_inherit() -> None:
    class Members(IsAuthenticated):
        async def can_connect(self, scope: Any, consumer: Any, message: Any = None) -> bool:
            return await super().can_connect(scope, consumer, message) and "user" in scope

        async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
            allowed = await super().has_permission(scope, consumer, action, **kwargs)
            return allowed and scope["user"].username == "ada"

    class TestConsumer(AsyncAPIConsumer):
        permission_classes = [Members]

        @action()
        async def hello(self, **kwargs: Any) -> Any:
            return {}, 200

    frame = {"action": "hello", "request_id": 1}
    for name, status in (("ada", 200), ("bob", 403)):
        user = await database_sync_to_async(User.objects.create)(username=name)
        assert (await ask(TestConsumer(), frame, user))["response_status"] == status
    assert not (await WebsocketCommunicator(TestConsumer(), "/testws/").connect())[0]


async def test_connect_refuses() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def connect(self) -> None:
            await self.close(code=4001)

    connected, code = await WebsocketCommunicator(TestConsumer(), "/testws/").connect()
    assert (connected, code) == (False, 4001)


async def test_accepted_and_closed_at_once() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json({"sorry": "full"}, close=True)

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    assert await communicator.connect() == (True, None)
    assert await communicator.receive_json_from() == {"sorry": "full"}
    assert await communicator.receive_output(5) == {"type": "websocket.close", "code": 1000}
    await communicator.disconnect()


async def test_subprotocol() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def connect(self) -> None:
            await self.accept(self.scope["subprotocols"][0])

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/", subprotocols=["own"])
    assert await communicator.connect() == (True, "own")
    await communicator.disconnect()


async def test_disconnect_hook() -> None:
    codes = []

    class TestConsumer(AsyncAPIConsumer):
        async def disconnect(self, code: Any) -> None:
            codes.append(code)
            await super().disconnect(code)

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.disconnect(code=1001)
    assert codes == [1001]


async def test_scope_of_a_route() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def room(self, **kwargs: Any) -> Any:
            return self.scope["url_route"]["kwargs"]["room"], 200

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    communicator.scope["url_route"] = {"kwargs": {"room": "blue"}}
    await communicator.connect()
    await communicator.send_json_to({"action": "room", "request_id": 1})
    assert await communicator.receive_json_from() == answer("room", "blue")
    await communicator.disconnect()


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_groups_of_the_layer() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def join(self, room: str, **kwargs: Any) -> Any:
            await self.add_group(room)
            return sorted(self.groups), 200

        @action()
        async def leave(self, room: str, **kwargs: Any) -> Any:
            await self.remove_group(room)
            return sorted(self.groups), 200

        async def chat_message(self, message: Any) -> None:
            await self.send_json({"text": message["text"]})

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "join", "room": "red", "request_id": 1})
    assert await communicator.receive_json_from() == answer("join", ["red"])
    layer = get_channel_layer()
    await layer.group_send("red", {"type": "chat.message", "text": "hi"})
    assert await communicator.receive_json_from() == {"text": "hi"}
    await communicator.send_json_to({"action": "leave", "room": "red", "request_id": 2})
    assert await communicator.receive_json_from() == answer("leave", [], request_id=2)
    await layer.group_send("red", {"type": "chat.message", "text": "hi"})
    assert await communicator.receive_nothing()
    await communicator.disconnect()


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_messages_by_the_name_of_the_channel() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @action()
        async def whoami(self, **kwargs: Any) -> Any:
            return self.channel_name, 200

        async def direct(self, message: Any) -> None:
            await self.send_json(message)

    communicator = WebsocketCommunicator(TestConsumer(), "/testws/")
    await communicator.connect()
    await communicator.send_json_to({"action": "whoami"})
    name = (await communicator.receive_json_from())["data"]
    await get_channel_layer().send(name, {"type": "direct", "n": 1})
    assert await communicator.receive_json_from() == {"type": "direct", "n": 1}
    await communicator.disconnect()


# --------------------------------------------------------------------------- views as consumers


async def test_view_as_consumer() -> None:
    results = {}

    class TestView(APIView):
        def get(self, request: Any, format: Any = None) -> Response:
            results["TestView-get"] = True
            return Response(["test1", "test2"])

    expected = answer("retrieve", ["test1", "test2"])
    frame = {"action": "retrieve", "pk": 1, "request_id": 1}
    consumer = view_as_consumer(TestView.as_view())
    response = await ask(consumer, {"action": "list", "request_id": 1})
    assert response == {**expected, "action": "list"}
    assert results == {"TestView-get": True}
    assert frame


async def test_view_with_parameters_and_query() -> None:
    class TestView(APIView):
        def get(self, request: Any, slug: str) -> Response:
            return Response({"slug": slug, "q": request.GET.get("value")})

    frame = {"action": "list", "parameters": {"slug": "a-b"}, "query": {"value": "1"}, "request_id": 1}
    expected = answer("list", {"slug": "a-b", "q": "1"})
    assert await ask(view_as_consumer(TestView.as_view()), frame) == expected


async def test_view_takes_data() -> None:
    class TestView(APIView):
        def post(self, request: Any) -> Response:
            return Response(request.data, status=201)

        def patch(self, request: Any) -> Response:
            return Response({"patched": request.data})

    consumer = view_as_consumer(TestView.as_view(), {"create": "POST", "patch": "PATCH"})
    frame = {"action": "create", "data": {"a": [1]}, "request_id": 1}
    assert await ask(consumer, frame) == answer("create", {"a": [1]}, 201)
    expected = answer("patch", {"patched": {"a": [1]}})
    assert await ask(consumer, {**frame, "action": "patch"}) == expected


async def test_view_that_refuses() -> None:
    class TestView(GenericAPIView):
        permission_classes = [drf_permissions.IsAuthenticated]

        def get(self, request: Any) -> Response:
            return Response(request.user.username)

    consumer = view_as_consumer(TestView.as_view())
    response = await ask(consumer, {"action": "list", "request_id": 1})
    assert (response["response_status"], response["data"]) == (403, None)
    assert response["errors"]
    user = await database_sync_to_async(get_user_model().objects.create)(username="ada")
    assert await ask(consumer, {"action": "list", "request_id": 1}, user) == answer("list", "ada")


async def test_viewset_as_consumer() -> None:
    class TestViewSet(ViewSet):
        def list(self, request: Any) -> Response:
            return Response(["all"])

        def retrieve(self, request: Any, pk: Any = None) -> Response:
            return Response({"pk": pk})

    frame = {"action": "list", "request_id": 1}
    assert await ask(view_as_consumer(TestViewSet.as_view({"get": "list"})), frame) == answer("list", ["all"])
    consumer = view_as_consumer(TestViewSet.as_view({"get": "retrieve"}))
    frame = {"action": "retrieve", "parameters": {"pk": 4}, "request_id": 1}
    response = await ask(consumer, frame)
    assert response["data"]["pk"] in (4, "4")


async def test_model_viewset_as_consumer() -> None:
    class WatchedViewSet(ModelViewSet):
        queryset = Watched.objects.order_by("pk")
        serializer_class = serializer_for(Watched, ["id", "text"])

    methods = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
    consumer = view_as_consumer(WatchedViewSet.as_view(methods))
    row = await database_sync_to_async(Watched.objects.create)(text="a")
    frame = {"parameters": {"pk": row.pk}, "request_id": 1}
    response = await ask(consumer, {**frame, "action": "patch", "data": {"text": "b"}})
    assert response == answer("patch", {"id": row.pk, "text": "b"})
    response = await ask(consumer, {**frame, "action": "delete"})
    assert response["response_status"] == 204
    assert not await database_sync_to_async(Watched.objects.exists)()


async def test_unmapped_action_of_a_view() -> None:
    class TestView(APIView):
        def get(self, request: Any) -> Response:
            return Response([])

    consumer = view_as_consumer(TestView.as_view(), mapped_actions={"list": "GET"})
    expected = answer("create", None, 405, errors=['Method "create" not allowed.'])
    assert await ask(consumer, {"action": "create", "request_id": 1}) == expected


async def test_subclass_of_a_view_consumer() -> None:
    class TestView(APIView):
        def get(self, request: Any) -> Response:
            return Response("got")

    class TestConsumer(DjangoViewAsConsumer):
        view = staticmethod(TestView.as_view())
        actions = {"look": "GET"}

    assert await ask(TestConsumer(), {"action": "look", "request_id": 1}) == answer("look", "got")
