"""The application: who may open a socket, what bad frames do, how a socket ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import RealtimeRouter
from drf_concord.websocket.application import PING, PONG
from drf_concord.websocket.origins import allowed
from drf_concord.websocket.outlet import Outlet
from tests.app import models
from tests.app.sockets import application, router

from .cases import SocketCase, database


class Opening(SocketCase):
    """The handshake."""

    async def connect(self, path: str = "/ws/", **headers: str) -> tuple[bool, Any]:
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        socket = APICommunicator(application, path, given)
        answer = await socket.connect()
        if answer[0]:
            await socket.disconnect()
        return answer

    @async_test
    async def test_a_foreign_origin_is_refused_and_a_missing_one_is_not(self) -> None:
        assert (await self.connect())[0]
        assert (await self.connect(origin="http://testserver"))[0]
        assert await self.connect(origin="https://evil.example") == (False, 4403)
        assert await self.connect("/notes/", origin="https://evil.example") == (False, 4403)
        assert await self.connect(origin="null") == (False, 4403)

    @async_test
    async def test_a_closed_router_wants_a_user(self) -> None:
        assert await self.connect("/closed/") == (False, 4401)
        await self.open(self.user, "/closed/")

    @async_test
    async def test_a_closed_router_without_authentication_says_what_is_missing(self) -> None:
        bare = RealtimeRouter(public=False)
        with self.assertLogs("drf_concord", "ERROR") as logged:
            assert await APICommunicator(bare.consumer, "/closed/").connect() == (False, 4401)
        assert "AuthMiddlewareStack" in logged.output[0]
        with self.assertNoLogs("drf_concord"):
            assert await self.connect("/closed/") == (False, 4401)

    @async_test
    async def test_another_subprotocol_is_not_accepted_as_ours(self) -> None:
        socket = APICommunicator(application, "/ws/", subprotocols=["chat"])
        assert await socket.connect() == (True, None)
        await socket.disconnect()


@pytest.mark.parametrize(
    ("origin", "hosts", "expected"),
    [
        ("http://a.example", ["a.example"], True),
        ("http://b.example", ["a.example"], False),
        ("http://b.example", ["*"], False),
        ("http://asked.example:3000", ["*"], True),
        ("http://sub.a.example", [".a.example"], True),
        ("http://[::1]:3000", ["[::1]"], True),
        ("http://[::1", ["a.example"], False),
        ("file://", ["a.example"], False),
        ("https://front.example", [], True),
    ],
)
def test_origins(origin: str, hosts: list[str], expected: bool, settings: Any) -> None:
    settings.ALLOWED_HOSTS = hosts
    settings.CSRF_TRUSTED_ORIGINS = ["https://front.example"]
    scope = {"headers": [(b"origin", origin.encode()), (b"host", b"asked.example")]}
    assert allowed(scope) is expected


def test_the_development_server_knows_this_machine(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.DEBUG = [], True
    assert allowed({"headers": [(b"origin", b"http://localhost:3000"), (b"host", b"127.0.0.1")]})
    assert not allowed({"headers": [(b"origin", b"http://evil.example"), (b"host", b"127.0.0.1")]})


class BadFrames(SocketCase):
    """Whatever comes in gets an answer, and the socket lives."""

    @async_test
    async def test_an_answer_to_everything(self) -> None:
        for text in (
            "",
            "{",
            "[1]",
            "null",
            "[" * 5000,
            '{"a":' * 5000,
            '{"action": []}',
            '{"action": {"a": 1}, "request_id": 3}',
            '{"action": "list", "model": 5}',
            '{"action": "patch", "model": "app.Item", "pk": [], "data": 1}',
            '{"action": "list", "model": "app.Item", "query": 5}',
            '{"action": "subscribe"}',
            '{"model": "app.Item", "value": {}}',
            json.dumps({"action": "list", "data": "x" * 300_000}),
        ):
            frame = await self.ask(text)
            assert frame.get("response_status", frame.get("code")) in {400, 404, 405}, text[:50]
        assert (await self.ask({"action": "list", "model": "app.Item"}))["response_status"] == 200

    @async_test
    async def test_binary_frames_are_read(self) -> None:
        await self.socket.send_input(
            {"type": "websocket.receive", "bytes": b'{"action": "list", "model": "app.Item"}'}
        )
        assert (await self.socket.receive_json_from())["response_status"] == 200

    @async_test
    async def test_ten_megabytes_close_that_socket_only(self) -> None:
        other = await self.open(self.user)
        await self.socket.send_to("x" * 10_000_000)
        closed = await self.socket.receive_output(5)
        assert closed == {"type": "websocket.close", "code": 4400}
        assert (await self.ask({"action": "list", "model": "app.Item"}, other))["response_status"] == 200

    @async_test
    async def test_requests_about_one_object_keep_their_order(self) -> None:
        await database(models.Item.objects.create)(pk=1, text="a")
        for number in range(20):
            await self.socket.send_json_to(
                {
                    "action": "patch",
                    "model": "app.Item",
                    "pk": 1,
                    "data": {"count": number},
                    "request_id": number,
                }
            )
        replies = [await self.socket.receive_json_from() for _ in range(20)]
        assert [r["request_id"] for r in replies] == list(range(20))
        assert [r["data"]["count"] for r in replies] == list(range(20))


class Silence(SocketCase):
    """A session that says nothing is asked, and closed when it does not answer."""

    @async_test
    async def test_ping_and_the_close_after_it(self) -> None:
        from drf_concord.live.hub import hub_of_loop

        socket = await self.open(self.user, session=True)
        connection = next(c for c in hub_of_loop().listeners if c.session.sequenced)  # type: ignore[attr-defined]
        connection.socket.heard -= PING + 1
        connection.beat()
        assert await socket.receive_json_from() == {"type": "ping"}
        await socket.send_json_to({"action": "pong"})
        assert await socket.receive_nothing()
        connection.beat()
        assert await socket.receive_nothing()
        connection.socket.heard -= PING + 1
        connection.beat()
        assert await socket.receive_json_from() == {"type": "ping"}
        connection._asked -= PONG + 1
        connection.socket.heard -= PING
        connection.beat()
        assert (await socket.receive_output(5))["code"] == 4508


def test_a_router_names_what_is_wrong() -> None:
    from drf_concord.live import RealtimeMixin
    from drf_concord.websocket import RealtimeRouter
    from tests.app import views

    class Second(views.ItemViewSet, RealtimeMixin):
        """Another view of the same model."""

    class Unnamed(RealtimeMixin, views.MineViewSet):
        """Names no model."""

        serializer_class = None

    class Plain(RealtimeMixin):
        """Is no view."""

    with pytest.raises(RuntimeError, match="needs RealtimeMixin"):
        RealtimeRouter().register(views.ItemViewSet)
    with pytest.raises(RuntimeError, match=r"stands for app\.Item already"):
        router.register(Second)
    with pytest.raises(Exception, match=r"queryset = Model\.objects\.none"):
        RealtimeRouter().register(Unnamed)
    with pytest.raises(RuntimeError, match="no generic view"):
        RealtimeRouter().register(Plain)


class Slow:
    """A server's send that waits until it is let go."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, message: dict[str, Any]) -> None:
        await self.gate.wait()
        self.sent.append(message["text"])


def test_an_outlet_keeps_the_order_and_its_bounds() -> None:
    async def run() -> None:
        slow = Slow()
        outlet = Outlet(slow, limit=10)
        assert outlet.push("first")
        assert outlet.push("12345")
        assert outlet.push("67890")
        assert not outlet.push("x")
        slow.gate.set()
        await outlet.flushed(5)
        assert slow.sent == ["first", "12345", "67890"]
        assert outlet.push("again")
        assert slow.sent[-1] == "again"

    async_to_sync(run)()


def test_an_outlet_of_a_peer_that_is_gone_sends_nothing() -> None:
    async def gone(message: dict[str, Any]) -> None:
        raise ConnectionError

    async def run() -> None:
        outlet = Outlet(gone)
        assert not outlet.push("x")
        assert outlet.closed

    async_to_sync(run)()


def test_an_outlet_notices_a_peer_that_goes_while_it_waits() -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def gone(message: dict[str, Any]) -> None:
            await gate.wait()
            raise ConnectionError

        outlet = Outlet(gone)
        assert outlet.push("x")
        assert outlet.push("y")
        gate.set()
        await outlet.flushed(5)
        assert outlet.closed
        assert not outlet.push("z")

    async_to_sync(run)()
