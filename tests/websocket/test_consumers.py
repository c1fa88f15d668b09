"""Consumers: the frames of the documented table, and actions of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import override_settings
from django.urls import path
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.test import APIClient

from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import AsyncAPIConsumer, action, model_observer
from drf_concord.websocket.consumers import DETACHED
from tests.app import models

from .cases import SocketCase, database, until


class Notes(SocketCase):
    """A consumer used like a generic view."""

    path = "/notes/"
    reset_sequences = True  # a new object must not be given a key that is named here

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        await database(models.Note.objects.bulk_create)(
            [models.Note(pk=n, text=f"n{n}") for n in (102, 103, 104)]
        )

    def reply(self, action: Any, status: int, data: Any = None, errors: Any = ()) -> dict[str, Any]:
        return {
            "action": action,
            "errors": list(errors),
            "response_status": status,
            "request_id": 7,
            "data": data,
        }

    @async_test
    async def test_the_table(self) -> None:
        first, second, third = ({"id": n, "text": f"n{n}"} for n in (102, 103, 104))
        for frame, reply in (
            ({"action": "list"}, self.reply("list", 200, [first, second, third])),
            ({"action": "retrieve", "pk": 102}, self.reply("retrieve", 200, first)),
            (
                {"action": "patch", "pk": 102, "data": {"text": "b"}},
                self.reply("patch", 200, {"id": 102, "text": "b"}),
            ),
            (
                {"action": "update", "pk": 102, "data": {"text": "c"}},
                self.reply("update", 200, {"id": 102, "text": "c"}),
            ),
            ({"action": "delete", "pk": 104}, self.reply("delete", 204)),
            ({"action": "retrieve", "pk": 104}, self.reply("retrieve", 404, errors=["Not found"])),
            ({"action": "retrieve", "pk": "x"}, self.reply("retrieve", 404, errors=["Not found"])),
            ({"action": "fly"}, self.reply("fly", 405, errors=['Method "fly" not allowed.'])),
            (
                {},
                self.reply(None, 405, errors=["Unable to find action in message body."]),
            ),
        ):
            assert await self.ask({**frame, "request_id": 7}) == reply, frame

    @async_test
    async def test_create_ignores_unknown_members(self) -> None:
        reply = await self.ask({"action": "create", "data": {"text": "new", "other": 1}})
        assert reply["response_status"] == 201
        assert reply["data"]["text"] == "new"

    @async_test
    async def test_validation(self) -> None:
        reply = await self.ask({"action": "update", "pk": 102, "data": {"text": "x" * 200}})
        assert reply["response_status"] == 400
        assert list(reply["errors"][0]) == ["text"]
        for data in (None, [], "x"):
            reply = await self.ask({"action": "create", "data": data})
            assert reply["response_status"] == 400, data
        assert (await self.ask({"action": "retrieve"}))["response_status"] == 400

    @async_test
    async def test_no_member_of_a_frame_takes_the_place_of_an_argument_of_ours(self) -> None:
        for name in (
            "self",
            "consumer",
            "scope",
            "action_kwargs",
            "serializer",
            "obj",
            "not-a-name",
            "partial",
        ):
            reply = await self.ask({"action": "retrieve", "pk": 102, name: "x"})
            assert reply["response_status"] == 200, name
            reply = await self.ask({"action": "patch", "pk": 102, "data": {"text": "b"}, name: "x"})
            assert reply["response_status"] in {200, 500}, name
        assert (await self.ask({"action": "list"}))["response_status"] == 200

    @async_test
    async def test_bad_frames(self) -> None:
        for text in ("[1]", "x", '"text"', "{", '{"action": ["list"]}'):
            reply = await self.ask(text)
            assert reply["response_status"] in {400, 405}
            assert reply["data"] is None

    @async_test
    async def test_a_lock_and_a_stale_tag_stop_a_patch(self) -> None:
        ada = await self.person("ada")
        client = APIClient()
        client.force_authenticate(ada)
        call = {"action": "patch", "pk": 102, "data": {"text": "b"}}
        stale = await self.ask({**call, "if_match": '"1-0"'})
        assert stale["response_status"] == 412
        current = stale["errors"][0]["current_etag"]
        assert (await self.ask({**call, "if_match": current}))["response_status"] == 200
        await database(client.post)("/notes/102/lock/", {}, format="json")
        for frame in (call, {"action": "update", **call}, {"action": "delete", "pk": 102}):
            refused = await self.ask(frame)
            assert (refused["response_status"], refused["errors"][0]["code"]) == (409, "object_locked")

    @async_test
    async def test_object_permissions_and_one_instance_for_all_sockets(self) -> None:
        ada = await self.person("ada")
        await database(models.Item.objects.create)(pk=101, text="hers", owner=ada)
        hers = await self.open(ada, "/own/")
        his = await self.open(self.user, "/own/")
        for frame in (
            {"action": "retrieve", "pk": 101},
            {"action": "patch", "pk": 101, "data": {"text": "x"}},
        ):
            assert (await self.ask(frame, his))["response_status"] == 403
            assert (await self.ask(frame, hers))["response_status"] == 200


class Desk(AsyncAPIConsumer):
    """Has no model, and actions of every kind."""

    permission_classes: Any = [AllowAny]
    ended: list[str] = []
    release: asyncio.Event

    def __init__(self, **initkwargs: Any) -> None:
        super().__init__(**initkwargs)
        self.kept: list[Any] = []

    async def connect(self) -> None:
        headers = dict(self.scope["headers"])
        if b"x-refuse" in headers:
            await self.close(4409)
            return
        await self.accept()
        if b"x-follow" in headers:
            await self.notes.subscribe()

    @model_observer(models.Note)
    async def notes(self, message: Any) -> None:
        await self.send_json({"note": message["pk"], "as": self.action})

    async def disconnect(self, code: int | None) -> None:
        self.ended.append(f"disconnected {code}")

    @action()
    def keep(self, value: Any) -> tuple[Any, int]:
        """Synchronous, and may use the database."""
        self.kept.append(value)
        return {"kept": self.kept, "notes": models.Note.objects.count()}, 202

    @action(name="say-hello")
    async def greet(self, request_id: Any, whom: str = "you", **kwargs: Any) -> tuple[Any, int]:
        await self.send_json({"hello": whom})
        return {"rest": kwargs}, 200

    @action(atomic=True)
    def half(self) -> None:
        models.Note.objects.create(text="half")
        raise ValidationError({"text": ["No."]})

    @action(detached=True)
    async def wait(self, request_id: Any) -> tuple[Any, int]:
        try:
            await self.release.wait()
        finally:
            self.ended.append(str(request_id))
        return "waited", 200

    @action()
    async def fail(self, how: str) -> None:
        raise {"http404": Http404, "denied": PermissionDenied, "other": RuntimeError}[how]("secret")

    @action()
    def halfway(self) -> None:
        models.Note.objects.create(text="kept")
        raise RuntimeError("secret")

    @action()
    async def twice(self, request_id: Any, **kwargs: Any) -> None:
        for number in range(2):
            await self.reply("twice", data=number, request_id=request_id)

    @action()
    async def who(self) -> str:
        return str(self.scope["user"])

    async def hidden(self) -> None:
        """Is no action."""


class OwnWords(Desk):
    """Speaks another dialect, and answers exceptions in its own words."""

    async def get_action_name(self, content: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return content.pop("do")["name"], content

    async def handle_exception(self, exc: Exception, action: str | None, request_id: Any) -> None:
        await self.reply(action, errors=["Oh."], status=418, request_id=request_id)


class Shared(Desk):
    permission_classes: Any = None


class Actions(SocketCase):
    """A consumer without a model."""

    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("desk/", Desk.as_asgi()),
                path("one/", Desk()),
                path("own/", OwnWords.as_asgi()),
                path("shared/", Shared.as_asgi()),
            ]
        )
    )
    path = "/desk/"

    async def asyncSetUp(self) -> None:
        Desk.ended, Desk.release = [], asyncio.Event()
        await super().asyncSetUp()

    async def do(self, action: str, socket: Any = None, **more: Any) -> tuple[int, Any]:
        reply = await self.ask({"action": action, **more}, socket)
        assert reply["action"] == action
        return reply["response_status"], reply["data"] if reply["response_status"] < 400 else reply["errors"]

    @async_test
    async def test_what_an_action_sets_stays_on_its_socket(self) -> None:
        other = await self.open(self.user)
        assert await self.do("keep", value=1) == (202, {"kept": [1], "notes": 0})
        assert await self.do("keep", value=[2]) == (202, {"kept": [1, [2]], "notes": 0})
        assert await self.do("keep", other, value=3) == (202, {"kept": [3], "notes": 0})

    @async_test
    async def test_own_names_and_members(self) -> None:
        await self.socket.send_json_to({"action": "say-hello", "request_id": 1, "whom": "Ada", "more": 2})
        hello, reply = await self.all_from()
        assert hello == {"hello": "Ada"}
        assert reply["data"] == {"rest": {"more": 2, "action": "say-hello"}}
        assert await self.do("greet") == (405, ['Method "greet" not allowed.'])
        for name in ("hidden", "kept", "close", "__init__"):
            assert (await self.do(name))[0] == 405
        assert await self.do("keep") == (400, [{"value": ["The member value is missing."]}])
        assert (await self.do("keep", value=1, other=2))[0] == 202

    @async_test
    async def test_an_atomic_action(self) -> None:
        assert await self.do("half") == (400, [{"text": ["No."]}])
        assert await self.do("keep", value=1) == (202, {"kept": [1], "notes": 0})

    @async_test
    async def test_replies_of_its_own(self) -> None:
        await self.socket.send_json_to({"action": "twice", "request_id": 1700000000000})
        frames = await self.all_from()
        assert [(f["data"], f["request_id"]) for f in frames] == [(0, 1700000000000), (1, 1700000000000)]

    @async_test
    async def test_exceptions(self) -> None:
        for how, status in (("http404", 404), ("denied", 403), ("other", 500), ("?", 500)):
            found, errors = await self.do("fail", how=how)
            assert found == status
            assert "secret" not in str(errors)
        assert (await self.do("keep", value=1))[0] == 202

    @async_test
    async def test_who_fails_halfway_does_not_say_that_nothing_happened(self) -> None:
        status, errors = await self.do("halfway")
        assert status == 500
        assert await database(models.Note.objects.filter(text="kept").exists)()
        assert errors == ["The server failed; read again before you repeat this."]

    @async_test
    async def test_detached_actions_keep_nobody_waiting_and_end_with_the_socket(self) -> None:
        for number in range(DETACHED):
            await self.socket.send_json_to({"action": "wait", "request_id": number})
        assert (await self.do("keep", value=1))[0] == 202
        assert await self.do("wait") == (429, ["Too many actions are under way."])
        await self.socket.disconnect(4999)
        self.opened.remove(self.socket)
        await until(lambda: len(Desk.ended) > DETACHED)
        assert sorted(map(str, Desk.ended)) == sorted(["disconnected 4999", *map(str, range(DETACHED))])

    @async_test
    async def test_a_detached_action_that_is_done(self) -> None:
        await self.socket.send_json_to({"action": "wait", "request_id": 1})
        assert await self.socket.receive_nothing()
        Desk.release.set()
        assert (await self.socket.receive_json_from())["data"] == "waited"

    @async_test
    async def test_a_dialect_and_exceptions_in_its_own_words(self) -> None:
        own = await self.open(self.user, "/own/")
        reply = await self.ask({"do": {"name": "keep"}, "value": 1, "request_id": 1}, own)
        assert (reply["action"], reply["data"]["kept"], reply["request_id"]) == ("keep", [1], 1)
        for frame in ({"do": {"name": "fail"}, "how": "denied", "request_id": 2}, {"request_id": 2}):
            reply = await self.ask(frame, own)
            assert (reply["response_status"], reply["errors"], reply["request_id"]) == (418, ["Oh."], 2)

    @async_test
    async def test_a_consumer_may_refuse_a_socket(self) -> None:
        socket = APICommunicator(self.application, "/desk/", [(b"x-refuse", b"1")])
        assert await socket.connect() == (False, 4409)
        assert Desk.ended == []

    @async_test
    async def test_a_consumer_may_follow_from_the_beginning(self) -> None:
        socket = await self.open(self.user, headers=[(b"x-follow", b"1")])
        assert await socket.receive_nothing()
        note = await database(models.Note.objects.create)(text="a")
        assert await self.all_from(socket) == [{"note": note.pk, "as": "connect"}]

    @async_test
    async def test_an_instance_that_is_mounted_has_a_twin_per_socket(self) -> None:
        ada = await self.person("ada")
        one, two = await self.open(self.user, "/one/"), await self.open(ada, "/one/")
        assert await self.do("who", one) == (200, "guido")
        assert await self.do("who", two) == (200, "ada")
        assert (await self.do("keep", one, value=1))[1]["kept"] == [1]
        assert (await self.do("keep", two, value=2))[1]["kept"] == [2]

    @async_test
    async def test_default_permissions_are_those_of_rest_framework(self) -> None:
        nobody = await self.open(None, "/shared/")
        with override_settings(
            REST_FRAMEWORK={"DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]}
        ):
            refusal = ["You do not have permission to perform this action."]
            assert await self.do("who", nobody) == (403, refusal)
            assert (await self.do("who", await self.open(self.user, "/shared/")))[0] == 200

    @async_test
    async def test_a_user_who_is_deactivated_does_nothing_any_more(self) -> None:
        assert await self.do("who") == (200, "guido")
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(is_active=False)
        assert await self.do("who") == (200, "AnonymousUser")

    def test_declarations_that_cannot_be(self) -> None:
        async def asynchronous(self: Any) -> None: ...

        def synchronous(self: Any) -> None: ...

        with pytest.raises(ValueError, match="transaction"):
            action(atomic=True)(asynchronous)
        with pytest.raises(ValueError, match="detached"):
            action(detached=True)(synchronous)
        with pytest.raises(TypeError, match="parentheses"):
            action(synchronous)  # type: ignore[arg-type]
