"""What PostgreSQL's triggers do, in PL/pgSQL: the events they are for and the bodies of their functions.

Triggers for each row move the version before it is written, and record the change afterwards. Triggers for
each statement move the rows that show the changed ones: a statement that writes a thousand rows of one
parent moves it once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..fields import POSTGRESQL_NOW as NOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .plan import Column, Table, Touch

__all__ = ["EVENTS", "NEW_EPOCH", "bodies", "quote", "suspended_bodies", "text"]

ROW, BEFORE, INSERT, DELETE, UPDATE, TRUNCATE = 1, 2, 4, 8, 16, 32  # bits of pg_trigger.tgtype

EVENTS = {
    "bump": ("bump", ROW | BEFORE | UPDATE, "BEFORE UPDATE ON {} FOR EACH ROW"),
    "record": (
        "record",
        ROW | INSERT | UPDATE | DELETE,
        "AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW",
    ),
    "touch_insert": ("touch", INSERT, "AFTER INSERT ON {} REFERENCING NEW TABLE AS new_rows"),
    "touch_update": (
        "touch",
        UPDATE,
        "AFTER UPDATE ON {} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    ),
    "touch_delete": ("touch", DELETE, "AFTER DELETE ON {} REFERENCING OLD TABLE AS old_rows"),
    "truncate": ("truncate", BEFORE | TRUNCATE, "BEFORE TRUNCATE ON {}"),
}
"""For each trigger its function, its type in the catalog and its event. No column and no table is named, so
that a column can be altered."""

NEW_EPOCH = "UPDATE {log}.concord_log SET epoch = md5(random()::text || clock_timestamp()::text)"
NONCE = "(random() * 9007199254740991)::bigint"
ACTOR = "nullif(current_setting('concord.actor', true), '')"

# Types whose "=" is exact. Others have none, as json, or one that takes "a" for "A", as citext, a day for 24
# hours, or two boxes of one size for the same.
EXACT = (
    "smallint",
    "integer",
    "bigint",
    "serial",
    "boolean",
    "uuid",
    "date",
    "time",
    "numeric",
    "inet",
    "jsonb",
    "bytea",
)


def quote(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text."""
    return "'" + value.replace("'", "''") + "'"


def bodies(log: str, tables: Mapping[str, str], table: Table) -> dict[str, str]:
    """Return the bodies of a table's functions.

    Args:
        log: the schema of the log.
        tables: where each table is, as ``schema.table``; quoted, like everything given here.
        table: what is captured.
    """
    found = {"truncate": _truncate(log, tables, table)}
    if table.version:
        found["bump"] = _bump(table.version)
    if table.recorded or table.bounds or table.parts:
        found["record"] = _record(log, tables, table)
    if table.shown:
        found["touch"] = f"BEGIN\n{_touch(tables, table)}\n  RETURN NULL;\nEND"
    return found


def _differs(column: Column) -> str:
    name, kind = quote(column.name), column.type.lower()
    if kind.startswith(EXACT):
        return f"NEW.{name} IS DISTINCT FROM OLD.{name}"
    return f'NEW.{name}::text COLLATE "C" IS DISTINCT FROM OLD.{name}::text COLLATE "C"'


def _changed(table: Table) -> str:
    """Return an expression: the names of changed columns as JSON strings, each after a comma."""
    cases = (
        f"CASE WHEN {_differs(c)} THEN {text(',' + json.dumps(c.name))} ELSE '' END" for c in table.columns
    )
    return "\n      || ".join(cases) or "''"


def _routes(table: Table, old: str, new: str) -> str:
    listed = ", ".join(
        f"{text(c.name)}, json_build_array({old.format(quote(c.name))}, {new.format(quote(c.name))})"
        for c in table.routes
    )
    return f"json_build_object({listed})::text" if listed else "NULL"


def _insert(log: str, table: Table, values: str) -> str:
    return (
        f"INSERT INTO {log}.concord_change"
        " (nonce, model, pk, op, version, previous, columns, routes, actor, at)"
        f" VALUES ({NONCE}, {text(table.label)}, {values}, {ACTOR}, {NOW});"
    )


def _next(version: str) -> str:
    return f"greatest({version} + 1, {NOW})"


