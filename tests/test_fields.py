"""The version column and the database's clock."""

from __future__ import annotations

import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.writer import MigrationWriter

from drf_concord.fields import DatabaseClock, VersionField, version_field
from tests.app.models import Bare, Folder, Item, Place, Restaurant, Watched
from tests.settings import TEST_DB

MINUTE = 60_000_000


def test_a_migration_says_nothing_of_how_the_value_comes_about() -> None:
    """So that a release may read the clock otherwise without a migration."""
    field = VersionField("version")
    _, path, args, kwargs = field.deconstruct()
    assert (path, args, kwargs) == ("drf_concord.fields.VersionField", [], {"verbose_name": "version"})
    assert MigrationWriter.serialize(field)[0] == "drf_concord.fields.VersionField(verbose_name='version')"


def test_it_is_a_column_that_nobody_edits_and_the_database_fills() -> None:
    field = Item._meta.get_field("version")
    assert not field.editable
    assert isinstance(field.db_default, DatabaseClock)
    assert not field.null


def test_the_field_of_a_model_is_its_own_or_a_parents() -> None:
    assert version_field(Folder) is Folder._meta.get_field("version")
    found = version_field(Restaurant)
    assert found is not None
    assert found.model is Place
    assert version_field(Bare) is version_field(Watched) is None


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_each_database_has_a_clock(vendor: str) -> None:
    compiler: Any = None
    sql, params = DatabaseClock().as_sql(compiler, SimpleNamespace(vendor=vendor))  # type: ignore[arg-type]
    assert (sql[0], sql[-1]) == ("(", ")")
    assert params == ()


@pytest.mark.django_db
@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_clock_is_now_in_microseconds_and_goes_on_within_a_transaction() -> None:
    before = time.time_ns() // 1000
    times = []
    for _ in range(3):
        Folder.objects.create(name="f")
        with connection.cursor() as cursor:
            sql, _ = DatabaseClock().as_sql(None, connection)  # type: ignore[arg-type]
            cursor.execute(f"SELECT {sql}")
            times.append(cursor.fetchone()[0])
    after = time.time_ns() // 1000
    assert all(type(now) is int for now in times)
    assert before - MINUTE <= times[0] <= times[-1] <= after + MINUTE
    if TEST_DB != "sqlite":
        assert all(a < b for a, b in pairwise(times))


@pytest.mark.django_db
def test_rows_made_within_a_millisecond_have_versions_of_their_own() -> None:
    """SQLite's clock ticks in milliseconds; for what the ORM inserts the clock of this process does."""
    versions = [Folder.objects.create(name="f").version for _ in range(50)]
    assert all(a < b for a, b in pairwise(versions))
    assert max(versions) < 2**53


@pytest.mark.django_db
def test_a_version_that_is_given_is_kept() -> None:
    folder = Folder(name="f", version=7)
    folder.save_base(raw=True, force_insert=True)
    assert Folder.objects.get().version == 7
