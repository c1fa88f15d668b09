"""Triggers that see every write: installed, checked and kept right round migrations.

They move the version of rows that a write left behind, and record each changed row once, in the writer's
transaction, whoever writes: ``save()``, ``update()``, ``bulk_create()``, a cascade, raw SQL, another process.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.utils.crypto import get_random_string

from ..models import Change, Log
from . import postgresql, sqlite
from .plan import Table, captured_models, plan

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Table",
    "after_migrate",
    "before_migrate",
    "captured_models",
    "ensure_log",
    "install",
    "new_epoch",
    "plan",
    "problems",
    "remove",
    "sql",
    "verify_once",
]

logger = logging.getLogger("drf_concord")

VENDORS: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgresql}
_verified: set[str] = set()


def _vendor(connection: BaseDatabaseWrapper) -> ModuleType | None:
    return VENDORS.get(connection.vendor)


def _tables(connection: BaseDatabaseWrapper) -> list[Table]:
    """Return what is to be captured and is there: a table may be of another alias, or not migrated yet."""
    existing = set(connection.introspection.table_names())
    if Change._meta.db_table not in existing:
        return []
    return [t for t in plan(connection) if t.name in existing and t.touched_tables <= existing]


def sql(using: str) -> list[str]:
    """Return the statements that install every trigger on a database, in order."""
    connection = connections[using]
    vendor = _vendor(connection)
    return [] if vendor is None else [s for t in _tables(connection) for s in vendor.create(connection, t)]


def problems(using: str) -> list[str]:
    """Return what is wrong with the triggers on a database, a sentence each; empty when all is well."""
    connection = connections[using]
    vendor = _vendor(connection)
    if vendor is None:
        return []
    tables = _tables(connection)
    return [
        *vendor.settings_problems(connection),
        *(
            f"The {kind} trigger on table {table.name} ({table.label}) is {state}."
            for table in tables
            for kind, state in vendor.compare(connection, table)
        ),
    ]


def install(using: str) -> bool:
    """Bring the triggers on a database up to date.

    Returns:
        True when a trigger had been missing, so that a write could have passed unseen; a new epoch then
        tells every reader to start again.
    """
    connection = connections[using]
    vendor = _vendor(connection)
    if Change._meta.db_table not in connection.introspection.table_names():
        return False
    ensure_log(using)
    if vendor is None:
        return False
    vendor.prepare(connection)
    unseen = False
    tables = _tables(connection)
    vendor.drop_strangers(connection, tables)
    for table in tables:
        differences = vendor.compare(connection, table)
        if differences:
            unseen = unseen or any(state == "missing" for _, state in differences)
            vendor.replace(connection, table)
    if unseen:
        new_epoch(using)
    _verified.add(using)
    return unseen


def remove(using: str) -> None:
    """Take every trigger of ours off a database."""
    connection = connections[using]
    vendor = _vendor(connection)
    if vendor is not None:
        vendor.drop_strangers(connection, [])
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


def new_epoch(using: str) -> None:
    """Begin a new epoch: every position handed out before is answered with a reset."""
    Log._base_manager.using(using).filter(id=1).update(epoch=get_random_string(22))


def before_migrate(using: str, plan: list[Any], **_: Any) -> None:
    """Make room for schema changes: a trigger that names a column or a table breaks a migration of it."""
    connection = connections[using]
    vendor = _vendor(connection)
    if plan and vendor is not None and Change._meta.db_table in connection.introspection.table_names():
        vendor.suspend(connection)


def after_migrate(using: str, **_: Any) -> None:
    """Put the triggers back, for the columns and tables there are now."""
    install(using)
