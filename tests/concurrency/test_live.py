"""Promise 3 under real processes: who comes and goes while others write ends with what a GET shows.

One writer is killed in the middle, and one is stopped for a while with whatever it holds. One validator per
guarantee; ``CONCORD_CHANGES``, ``CONCORD_RECONNECTS`` and ``CONCORD_STOP`` (seconds) make the run as long as
wanted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from rest_framework.test import APIClient

from drf_concord import transports
from drf_concord.live import hub as hubs
from drf_concord.live.pool import pool
from drf_concord.testing import APICommunicator
from tests.app.models import Item
from tests.app.sockets import application
from tests.concurrency.threads import until
from tests.services import REDIS
from tests.transports.proxy import Proxy

CHANGES = int(os.environ.get("CONCORD_CHANGES", "450"))
RECONNECTS = int(os.environ.get("CONCORD_RECONNECTS", "12"))
STOP = float(os.environ.get("CONCORD_STOP", "0.3"))
WRITERS = 3

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
    pytest.mark.timeout(180 + CHANGES // 10),
]


@dataclass
class Copy:
    """What a client holds, by the rules of the protocol."""

    objects: dict[Any, Any] = field(default_factory=dict)
    versions: dict[Any, int] = field(default_factory=dict)
    since: dict[str, str] | None = None
    parts: list[Any] = field(default_factory=list)
    resets: int = 0
    how: str = ""
    older: int = 0
    follows: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, frame: Any) -> None:
        kind = frame["type"]
        if kind == "reset":
            self.objects, self.versions, self.since = {}, {}, None
            self.resets += 1
        elif kind == "snapshot":
            for item in frame["items"]:
                self.put(item["pk"], item["version"], item["instance"])
        elif kind == "subscribed" or kind == "mark":
            self.how = frame.get("how", self.how)
            self.since = {"epoch": frame["epoch"], "position": frame["position"]}
            self.follows.set()
        elif kind == "changes":
            self.parts += frame["changes"]
            if not frame["more"]:
                for change in self.parts:
                    self.put(change["pk"], change["version"], change.get("instance"))
                self.parts = []

    def put(self, pk: Any, version: int | None, instance: Any) -> None:
        known = self.versions.get(pk)
        if version is not None:
            if known is not None and version < known:
                self.older += 1
                return
            self.versions[pk] = version
        if instance is None:
            self.objects.pop(pk, None)
        else:
            self.objects[pk] = instance


async def session(copy: Copy, until: Any) -> None:
    """Open a socket, follow the list from where the copy stands, and take in frames until told to go."""
    socket = APICommunicator(application, "/ws/", subprotocols=["concord.v1"])
    socket.inline = False
    assert (await socket.connect())[0]
    frame: dict[str, Any] = {"action": "subscribe", "request_id": 1, "model": "app.Item", "snapshot": True}
    if copy.since is not None:
        frame |= {"since": copy.since, "have": list(copy.objects)}
    await socket.send_json_to(frame)
    copy.parts, copy.how = [], ""
    copy.follows.clear()
    seq = 0
    try:
        async for received in frames_of(socket, until):
            assert received["type"] not in {"error", "end"}, received
            if "seq" in received:
                assert received["seq"] == seq + 1
                seq = received["seq"]
                await socket.send_json_to({"action": "ack", "seq": seq})
            copy.take(received)
    finally:
        await socket.disconnect()


async def frames_of(socket: Any, until: Any) -> Any:
    import json

    leaving = asyncio.ensure_future(until())
    coming = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(socket.output_queue.get())
            await asyncio.wait([leaving, coming], return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                yield json.loads(coming.result()["text"])
                coming = None
            elif leaving.done():
                await asyncio.sleep(0)
                if not coming.done() and socket.output_queue.empty():
                    leaving.result()
                    return
    finally:
        for task in (leaving, coming):
            if task is not None:
                task.cancel()


def writer(number: int, rounds: int) -> subprocess.Popen[str]:
    name = str(connection.settings_dict["NAME"])
    command = [sys.executable, "-m", "tests.concurrency.scribbler", name, str(number), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def alone() -> bool:
    """Return whether nobody else writes: a server may commit after its client was killed."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return cursor.fetchone() == (0,)


