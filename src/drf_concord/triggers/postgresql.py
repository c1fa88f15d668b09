"""The triggers in PostgreSQL's words: BEFORE moves the version, AFTER records.

The triggers themselves name no column, so that a column can be altered; the functions do, and are swapped
for a slower column-free form while a migration runs. They are SECURITY DEFINER: a role that may only update
the table must not fail for lack of rights on the log.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import transaction

from ..fields import POSTGRESQL_NOW as NOW
from .plan import Column, Table, Touch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "compare",
    "create",
    "drop_strangers",
    "prepare",
    "replace",
    "settings_problems",
    "suspend",
]

EVENTS = {
    "bump": "BEFORE UPDATE {on} FOR EACH ROW",
    "record": "AFTER INSERT OR UPDATE OR DELETE {on} FOR EACH ROW",
    "truncate": "AFTER TRUNCATE {on} FOR EACH STATEMENT",
}
INTO = (
    "INSERT INTO {schema}.concord_change"
    " (nonce, model, pk, op, version, previous, columns, routes, actor, at) VALUES"
    " ((random() * 9007199254740991)::bigint, {label}"
)
ACTOR = "nullif(current_setting('concord.actor', true), '')"
NO_EQUALITY = ("json", "xml", "point", "polygon", "geometry", "geography", "raster")
LOCK_TIMEOUT = "10s"


def _kinds(table: Table) -> list[str]:
    kinds = ["bump"] if table.version else []
    kinds.append("record")
    return [*kinds, "truncate"] if table.recorded else kinds


def _name(table: Table, kind: str) -> str:
    return f"concord_{table.digest}_{kind}"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _differs(column: Column) -> str:
    cast = "::text" if column.type.lower().startswith(NO_EQUALITY) else ""
    name = _quote(column.name)
    return f"NEW.{name}{cast} IS DISTINCT FROM OLD.{name}{cast}"


def _changed(table: Table) -> str:
    return "\n".join(
        f"    IF {_differs(c)} THEN changed := changed || {_text(',' + json.dumps(c.name))}; END IF;"
        for c in table.columns
    )


def _routes(table: Table, old: str, new: str) -> str:
    pairs = (
        f"{_text(c.name)}, json_build_array({old.format(_quote(c.name))}, {new.format(_quote(c.name))})"
        for c in table.routes
        if c.type != "bytea"
    )
    listed = ", ".join(pairs)
    return f"json_build_object({listed})::text" if listed else "NULL"


def _bump(table: Table) -> str:
    if not table.version:
        return ""
    column = _quote(table.version)
    # <= and not =: a full save of a stale object would move the version back.
    return f"""BEGIN
  IF NEW.{column} <= OLD.{column} THEN
    NEW.{column} := greatest(OLD.{column} + 1, {NOW});
  END IF;
  RETURN NEW;
END"""


def _touches(schema: str, table: Table, row: str) -> str:
    lines = []
    for touch in table.touches:
        rows = (
            f"IN (OLD.{_quote(touch.column)}, NEW.{_quote(touch.column)})"
            if row == "BOTH"
            else (f"= {row}.{_quote(touch.column)}")
        )
        condition = ""
        if touch.via is not None:
            via = _text(json.dumps(touch.via))
        elif row == "BOTH":
            via, condition = "substr(changed, 2)", " AND changed <> ''"
        else:
            via = "''"
        key = _quote(touch.key)
        target = f"{schema}.{_quote(touch.target)}"
        # Setting a column to itself is enough: the target's own trigger moves the version and records.
        lines.append(
            f"    PERFORM set_config('concord.via', {via}, true);\n"
            f"    UPDATE {target} SET {key} = {key} WHERE {key} {rows}{condition};\n"
            "    PERFORM set_config('concord.via', '', true);"
        )
    return "\n".join(lines)


def _gone(schema: str, table: Table) -> str:
    old = f"OLD.{_quote(table.version)}" if table.version else "NULL"
    version = f"greatest({old} + 1, {NOW})" if table.version else "NULL"
    into = INTO.format(schema=schema, label=_text(table.label))
    pk = _quote(table.pk.name)
    return (
        f"{into}, OLD.{pk}, 'D', {version}, {old}, NULL, {_routes(table, 'OLD.{}', 'NULL')}, {ACTOR}, {NOW});"
    )


def _record(schema: str, table: Table) -> str:
    pk = _quote(table.pk.name)
    new = f"NEW.{_quote(table.version)}" if table.version else "NULL"
    old = f"OLD.{_quote(table.version)}" if table.version else "NULL"
    into = INTO.format(schema=schema, label=_text(table.label))
    inserted = updated = deleted = ""
    if table.recorded:
        inserted = (
            f"{into}, NEW.{pk}, 'I', {new}, NULL, NULL, {_routes(table, 'NULL', 'NEW.{}')}, {ACTOR}, {NOW});"
        )
        deleted = _gone(schema, table)
        updated = f"""IF OLD.{pk} IS DISTINCT FROM NEW.{pk} THEN
      {deleted}
      op := 'I';
    END IF;
    IF via <> '' THEN changed := changed || ',' || via; END IF;
    {into}, NEW.{pk}, op, {new}, {old}, '[' || substr(changed, 2) || ']',
      {_routes(table, "OLD.{}", "NEW.{}")}, {ACTOR}, {NOW});"""
    return f"""DECLARE
  changed text := '';
  op text := 'U';
  via text := coalesce(current_setting('concord.via', true), '');
