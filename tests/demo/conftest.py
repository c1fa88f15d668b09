"""A database of its own for every demo, and one demo that the tests of a module share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

import httpx
import pytest

from tests.demo.process import Demo
from tests.services import POSTGRESQL
from tests.settings import TEST_DB

MakeDatabase = Callable[[], str]


@pytest.fixture(scope="module")
def make_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeDatabase]:
    """Return a function that makes an empty database and returns its DATABASE_URL."""
    made: list[str] = []

    def sqlite() -> str:
        return f"sqlite:///{tmp_path_factory.mktemp('demo') / 'a demo.sqlite3'}".replace(" ", "%20")

    def postgresql() -> str:
        # a name that needs quoting in SQL and encoding in a URL
        made.append(f"demo {os.getpid()} {len(made)}")
        _postgresql(f'CREATE DATABASE "{made[-1]}"')
        user = quote(os.environ.get("PGUSER", "postgres"))
        password = quote(os.environ.get("PGPASSWORD", ""), safe="")
        server = f"{POSTGRESQL.host}:{POSTGRESQL.port}"
        return f"postgres://{user}:{password}@{server}/{quote(made[-1])}"

    yield postgresql if TEST_DB == "postgresql" else sqlite
    for name in made:
        _postgresql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _postgresql(statement: str) -> None:
    import psycopg

    connection = psycopg.connect(
        host=POSTGRESQL.host,
        port=POSTGRESQL.port,
        user=os.environ.get("PGUSER", "postgres"),
        password=os.environ.get("PGPASSWORD", ""),
        dbname="postgres",
        autocommit=True,
    )
    with closing(connection):
        connection.execute(statement)


@pytest.fixture(scope="module")
def demo(make_database: MakeDatabase) -> Iterator[Demo]:
    """A demo with two workers."""
    with Demo(make_database(), workers=2) as running:
        yield running


@pytest.fixture
def nobody(demo: Demo) -> Iterator[httpx.Client]:
    """A client that has not logged in."""
    with demo.client() as client:
        yield client


@pytest.fixture
def guido(demo: Demo) -> Iterator[httpx.Client]:
    """A client that is Guido's."""
    with demo.client("guido") as client:
        yield client


@pytest.fixture
def ada(demo: Demo) -> Iterator[httpx.Client]:
    """A client that is Ada's."""
    with demo.client("ada") as client:
        yield client
