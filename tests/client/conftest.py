"""One demo that the tests of a module share, on a SQLite file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drf_concord.client import Client
from tests.demo.process import Demo


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client") / "db.sqlite3"


@pytest.fixture(scope="module")
def demo(database: Path) -> Iterator[Demo]:
    with Demo(f"sqlite:///{database}") as running:
        yield running
        assert running.process.poll() is None, f"the demo ended: {running.complaints()}"


@pytest.fixture(scope="module")
def api(demo: Demo) -> str:
    return demo.address("/api/")


@pytest.fixture
def guido(api: str) -> Iterator[Client]:
    with Client(api, auth=("guido", "guido"), timeout=60) as client:
        yield client


@pytest.fixture
def ada(api: str) -> Iterator[Client]:
    with Client(api, auth=("ada", "ada"), timeout=60) as client:
        yield client


@pytest.fixture
def admin(api: str) -> Iterator[Client]:
    with Client(api, auth=("admin", "admin"), timeout=60) as client:
        yield client
