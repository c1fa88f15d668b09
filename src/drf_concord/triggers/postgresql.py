"""The triggers on PostgreSQL: what is installed, and what has to be.

The triggers name no column; their functions do, and are swapped for a slower column-free form while a
migration runs. The functions are SECURITY DEFINER: a role that may only update the table must not fail for
lack of rights on the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, transaction

from ..attempts import sqlstate
from .plan import Column, Columns, Table, Touch
from .plpgsql import EVENTS, NEW_EPOCH, bodies, quote, suspended_bodies, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

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

LOCK_TIMEOUT = "10s"
LOCK_NOT_AVAILABLE = "55P03"
UNSEEING = ("missing", "disabled")
"""States of a trigger in which a write passes it unseen."""

OURS = "'^concord_[0-9a-f]{16}_[a-z_]+$'"
COLUMNS = """
SELECT c.relname, n.nspname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid)
  AND a.attnum > 0 AND NOT a.attisdropped
"""
FUNCTIONS = f"""
SELECT n.nspname, p.proname, p.prosrc, obj_description(p.oid, 'pg_proc')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY (current_schemas(false)) AND p.proname ~ {OURS}
"""
TRIGGERS = f"""
SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text, t.tgtype, pg_table_is_visible(c.oid), pn.nspname,
  p.proname
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname ~ {OURS}
"""


class Places(dict[str, str]):
    """Where each table is, as ``schema.table``; one that is not there is looked for beside the log."""

    log = ""

    def __missing__(self, name: str) -> str:
        return f"{self.log}.{quote(name)}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is installed."""

    body: str
    about: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger as it is installed; ``function`` is (schema, name)."""

    table: str
    name: str
    enabled: bool
    type: int
    visible: bool
    function: tuple[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What there is in a database, in the schemas of its search path; names of schemas are quoted."""

    log: str
    columns: Columns
    schemas: dict[str, str]
    places: Places
    functions: dict[tuple[str, str], Function]
    triggers: dict[tuple[str, str], Trigger]


def read(connection: BaseDatabaseWrapper) -> State:
    """Return what there is."""
    columns: Columns = {}
    schemas: dict[str, str] = {}
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        for table, schema, column, kind in cursor.fetchall():
            schemas[table] = quote(schema)
            columns.setdefault(table, {})[column] = kind
        cursor.execute(FUNCTIONS)
        functions = {
            (quote(schema), name): Function(body, about) for schema, name, body, about in cursor.fetchall()
        }
        cursor.execute(TRIGGERS)
        triggers = {}
        for schema, table, name, enabled, kind, visible, function_schema, function in cursor.fetchall():
            place, function_place = f"{quote(schema)}.{quote(table)}", (quote(function_schema), function)
            triggers[place, name] = Trigger(place, name, enabled in "OA", kind, visible, function_place)
    places = Places({table: f"{schema}.{quote(table)}" for table, schema in schemas.items()})
    log = places.log = schemas.get("concord_change", '"public"')
    return State(log, columns, schemas, places, functions, triggers)


def _name(table: Table, kind: str) -> str:
    return f"concord_{table.digest}_{kind}"


def _kinds(found: dict[str, str]) -> list[str]:
    """Return the kinds of triggers that call these functions."""
    return [kind for kind, (function, *_) in EVENTS.items() if function in found]


def _function(state: State, table: Table, kind: str, body: str) -> Iterator[str]:
    schema = state.schemas[table.name]
    function = f"{schema}.{_name(table, kind)}()"
    rights = f"SECURITY DEFINER SET search_path = pg_catalog, {state.log}, pg_temp " if kind != "bump" else ""
    yield (
        f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql {rights}"
        f"AS $concord$\n{body}\n$concord$"
    )
    # Whoever may call it could put it on a table of his own, and write into the log what he likes.
    yield f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"
    about = _installed(table, kind, body).about
    if about is not None:
        yield f"COMMENT ON FUNCTION {function} IS {text(about)}"


def _installed(table: Table, kind: str, body: str) -> Function:
    """Return a function as it is once it is installed; the one that every table has is told about it."""
    return Function(f"\n{body}\n", _about(table) if kind == "truncate" else None)


