"""Tables and columns of every kind, and writers of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connections

from drf_concord import triggers
from tests.settings import RUN, TEST_DB
from tests.triggers.lab import ALIAS, BOOKS, Lab
from tests.triggers.recorded import Log

KEY = "integer PRIMARY KEY AUTOINCREMENT" if TEST_DB == "sqlite" else "bigserial PRIMARY KEY"
VERSION = (
    "version bigint NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) * 1000)"
    if TEST_DB == "sqlite"
    else "version bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
)
RAW = """
class Raw(models.Field):
    def __init__(self, kind="", **kwargs):
        self.kind = kind
        super().__init__(**kwargs)

    def db_type(self, connection):
        return self.kind
"""


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ------------------------------------------------------------------------------------------ names

ODD = ['it\'s "quoted"', "100 %s %d %%", "select", "Capital", "with space", "grün", "back\\slash", "a;b--c"]


def test_names_that_need_quoting(lab: Lab) -> None:
    """Django cannot query all of these, but a table may have them, and raw SQL writes it."""
    columns = "\n".join(f"    c{n} = models.TextField(db_column={name!r})" for n, name in enumerate(ODD))
    lab.write(
        f"""
class Shelf(Versioned):
    key = models.BigAutoField(primary_key=True, db_column='the "key" %')

    class Meta:
        managed = False
        db_table = 'the "shelf" %s'

class Odd(Versioned):
    touches = ["parent"]
    key = models.BigAutoField(primary_key=True, db_column='the "key" %')
    parent = models.ForeignKey(Shelf, null=True, db_column='its "parent" %s', on_delete=models.CASCADE,
        related_name="odd_ones")
{columns}

    class Meta:
        managed = False
        db_table = "an 'odd' %s \\"Table\\""
"""
    )
    table, key, parent = quote("an 'odd' %s \"Table\""), quote('the "key" %'), quote('its "parent" %s')
    shelf = quote('the "shelf" %s')
    lab.sql(f"CREATE TABLE {shelf} ({key} {KEY}, {VERSION})")
    texts = ", ".join(f"{quote(name)} text" for name in ODD)
    lab.sql(f"CREATE TABLE {table} ({key} {KEY}, {VERSION}, {parent} bigint, {texts})")
    triggers.install(ALIAS)
    assert triggers.problems(ALIAS) == []
    lab.sql(f"INSERT INTO {shelf} DEFAULT VALUES")
    log = Log(ALIAS)

    lab.sql(f"INSERT INTO {table} ({parent}) VALUES (1)")
    for name in ODD:
        lab.sql(f"UPDATE {table} SET {quote(name)} = 'x'")
    lab.sql(f"DELETE FROM {table}")

    found = log.new()
    moved = [c for c in found if c.model == "shop.Shelf"]
    assert [c.short for c in moved] == [("shop.Shelf", "1", "U", ("odd_ones",))] * (len(ODD) + 2)
    written = [c for c in found if c.model == "shop.Odd"]
    assert [c.columns for c in written] == [None, *((name,) for name in ODD), None]
    assert written[1].routes == {'its "parent" %s': [1, 1]}
    assert [c.previous for c in written[1:]] == [c.version for c in written[:-1]]
    if TEST_DB == "postgresql":
        lab.sql(f"INSERT INTO {table} ({parent}) VALUES (1)")
        log.new()
        lab.sql(f"TRUNCATE {table}")
        assert log.short() == [("shop.Odd", "", "T", None), ("shop.Shelf", "1", "U", ("odd_ones",))]


def test_a_version_under_another_name(lab: Lab) -> None:
    lab.write(
        """
from drf_concord.fields import VersionField

class Thing(Versioned):
    version = VersionField(db_column="Ver sion")
    text = models.TextField()
