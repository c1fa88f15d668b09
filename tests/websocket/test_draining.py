"""What sockets are told before the process stops."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import drain, lifespan
from drf_concord.websocket.consumers import AsyncAPIConsumer
from drf_concord.websocket.decorators import action
from drf_concord.websocket.draining import sockets_of_loop
from drf_concord.websocket.socket import Socket
from tests.app import models

from .cases import SocketCase, database, until

CLOSED = {"type": "websocket.close", "code": 1012}
CLOSED_SESSION = {"type": "websocket.close", "code": 4503}


async def turns() -> None:
    """Let the event loop do whatever it can do."""
    for _ in range(20):
        await asyncio.sleep(0)


def working() -> bool:
    """Tell whether a socket has something under way."""
    return any(s.tasks for s in sockets_of_loop().open if isinstance(s, Socket))


@asynccontextmanager
async def serving(send: Callable[[Any], Coroutine[Any, Any, None]]) -> AsyncIterator[tuple[Any, Any]]:
    """Serve a socket of session mode whose client asks for nothing; yields it and the task."""
    socket = Socket(send, lambda code, after: "bye")
    task = asyncio.ensure_future(socket.serve(asyncio.Event().wait, lambda text: asyncio.sleep(0)))
    await asyncio.sleep(0)
    yield socket, task
    task.cancel()
    await asyncio.wait([task])


class Slow(AsyncAPIConsumer):
    """Has an action that takes as long as the test says."""

    permission_classes: Any = []
    answered = asyncio.Event()

    @action()
    async def wait(self, **kwargs: Any) -> tuple[Any, int]:
        await self.answered.wait()
        return {}, 200


class Draining(SocketCase):
    """A process that is about to stop."""

    @async_test
    async def test_a_session_is_told_and_a_plain_socket_is_closed(self) -> None:
        session = await self.open(self.user, session=True)
        consumer = await self.open(self.user, "/notes/")
        assert await drain() == 3
        bye = await session.receive_json_from()
        assert bye == {"type": "bye", "code": 4503, "reconnect": True, "after_ms": bye["after_ms"]}
        assert await session.receive_output(5) == CLOSED_SESSION
        assert await self.socket.receive_output(5) == CLOSED
        assert await consumer.receive_output(5) == CLOSED

    @async_test
    async def test_nobody_comes_back_at_the_same_moment(self) -> None:
        sessions = [await self.open(self.user, session=True) for _ in range(8)]
        await self.socket.disconnect()
        self.opened.remove(self.socket)
        assert await drain() == 8
        byes = [await session.receive_json_from() for session in sessions]
        # each in another eighth of the second
        assert sorted(bye["after_ms"] // 125 for bye in byes) == list(range(8))

    @async_test
    async def test_a_socket_that_opens_now_is_sent_away(self) -> None:
        await drain()
        late = await self.open(self.user, session=True)
        assert (await late.receive_json_from())["type"] == "bye"
        assert await late.receive_output(5) == CLOSED_SESSION
        plain = await self.open(self.user)
        assert await plain.receive_output(5) == CLOSED

    @async_test
    async def test_a_mark_comes_before_it(self) -> None:
        session = await self.open(self.user, session=True)
        await self.ask({"action": "subscribe", "request_id": 1, "model": "app.Item"}, session)
        await database(models.Item.objects.create)(pk=1, text="a")
        changes = (await self.all_from(session))[-1]
        assert changes["type"] == "changes"
        await drain()
        mark = await session.receive_json_from()
        assert (mark["type"], mark["seq"]) == ("mark", changes["seq"] + 1)
        assert (await session.receive_json_from())["type"] == "bye"

    @async_test
    async def test_what_was_asked_is_answered_and_nothing_more(self) -> None:
        Slow.answered = asyncio.Event()
        socket = APICommunicator(Slow.as_asgi(), "/")
        await socket.connect()
        await socket.send_json_to({"action": "wait", "request_id": 1})
        await until(working)
        draining = asyncio.ensure_future(drain())
        await asyncio.sleep(0)
        await socket.send_json_to({"action": "wait", "request_id": 2})
        await turns()
        assert not draining.done()
        Slow.answered.set()
        await draining
        assert (await socket.receive_json_from())["request_id"] == 1
        assert await socket.receive_output(5) == CLOSED
        await socket.disconnect()

    @async_test
    async def test_a_request_that_takes_too_long_is_not_waited_for(self) -> None:
        Slow.answered = asyncio.Event()
        socket = APICommunicator(Slow.as_asgi(), "/")
        await socket.connect()
        await socket.send_json_to({"action": "wait", "request_id": 1})
        await until(working)
        await drain(0.01)
        assert await socket.receive_output(5) == CLOSED
        await socket.disconnect()

    @async_test
    async def test_a_client_that_does_not_read_holds_nothing_up(self) -> None:
        stuck = asyncio.Event()

        async def send(event: Any) -> None:
            await stuck.wait()

        async with serving(send) as (socket, _):
            socket.push("one")
            assert await drain(0.01) == 2
            stuck.set()

    @async_test
    async def test_what_waits_for_the_network_goes_first(self) -> None:
        sent, free = [], asyncio.Event()

        async def send(event: Any) -> None:
            await free.wait()
            await turns()  # the network is never at once
            sent.append(event.get("text", event["type"]))

        async with serving(send) as (socket, _):
            socket.push("one")
            socket.push("two")
            draining = asyncio.ensure_future(drain())
            await turns()
            free.set()
            await draining
            assert sent == ["one", "two", "bye", "websocket.close"]

    @async_test
    async def test_a_client_that_stops_reading_at_its_end_holds_nothing_up(self) -> None:
        stuck = asyncio.Event()

        async def send(event: Any) -> None:
            await stuck.wait()

        async with serving(send) as (_, task):
            await drain(0.01)
            assert not task.done()  # its own five seconds have not passed
            stuck.set()

    @async_test
    async def test_whoever_ended_is_not_kept(self) -> None:
        assert len(sockets_of_loop().open) == 1
        await self.socket.disconnect()
        self.opened.remove(self.socket)
        assert not sockets_of_loop().open

    @async_test
    async def test_a_server_that_cancels_sends_it_too(self) -> None:
        session = await self.open(self.user, session=True)
        for socket in (session, self.socket):
            self.opened.remove(socket)
            await settle()
            socket.future.cancel()
            await asyncio.wait([socket.future])
        assert '"code":4503' in session.output_queue.get_nowait()["text"]
        assert session.output_queue.get_nowait() == CLOSED_SESSION
        assert self.socket.output_queue.get_nowait() == CLOSED


@pytest.mark.parametrize("lost", [True, False])
def test_a_cancelled_socket_waits_for_nobody(lost: bool) -> None:
    tried = []

    async def send(event: Any) -> None:
        tried.append(event["type"])
        if lost:
            raise ConnectionError
        await asyncio.Event().wait()

    async def cancel() -> None:
        async with serving(send) as (_, task):
            pass
        assert task.cancelled()

    asyncio.run(cancel())
    assert tried == ["websocket.send", "websocket.close"][: 2 if lost else 1]


class Server:
    """Takes signals and talks to the application as a server does."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.said: list[str] = []
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.stopping = asyncio.Event()

    def signalled(self, number: int, frame: Any) -> None:
        self.seen.append(number)
        self.stopping.set()

    async def send(self, event: Any) -> None:
        self.said.append(event["type"])

    async def start(self) -> asyncio.Task[None]:
        self.events.put_nowait({"type": "lifespan.startup"})
        task = asyncio.ensure_future(lifespan({"type": "lifespan"}, self.events.get, self.send))
        await until(lambda: self.said)
        return task

    async def stop(self, task: asyncio.Task[None]) -> None:
        self.events.put_nowait({"type": "lifespan.shutdown"})
        await task
        assert self.said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Stuck:
    """A socket that has something to finish."""

    def __init__(self) -> None:
        self.finished = asyncio.Event()
        self.left = False
        sockets_of_loop().open.add(self)

    async def finish(self, until: float) -> None:
        await self.finished.wait()

    async def leave(self, after: float, until: float) -> None:
        self.left = True
        sockets_of_loop().open.discard(self)


