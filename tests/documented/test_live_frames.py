"""Frames of live subscriptions that are refused, those of later releases, and the testing kit."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest import mock

from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.test import TransactionTestCase

from drf_concord.live.hub import hub_of_loop
from drf_concord.models import Log
from drf_concord.testing import APICommunicator, async_test, communicator, get_headers_for_user, settle
from tests.app.models import Item, Note, Texted
from tests.websocket.cases import database

from .live import LiveCase, application

ITEM = "app.Item"
SOON = 0.5  # seconds


class Refused(LiveCase):
    """Errors of subscription frames, and of others."""

    @async_test
    async def test_errors_of_subscription_frames(self) -> None:
        frame = {"request_id": 1, "model": ITEM, "value": 1}
        await self.begin(**frame)
        for refused, code in (
            ({"request_id": 2, "model": ITEM, "group_by": "folder_id"}, 400),
            ({"request_id": 2, "model": ITEM, "value": "no number"}, 400),
            ({"request_id": 2, "model": ITEM, "value": [1]}, 400),
            ({"request_id": 2, "model": ITEM, "group_by": "text", "value": 1}, 400),
            ({"request_id": 2, "model": ITEM, "value": 1, "arguments": [1]}, 400),
            ({"request_id": 2, "model": 7, "value": 1}, 400),
            ({"request_id": 2, "value": 1}, 400),
            (frame, 400),
            ({"request_id": 2, "model": "app.Unknown", "value": 1}, 404),
            ({"request_id": 2, "action": "unsubscribe"}, 404),
        ):
            error = await self.asked(refused)
            assert list(error) == ["type", "request_id", "code", "message"], refused
            expected = ("error", refused.get("request_id"), code)
            assert (error["type"], error["request_id"], error["code"]) == expected, refused
            assert error["message"], refused
        # the first one is still there
        await database(Item.objects.create)(text="x")
        assert await self.news() == [(1, "CREATED", 1)]

    @async_test
    async def test_who_may_not_is_told_403(self) -> None:
        stranger = APICommunicator(application, "/ws/subscribe/")
        await stranger.connect()
        await stranger.send_json_to({"request_id": 1, "model": "app.Note", "value": 1})
        error = await stranger.receive_json_from()
        assert (error["type"], error["request_id"], error["code"]) == ("error", 1, 403)
        await database(Note.objects.create)(text="x")
        assert await stranger.receive_nothing()
        await stranger.disconnect()

    @async_test
    async def test_other_frames_get_the_reply_with_five_keys(self) -> None:
        reply = await self.asked({"request_id": 1, "action": "juggle", "model": ITEM})
        assert list(reply) == ["action", "errors", "response_status", "request_id", "data"]
        assert (reply["action"], reply["response_status"], reply["request_id"]) == ("juggle", 405, 1)
        for unreadable in ("", "{", "[1, 2]", '"text"', "7", "null"):
            await self.socket.send_to(unreadable)
            reply = await self.socket.receive_json_from()
            assert list(reply) == ["action", "errors", "response_status", "request_id", "data"]
            assert (reply["action"], reply["request_id"], reply["data"]) == (None, None, None), unreadable
            assert reply["response_status"] == 400, unreadable

    @async_test
    async def test_a_view_that_raises_ends_that_subscription_with_500(self) -> None:
        await self.begin(request_id=1, model="app.Texted", value="one")
        await self.begin(request_id=2, model="app.Texted", value="two")
        await database(Texted.objects.create)(code="one", text="bad")
        error = await self.socket.receive_json_from()
        assert (error["type"], error["request_id"], error["code"]) == ("error", 1, 500)
        assert "own business" not in error["message"]
        await database(Texted.objects.filter(pk="one").update)(text="good")
        await database(Texted.objects.create)(code="two", text="good")
        assert [f["request_id"] for f in await self.frames()] == [2]


class LaterReleases(LiveCase):
    """The form in which clients of later releases ask."""

    @async_test
    async def test_one_object_and_a_list(self) -> None:
        await database(Item.objects.create)(text="x")
        await self.begin(type="subscribe", id=1, model=ITEM, action="retrieve", lookup_by=1)
        await self.begin(
            type="subscribe", id=2, model=ITEM, action="list", view_kwargs={"a": 1}, query_params={"q": "b"}
        )
        await database(Item.objects.filter(pk=1).update)(text="y")
        await database(Item.objects.create)(text="other")
        frames = sorted(await self.frames(), key=lambda frame: frame["id"])
        assert list(frames[0]) == ["type", "id", "model", "action", "instance"]
        assert [(f["id"], f["action"], f["instance"]["id"]) for f in frames] == [
            (1, "UPDATED", 1),
            (2, "UPDATED", 1),
            (2, "CREATED", 2),
        ]
        await self.begin(type="unsubscribe", id=2)
        await database(Item.objects.all().update)(text="z")
        assert [f["id"] for f in await self.frames()] == [1]

    @async_test
    async def test_errors(self) -> None:
        for refused, code in (
            ({"type": "subscribe", "id": 1, "model": ITEM, "action": "retrieve", "lookup_by": 1}, 404),
            ({"type": "subscribe", "id": 1, "model": "app.Unknown", "action": "list"}, 404),
            ({"type": "subscribe", "id": 1, "model": ITEM, "action": "juggle"}, 400),
            ({"type": "unsubscribe", "id": 1}, 404),
        ):
            error = await self.asked(refused)
            assert list(error) == ["type", "id", "code", "message"], refused
            assert (error["type"], error["id"], error["code"]) == ("error", 1, code), refused


class Kit(TransactionTestCase):
    """The communicator, by itself."""

    async def asyncSetUp(self) -> None:
        self.steps = ["begun"]

    async def asyncTearDown(self) -> None:
        self.steps.append("ended")

    def test_an_asynchronous_test_has_its_set_up_and_its_end(self) -> None:
        @async_test
        async def passes(case: Any) -> None:
            case.steps.append("ran")

        @async_test
        async def fails(case: Any) -> None:
            raise AssertionError("as it should")

        passes(self)
        assert self.steps == ["begun", "ran", "ended"]
        with self.assertRaisesMessage(AssertionError, "as it should"):
            fails(self)
        assert self.steps == ["begun", "ended"]

    @async_test
    async def test_a_path_may_have_a_query_and_the_handshake_headers(self) -> None:
        user = await database(get_user_model().objects.create_user)("ada")
        socket = APICommunicator(application, "/ws/members/?a=1", await get_headers_for_user(user))
        assert await socket.connect() == (True, None)
        assert socket.scope["query_string"] == b"a=1"
        await socket.disconnect()
        refused = APICommunicator(application, "/ws/members/?a=1")
        assert await refused.connect() == (False, 4401)

    @async_test
    async def test_a_flushed_log_is_made_again_with_another_epoch(self) -> None:
        """What the flush of a TransactionTestCase leaves behind."""
        epochs = []
        for text in "ab":
            socket = APICommunicator(application, "/ws/subscribe/")
            await socket.connect()
            await socket.send_json_to({"request_id": 1, "model": ITEM, "group_by": "id", "value": 1})
            assert await socket.receive_nothing()
            epochs.append((await database(Log.objects.get)()).epoch)
            await database(Item.objects.create)(pk=1, text=text)
            assert (await socket.receive_json_from())["instance"]["text"] == text
            await socket.disconnect()
            await database(Item.objects.all().delete)()
            await database(Log.objects.all().delete)()
        assert len(set(epochs)) == 2

    def test_each_event_loop_has_a_hub_of_its_own(self) -> None:
        async def followed(text: str) -> Any:
            socket = APICommunicator(application, "/ws/subscribe/")
            await socket.connect()
            await socket.send_json_to({"request_id": 1, "model": ITEM, "value": 1})
            assert await socket.receive_nothing()
            await database(Item.objects.update_or_create)(pk=1, defaults={"text": text})
            assert (await socket.receive_json_from())["instance"]["text"] == text
            await socket.disconnect()
            return hub_of_loop()

        assert async_to_sync(followed)("a") is not async_to_sync(followed)("b")

    @async_test
    async def test_no_broadcast_is_late(self) -> None:
        """Whoever writes: here somebody who does so while the client waits."""
        socket = APICommunicator(application, "/ws/subscribe/")
        await socket.connect()
        await socket.send_json_to({"request_id": 1, "model": ITEM, "value": 1})
        assert await socket.receive_nothing()
        took = []
        for number in range(3):  # a busy machine makes some of them slow
            looked = asyncio.Event()

            async def settling(looked: asyncio.Event = looked) -> None:
                await settle()
                looked.set()

            with mock.patch.object(communicator, "settle", settling):
                waiting = asyncio.create_task(socket.receive_json_from())
                await looked.wait()
                await database(Item.objects.update_or_create)(pk=1, defaults={"text": str(number)})
                begin = time.monotonic()
                assert (await waiting)["instance"]["text"] == str(number)
                took.append(time.monotonic() - begin)
        assert min(took) < SOON
        await socket.disconnect()