def _bump(version: str) -> str:
    new, old = f"NEW.{quote(version)}", f"OLD.{quote(version)}"
    # <= and not =: a full save of a stale object would move the version back.
    return f"BEGIN\n  IF {new} <= {old} THEN {new} := {_next(old)}; END IF;\n  RETURN NEW;\nEND"


def _record(log: str, tables: Mapping[str, str], table: Table) -> str:
    pk = quote(table.pk.name)
    new = f"NEW.{quote(table.version)}" if table.version else "NULL"
    old = f"OLD.{quote(table.version)}" if table.version else "NULL"
    gone = _next(old) if table.version else "NULL"
    inserted = updated = deleted = "NULL;"
    if table.recorded or table.bounds:
        routes = _routes(table, "NULL", "NEW.{}")
        inserted = _insert(log, table, f"NEW.{pk}, 'I', {new}, NULL, NULL, {routes}")
        routes = _routes(table, "OLD.{}", "NULL")
        deleted = _insert(log, table, f"OLD.{pk}, 'D', {gone}, {old}, NULL, {routes}")
        updated = f"IF OLD.{pk} IS DISTINCT FROM NEW.{pk} THEN {deleted} {inserted} END IF;"
    if table.recorded:
        routes = _routes(table, "OLD.{}", "NEW.{}")
        columns = f"'[' || substr(changed || via, 2) || ']', {routes}"
        updated = f"""via := coalesce(',' || nullif(current_setting('concord.via', true), ''), '');
    IF OLD.{pk} IS DISTINCT FROM NEW.{pk} THEN
      {deleted}
      op := 'I';
    END IF;
    {_insert(log, table, f"NEW.{pk}, op, {new}, {old}, {columns}")}"""
    return f"""DECLARE
  op text := 'U';
  changed text;
  via text;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    changed := {_changed(table)};
    {updated}
{_parts(tables, table, "UPDATE")}
  ELSIF TG_OP = 'INSERT' THEN
    {inserted}
{_parts(tables, table, "NEW")}
  ELSE
    {deleted}
{_parts(tables, table, "OLD")}
  END IF;
  RETURN NULL;
END"""


def _parts(tables: Mapping[str, str], table: Table, row: str) -> str:
    via, condition = ("substr(changed, 2)", " AND changed <> ''") if row == "UPDATE" else ("''", "")
    row = "NEW" if row == "UPDATE" else row
    return "\n".join(
        _move(tables, touch, via, f"= {row}.{quote(touch.column)}{condition}") for touch in table.parts
    )


def _move(tables: Mapping[str, str], touch: Touch, via: str, keys: str) -> str:
    """Return the statements that move rows elsewhere, and say by which fields of theirs."""
    version, key = quote(touch.version), quote(touch.key)
    return (
        f"    PERFORM set_config('concord.via', {via}, true);\n"
        f"    UPDATE {tables[touch.target]} SET {version} = {_next(version)} WHERE {key} {keys};\n"
        "    PERFORM set_config('concord.via', '', true);"
    )


def _touch(tables: Mapping[str, str], table: Table) -> str:
    sources = {"INSERT": ("new_rows",), "UPDATE": ("old_rows", "new_rows"), "DELETE": ("old_rows",)}
    return "\n".join(
        f"  IF TG_OP = '{operation}' THEN\n{_shown(tables, table, rows)}\n  END IF;"
        for operation, rows in sources.items()
    )


def _shown(tables: Mapping[str, str], table: Table, sources: tuple[str, ...]) -> str:
    # An array, for which the plan is an index scan: it is kept, and was made for any number of rows.
    lines = []
    for touch in table.shown:
        column = quote(touch.column)
        keys = " UNION ".join(f"SELECT DISTINCT {column} FROM {source}" for source in sources)
        via = text(json.dumps(touch.via))
        lines.append(_move(tables, touch, via, f"= ANY (ARRAY({keys}))"))
    return "\n".join(lines)


def _truncate(log: str, tables: Mapping[str, str], table: Table) -> str:
    """Return the body for all rows going at once: those that show them can be found only before."""
    lines = []
    if table.recorded or table.bounds:
        lines.append("    " + _insert(log, table, "'', 'T', NULL, NULL, NULL, NULL"))
    for touch in table.touches:
        via = text(json.dumps(touch.via)) if touch.via else "''"
        keys = f"IN (SELECT {quote(touch.column)} FROM {tables[table.name]})"
        lines.append(_move(tables, touch, via, keys))
    return "\n".join(["BEGIN", *lines, "    RETURN NULL;", "END"])


