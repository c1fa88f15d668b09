"""The triggers are installed, checked, taken off and put right, also by two at once and on busy tables."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.test import override_settings

from drf_concord import triggers
from drf_concord.models import Log as LogRow
from tests.concurrency.threads import Call, until
from tests.settings import TEST_DB
from tests.triggers.lab import ALIAS, BOOKS, Lab
from tests.triggers.recorded import Log

SQLITE = TEST_DB == "sqlite"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop(lab: Lab) -> Any:
    shop = lab.write(BOOKS)
    lab.generate()
    lab.migrate()
    return shop


def names(lab: Lab, table: str) -> list[str]:
    """Return the names of the triggers on a table."""
    question = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s ORDER BY name"
        if SQLITE
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = %s::regclass ORDER BY tgname"
    )
    return [name for (name,) in lab.sql(question, [table])]


def drop(lab: Lab, name: str, table: str) -> None:
    lab.sql(f"DROP TRIGGER {name}" + ("" if SQLITE else f" ON {table}"))


def concord(*arguments: str) -> str:
    out = StringIO()
    call_command("concord", *arguments, "--database", ALIAS, stdout=out)
    return out.getvalue()


# ----------------------------------------------------------------------------------- the command


def test_the_command_names_the_databases_there_are() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'nowhere'"):
        call_command("concord", "prune", "--database", "nowhere")


def test_the_command_checks_installs_prints_and_removes(lab: Lab, shop: Any) -> None:
    assert "in place" in concord("triggers")
    assert "in place" in concord("triggers", "--check")
    statements = concord("triggers", "--sql")
    epoch = lab.epoch()

    assert "removed" in concord("triggers", "--remove")
    assert lab.installed() == set()
    with pytest.raises(CommandError, match=r"(?s)shop_book \(shop.Book\) is missing.*--install"):
        concord("triggers", "--check")
    log = Log(ALIAS)
    lab.sql("INSERT INTO shop_shelf (name) VALUES ('unseen')")
    assert log.new() == []

    if SQLITE:
        connection = sqlite3.connect(connections[ALIAS].settings_dict["NAME"])
        connection.executescript(statements)
        connection.close()
    else:
        lab.sql(statements)
    assert "in place" in concord("triggers", "--check")
    assert lab.epoch() != epoch
    assert "new epoch" not in concord("triggers", "--install")
    lab.sql("INSERT INTO shop_shelf (name) VALUES ('seen')")
    assert len(log.new()) == 1

    concord("triggers", "--remove")
    assert "new epoch" in concord("triggers", "--install")
    assert lab.installed() == lab.wanted()


def test_the_command_prunes(lab: Lab, shop: Any) -> None:
    with override_settings(CONCORD={"RETENTION_ROWS": 1}):
        shop.Shelf.objects.bulk_create([shop.Shelf() for _ in range(4)])
        assert concord("prune") == "3 changes pruned.\n"
    assert concord("prune") == "0 changes pruned.\n"


# ------------------------------------------------------------------------------ what is installed


def test_each_trigger_that_is_missing_is_named_and_begins_a_new_epoch(lab: Lab, shop: Any) -> None:
    for name in names(lab, "shop_book"):
        drop(lab, name, "shop_book")
        (problem,) = triggers.problems(ALIAS)
        assert problem.endswith("shop_book (shop.Book) is missing.")
        epoch = lab.epoch()
        assert triggers.install(ALIAS) is True
        assert lab.epoch() != epoch
        assert triggers.problems(ALIAS) == []


def test_what_is_in_place_is_left_alone(lab: Lab, shop: Any) -> None:
    epoch, before = lab.epoch(), lab.installed()
    assert triggers.install(ALIAS) is False
    assert (lab.epoch(), lab.installed()) == (epoch, before)


def test_a_change_of_the_code_replaces_triggers_without_a_new_epoch(lab: Lab, shop: Any) -> None:
    epoch = lab.epoch()
    lab.write(BOOKS.replace("class Book(Versioned):", "class Book(Versioned):\n    concord_routes = []"))
    assert {p.rpartition(" is ")[2] for p in triggers.problems(ALIAS)} == {"out of date."}
    assert triggers.install(ALIAS) is False
    assert triggers.problems(ALIAS) == []
    assert lab.epoch() == epoch


@pytest.mark.postgresql
def test_a_trigger_that_was_disabled_is_enabled_again(lab: Lab, shop: Any) -> None:
    lab.sql("ALTER TABLE shop_book DISABLE TRIGGER USER")
    assert len(triggers.problems(ALIAS)) == 6
    assert all(problem.endswith("is disabled.") for problem in triggers.problems(ALIAS))
    epoch = lab.epoch()
    assert triggers.install(ALIAS) is True
    assert triggers.problems(ALIAS) == []
    assert lab.epoch() != epoch


@pytest.mark.postgresql
def test_a_trigger_of_our_name_for_something_else_is_put_right(lab: Lab, shop: Any) -> None:
    name = next(n for n in names(lab, "shop_book") if n.endswith("truncate"))
    drop(lab, name, "shop_book")
    lab.sql(f"CREATE TRIGGER {name} AFTER TRUNCATE ON shop_book EXECUTE FUNCTION {name}()")
    assert len(triggers.problems(ALIAS)) == 1
    triggers.install(ALIAS)
    assert triggers.problems(ALIAS) == []


def test_strangers_are_dropped(lab: Lab, shop: Any) -> None:
    """A model that is not captured any more keeps neither triggers nor functions."""
    lab.write(BOOKS.replace("Versioned", "models.Model"))
    triggers.install(ALIAS)
    assert names(lab, "shop_book") == []
    assert lab.installed() == lab.wanted()


def test_other_triggers_are_left_alone(lab: Lab, shop: Any) -> None:
    if SQLITE:
        lab.sql("CREATE TRIGGER concord_mine AFTER INSERT ON shop_book BEGIN SELECT 1; END")
    else:
        lab.sql("CREATE FUNCTION concord_mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        lab.sql("CREATE TRIGGER concord_mine AFTER INSERT ON shop_book EXECUTE FUNCTION concord_mine()")
    triggers.install(ALIAS)
    triggers.remove(ALIAS)
    assert names(lab, "shop_book") == ["concord_mine"]


# ------------------------------------------------------------------------------- at the same time


def test_two_who_install_at_once(lab: Lab, shop: Any) -> None:
    """As when two machines start a release, and each runs migrate."""
    for _ in range(3):
        triggers.remove(ALIAS)
        calls = [Call(lambda: triggers.install(ALIAS)) for _ in range(3)]
        assert [call.result() for call in calls].count(True) >= 1
        assert triggers.problems(ALIAS) == []


@pytest.mark.postgresql
def test_a_busy_table_makes_nobody_wait_for_long(
    lab: Lab, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.vendor, "LOCK_TIMEOUT", "50ms")
    triggers.remove(ALIAS)
    other = connections[ALIAS].copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO shop_book (title) VALUES ('slow')")
        with pytest.raises(OperationalError, match=r"on shop_book within 50ms.*--install"):
            triggers.install(ALIAS)
        other.rollback()
    finally:
        other.close()
    assert {p.partition("table ")[2].split()[0] for p in triggers.problems(ALIAS)} == {"shop_book"}
    assert triggers.install(ALIAS) is True
    assert triggers.problems(ALIAS) == []


@pytest.mark.postgresql
def test_a_trigger_and_the_new_epoch_come_together(lab: Lab, shop: Any) -> None:
    """Whoever sees the new epoch sees every write from then on."""
    triggers.remove(ALIAS)
    epoch = lab.epoch()
    other = connections[ALIAS].copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO shop_book (title) VALUES ('unseen')")
        call = Call(lambda: triggers.install(ALIAS))
        until(lambda: lab.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)], "a lock")
        between = lab.epoch()
        other.commit()
        call.result()
    finally:
        other.close()
    assert len({epoch, between, lab.epoch()}) >= 2
    assert lab.epoch() != between


# ------------------------------------------------------------------------------------- elsewhere


@pytest.mark.sqlite
def test_recursive_triggers_are_reported(lab: Lab, shop: Any) -> None:
    lab.sql("PRAGMA recursive_triggers = ON")
    assert any("recursive_triggers" in problem for problem in triggers.problems(ALIAS))
    lab.sql("PRAGMA recursive_triggers = OFF")
    assert triggers.problems(ALIAS) == []


@pytest.mark.postgresql
def test_a_connection_without_triggers_is_reported(lab: Lab, shop: Any) -> None:
    lab.sql("SET session_replication_role = replica")
    assert any("session_replication_role" in problem for problem in triggers.problems(ALIAS))
    lab.sql("RESET session_replication_role")
    assert triggers.problems(ALIAS) == []


class WithoutLog:
    """A database router: the log is elsewhere."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return app_label != "concord"


