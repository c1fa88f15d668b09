from __future__ import annotations

import asyncio
import os
import queue
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from drf_concord import transports
from drf_concord.transports import channel_layer
from drf_concord.transports.channel_layer import GROUP, ChannelLayer

from .announcer import announce_elsewhere
from .costs import cost
from .listening import PATIENCE, Listening, Logged
from .proxy import Proxy, free_port

REDIS = "channels_redis.core.RedisChannelLayer"

needs_redis = pytest.mark.services("redis")


@pytest.fixture
def transport() -> ChannelLayer:
    [transport] = [t for t in transports.transports() if isinstance(t, ChannelLayer)]
    return transport


@pytest.fixture(autouse=True)
def _ask_again() -> None:
    channel_layer._reaches_others.cache_clear()


@pytest.mark.parametrize(
    ("layers", "available"),
    [
        ({"default": {"BACKEND": REDIS}}, True),
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, False),
        ({"default": {"BACKEND": "nowhere.Layer"}}, False),
        ({"default": {}}, False),
        ({"other": {"BACKEND": REDIS}}, False),
        ({}, False),
    ],
    ids=["redis", "in memory", "not installed", "no backend", "no default", "none"],
)
def test_where_it_is_available(settings: Any, layers: dict[str, Any], available: bool) -> None:
    settings.CHANNEL_LAYERS = layers
    assert ChannelLayer().available() is available


