"""The testing kit, where a test goes wrong: it ends with what went wrong first."""

from __future__ import annotations

import asyncio
import threading
import time
import unittest
from typing import Any, ClassVar
from unittest import mock

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.urls import path
from rest_framework.permissions import BasePermission

from drf_concord.live import RealtimeMixin
from drf_concord.live.cohorts import Cohort
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import AsyncAPIConsumer, RealtimeRouter, action

from .app import models, sockets, views
from .websocket.cases import SocketCase, database, until
from .websocket.test_joining import gate


class Waiting(SocketCase):
    @async_test
    async def test_a_frame_that_does_not_come(self) -> None:
        with pytest.raises(TimeoutError):
            await self.socket.receive_json_from(timeout=0.01)
        await self.socket.disconnect()

    def test_it_is_what_the_test_ends_with(self) -> None:
        async def waits(self: SocketCase) -> None:
            await self.socket.receive_json_from(timeout=0.01)

        case = type("Case", (SocketCase,), {"test_waits": async_test(waits)})("test_waits")
        result = unittest.TestResult()
        case(result)
        ((_, traceback),) = result.errors
        assert "TimeoutError" in traceback
        assert "CancelledError\n" not in traceback.rpartition("Traceback")[2]


class Slow(BasePermission):
    """Waits for the test, in the thread of the database or in the event loop."""

    thread: ClassVar[threading.Event]
    asked: ClassVar[threading.Event]

    def has_permission(self, request: Any, view: Any) -> bool:
        self.asked.set()
        return self.thread.wait(10)


class SlowNotes(RealtimeMixin, views.NoteViewSet):
    permission_classes = [Slow]


class Waiter(AsyncAPIConsumer):
    permission_classes: Any = []
    go: ClassVar[asyncio.Event]

    @action()
    async def wait(self, **kwargs: Any) -> Any:
        await self.go.wait()
        return "done", 200


slow = RealtimeRouter()
slow.register(SlowNotes)


class Taking(SocketCase):
    """A frame that was sent has been taken in: what is written afterwards is told."""

    application = AuthMiddlewareStack(
        URLRouter(
            [
                path("ws/", sockets.router.consumer),
                path("slow/", slow.consumer),
                path("wait/", Waiter.as_asgi()),
            ]
        )
    )

    @async_test
    async def test_a_write_right_after_a_subscription_is_told(self) -> None:
        folder = await database(models.Folder.objects.create)(name="f")
        for pk, frame in enumerate(
            (
                {"request_id": 1, "model": "app.Item", "value": 0},
                {"request_id": 1, "model": "app.Item", "group_by": "folder_id", "value": folder.pk},
                {"type": "subscribe", "id": 1, "model": "app.Item", "action": "list"},
            )
        ):
            socket = await self.open(self.user)
            await socket.send_json_to(frame)
            await database(models.Item.objects.create)(pk=pk, text="a", folder=folder)
            assert (await socket.receive_json_from())["action"] == "CREATED", frame

    @async_test
    async def test_in_session_mode_too(self) -> None:
        socket = await self.open(self.user, session=True)
        await socket.send_json_to({"action": "subscribe", "request_id": 1, "model": "app.Item"})
        await database(models.Item.objects.create)(text="a")
        types = [(await socket.receive_json_from())["type"] for _ in range(2)]
        assert types == ["subscribed", "changes"]

    @async_test
    async def test_a_subscription_that_is_refused_is_over(self) -> None:
        for frame in (
            {"request_id": 1, "model": "app.Nothing", "value": 1},
            {"request_id": 2, "model": "app.Pair", "value": 1},
            {"type": "subscribe", "id": 3, "model": "app.Item", "action": "retrieve", "lookup_by": 10**6},
        ):
            await self.socket.send_json_to(frame)
            assert self.socket.output_queue.qsize() == 1, frame
            assert (await self.socket.receive_json_from())["code"] in {403, 404}

    @async_test
    async def test_a_request_that_waits_for_the_test_is_not_waited_for(self) -> None:
        Waiter.go = asyncio.Event()
        socket = await self.open(self.user, "/wait/")
        begun = time.monotonic()
        await socket.send_json_to({"action": "wait", "request_id": 1})
        assert time.monotonic() - begun < 4
        Waiter.go.set()
        assert (await socket.receive_json_from())["data"] == "done"

    @async_test
    async def test_nor_when_a_subscription_is_sent_beside_it(self) -> None:
        connection = self.socket._connection()
        assert connection is not None
        connection.spawn(asyncio.Event().wait())  # type: ignore[arg-type]
        begun = time.monotonic()
        await self.socket.send_json_to({"request_id": 1, "model": "app.Item", "value": 1})
        assert time.monotonic() - begun < 4

    @async_test
    async def test_a_subscription_that_waits_for_the_test_is_waited_for_no_longer_than_that(self) -> None:
        Slow.thread, Slow.asked = threading.Event(), threading.Event()
        socket = await self.open(self.user, "/slow/")
        note = {"request_id": 1, "model": "app.Note", "value": 1}
        try:
            await socket.send_json_to(note, timeout=0.01)
            await asyncio.to_thread(Slow.asked.wait, 10)
            await socket.send_json_to({**note, "request_id": 2}, timeout=0)
        finally:
            Slow.thread.set()
        await settle()
        await database(models.Note.objects.create)(pk=1, text="a")
        assert {(await socket.receive_json_from())["request_id"] for _ in range(2)} == {1, 2}

    @async_test
    async def test_a_server_that_reads_no_more_is_not_waited_for(self) -> None:
        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await asyncio.Event().wait()

        async def brief(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})

        begun = time.monotonic()
        for application, timeout in ((deaf, 0.01), (brief, 10.0)):
            socket = APICommunicator(application, "/")
            await socket.connect()
            await socket.send_json_to({}, timeout=timeout)
            socket.stop(exceptions=False)
        assert time.monotonic() - begun < 9

    @async_test
    async def test_a_socket_that_ends_meanwhile(self) -> None:
        note = {"request_id": 1, "model": "app.Item", "value": 1}
        with gate() as looks, mock.patch.object(Cohort, "_load", Cohort._look):
            looks.shut()
            sending = asyncio.ensure_future(self.socket.send_json_to(note, timeout=60))
            await until(lambda: looks.waiting == 1)
            assert not sending.done()
            self.socket.stop()
            await asyncio.wait_for(sending, 30)
        self.opened.remove(self.socket)
