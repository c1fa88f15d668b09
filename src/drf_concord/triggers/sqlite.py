"""The triggers in SQLite's words: one combined trigger per table and operation.

Bump and record share a trigger, because two would record an update twice, once with the old version. The
record is read from the row again, after the bump.

SQLite refuses to change a table or column that a trigger names, so a migration runs without them. Watches
take their place, which name nothing but the log, and say of each write only that it was to that table.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils.crypto import get_random_string

from ..fields import SQLITE_NOW as NOW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

    from .plan import Column, Columns, Table, Touch

__all__ = [
    "State",
    "compare",
    "create",
    "install",
    "prepare",
    "read",
    "remove",
    "settings_problems",
    "suspend",
]

OPERATIONS = ("insert", "update", "delete")
INTO = "INSERT INTO concord_change (nonce, model, pk, op, version, previous, columns, routes, actor, at)"
ACTOR = "(SELECT actor FROM concord_log)"
ABOUT = re.compile(r"BEGIN /\* (.+) \*/\n")
OURS = re.compile(r"concord_[0-9a-f]{16}_(insert|update|delete)(_watch)?")
WATCH = "_watch"


@dataclass(frozen=True, slots=True)
class State:
    """What there is in a database: columns, and triggers of ours by name as (table, statement)."""

    columns: Columns
    triggers: dict[str, tuple[str, str]]


def read(connection: BaseDatabaseWrapper) -> State:
    """Return what there is."""
    columns: Columns = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_xinfo(m.name) c"
            " WHERE m.type = 'table' AND m.rootpage > 0"  # a virtual one may be of a module that is not here
        )
        for table, column, kind in cursor.fetchall():
            columns.setdefault(table, {})[column] = kind
        cursor.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'")
        found = {name: (table, sql) for name, table, sql in cursor.fetchall()}
    return State(columns, {name: trigger for name, trigger in found.items() if OURS.fullmatch(name)})


def _name(table: Table, operation: str) -> str:
    return f"concord_{table.digest}_{operation}"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _changed(columns: Iterable[Column]) -> str:
    """Return an expression: the names of changed columns as JSON strings, each after a comma."""
    # A collation may take upper and lower case for equal.
    cases = (
        f"CASE WHEN OLD.{_quote(c.name)} COLLATE BINARY IS NOT NEW.{_quote(c.name)}"
        f" THEN {_text(',' + json.dumps(c.name))} ELSE '' END"
        for c in columns
    )
    return " || ".join(cases) or "''"


def _routes(table: Table, old: str, new: str) -> str:
    pairs = (
        f"{_text(c.name)}, json_array({old.format(_quote(c.name))}, {new.format(_quote(c.name))})"
        for c in table.routes
        if "BLOB" not in c.type.upper()
    )
    listed = ", ".join(pairs)
    return f"json_object({listed})" if listed else "NULL"


def _next(version: str) -> str:
    return f"max({version} + 1, {NOW})"


def _touch(touch: Touch, values: tuple[str, ...], via: str, condition: str) -> list[str]:
    """Return the statements that move the version of the rows a row belongs to."""
    target, key, version = _quote(touch.target), _quote(touch.key), _quote(touch.version)
    keys = ", ".join(f"{v}.{_quote(touch.column)}" for v in values)
    # The target's own trigger records it, with the fields named here.
    return [
        f"UPDATE concord_log SET via = {via} WHERE {condition}",
        f"UPDATE {target} SET {version} = {_next(version)} WHERE {key} IN ({keys}) AND {condition}",
        f"UPDATE concord_log SET via = NULL WHERE {condition}",
    ]


def _touches(table: Table, values: tuple[str, ...]) -> list[str]:
    statements = []
    changed = _changed(table.columns)
    for touch in table.shown:
        some = " OR ".join(f"{v}.{_quote(touch.column)} IS NOT NULL" for v in values)
        statements += _touch(touch, values, _text(json.dumps(touch.via)), f"({some})")
    for touch in table.parts:
        if len(values) == 1:
            statements += _touch(touch, values, "NULL", "1")
        else:
            statements += _touch(touch, ("NEW",), f"substr({changed}, 2)", f"{changed} <> ''")
    return statements


def _insert(table: Table) -> list[str]:
    told = [_come(table)] if table.recorded or table.bounds else []
    return [*told, *_touches(table, ("NEW",))]


def _delete(table: Table) -> list[str]:
    told = [_gone(table)] if table.recorded or table.bounds else []
    return [*told, *_touches(table, ("OLD",))]


def _come(table: Table, condition: str = "1") -> str:
    version = f"NEW.{_quote(table.version)}" if table.version else "NULL"
    return (
        f"{INTO} SELECT random(), {_text(table.label)}, NEW.{_quote(table.pk.name)}, 'I', {version},"
        f" NULL, NULL, {_routes(table, 'NULL', 'NEW.{}')}, {ACTOR}, {NOW} WHERE {condition}"
    )


def _gone(table: Table, condition: str = "1") -> str:
    old = f"OLD.{_quote(table.version)}" if table.version else "NULL"
    version = _next(old) if table.version else "NULL"
    return (
        f"{INTO} SELECT random(), {_text(table.label)}, OLD.{_quote(table.pk.name)}, 'D', {version}, {old},"
        f" NULL, {_routes(table, 'OLD.{}', 'NULL')}, {ACTOR}, {NOW} WHERE {condition}"
    )


def _update(table: Table) -> list[str]:
    name, pk = _quote(table.name), _quote(table.pk.name)
    statements, version, old = [], "NULL", "NULL"
    if table.version:
        column = _quote(table.version)
        version, old = f"t.{column}", f"OLD.{column}"
        # <= and not =: a full save of a stale object would move the version back.
        statements.append(
            f"UPDATE {name} SET {column} = {_next(old)} WHERE {pk} = NEW.{pk} AND NEW.{column} <= {old}"
        )
    moved = f"OLD.{pk} IS NOT NEW.{pk}"
    if table.bounds:
        statements += [_gone(table, moved), _come(table, moved)]
    if table.recorded:
        via = "coalesce((SELECT ',' || via FROM concord_log), '')"
        columns = f"'[' || substr({_changed(table.columns)} || {via}, 2) || ']'"
        statements += [
            _gone(table, moved),
            f"{INTO} SELECT random(), {_text(table.label)}, t.{pk},"
            f" CASE WHEN {moved} THEN 'I' ELSE 'U' END, {version}, {old},"
            f" {columns}, {_routes(table, 'OLD.{}', 'NEW.{}')}, {ACTOR}, {NOW}"
            f" FROM {name} t WHERE t.{pk} = NEW.{pk}",
        ]
    return [*statements, *_touches(table, ("OLD", "NEW"))]


def _comment(value: Any) -> str:
    return "/* " + json.dumps(value).replace("*/", "*\\/") + " */"


def _statement(table: Table, operation: str) -> str:
    # What a watch needs to know, kept in the trigger: when a migration runs, the code already describes the
    # tables as they will be.
    label = table.label if table.recorded or table.bounds else None
    about = _comment([label, sorted(table.touched_tables)])
    found = {"insert": _insert, "update": _update, "delete": _delete}
    body = ";\n  ".join(found[operation](table))
    return (
        f"CREATE TRIGGER {_name(table, operation)} AFTER {operation.upper()} ON {_quote(table.name)}"
        f" BEGIN {about}\n  {body};\nEND"
    )


def _watch(name: str, table: str, labels: Iterable[str], since: int) -> str:
    # A change of all of a model: who follows it reads all of it again.
    operation = name.rpartition("_")[2].upper()
    told = "".join(
        f"  {INTO} SELECT random(), {_text(label)}, '', 'T', NULL, NULL, NULL, NULL, {ACTOR}, {NOW};\n"
        for label in labels
    )
    event = f"AFTER {operation} ON {_quote(table)}"
    return f"CREATE TRIGGER {name}{WATCH} {event} BEGIN {_comment(since)}\n{told}END"


def _about(statement: str) -> Any:
    found = ABOUT.search(statement)
    return json.loads(found[1]) if found else None


def create(state: State, table: Table) -> list[str]:
    """Return the statements that install a table's triggers."""
    drops = [f"DROP TRIGGER IF EXISTS {_name(table, operation)}" for operation in OPERATIONS]
    return [*drops, *(_statement(table, operation) for operation in OPERATIONS)]