@pytest.fixture
def handlers() -> Any:
    """The process's signal handlers, put back afterwards."""
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield known
    for number, handler in known.items():
        signal.signal(number, handler)


def test_a_signal_reaches_the_server_once_the_sockets_are_gone(handlers: Any) -> None:
    async def stop() -> None:
        server = Server()
        signal.signal(signal.SIGTERM, server.signalled)
        task = await server.start()
        socket = Stuck()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: sockets_of_loop().draining)
        assert server.seen == []
        socket.finished.set()
        await server.stopping.wait()
        assert socket.left
        assert server.seen == [signal.SIGTERM]
        await server.stop(task)
        assert signal.getsignal(signal.SIGTERM) == server.signalled

    asyncio.run(stop())


def test_a_second_signal_does_not_wait(handlers: Any) -> None:
    async def stop() -> None:
        server = Server()
        signal.signal(signal.SIGINT, server.signalled)
        task = await server.start()
        socket = Stuck()
        signal.raise_signal(signal.SIGINT)
        await until(lambda: sockets_of_loop().draining)
        signal.raise_signal(signal.SIGINT)
        assert server.seen == [signal.SIGINT]
        socket.finished.set()
        await server.stop(task)
        assert server.seen == [signal.SIGINT]  # uvicorn takes a second one for "at once"

    asyncio.run(stop())


def test_a_server_without_signals_drains_at_its_end(handlers: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def stop() -> None:
        server = Server()
        task = await server.start()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        socket = Stuck()
        socket.finished.set()
        await server.stop(task)
        assert socket.left

    asyncio.run(stop())


def test_a_server_in_another_thread_keeps_its_hands_off_signals(handlers: Any) -> None:
    async def stop() -> None:
        server = Server()
        await server.stop(await server.start())

    async def beside() -> None:
        await asyncio.to_thread(asyncio.run, stop())

    signal.signal(signal.SIGTERM, lambda number, frame: None)
    asyncio.run(beside())


def test_the_lifespan_is_no_websocket() -> None:
    with pytest.raises(ValueError, match="websocket"):
        asyncio.run(lifespan({"type": "websocket"}, asyncio.Event().wait, lambda event: asyncio.sleep(0)))
