"""Tests of this folder may be coroutines, as suites for websockets are written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from drf_concord.live.hub import hub_of_loop
from drf_concord.live.pool import pool


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def hub_stops() -> AsyncIterator[None]:
    """End what reads the log by itself, and the threads with their connections, as a server does."""
    yield
    await hub_of_loop().stop()
    pool.close()