def compare(state: State, table: Table) -> list[tuple[str, str]]:
    """Return (operation, "missing" or "out of date") for each trigger that is not as it should be."""
    found = []
    for operation in OPERATIONS:
        installed = state.triggers.get(_name(table, operation))
        if installed is None:
            found.append((operation, "missing"))
        elif installed != (table.name, _statement(table, operation)):
            found.append((operation, "out of date"))
    return found


def install(connection: BaseDatabaseWrapper, tables: Collection[Table]) -> bool:
    """Bring all triggers up to date, or none.

    Rows of a table that was written to meanwhile get a new version each: nobody knows which they were.

    Returns:
        True when a write could have passed unseen; a new epoch then begins, in the same transaction.
    """
    wanted = {_name(t, o): (t.name, _statement(t, o)) for t in tables for o in OPERATIONS}
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        _alone(cursor)
        state = read(connection)
        if state.triggers == wanted:
            return False
        lost = {t.name for t in tables if _unwatched(state, t)}
        told = _told(cursor, state)
        if told is None:
            lost |= {t.name for t in tables if "missing" in {what for _, what in compare(state, t)}}
        _drop(cursor, state.triggers)
        reached = _reach({t.name: t.touched_tables for t in tables})
        moved = {name for table in lost for name in reached[table]}
        for table in tables:
            if table.version and (table.name in moved or table.label in (told or ())):
                version = _quote(table.version)
                cursor.execute(f"UPDATE {_quote(table.name)} SET {version} = {_next(version)}")
        for _, statement in wanted.values():
            cursor.execute(statement)
        if lost:
            cursor.execute("UPDATE concord_log SET epoch = %s", [get_random_string(22)])
        return bool(lost)