def test_without_channels_it_is_not_available(
    settings: Any, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    assert not ChannelLayer().available()  # no such setting
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": REDIS}}
    monkeypatch.setitem(sys.modules, "channels", None)
    monkeypatch.setitem(sys.modules, "channels.layers", None)

    assert not any(ChannelLayer().available() for _ in range(3))
    assert len(logged.of("No hints over the channel layer channels_redis.core.RedisChannelLayer")) == 1


@needs_redis
@pytest.mark.usefixtures("layers")
def test_who_listens_is_woken(transport: ChannelLayer) -> None:
    with Listening(transport) as one, Listening(transport) as two:
        for _ in range(3):
            transport.announce()
            one.hears()
            two.hears()


@needs_redis
@pytest.mark.django_db
def test_another_process_is_heard(layers: dict[str, Any], transport: ChannelLayer) -> None:
    with Listening(transport) as listening:
        announce_elsewhere(["channel_layer"], CHANNEL_LAYERS=layers)
        listening.hears()


@needs_redis
@pytest.mark.usefixtures("layers")
def test_redis_may_go_and_come_back(transport: ChannelLayer, redis: Proxy, logged: Logged) -> None:
    with Listening(transport) as listening:
        transport.announce()
        listening.hears()
        redis.cut()
        transport.announce()
        logged.waits_for("Sending hints over channel_layer is down")
        redis.restore()
        logged.waits_for("Sending hints over channel_layer is back")
        hears_again(transport, listening)

    assert len(logged.of("Sending hints over channel_layer is down")) == 1
    assert len(logged.of("Listening for hints over channel_layer is down")) <= 1


@needs_redis
@pytest.mark.usefixtures("layers")
def test_a_redis_that_has_forgotten_everything(
    transport: ChannelLayer, redis: Proxy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started anew, it knows no groups; with the pub/sub layer it never does."""
    monkeypatch.setattr(channel_layer, "REFRESH", 0.05)
    with Listening(transport) as listening:
        forget(settings.CHANNEL_LAYERS["default"]["CONFIG"])
        hears_again(transport, listening)


@needs_redis
@pytest.mark.usefixtures("layers")
def test_redis_may_come_later(transport: ChannelLayer, redis: Proxy, logged: Logged) -> None:
    redis.cut()
    with Listening(transport, wakes=0) as listening:
        logged.waits_for("Listening for hints over channel_layer is down")
        redis.restore()
        listening.hears()
        hears_again(transport, listening)


@needs_redis
@pytest.mark.usefixtures("layers")
def test_a_writer_does_not_notice_that_redis_is_away(
    transport: ChannelLayer, redis: Proxy, settings: Any, logged: Logged
) -> None:
    redis.cut()
    assert cost(transport) < 0.001
    logged.waits_for("is down")
    assert cost(transport) < 0.001
    redis.restore()
    redis.hold()  # it accepts, and says nothing
    assert cost(transport) < 0.001
    transport.close()

    config = settings.CHANNEL_LAYERS["default"]["CONFIG"] | {"hosts": [("127.0.0.1", free_port())]}
    settings.CHANNEL_LAYERS = {"default": settings.CHANNEL_LAYERS["default"] | {"CONFIG": config}}
    assert cost(transport) < 0.001


@needs_redis
@pytest.mark.usefixtures("layers")
def test_a_redis_that_falls_silent_is_left(
    transport: ChannelLayer, redis: Proxy, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(channel_layer, "TIMEOUT", 0.1)
    transport.announce()
    redis.hold()
    transport.announce()
    logged.waits_for("Sending hints over channel_layer is down (TimeoutError)")
    redis.cut()
    redis.restore()
    logged.waits_for("Sending hints over channel_layer is back")


@needs_redis
@pytest.mark.parametrize("layers", ["core"], indirect=True)
def test_who_stops_listening_leaves_the_group(layers: dict[str, Any], transport: ChannelLayer) -> None:
    with Listening(transport):
        assert members(layers["default"]["CONFIG"]) == 1
    assert members(layers["default"]["CONFIG"]) == 0


@needs_redis
@pytest.mark.usefixtures("layers")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_process_announces_and_its_parent_goes_on(transport: ChannelLayer, redis: Proxy) -> None:
    with Listening(transport) as listening:
        transport.announce()
        listening.hears()
        before = redis.connected
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(int(PATIENCE))
                transport.announce()
                transport.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        listening.hears()
        assert redis.connected == before + 1
        transport.announce()
        listening.hears()
        assert redis.connected == before + 1


def test_a_layer_that_cannot_be_made_is_an_outage(settings: Any, logged: Logged) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": REDIS, "CONFIG": {"hosts": "redis://no.list"}}}
    transport = ChannelLayer()
    transport.announce()
    with Listening(transport, wakes=0):
        logged.waits_for("Listening for hints over channel_layer is down (ValueError")
        logged.waits_for("Sending hints over channel_layer is down (ValueError")
    transport.close()


def test_errors_of_a_layer_that_never_connects_are_no_reason_to_hurry(
    settings: Any, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("drf_concord.transports.channel_layer.asyncio.sleep", note)
    monkeypatch.setattr("drf_concord.transports.base.random.random", lambda: 0.5)
    monkeypatch.setattr("drf_concord.transports.base.RETRY_CAP", 5.0)
    monkeypatch.setattr(channel_layer, "_layer", lambda: Deaf(lambda: len(waits) < 7))
    with Listening(ChannelLayer(), wakes=8):
        pass

    assert waits == [0.0, 0.25, 0.5, 1.0, 2.0, 2.5, 2.5]
    assert len(logged.of("is down (RuntimeError: deaf)")) == 1


class Deaf:
    """A layer whose groups can be joined, but from which nothing can be received."""

    def __init__(self, is_deaf: Callable[[], bool]) -> None:
        self.is_deaf = is_deaf

    async def new_channel(self) -> str:
        return "channel"

    async def group_add(self, group: str, channel: str) -> None:
        assert (group, channel) == (GROUP, "channel")

    async def receive(self, channel: str) -> dict[str, Any]:
        if self.is_deaf():
            raise RuntimeError("deaf")
        await asyncio.Event().wait()
        raise AssertionError


def hears_again(transport: ChannelLayer, listening: Listening) -> None:
    """Announce until it is heard: hints may be lost while nobody knows yet that the connection is gone."""
    while not listening.wakes.empty():
        listening.hears()
    for _ in range(int(PATIENCE * 10)):
        transport.announce()
        with suppress(queue.Empty):
            listening.wakes.get(timeout=0.1)
            return
    raise AssertionError("heard nothing")


def forget(config: dict[str, Any]) -> None:
    """Remove what Redis keeps for this layer."""
    import redis

    with redis.Redis.from_url(config["hosts"][0]) as client:
        for key in client.scan_iter(f"{config['prefix']}*"):
            client.delete(key)


def members(config: dict[str, Any]) -> int:
    """Return how many listeners Redis knows."""
    import redis

    with redis.Redis.from_url(config["hosts"][0]) as client:
        return int(client.zcard(f"{config['prefix']}:group:{GROUP}"))