def fresh() -> dict[int, Any]:
    return {item["id"]: item for item in APIClient().get("/items/").json()}


def run(redis: Proxy | None = None) -> tuple[Copy, dict[int, Any], int]:
    """Let processes write while a client comes and goes; return its copy, a GET, and how much was written.

    Args:
        redis: what hints go through; it is away for the middle third of the run.
    """
    # so many that few are written twice: a change that was missed stays missed
    Item.objects.bulk_create([Item(text=str(n)) for n in range(800)])
    copy, chance = Copy(), random.Random(7)
    victim = writer(WRITERS, 10**9)  # writes until it is killed
    started = [victim, *(writer(n, CHANGES // WRITERS) for n in range(WRITERS))]
    written, hurt = list[int](), list[str]()

    def hurts(sign: signal.Signals) -> None:
        assert victim.poll() is None
        victim.send_signal(sign)
        hurt.append(sign.name)

    async def all_of_it() -> None:
        resumed = 0
        loop = asyncio.get_running_loop()
        ended = asyncio.gather(*(loop.run_in_executor(None, process.communicate) for process in started))

        async def a_while() -> None:
            await asyncio.wait([ended], timeout=chance.random() * 0.4)

        async def some_news() -> None:
            if chance.random() < 0.8:  # else the line is cut before anything has come
                await asyncio.wait_for(copy.follows.wait(), 30)
            await a_while()

        for number in range(RECONNECTS):
            await session(copy, some_news)
            resumed += copy.how == "resumed"
            if number == RECONNECTS // 4:
                hurts(signal.SIGSTOP)
                loop.call_later(STOP, hurts, signal.SIGCONT)
                loop.call_later(STOP + 0.3, hurts, signal.SIGKILL)
            if redis is not None and number == RECONNECTS // 3:
                await sync_to_async(until)(lambda: redis.connected > WRITERS, "everybody's connection")
                redis.cut()
            if redis is not None and number == 2 * RECONNECTS // 3:
                redis.restore()
            if chance.random() < 0.5:
                await a_while()
        written.extend(int(out) for out, _ in await ended if out)
        assert resumed >= RECONNECTS // 3, "nobody came back: the run is void"
        assert hurt == ["SIGSTOP", "SIGCONT", "SIGKILL"]
        await sync_to_async(until)(alone, "the end of what the killed one had begun")

        async def settled() -> None:
            await asyncio.wait_for(copy.follows.wait(), 30)
            for _ in range(3):
                await hubs.hub_of_loop().drain()

        await session(copy, settled)
        await hubs.hub_of_loop().stop()
        pool.close()

    try:
        async_to_sync(all_of_it)()
    finally:
        for process in started:
            process.kill()
    return copy, fresh(), sum(written)


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Proxy]:
    """Redis behind a proxy, as the channel layer of this process and of those it starts."""
    with Proxy(REDIS.host, REDIS.port) as proxy:
        host = f"redis://127.0.0.1:{proxy.port}/0"
        monkeypatch.setenv("CONCORD_TEST_LAYER", host)
        config = {"hosts": [host], "prefix": f"test-{settings.RUN}"}
        backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
        yield proxy
        for transport in transports.transports():
            transport.close()


def test_coming_and_going_ends_with_what_a_get_shows() -> None:
    ends_equal(*run())


# The receiving task of channels-redis' pubsub layer can lose its cancellation when Redis was away, and then
# the event loop never ends: seen once in some twenty runs, and nothing that a run of every day should meet.
@pytest.mark.skipif("CONCORD_CHANGES" not in os.environ, reason="part of the long form: set CONCORD_CHANGES")
@pytest.mark.services("redis")
def test_also_while_redis_is_away(redis: Proxy) -> None:
    ends_equal(*run(redis))


def ends_equal(copy: Copy, expected: dict[int, Any], written: int) -> None:
    assert written >= CHANGES - WRITERS, "too little was written: the run is void"
    assert copy.resets == 0, "a system that resets always passes anything"
    assert copy.objects == expected
    assert copy.parts == []