def _unwatched(state: State, table: Table) -> bool:
    """Tell whether a write to the table could have passed unseen."""
    names = (_name(table, operation) for operation in OPERATIONS)
    found = (state.triggers.get(name) or state.triggers.get(name + WATCH) for name in names)
    return not all(trigger is not None and trigger[0] == table.name for trigger in found)


def _told(cursor: Any, state: State) -> set[str] | None:
    """Return the models that watches told of; None when the log does not go back to when they began."""
    begun = [_about(sql) for name, (_, sql) in state.triggers.items() if name.endswith(WATCH)]
    if not begun:
        return set()
    cursor.execute("SELECT max(CAST(cursor AS INTEGER)) FROM concord_mark WHERE pruned")
    if (cursor.fetchone()[0] or 0) > min(begun):
        return None
    cursor.execute("SELECT DISTINCT model FROM concord_change WHERE id > %s AND op = 'T'", [min(begun)])
    return {label for (label,) in cursor.fetchall()}


def _reach(touched: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Return for each table those that move with it, itself included."""
    reached = {name: {name} for name in touched}
    for _ in touched:  # no way is longer
        for name, targets in touched.items():
            reached[name].update(*(reached.get(target, {target}) for target in targets))
    return reached


def _alone(cursor: Any) -> None:
    # The first statement writes: whoever else installs has finished by the time it returns.
    cursor.execute("UPDATE concord_log SET via = NULL")


def _drop(cursor: Any, names: Iterable[str]) -> None:
    for name in names:
        cursor.execute(f"DROP TRIGGER {name}")


def remove(connection: BaseDatabaseWrapper) -> None:
    """Drop every trigger of ours."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        if "concord_log" in connection.introspection.table_names(cursor):
            _alone(cursor)
        _drop(cursor, read(connection).triggers)


def suspend(connection: BaseDatabaseWrapper) -> None:
    """Put watches in the place of triggers."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        _alone(cursor)
        full = {n: t for n, t in read(connection).triggers.items() if not n.endswith(WATCH)}
        cursor.execute("SELECT coalesce(max(id), 0) FROM concord_change")
        since = cursor.fetchone()[0]
        known = {table: _about(statement) for table, statement in full.values()}
        labels = {table: label for table, (label, _) in known.items()}
        reached = _reach({table: touched for table, (_, touched) in known.items()})
        _drop(cursor, full)
        for name, (table, _) in full.items():
            told = sorted(filter(None, map(labels.get, reached[table])))
            cursor.execute(_watch(name, table, told, since))


def prepare(connection: BaseDatabaseWrapper) -> list[str]:
    """Return nothing: beside the triggers, SQLite needs nothing."""
    return []


def settings_problems(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what this connection's settings break."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA recursive_triggers")
        if cursor.fetchone()[0]:
            return ["PRAGMA recursive_triggers is on: changes would be recorded twice. Leave it off."]
    return []