"""
    )
    lab.generate()
    lab.migrate()
    log = Log(ALIAS)
    lab.sql("INSERT INTO shop_thing (text) VALUES ('a')")
    lab.sql("UPDATE shop_thing SET text = 'b'")
    first, second = log.new()
    assert second.columns == ("text",)
    assert second.previous == first.version
    assert second.version == lab.sql('SELECT "Ver sion" FROM shop_thing')[0][0]


# ------------------------------------------------------------------------------------------ types

TYPES: dict[str, tuple[str, str]] = {
    "bigint": ("1", "2"),
    "text": ("'a'", "'A'"),
    "varchar(9)": ("'a'", "'b'"),
}
ON_SQLITE: dict[str, tuple[str, str]] = {
    "text COLLATE NOCASE": ("'a'", "'A'"),
    "real": ("1.5", "2.5"),
    "blob": ("x'00ff'", "x'00fe'"),
    "bool": ("1", "0"),
}
ON_POSTGRESQL = {
    "text COLLATE careless": ("'a'", "'A'"),
    "citext": ("'a'", "'A'"),
    "char(3)": ("'a'", "'b'"),
    "json": ("""'{"a": 1}'""", """'{"a": 2}'"""),
    "jsonb": ("""'{"a": [1]}'""", """'{"a": [2]}'"""),
    "json[]": ("""ARRAY['{"a": 1}'::json]""", """ARRAY['{"a": 2}'::json]"""),
    "text[]": ("ARRAY['a', 'b']", "ARRAY['a', NULL]"),
    "varchar(3)[]": ("ARRAY['a']", "ARRAY['A']"),
    "integer[]": ("ARRAY[1, 2]", "ARRAY[2, 1]"),
    "timestamptz": ("'2026-01-01'", "'2026-01-01 00:00:00.000001'"),
    "interval": ("'1 day'", "'24:00'"),
    "numeric(9, 2)": ("1.10", "1.11"),
    "double precision": ("'NaN'", "0"),
    "boolean": ("true", "false"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
    "bytea": ("'\\x00'", "'\\x01'"),
    "inet": ("'127.0.0.1'", "'127.0.0.0/8'"),
    "int4range": ("'[1,3)'", "'[1,4)'"),
    "bit(3)": ("B'101'", "B'100'"),
    "point": ("'(1,2)'", "'(1,3)'"),
    "box": ("'(0,0),(1,1)'", "'(0,0),(2,0.5)'"),  # of the same area
    "xml": ("'<a/>'", "'<b/>'"),
    "tsvector": ("'a b'", "'a c'"),
}
TYPES |= ON_SQLITE if TEST_DB == "sqlite" else ON_POSTGRESQL


def test_columns_of_every_type(lab: Lab) -> None:
    if TEST_DB == "postgresql":
        lab.sql("CREATE EXTENSION citext")
        lab.sql(
            "CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    kinds = [kind.partition(" COLLATE")[0] for kind in TYPES]
    fields = "\n".join(f"    c{n} = Raw({kind!r}, null=True)" for n, kind in enumerate(kinds))
    lab.write(f"{RAW}\nclass Thing(Versioned):\n{fields}\n    class Meta:\n        managed = False")
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(TYPES))
    lab.sql(f"CREATE TABLE shop_thing (id {KEY}, {VERSION}, {columns})")
    triggers.install(ALIAS)
    lab.sql("INSERT INTO shop_thing (id) VALUES (1)")

    log = Log(ALIAS)
    for n, (kind, (one, other)) in enumerate(TYPES.items()):
        for value in (one, one, other, "NULL", "NULL"):
            lab.sql(f"UPDATE shop_thing SET c{n} = {value}")
        name = (f"c{n}",)
        assert [c.columns for c in log.new()] == [name, (), name, name, ()], kind
    lab.sql("DELETE FROM shop_thing")
    assert log.short() == [("shop.Thing", "1", "D", None)]


def test_routes_of_every_kind(lab: Lab) -> None:
    """What a model declares; by default its foreign keys, and nothing where it has none."""
    lab.write(
        """
class Plain(Versioned):
    text = models.CharField(max_length=9)

class Thing(Versioned):
    concord_routes = ["state", "owner"]
    state = models.CharField(max_length=9)
    owner = models.ForeignKey(Plain, null=True, on_delete=models.CASCADE)
    other = models.ForeignKey(Plain, null=True, on_delete=models.CASCADE, related_name="+")
