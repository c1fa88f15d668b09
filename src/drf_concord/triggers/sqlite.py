"""The triggers in SQLite's words: one combined trigger per table and operation.

Bump and record share a trigger, because two would record an update twice, once with the old version. The
record is read from the row again, after the bump.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..fields import SQLITE_NOW as NOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper

    from .plan import Column, Table, Touch

__all__ = [
    "compare",
    "create",
    "drop_strangers",
    "prepare",
    "replace",
    "settings_problems",
    "suspend",
]

OPERATIONS = ("insert", "update", "delete")
INTO = (
    "INSERT INTO concord_change"
    " (nonce, model, pk, op, version, previous, columns, routes, actor, at) SELECT random()"
)
ACTOR = "(SELECT actor FROM concord_log)"


def _name(table: Table, operation: str) -> str:
    return f"concord_{table.digest}_{operation}"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _changed(columns: Iterable[Column]) -> str:
    """Return an expression: the names of changed columns as JSON strings, each after a comma."""
    cases = (
        f"CASE WHEN OLD.{_quote(c.name)} IS NOT NEW.{_quote(c.name)} THEN {_text(',' + json.dumps(c.name))}"
        " ELSE '' END"
        for c in columns
    )
    return " || ".join(cases) or "''"


def _routes(table: Table, old: str, new: str) -> str:
    pairs = (
        f"{_text(c.name)}, json_array({old.format(_quote(c.name))}, {new.format(_quote(c.name))})"
        for c in table.routes
        if c.type != "BLOB"
    )
    listed = ", ".join(pairs)
    return f"json_object({listed})" if listed else "NULL"


def _touch(touch: Touch, values: tuple[str, ...], via: str, condition: str = "1") -> list[str]:
    """Return the statements that move the version of the rows a row belongs to."""
    column, target, key = _quote(touch.column), _quote(touch.target), _quote(touch.key)
    keys = ", ".join(f"{v}.{column}" for v in values)
    # Setting a column to itself is enough: the target's own trigger moves the version and records.
    return [
        f"UPDATE concord_log SET via = {via}",
        f"UPDATE {target} SET {key} = {key} WHERE {key} IN ({keys}) AND {condition}",
        "UPDATE concord_log SET via = NULL",
    ]


def _touches(table: Table, values: tuple[str, ...]) -> list[str]:
    statements = []
    for touch in table.touches:
        if touch.via is not None:
            statements += _touch(touch, values, _text(json.dumps(touch.via)))
        elif len(values) == 1:
            statements += _touch(touch, values, "NULL")
        else:
            changed = _changed(table.columns)
            statements += _touch(touch, ("NEW",), f"substr({changed}, 2)", f"{changed} <> ''")
    return statements


def _insert(table: Table) -> list[str]:
    version = f"NEW.{_quote(table.version)}" if table.version else "NULL"
    routes = _routes(table, "NULL", "NEW.{}")
    record = (
        f"{INTO}, {_text(table.label)}, NEW.{_quote(table.pk.name)}, 'I', {version}, NULL, NULL, {routes},"
        f" {ACTOR}, {NOW}"
    )
    return [*([record] if table.recorded else []), *_touches(table, ("NEW",))]


def _delete(table: Table) -> list[str]:
    return [*([_gone(table)] if table.recorded else []), *_touches(table, ("OLD",))]


def _gone(table: Table, condition: str = "1") -> str:
    old = f"OLD.{_quote(table.version)}" if table.version else "NULL"
    version = f"max({old} + 1, {NOW})" if table.version else "NULL"
    return (
        f"{INTO}, {_text(table.label)}, OLD.{_quote(table.pk.name)}, 'D', {version}, {old}, NULL,"
        f" {_routes(table, 'OLD.{}', 'NULL')}, {ACTOR}, {NOW} WHERE {condition}"
    )


def _update(table: Table) -> list[str]:
    name, pk = _quote(table.name), _quote(table.pk.name)
    statements, version, old = [], "NULL", "NULL"
    if table.version:
        column = _quote(table.version)
        version, old = f"t.{column}", f"OLD.{column}"
        # <= and not =: a full save of a stale object would move the version back.
        statements.append(
            f"UPDATE {name} SET {column} = max(OLD.{column} + 1, {NOW})"
            f" WHERE {pk} = NEW.{pk} AND NEW.{column} <= OLD.{column}"
        )
    if table.recorded:
        moved = f"OLD.{pk} IS NOT NEW.{pk}"
        via = "coalesce((SELECT ',' || via FROM concord_log), '')"
        columns = f"'[' || substr({_changed(table.columns)} || {via}, 2) || ']'"
        statements += [
            _gone(table, moved),
            f"{INTO}, {_text(table.label)}, t.{pk}, CASE WHEN {moved} THEN 'I' ELSE 'U' END,"
            f" {version}, {old},"
            f" {columns}, {_routes(table, 'OLD.{}', 'NEW.{}')}, {ACTOR}, {NOW}"
            f" FROM {name} t WHERE t.{pk} = NEW.{pk}",
        ]
    return [*statements, *_touches(table, ("OLD", "NEW"))]


def _statement(table: Table, operation: str) -> str:
    bodies = {"insert": _insert, "update": _update, "delete": _delete}
    body = ";\n  ".join(bodies[operation](table))
    return (
        f"CREATE TRIGGER {_name(table, operation)} AFTER {operation.upper()} ON {_quote(table.name)} BEGIN\n"
        f"  {body};\nEND"
    )


def create(connection: BaseDatabaseWrapper, table: Table) -> list[str]:
    """Return the statements that install a table's triggers."""
    return [_statement(table, operation) for operation in OPERATIONS]


def compare(connection: BaseDatabaseWrapper, table: Table) -> list[tuple[str, str]]:
    """Return (operation, "missing" or "out of date") for each trigger that is not as it should be."""
    installed = _installed(connection)
    found = []
    for operation in OPERATIONS:
        sql = installed.get(_name(table, operation))
        if sql != _statement(table, operation):
            found.append((operation, "missing" if sql is None else "out of date"))
    return found


def replace(connection: BaseDatabaseWrapper, table: Table) -> None:
    """Install a table's triggers afresh, all or none."""
    from django.db import transaction

    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for operation, statement in zip(OPERATIONS, create(connection, table), strict=True):
            cursor.execute(f"DROP TRIGGER IF EXISTS {_name(table, operation)}")
            cursor.execute(statement)


def drop_strangers(connection: BaseDatabaseWrapper, tables: Iterable[Table]) -> None:
    """Drop triggers of ours that belong to none of these tables."""
    expected = {_name(table, operation) for table in tables for operation in OPERATIONS}
    with connection.cursor() as cursor:
        for name in _installed(connection).keys() - expected:
            cursor.execute(f"DROP TRIGGER {_quote(name)}")


def suspend(connection: BaseDatabaseWrapper) -> None:
    """Drop every trigger before a migration: SQLite refuses to change a table a trigger names."""
    drop_strangers(connection, [])


def prepare(connection: BaseDatabaseWrapper) -> None:
    """Nothing beside the triggers is needed on SQLite."""


def settings_problems(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what this connection's settings break."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA recursive_triggers")
        if cursor.fetchone()[0]:
            return ["PRAGMA recursive_triggers is on: changes would be recorded twice. Leave it off."]
    return []


def _installed(connection: BaseDatabaseWrapper) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, sql FROM sqlite_master"
            " WHERE type = 'trigger' AND name LIKE 'concord\\_%' ESCAPE '\\'"
        )
        return dict(cursor.fetchall())
