"""The test run itself: the database that was asked for, as users should set it up."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from tests.settings import TEST_DB

VENDORS = {"sqlite": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}

pytestmark = pytest.mark.django_db


@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_database_is_the_one_that_was_asked_for() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")

    assert connection.vendor == VENDORS[TEST_DB]


@pytest.mark.sqlite
def test_sqlite_is_a_file_with_a_write_ahead_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)

    assert Path(str(connection.settings_dict["NAME"])).is_file()


@pytest.mark.mariadb
def test_mariadb_is_not_another_server_of_that_family() -> None:
    assert connection.mysql_is_mariadb  # type: ignore[attr-defined]