def _trigger(state: State, table: Table, kind: str) -> str:
    function, _, event = EVENTS[kind]
    place = state.places[table.name]
    return (
        f"CREATE OR REPLACE TRIGGER {_name(table, kind)} {event.format(place)}"
        f" EXECUTE FUNCTION {state.schemas[table.name]}.{_name(table, function)}()"
    )


def _about(table: Table) -> str:
    # What the column-free form needs to know, kept beside the functions: when a migration runs, the code
    # already describes the tables as they will be.
    return json.dumps(
        {
            "label": table.label,
            "name": table.name,
            "pk": table.pk.name,
            "version": table.version,
            "recorded": table.recorded,
            "bounds": table.bounds,
            "routes": [c.name for c in table.routes],
            "touches": [[t.column, t.target, t.key, t.version, t.via] for t in table.touches],
        }
    )


def _described(about: str) -> Table:
    told: dict[str, Any] = json.loads(about)
    return Table(
        label=told["label"],
        name=told["name"],
        pk=Column(told["pk"]),
        version=told["version"],
        columns=(),
        routes=tuple(Column(name) for name in told["routes"]),
        touches=tuple(Touch(*touch) for touch in told["touches"]),
        recorded=told["recorded"],
        bounds=told.get("bounds", False),  # an earlier release did not say so
    )


def create(state: State, table: Table) -> list[str]:
    """Return the statements that install a table's functions and triggers."""
    found = bodies(state.log, state.places, table)
    statements = [s for kind, body in found.items() for s in _function(state, table, kind, body)]
    return [*statements, *(_trigger(state, table, kind) for kind in _kinds(found))]


def compare(state: State, table: Table) -> list[tuple[str, str]]:
    """Return (kind, "missing", "disabled" or "out of date") for each trigger that is not as it should be."""
    wanted, schema = bodies(state.log, state.places, table), state.schemas[table.name]
    found = []
    for kind in _kinds(wanted):
        function, form, _ = EVENTS[kind]
        trigger = state.triggers.get((state.places[table.name], _name(table, kind)))
        installed = state.functions.get((schema, _name(table, function)))
        if trigger is None or installed is None:
            found.append((kind, "missing"))
        elif not trigger.enabled:
            found.append((kind, "disabled"))
        elif (trigger.type, installed) != (form, _installed(table, function, wanted[function])):
            found.append((kind, "out of date"))
    return found


def install(connection: BaseDatabaseWrapper, tables: Collection[Table]) -> bool:
    """Bring the functions and triggers of all tables up to date, and drop those of other tables.

    Functions are replaced without a lock on the table. Only a trigger that is missing needs one, and waits
    for it no longer than ten seconds: a queue behind a waiting DDL statement would stop every writer.

    Returns:
        True when a write could have passed unseen.

    Raises:
        OperationalError: a table was too busy for its triggers; those of the others are in place.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        _alone(cursor)
        state = read(connection)
        _execute(cursor, (s for table in tables for s in _functions(state, table)))
    state, unseen, busy = read(connection), False, []
    for table in tables:
        if compare(state, table):
            try:
                unseen |= _put_triggers(connection, table)
            except OperationalError as error:
                if sqlstate(error) != LOCK_NOT_AVAILABLE:
                    raise
                busy.append(table.name)
    if busy:
        raise OperationalError(
            f"No trigger could be put on {', '.join(busy)} within {LOCK_TIMEOUT}, as it was in use all the"
            " time. Run: manage.py concord triggers --install"
        )
    _drop_strangers(connection, tables)
    return unseen


def _functions(state: State, table: Table) -> Iterator[str]:
    schema = state.schemas[table.name]
    for kind, body in bodies(state.log, state.places, table).items():
        if state.functions.get((schema, _name(table, kind))) != _installed(table, kind, body):
            yield from _function(state, table, kind, body)


def _put_triggers(connection: BaseDatabaseWrapper, table: Table) -> bool:
    """Put the triggers on a table, all or none; the new epoch begins while the table is locked."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        _alone(cursor)
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        state = read(connection)
        place, differences = state.places[table.name], compare(state, table)
        for kind, _ in differences:
            name, form = _name(table, kind), EVENTS[kind][1]
            trigger = state.triggers.get((place, name))
            if trigger is None or trigger.type != form:
                cursor.execute(_trigger(state, table, kind))
            elif not trigger.enabled:
                cursor.execute(f"ALTER TABLE {place} ENABLE TRIGGER {name}")
        # A table that was renamed still has those of its old name: without a gap from these to the new ones.
        for trigger in state.triggers.values():
            if trigger.table == place and not trigger.name.startswith(_name(table, "")):
                cursor.execute(f"DROP TRIGGER {trigger.name} ON {place}")
        unseen = any(what in UNSEEING for _, what in differences)
        if unseen:
            cursor.execute(NEW_EPOCH.format(log=state.log))
        return unseen