def test_captured_tables_without_the_log_are_reported(db: None, lab: Lab, shop: Any) -> None:
    assert triggers.problems("default") == []
    lab.migrate("concord", "zero")
    assert triggers.problems(ALIAS) == []  # it is yet to be migrated
    assert triggers.sql(ALIAS) == []
    assert triggers.install(ALIAS) is False
    with override_settings(DATABASE_ROUTERS=[WithoutLog()]):
        assert [p.split()[1] for p in triggers.problems(ALIAS)] == ["shop_book", "shop_shelf"]
        assert triggers.install(ALIAS) is False
        assert lab.installed() == set()


def test_the_first_write_of_a_process_looks_at_the_triggers(
    lab: Lab, shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    triggers.remove(ALIAS)
    triggers.verify_once(ALIAS)
    first = len(caplog.records)
    assert first >= len(names(lab, "shop_book"))
    assert all("--install" in record.getMessage() for record in caplog.records)
    triggers.verify_once(ALIAS)
    assert len(caplog.records) == first


def test_a_flush_begins_a_new_epoch(lab: Lab, shop: Any) -> None:
    shop.Book.objects.create(shelf=shop.Shelf.objects.create())
    epoch = lab.epoch()
    call_command("flush", database=ALIAS, interactive=False, verbosity=0)
    assert lab.epoch() != epoch
    assert triggers.problems(ALIAS) == []
    call_command("flush", database=ALIAS, interactive=False, verbosity=0, inhibit_post_migrate=True)
    assert not LogRow.objects.exists()
    log = Log(ALIAS)
    shop.Book.objects.create(shelf=shop.Shelf.objects.create())
    assert [c[0::2] for c in log.short()][:2] == [("shop.Shelf", "I"), ("shop.Book", "I")]
    assert triggers.ensure_log(ALIAS) != epoch


# --------------------------------------------------------------------------- a project of its own

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "settings"
urlpatterns = []
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "drf_concord", "shop"]
DATABASES = {{"default": {database!r}}}
"""


def test_manage_py_migrate_repairs_what_a_crash_left(lab: Lab, shop: Any, tmp_path: Path) -> None:
    """As a person runs it, checks included: they report what is wrong, and do not stop the repair."""
    database = {k: v for k, v in connections[ALIAS].settings_dict.items() if k != "TEST"}
    (tmp_path / "settings.py").write_text(SETTINGS.format(database=database))
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")]),
    }

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "django", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    assert manage("migrate").returncode == 0
    lab.vendor.suspend(connections[ALIAS])
    checked = manage("check", "--database", "default")
    assert "shop_book (shop.Book) is" in checked.stderr
    repaired = manage("migrate")
    assert repaired.returncode == 0, repaired.stderr
    assert "shop_book" not in manage("check", "--database", "default").stderr
