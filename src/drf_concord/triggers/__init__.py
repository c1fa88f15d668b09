"""Triggers that see every write: installed, checked and kept right round migrations.

They move the version of rows that a write left behind, and record each changed row once, in the writer's
transaction, whoever writes: ``save()``, ``update()``, ``bulk_create()``, a cascade, raw SQL, another process.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.db import connections, router
from django.utils.crypto import get_random_string

from ..models import Change, Log
from . import postgresql, sqlite
from .plan import Columns, Table, captured_models, plan, present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Table",
    "after_migrate",
    "before_migrate",
    "captured_models",
    "ensure_log",
    "install",
    "plan",
    "problems",
    "remove",
    "sql",
    "verify_once",
]

logger = logging.getLogger("drf_concord")

VENDORS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgresql}
LOG = Change._meta.db_table
_verified: set[str] = set()


def _vendor(connection: BaseDatabaseWrapper) -> ModuleType | None:
    return VENDORS.get(connection.vendor)


def _tables(connection: BaseDatabaseWrapper, columns: Columns) -> list[Table]:
    """Return what is to be captured and is there."""
    if LOG not in columns:
        return []
    found = (present(table, columns) for table in plan(connection))
    return [table for table in found if table is not None]


def sql(using: str) -> list[str]:
    """Return the statements that install every trigger on a database, in order."""
    connection = connections[using]
    vendor = _vendor(connection)
    if vendor is None:
        return []
    state = vendor.read(connection)
    statements = [s for t in _tables(connection, state.columns) for s in vendor.create(state, t)]
    if not statements:
        return []
    epoch = f"UPDATE concord_log SET epoch = '{get_random_string(22)}'"
    return [*vendor.prepare(connection), *statements, epoch]


def problems(using: str) -> list[str]:
    """Return what is wrong with the triggers on a database, a sentence each; empty when all is well."""
    connection = connections[using]
    vendor = _vendor(connection)
    if vendor is None:
        return []
    state = vendor.read(connection)
    return [
        *vendor.settings_problems(connection),
        *_astray(connection, state.columns),
        *(
            f"The {kind} trigger on table {table.name} ({table.label}) is {what}."
            for table in _tables(connection, state.columns)
            for kind, what in vendor.compare(state, table)
        ),
    ]


def _astray(connection: BaseDatabaseWrapper, columns: Columns) -> Iterator[str]:
    """Say which tables are in a database where the log is not, and is not meant to be."""
    if LOG not in columns and not router.allow_migrate_model(connection.alias, Change):
        for table in plan(connection):
            if table.name in columns and table.recorded:
                yield (
                    f"Table {table.name} ({table.label}) is in database {connection.alias!r} and the log is"
                    " not: changes of it are not recorded."
                )


def install(using: str) -> bool:
    """Bring the triggers on a database up to date.

    Returns:
        True when a trigger had been missing, so that a write could have passed unseen; a new epoch then
        tells every reader to start again.
    """
    connection = connections[using]
    vendor = _vendor(connection)
    if LOG not in connection.introspection.table_names():
        return False
    ensure_log(using)
    if vendor is None:
        return False
    for statement in vendor.prepare(connection):
        with connection.cursor() as cursor:
            cursor.execute(statement)
    unseen: bool = vendor.install(connection, _tables(connection, vendor.read(connection).columns))
    _verified.add(using)
    return unseen


def remove(using: str) -> None:
    """Take every trigger of ours off a database."""
    connection = connections[using]
    vendor = _vendor(connection)
    if vendor is not None:
        vendor.remove(connection)
    _verified.discard(using)


def verify_once(using: str) -> None:
    """Check the triggers when a process first writes through the gate, and complain in the log."""
    if using in _verified:
        return
    _verified.add(using)
    for problem in problems(using):
        logger.error(
            "%s Writes that bypass the gate may go unseen on database %r. Run: manage.py concord triggers"
            " --install",
            problem,
            using,
        )


def ensure_log(using: str) -> str:
    """Return the epoch of the log; a log that lost its row (a flush) begins a new one."""
    fresh = get_random_string(22)
    log, _ = Log._base_manager.using(using).get_or_create(id=1, defaults={"epoch": fresh})
    return log.epoch


def before_migrate(using: str, plan: list[tuple[Any, bool]], **_: Any) -> None:
    """Make room for schema changes: a trigger that names a column or a table breaks a migration of it."""
    connection = connections[using]
    vendor = _vendor(connection)
    if not plan or vendor is None or LOG not in connection.introspection.table_names():
        return
    own = [backwards for migration, backwards in plan if migration.app_label == Change._meta.app_label]
    if any(own) or (own and connection.vendor == "sqlite"):
        vendor.remove(connection)  # what remained would name the tables that are being changed
    else:
        vendor.suspend(connection)


def after_migrate(using: str, **_: Any) -> None:
    """Put the triggers back, for the columns and tables there are now."""
    install(using)