def _execute(cursor: Any, statements: Iterable[str]) -> None:
    """Execute many statements in one round trip."""
    text = ";\n".join(statements)
    if text:
        cursor.execute(text)


def _alone(cursor: Any) -> None:
    # Two who replace one function at the same time fail: "tuple concurrently updated".
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('drf_concord'))")


def remove(connection: BaseDatabaseWrapper) -> None:
    """Drop every trigger and function of ours."""
    _drop_strangers(connection, [])


def _drop_strangers(connection: BaseDatabaseWrapper, tables: Collection[Table]) -> None:
    state = read(connection)
    triggers: set[tuple[str, str]] = set()
    functions: set[tuple[str, str]] = set()
    for table in tables:
        found = bodies(state.log, state.places, table)
        triggers |= {(state.places[table.name], _name(table, kind)) for kind in _kinds(found)}
        functions |= {(state.schemas[table.name], _name(table, kind)) for kind in found}
    # A table that is hidden by one of the same name is somebody else's, who has another search path.
    functions |= {t.function for t in state.triggers.values() if not t.visible}
    statements = [
        f"DROP TRIGGER IF EXISTS {name} ON {place}"
        for (place, name), trigger in state.triggers.items()
        if trigger.visible and (place, name) not in triggers
    ]
    statements += [f"DROP FUNCTION IF EXISTS {s}.{n}()" for s, n in state.functions.keys() - functions]
    for statement in statements:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            _alone(cursor)
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(statement)


def suspend(connection: BaseDatabaseWrapper) -> None:
    """Swap the functions for the column-free form, which survives whatever a migration does to columns."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        _alone(cursor)
        state = read(connection)
        tables = [_described(about) for about in {f.about for f in state.functions.values() if f.about}]
        _execute(
            cursor,
            (
                statement
                for table in tables
                if table.name in state.schemas
                for kind, body in suspended_bodies(state.log, state.places, table).items()
                for statement in _function(state, table, kind, body)
            ),
        )


def prepare(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that make the log fit for positions: who wrote a change, and ids given out once.

    Django sets the sequences that it finds back to 1 (``reset_sequences`` of a test), while what a flush
    recorded of itself still has the first ids; it does not find one that no column owns.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'concord_change'::regclass"
            " AND (attname = 'xid' OR attname = 'id' AND attidentity = '')"
        )
        if cursor.fetchone() == (2,):
            return []
    return [
        "ALTER TABLE concord_change ADD COLUMN IF NOT EXISTS xid xid8 NOT NULL DEFAULT pg_current_xact_id()",
        "CREATE INDEX IF NOT EXISTS concord_change_xid ON concord_change (xid)",
        "CREATE SEQUENCE IF NOT EXISTS concord_change_number",
        "SELECT setval('concord_change_number', coalesce(max(id), 0) + 1, false) FROM concord_change",
        "ALTER TABLE concord_change ALTER COLUMN id DROP IDENTITY IF EXISTS,"
        " ALTER COLUMN id SET DEFAULT nextval('concord_change_number')",
    ]


def settings_problems(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what this connection's settings break."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW session_replication_role")
        if cursor.fetchone()[0] == "replica":
            return ["session_replication_role is replica: triggers do not fire on this connection."]
    return []