"""
    )
    lab.generate()
    lab.migrate()
    log = Log(ALIAS)
    lab.sql("INSERT INTO shop_plain (text) VALUES ('a')")
    lab.sql("INSERT INTO shop_thing (state) VALUES ('it''s \"n\"')")
    lab.sql("UPDATE shop_thing SET owner_id = 1, state = 'old'")
    lab.sql("DELETE FROM shop_thing")
    assert [c.routes for c in log.new()] == [
        None,
        {"state": [None, 'it\'s "n"'], "owner_id": [None, None]},
        {"state": ['it\'s "n"', "old"], "owner_id": [None, 1]},
        {"state": ["old", None], "owner_id": [1, None]},
    ]


# ---------------------------------------------------------------------------------------- writers


def test_a_cascade_of_the_database(lab: Lab) -> None:
    lab.write(
        BOOKS.replace('default="")\n', 'default="")\n', 1) + "    class Meta:\n        managed = False\n"
    )
    lab.sql(f"CREATE TABLE shop_shelf (id {KEY}, {VERSION}, name varchar(9) NOT NULL)")
    lab.sql(
        f"CREATE TABLE shop_book (id {KEY}, {VERSION}, title varchar(9) NOT NULL,"
        " shelf_id bigint REFERENCES shop_shelf (id) ON DELETE CASCADE)"
    )
    triggers.install(ALIAS)
    lab.sql("INSERT INTO shop_shelf (name) VALUES ('a'), ('b')")
    lab.sql("INSERT INTO shop_book (title, shelf_id) VALUES ('1', 1), ('2', 1), ('3', 2)")
    log = Log(ALIAS)

    lab.sql("DELETE FROM shop_shelf WHERE id = 1")

    assert sorted(log.short()) == [
        ("shop.Book", "1", "D", None),
        ("shop.Book", "2", "D", None),
        ("shop.Shelf", "1", "D", None),
    ]


OTHER_PROCESS = {
    "sqlite": "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()",
    "postgresql": "import psycopg, sys\nwith psycopg.connect(sys.argv[1]) as c: c.execute(sys.argv[2])",
}


def test_raw_sql_of_another_process(lab: Lab) -> None:
    shop = lab.write(BOOKS)
    lab.generate()
    lab.migrate()
    book = shop.Book.objects.create(shelf=shop.Shelf.objects.create())
    log, before = Log(ALIAS), book.version

    settings = connections[ALIAS].settings_dict
    target = settings["NAME"]
    if TEST_DB == "postgresql":
        target = f"postgresql://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS[TEST_DB], target, "UPDATE shop_book SET title = 'raw'"],
        check=True,
        env={**os.environ, "PGPASSWORD": settings["PASSWORD"]},
        timeout=60,
    )

    assert log.short() == [("shop.Book", "1", "U", ("title",)), ("shop.Shelf", "1", "U", ("books",))]
    book.refresh_from_db()
    assert book.version > before


@pytest.mark.postgresql
def test_a_role_that_may_only_update(lab: Lab) -> None:
    shop = lab.write(BOOKS)
    lab.generate()
    lab.migrate()
    shop.Book.objects.create(shelf=shop.Shelf.objects.create())
    log, clerk = Log(ALIAS), f"clerk_{RUN}_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    lab.sql(f"CREATE ROLE {clerk}")
    try:
        lab.sql(f"GRANT USAGE ON SCHEMA public TO {clerk}")
        lab.sql(f"GRANT UPDATE ON shop_book TO {clerk}")
        # functions and operators of his own, where the search path of his session finds them first
        lab.sql(f"CREATE SCHEMA trap AUTHORIZATION {clerk}")
        lab.sql("CREATE FUNCTION trap.random() RETURNS double precision LANGUAGE sql AS 'SELECT 1 / 0.0'")
        lab.sql(f"SET ROLE {clerk}")
        lab.sql("SET search_path = trap, pg_catalog, public")
        lab.sql("UPDATE shop_book SET title = 'raw'")
        lab.sql("RESET ROLE")
        assert log.short() == [("shop.Book", "1", "U", ("title",)), ("shop.Shelf", "1", "U", ("books",))]

        lab.sql(f"GRANT CREATE ON SCHEMA public TO {clerk}")
        name = lab.sql("SELECT proname FROM pg_proc WHERE proname ~ '^concord_.*_record$'")[0][0]
        lab.sql(f"SET ROLE {clerk}")
        lab.sql("CREATE TABLE mine (id bigint)")
        with pytest.raises(Exception, match="permission denied for function"):
            lab.sql(f"CREATE TRIGGER forged AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {name}()")
    finally:
        lab.sql("RESET ROLE")
        lab.sql("RESET search_path")
        lab.sql(f"DROP OWNED BY {clerk} CASCADE")
        lab.sql(f"DROP ROLE {clerk}")


@pytest.mark.postgresql
def test_tables_in_another_schema(lab: Lab) -> None:
    """The search path says which table is meant, for the triggers as for everything else."""
    shop = lab.write(BOOKS)
    lab.generate()
    lab.migrate()
    lab.sql("CREATE SCHEMA tenant")
    for table in ("shop_shelf", "shop_book"):
        lab.sql(f"CREATE TABLE tenant.{table} (LIKE public.{table} INCLUDING ALL)")
    lab.sql("SET search_path = tenant, public")
    try:
        assert len(triggers.problems(ALIAS)) == 9
        triggers.install(ALIAS)
        log = Log(ALIAS)
        shop.Book.objects.create(pk=7, shelf=shop.Shelf.objects.create(pk=8))
        assert [c[:3] for c in log.short()] == [
            ("shop.Shelf", "8", "I"),
            ("shop.Book", "7", "I"),
            ("shop.Shelf", "8", "U"),
        ]
        assert lab.sql("SELECT count(*) FROM public.shop_book") == [(0,)]

        lab.sql("SET search_path = public")
        assert triggers.problems(ALIAS) == []
        shop.Book.objects.create(pk=1)
        assert log.short() == [("shop.Book", "1", "I", None)]
        lab.sql("SET search_path = tenant, public")
        triggers.remove(ALIAS)
        lab.sql("SET search_path = public")
        assert [p for p in triggers.problems(ALIAS) if "concord_lock" not in p] == []
    finally:
        lab.sql("RESET search_path")
        lab.sql("DROP SCHEMA tenant CASCADE")


def test_generated_columns(lab: Lab) -> None:
    shop = lab.write(
        """
from django.db.models.functions import Upper

class Thing(Versioned):
    text = models.CharField(max_length=9)
    upper = models.GeneratedField(
        expression=Upper("text"), output_field=models.CharField(max_length=9), db_persist=True
    )
"""
    )
    lab.generate()
    lab.migrate()
    thing: Any = shop.Thing.objects.create(text="a")
    log = Log(ALIAS)
    lab.sql("UPDATE shop_thing SET text = 'b'")
    lab.sql("UPDATE shop_thing SET text = 'b'")
    assert [c.columns for c in log.new()] == [("text", "upper"), ()]
    thing.refresh_from_db()
    assert thing.upper == "B"