BEGIN
  IF TG_OP = 'UPDATE' THEN
{_changed(table)}
    {updated}
{_touches(schema, table, "BOTH")}
  ELSIF TG_OP = 'INSERT' THEN
    {inserted}
{_touches(schema, table, "NEW")}
  ELSE
    {deleted}
{_touches(schema, table, "OLD")}
  END IF;
  RETURN NULL;
END"""


def _truncate(schema: str, table: Table) -> str:
    into = INTO.format(schema=schema, label=_text(table.label))
    return f"BEGIN {into}, '', 'T', NULL, NULL, NULL, NULL, {ACTOR}, {NOW}); RETURN NULL; END"


def _suspended_bump(table: Table) -> str:
    name = _text(table.version or "")
    return f"""DECLARE
  old bigint := (to_jsonb(OLD) ->> {name})::bigint;
BEGIN
  IF (to_jsonb(NEW) ->> {name})::bigint <= old THEN
    NEW := jsonb_populate_record(NEW, jsonb_build_object({name}, greatest(old + 1, {NOW})));
  END IF;
  RETURN NEW;
END"""


def _suspended_record(schema: str, table: Table) -> str:
    into = INTO.format(schema=schema, label=_text(table.label))
    pk, version = _text(table.pk.name), _text(table.version or "")
    insert = f"""IF found_pk IS NOT NULL THEN
    {into}, found_pk, left(TG_OP, 1), (n ->> {version})::bigint, (o ->> {version})::bigint, changed, NULL,
      {ACTOR}, {NOW});
  END IF;"""
    touches = "\n".join(
        f"""  BEGIN
    PERFORM set_config('concord.via', '', true);
    UPDATE {schema}.{_quote(t.target)} SET {_quote(t.key)} = {_quote(t.key)}
      WHERE {_quote(t.key)} IN ((o ->> {_text(t.column)})::{t.type}, (n ->> {_text(t.column)})::{t.type});
  EXCEPTION WHEN undefined_table OR undefined_column OR undefined_function THEN NULL;
  END;"""
        for t in table.touches
    )
    return f"""DECLARE
  o jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
  n jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
  found_pk text := coalesce(n, o) ->> {pk};
  changed text;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    SELECT coalesce(jsonb_agg(a.key), '[]')::text INTO changed
      FROM jsonb_each(n) a LEFT JOIN jsonb_each(o) b USING (key)
      WHERE a.value IS DISTINCT FROM b.value AND a.key <> {version};
  END IF;
  {insert if table.recorded else ""}
{touches}
  RETURN NULL;
END"""


def _bodies(schema: str, table: Table, *, suspended: bool = False) -> dict[str, str]:
    if suspended:
        bump, record = _suspended_bump(table), _suspended_record(schema, table)
    else:
        bump, record = _bump(table), _record(schema, table)
    bodies = {"bump": bump, "record": record, "truncate": _truncate(schema, table)}
    return {kind: bodies[kind] for kind in _kinds(table)}


def _function(schema: str, table: Table, kind: str, body: str) -> str:
    rights = f"SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp " if kind != "bump" else ""
    return (
        f"CREATE OR REPLACE FUNCTION {schema}.{_name(table, kind)}() RETURNS trigger LANGUAGE plpgsql"
        f" {rights}AS $concord$\n{body}\n$concord$"
    )


def _trigger(schema: str, table: Table, kind: str) -> str:
    name = _name(table, kind)
    event = EVENTS[kind].format(on=f"ON {schema}.{_quote(table.name)}")
    return f"CREATE TRIGGER {name} {event} EXECUTE FUNCTION {schema}.{name}()"


def _comment(schema: str, table: Table) -> str:
    # What the column-free form needs to know, kept beside the function: when a migration runs, the code
    # already describes the tables as they will be.
    about = {
        "label": table.label,
        "name": table.name,
        "pk": [table.pk.name, table.pk.type],
        "version": table.version,
        "recorded": table.recorded,
        "touches": [[t.column, t.type, t.target, t.key, t.via] for t in table.touches],
    }
    return f"COMMENT ON FUNCTION {schema}.{_name(table, 'record')}() IS {_text(json.dumps(about))}"


def create(connection: BaseDatabaseWrapper, table: Table) -> list[str]:
    """Return the statements that install a table's functions and triggers."""
    schema = _schema(connection)
    bodies = _bodies(schema, table)
    return [
        *(_function(schema, table, kind, body) for kind, body in bodies.items()),
        _comment(schema, table),
        *(_trigger(schema, table, kind) for kind in bodies),
    ]