def suspended_bodies(log: str, tables: Mapping[str, str], table: Table) -> dict[str, str]:
    """Return bodies that survive whatever a migration does to columns, for as long as one runs.

    They look columns up by name in the row as it is. A change they cannot tell, because a name is gone,
    begins a new epoch.
    """
    found = bodies(log, tables, table)
    lost = f"EXCEPTION WHEN undefined_table OR undefined_column THEN\n    {NEW_EPOCH.format(log=log)};"
    if "bump" in found:
        found["bump"] = _suspended_bump(table)
    if "record" in found:
        found["record"] = _suspended_record(log, tables, table, lost)
    if "touch" in found:
        found["touch"] = f"BEGIN\n{_touch(tables, table)}\n  RETURN NULL;\n{lost}\n  RETURN NULL;\nEND"
    found["truncate"] = f"BEGIN\n  {found['truncate']};\n  RETURN NULL;\n{lost}\n  RETURN NULL;\nEND"
    return found


def _suspended_bump(table: Table) -> str:
    name = text(table.version or "")
    return f"""DECLARE
  old bigint := (to_jsonb(OLD) ->> {name})::bigint;
BEGIN
  IF (to_jsonb(NEW) ->> {name})::bigint <= old THEN
    NEW := jsonb_populate_record(NEW, jsonb_build_object({name}, {_next("old")}));
  END IF;
  RETURN NEW;
END"""


def _suspended_record(log: str, tables: Mapping[str, str], table: Table, lost: str) -> str:
    pk, version = text(table.pk.name), text(table.version or "")
    old, new = f"(o ->> {version})::bigint", f"(n ->> {version})::bigint"
    gone = _next(old) if table.version else "NULL"
    routes = _suspended_routes(table)
    deleted = _insert(log, table, f"o ->> {pk}, 'D', {gone}, {old}, NULL, {routes}")
    columns = f"CASE WHEN o IS NOT NULL THEN '[' || substr(changed || via, 2) || ']' END, {routes}"
    written = _insert(log, table, f"n ->> {pk}, op, {new}, {old}, {columns}")
    recorded = f"""    IF n IS NULL OR o ->> {pk} <> n ->> {pk} THEN
      {deleted}
      op := 'I';
    END IF;
    IF n IS NOT NULL{"" if table.recorded else " AND op = 'I'"} THEN
      {written}
    END IF;"""
    # The target's row is found by a value of the type that its key has by now.
    moves = "\n".join(
        _move(
            tables,
            touch,
            "substr(changed, 2)",
            f"= (jsonb_populate_record(NULL::{tables[touch.target]}, jsonb_build_object({text(touch.key)},"
            f" coalesce(n, o) -> {text(touch.column)}))).{quote(touch.key)}",
        )
        for touch in table.parts
    )
    return f"""DECLARE
  o jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
  n jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
  op text := left(TG_OP, 1);
  changed text := '';
  via text := coalesce(',' || nullif(current_setting('concord.via', true), ''), '');
BEGIN
  IF TG_OP = 'UPDATE' THEN
    SELECT coalesce(string_agg(',' || to_json(a.key)::text, ''), '') INTO changed
      FROM jsonb_each(n) a LEFT JOIN jsonb_each(o) b USING (key)
      WHERE a.value IS DISTINCT FROM b.value AND a.key NOT IN ({version}, {pk});
  END IF;
  IF NOT coalesce(n, o) ?& ARRAY[{", ".join(map(text, _needed(table)))}] THEN
    {NEW_EPOCH.format(log=log)};
  ELSE
{recorded if table.recorded or table.bounds else "    NULL;"}
{moves}
  END IF;
  RETURN NULL;
{lost}
  RETURN NULL;
END"""


def _needed(table: Table) -> list[str]:
    """Return the names without which a change of a row cannot be told."""
    version = [table.version] if table.version else []
    return [table.pk.name, *version, *(c.name for c in table.routes), *(t.column for t in table.parts)]


def _suspended_routes(table: Table) -> str:
    listed = ", ".join(
        f"{text(c.name)}, jsonb_build_array(o -> {text(c.name)}, n -> {text(c.name)})" for c in table.routes
    )
    return f"jsonb_build_object({listed})::text" if listed else "NULL"
