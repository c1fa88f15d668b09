"""The laboratory: a database of its own for tests that change the schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker

from tests.settings import RUN, TEST_DB
from tests.triggers.lab import Lab, laboratory


@pytest.fixture(scope="session")
def postgresql_lab(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a database that the laboratory may empty."""
    import psycopg

    name = f"lab_{RUN}_{os.environ.get('PYTEST_XDIST_WORKER', 'gw')}"
    settings = connections["default"].settings_dict
    server = {
        "host": settings["HOST"],
        "port": settings["PORT"],
        "user": settings["USER"],
        "password": settings["PASSWORD"],
    }
    with psycopg.connect(**server, dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        # nobody needs these data after a crash, and a migration commits often
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        yield name
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[Lab]:
    """A laboratory with the concord tables in place and an empty app."""
    name = str(tmp_path / "lab.sqlite3")
    if TEST_DB == "postgresql":
        name = request.getfixturevalue("postgresql_lab")
    with django_db_blocker.unblock(), laboratory(tmp_path, name) as laboratory_:
        yield laboratory_
        if TEST_DB == "postgresql":
            laboratory_.sql("DROP SCHEMA public CASCADE")
            laboratory_.sql("CREATE SCHEMA public")