def compare(connection: BaseDatabaseWrapper, table: Table) -> list[tuple[str, str]]:
    """Return (kind, "missing", "disabled" or "out of date") for each trigger that is not as it should be."""
    schema = _schema(connection)
    sources, triggers = _functions(connection), _triggers(connection)
    found = []
    for kind, body in _bodies(schema, table).items():
        name = _name(table, kind)
        enabled = triggers.get((table.name, name))
        if name not in sources or enabled is None:
            found.append((kind, "missing"))
        elif enabled not in "OA":
            found.append((kind, "disabled"))
        elif sources[name].strip() != body.strip():
            found.append((kind, "out of date"))
    return found


def replace(connection: BaseDatabaseWrapper, table: Table) -> None:
    """Bring a table's functions and triggers up to date, all or none.

    Functions are replaced without a lock on the table. Only a trigger that is missing needs one, and waits
    for it no longer than ten seconds: a queue behind a waiting DDL statement would stop every writer.
    """
    schema = _schema(connection)
    present = _triggers(connection)
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        for kind, body in _bodies(schema, table).items():
            cursor.execute(_function(schema, table, kind, body))
            enabled = present.get((table.name, _name(table, kind)))
            if enabled is None:
                cursor.execute(_trigger(schema, table, kind))
            elif enabled not in "OA":
                cursor.execute(
                    f"ALTER TABLE {schema}.{_quote(table.name)} ENABLE TRIGGER {_name(table, kind)}"
                )
        cursor.execute(_comment(schema, table))


def drop_strangers(connection: BaseDatabaseWrapper, tables: Iterable[Table]) -> None:
    """Drop functions of ours, with their triggers, that belong to none of these tables."""
    expected = {_name(table, kind) for table in tables for kind in _kinds(table)}
    schema = _schema(connection)
    with connection.cursor() as cursor:
        for name in _functions(connection).keys() - expected:
            cursor.execute(f"DROP FUNCTION {schema}.{_quote(name)}() CASCADE")


def suspend(connection: BaseDatabaseWrapper) -> None:
    """Swap the functions for the column-free form, which survives whatever a migration does to columns."""
    schema = _schema(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p JOIN pg_namespace n"
            " ON n.oid = p.pronamespace WHERE n.nspname = current_schema()"
            " AND p.proname ~ '^concord_[0-9a-f]{16}_record$'"
        )
        tables = [_described(json.loads(about)) for (about,) in cursor.fetchall() if about]
        for table in tables:
            for kind, body in _bodies(schema, table, suspended=True).items():
                cursor.execute(_function(schema, table, kind, body))


def _described(about: dict[str, Any]) -> Table:
    touches = tuple(Touch(*touch) for touch in about["touches"])
    pk = Column(*about["pk"])
    return Table(about["label"], about["name"], pk, about["version"], (), (), touches, about["recorded"])


def prepare(connection: BaseDatabaseWrapper) -> None:
    """Give the log the column that positions are made of: the transaction that wrote a change."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_attribute WHERE attrelid = 'concord_change'::regclass AND attname = 'xid'"
        )
        if cursor.fetchone() is None:
            cursor.execute(
                "ALTER TABLE concord_change ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
            )
            cursor.execute("CREATE INDEX concord_change_xid ON concord_change (xid)")


def settings_problems(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what this connection's settings break."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW session_replication_role")
        if cursor.fetchone()[0] == "replica":
            return ["session_replication_role is replica: triggers do not fire on this connection."]
    return []


def _schema(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        return _quote(cursor.fetchone()[0])


def _functions(connection: BaseDatabaseWrapper) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = current_schema() AND p.proname ~ '^concord_[0-9a-f]{16}_'"
        )
        return dict(cursor.fetchall())


def _triggers(connection: BaseDatabaseWrapper) -> dict[tuple[str, str], str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, t.tgname, t.tgenabled::text FROM pg_trigger t JOIN pg_class c"
            " ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE NOT t.tgisinternal AND n.nspname = current_schema() AND t.tgname LIKE 'concord\\_%'"
        )
        return {(table, trigger): enabled for table, trigger, enabled in cursor.fetchall()}
