"""A real server, a real client: what it reads as it comes, after a cut, and when the server stops."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings

from drf_concord.live.draining import drain
from drf_concord.live.hub import hub_of_loop
from drf_concord.live.pool import pool
from tests.app.models import Item
from tests.eventstreams import Copy, Event, parsed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite, pytest.mark.postgresql]

PATIENCE = 30.0


class Served:
    """A server in a thread of this process, on the tests' database."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(ASGIHandler(), lifespan="off", log_level="warning", ws="none")
        self.server = uvicorn.Server(config)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        await self.server.serve(sockets=[self.listening])
        await hub_of_loop().stop()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}{path}"

    def ask(self, work: Any) -> Any:
        """Run something in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    async def left(self) -> None:
        """Wait until nobody follows."""
        hub = hub_of_loop()
        async with asyncio.timeout(PATIENCE):
            for each in list(hub.listeners):
                await each._gone.wait()  # type: ignore[attr-defined]
        assert not hub.listeners
        assert not hub._cohorts

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    with override_settings(ALLOWED_HOSTS=["*"]):
        served = Served()
        with closing(served.listening):
            try:
                yield served
            finally:
                served.stop()
                pool.close()


class Reading:
    """Reads a stream event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()

    def next(self, *kinds: str) -> Event:
        """Return the next event of one of some kinds."""
        block: list[str] = []
        for line in self.lines:
            if line:
                block.append(line)
                continue
            (event,) = parsed("\n".join(block) + "\n\n")
            block = []
            if event.kind in kinds:
                return event
        raise AssertionError("It ended.")


@contextmanager
def reading(served: Served, path: str, last: str = "") -> Iterator[Reading]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    with (
        httpx.Client(timeout=PATIENCE, trust_env=False) as client,
        client.stream("GET", served.url(path), headers=headers) as response,
    ):
        assert response.status_code == 200
        yield Reading(response)


def test_as_curl_would_read_it(served: Served) -> None:
    Item.objects.create(pk=1, text="a")
    Item.objects.create(pk=2, text="a")
    copy = Copy()
    with reading(served, "/items/") as stream:
        copy.take([stream.next("snapshot")])
        Item.objects.filter(pk=1).update(text="b")
        copy.take([stream.next("changes")])
    assert copy.objects[1]["text"] == "b"
    served.ask(served.left())  # the connection was cut, and nothing is left behind
    Item.objects.filter(pk=2).delete()
    with reading(served, "/items/", copy.last) as stream:
        assert stream.next("subscribed").data["how"] == "resumed"
        copy.take([stream.next("changes")])
        assert set(copy.objects) == {1}
        # a response that is open would hold up the server
        served.ask(drain())
        bye = stream.next("bye")
        assert bye.retry == bye.data["after_ms"]
        served.stop()
        assert list(stream.lines) == []
