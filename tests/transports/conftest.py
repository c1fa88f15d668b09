from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from drf_concord import transports
from drf_concord.transports import base
from tests.services import POSTGRESQL, REDIS

from .listening import Logged
from .proxy import Proxy


@pytest.fixture(autouse=True)
def _begin_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has transports of its own, and does not wait long before it tries again."""
    instances: dict[Any, transports.Transport] = {}
    monkeypatch.setattr(transports, "_instances", instances)
    monkeypatch.setattr(base, "RETRY_CAP", 0.05)
    yield
    for transport in instances.values():
        transport.close()


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler, logger = Logged(), logging.getLogger("drf_concord")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.fixture
def redis() -> Iterator[Proxy]:
    """The Redis of the tests, behind a proxy."""
    with Proxy(REDIS.host, REDIS.port) as proxy:
        yield proxy


@pytest.fixture
def postgresql() -> Iterator[Proxy]:
    """The PostgreSQL of the tests, behind a proxy."""
    with Proxy(POSTGRESQL.host, POSTGRESQL.port) as proxy:
        yield proxy


@pytest.fixture(params=["core", "pubsub"])
def layers(request: pytest.FixtureRequest, settings: Any, redis: Proxy) -> dict[str, Any]:
    """Both layers of channels-redis in turn, set up as a project does; nobody else uses their keys."""
    backend = {"core": "core.RedisChannelLayer", "pubsub": "pubsub.RedisPubSubChannelLayer"}[request.param]
    hosts = [f"redis://127.0.0.1:{redis.port}/0"]
    config = {"hosts": hosts, "prefix": f"test-{uuid.uuid4().hex}"}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"channels_redis.{backend}", "CONFIG": config}}
    return settings.CHANNEL_LAYERS  # type: ignore[no-any-return]
