"""The version column: a hybrid clock in microseconds."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.expressions import DatabaseDefault, Func

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["DatabaseClock", "VersionField", "version_field"]

# rounded, because the clock ticks in milliseconds and the day is a float that may be a hair below one
SQLITE_NOW = "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
# date_part() and not extract(): a double is exact enough, and a numeric is slow in every trigger.
POSTGRESQL_NOW = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint"
MYSQL_NOW = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"


class DatabaseClock(Func):
    """The database's clock when the expression is evaluated, in microseconds since the epoch.

    Not ``Now()``: that is the time at which the statement or transaction began, and a statement that waited
    for a row lock would write a time from before the wait. SQLite's clock ticks in milliseconds.
    """

    output_field = models.BigIntegerField()

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        now = {"sqlite": SQLITE_NOW, "postgresql": POSTGRESQL_NOW, "mysql": MYSQL_NOW}
        return f"({now[connection.vendor]})", ()


class VersionField(models.BigIntegerField):  # type: ignore[type-arg]
    """The version of a row: ``max(old + 1, the database's now)``, in microseconds.

    One number is the write tag, the order of the states of a row and its date of modification. It stays
    below 2**53, so that JavaScript can hold it. The first value is the database's clock at the insert.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        kwargs["db_default"] = DatabaseClock()
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["editable"], kwargs["db_default"]
        return name, path, args, kwargs

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        # SQLite runs in this process, so its clock is ours, and ours ticks in microseconds: a row that is
        # created, deleted and created again within a millisecond never repeats a version.
        if connection.vendor == "sqlite" and isinstance(value, DatabaseDefault):
            return time.time_ns() // 1000
        return super().get_db_prep_save(value, connection)


def version_field(model: type[models.Model]) -> VersionField | None:
    """Return the version field of a model (its own or a parent's), or None."""
    return _version_field(model)


@functools.lru_cache(maxsize=1024)
def _version_field(model: Any) -> VersionField | None:
    for field in model._meta.concrete_fields:
        if isinstance(field, VersionField):
            return field
    return None
