"""Tests of this folder may be coroutines, as suites for websockets are written."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
