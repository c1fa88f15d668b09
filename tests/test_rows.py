"""What an object is called, which rows it is spread over, and what is read of it once it is locked."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from drf_concord import locks, rows, statements
from drf_concord.models import Change, Lock, Log
from drf_concord.protocol.claims import Claim
from drf_concord.protocol.errors import Busy, ObjectLocked
from drf_concord.protocol.locks import Mode
from tests.app.models import Item, Note, Place, Restaurant
from tests.concurrency.threads import Call, others_wait
from tests.kinds.models import (
    Area,
    Article,
    Badge,
    Book,
    Garden,
    Keyed,
    Orchard,
    Review,
    Root,
    Texted,
    Yard,
)

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite, pytest.mark.postgresql, pytest.mark.mariadb]

KEY = uuid.UUID("12345678-1234-5678-1234-56789abcdef0")


# ------------------------------------------------------------------------ names of objects


ROOTS: dict[Any, Any] = {
    Item: Item,
    Place: Place,
    Restaurant: Place,
    Orchard: Area,
    Yard: Area,
    Badge: Badge,
    Review: Book,
}


@pytest.mark.parametrize(("model", "root"), ROOTS.items(), ids=lambda model: model.__name__)
def test_an_object_is_known_by_its_topmost_table(model: Any, root: Any) -> None:
    assert rows.identity(model) is root


SPELLINGS: dict[str, tuple[Any, Any, str]] = {
    "number": (Item, 5, "5"),
    "number as text": (Item, "5", "5"),
    "a parent's": (Restaurant, "5", "5"),
    "another row's": (Badge, "5", "5"),
    "UUID": (Keyed, KEY, str(KEY)),
    "UUID as text": (Keyed, str(KEY), str(KEY)),
    "UUID as hex": (Keyed, KEY.hex, str(KEY)),
    "UUID in capitals": (Keyed, str(KEY).upper(), str(KEY)),
    "UUID in braces": (Keyed, "{" + str(KEY) + "}", str(KEY)),
    "text": (Texted, "Ab", "Ab"),
}


@pytest.mark.parametrize(("model", "pk", "text"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_key_has_one_text_however_it_is_written(model: Any, pk: Any, text: str) -> None:
    assert rows.key(model, pk) == (rows.identity(model)._meta.label, text)


TABLES: dict[Any, list[Any]] = {
    Item: [Item],
    Restaurant: [Restaurant, Place],
    Orchard: [Orchard, Garden, Area],
    Yard: [Garden, Area],
    Review: [Review, Book, Article],
    Badge: [Badge],
}


@pytest.mark.parametrize("model", TABLES)
def test_a_row_is_spread_over_its_parents(model: Any) -> None:
    assert statements.chain(model) == TABLES[model]


@pytest.mark.parametrize("written", [KEY, str(KEY), KEY.hex, KEY.hex.upper()], ids=repr)
def test_a_uuid_is_one_object_in_every_spelling(written: Any) -> None:
    Keyed.objects.create(pk=KEY)
    locks.freeze(Keyed(pk=written))

    assert Lock.objects.get().object_pk == str(KEY)
    with pytest.raises(ObjectLocked):
        Keyed.objects.get().save()
    with rows.enter(Keyed, KEY, using="default") as entry:
        assert rows.entered(Keyed, written, "default") is entry
        assert entry.found


@pytest.mark.parametrize("model", [Item, Orchard, Yard, Keyed, Badge, Review])
def test_a_row_is_found_in_all_its_tables(model: Any) -> None:
    obj = model.objects.create(**({"root": Root.objects.create()} if model is Badge else {}))
    with rows.enter(model, obj.pk, using="default") as entry:
        assert entry.found
        assert entry.identity == rows.key(model, obj.pk)


def test_a_row_that_is_gone_is_not_found() -> None:
    orchard = Orchard.objects.create()
    pk = orchard.pk
    orchard.delete(keep_parents=True)
    with rows.enter(Orchard, pk, using="default") as entry:
        assert entry.found is (connection.vendor == "sqlite")  # there nothing is asked: all is locked


def test_any_model_can_be_locked() -> None:
    user = get_user_model().objects.create(username="ada")
    with rows.enter(type(user), user.pk, using="default") as entry:
        assert (entry.found, entry.identity) == (True, ("auth.User", str(user.pk)))


# ------------------------------------------------------------------------------ one stay


def test_an_entry_has_the_time_and_the_lock() -> None:
    note = Note.objects.create()
    before = rows.now("default")
    with rows.enter(Note, note.pk, using="default", actor=rows.Actor("1")) as entry:
        assert before <= entry.now <= rows.now("default")
        assert (entry.lock.mode, entry.lock.generation, entry.open) == (None, 0, True)
        locks.acquire(entry, Claim(holder="1", ttl=60, scope=["update", "publish"], reason="r"))
    assert not entry.open

    with rows.enter(Note, note.pk, using="default") as again:
        lock = again.lock
        assert lock == entry.lock
        assert (lock.mode, lock.holder, lock.scope, lock.reason) == (
            Mode.HOLD,
            "1",
            ("update", "publish"),
            "r",
        )
        assert (lock.expires_at or 0) - lock.acquired_at == 60_000_000
    assert rows.peek(Note, note.pk, using="default", actor=rows.Actor()).lock == lock


def test_the_databases_clock_is_in_microseconds_since_the_epoch() -> None:
    assert abs(rows.now("default") - time.time_ns() // 1000) < 60_000_000


def test_an_entry_is_found_by_who_is_inside_only() -> None:
    item, other = Item.objects.create(), Item.objects.create()
    assert rows.entered(Item, item.pk, "default") is None
    with rows.enter(Item, item.pk, using="default") as outer:
        assert rows.entered(Item, str(item.pk), "default") is outer
        assert rows.entered(Item, other.pk, "default") is None
        assert rows.entered(Item, None, "default") is None
        with rows.enter(Item, item.pk, using="default") as inner:
            assert rows.entered(Item, item.pk, "default") is inner
        assert rows.entered(Item, item.pk, "default") is outer
    assert rows.entered(Item, item.pk, "default") is None


def test_who_acts_is_known_inside_and_forgotten_outside() -> None:
    note = Note.objects.create()
    with rows.acting(rows.Actor("1")):
        with rows.enter(Note, note.pk, using="default", actor=rows.Actor("2", "hash")) as entry:
            assert entry.actor.token_hash == "hash"
            inside = rows.current_actor()
            assert (inside.holder, inside.token_hash) == ("2", None)
            assert inside.at(entry.identity).token_hash == "hash"
            assert inside.at(("app.Note", "0")).token_hash is None
        assert rows.current_actor() == rows.Actor("1")
        with rows.enter(Note, note.pk, using="default") as entry:
            assert entry.actor.holder == "1"
    assert rows.current_actor() == rows.NOBODY


def test_a_broken_transaction_is_left_as_it_is() -> None:
    item = Item.objects.create()
    with transaction.atomic():
        with rows.enter(Item, item.pk, using="default"):
            transaction.set_rollback(True)
        assert not transaction.get_rollback()


@pytest.mark.parametrize("wait", [None, 0.0001, 5.0])
def test_the_time_to_wait_is_part_of_the_statement(wait: float | None) -> None:
    sql = statements._lock_table(connection, Item, Item, wait, skip=False)

    if connection.vendor == "postgresql":
        # 0 would mean for ever
        expected = {None: "", 0.0001: "'lock_timeout', '1'", 5.0: "'lock_timeout', '5000'"}[wait]
        assert expected in sql
        assert ("lock_timeout" in sql) is (wait is not None)
        assert "FOR NO KEY UPDATE OF t" in sql
    elif connection.vendor == "mysql":
        assert sql.endswith({None: "FOR UPDATE", 0.0001: "WAIT 1", 5.0: "WAIT 5"}[wait])


@pytest.mark.django_db(transaction=True)
def test_a_row_is_waited_for_as_long_as_it_takes_where_no_time_is_set(settings: Any) -> None:
    settings.CONCORD = {"LOCK_TIMEOUT": None}
    item = Item.objects.create()

    def second() -> bool:
        with rows.enter(Item, item.pk, using="default") as entry:
            return entry.found

    with rows.enter(Item, item.pk, using="default"):
        call = Call(second)
        others_wait()
    assert call.result()


# --------------------------------------------------------------------- what a flush takes


@pytest.mark.sqlite
def test_the_log_row_comes_back_after_a_flush() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite asks it who writes")
    item = Item.objects.create()
    Log.objects.all().delete()
    with rows.enter(Item, item.pk, using="default", actor=rows.Actor("7")):
        item.save()

    assert Log.objects.get().epoch
    assert Change.objects.filter(op="U", pk_text=str(item.pk)).values_list("actor", flat=True).get() == "7"


# ------------------------------------------------------------------------- another database


def _connected(self: Any) -> None:
    if self.connection is None:
        with self.wrap_database_errors:
            self.connect()


@pytest.fixture
def strange(tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A second database under an alias of its own, empty."""
    alias = "other"
    # Django's test cases let no alias connect that was not there when they began.
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", _connected)
    settings = {
        **connections[DEFAULT_DB_ALIAS].settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "other.sqlite3"),
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL;"},
    }
    connections.settings[alias] = settings
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections.settings[alias]
        delattr(connections._connections, alias)  # type: ignore[attr-defined]


@pytest.fixture
def other(strange: str) -> str:
    """A second database with the tables of the project."""
    call_command("migrate", database=strange, verbosity=0)
    return strange


def test_each_database_has_rows_locks_and_names_of_its_own(other: str) -> None:
    note, twin = Note.objects.create(pk=1, text="here"), Note(pk=1, text="there")
    twin.save(using=other)
    locks.freeze(note)

    twin.save()
    twin.save(using=other)
    assert twin.version == Note.objects.using(other).get().version
    assert Lock.objects.using(other).count() == 0
    with pytest.raises(ObjectLocked):
        note.save()
    with pytest.raises(ObjectLocked):
        twin.save(using="default")

    with rows.enter(Note, 1, using=other, actor=rows.Actor("3")) as entry:
        assert rows.entered(Note, 1, "default") is None
        entry.version = twin.version
        Note.objects.update(text="elsewhere")
        assert entry.version == twin.version
        Note.objects.using(other).update(text="here")
        assert entry.version is None
        with rows.enter(Item, Item.objects.create().pk, using="default", actor=rows.Actor("4")):
            Item.objects.get().save()
        twin.save(using=other)
    changes = Change.objects.using(other).filter(op="U", model="app.Note").order_by("id")
    assert [c.actor for c in changes][-2:] == ["3", "3"]

    frozen = locks.freeze(twin, using=other)
    with pytest.raises(ObjectLocked):
        twin.delete(using=other)
    assert locks.release_lock(twin).generation == frozen.generation
    twin.delete()
    assert not Note.objects.using(other).exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_recorded_goes_by_the_transaction_of_its_own_database(other: str) -> None:
    def recorded(using: str) -> list[str]:
        return list(Change.objects.using(using).filter(model="app.Note").values_list("pk", flat=True))

    with transaction.atomic(), transaction.atomic(using=other):
        Note(pk=1).save(using=other)
        transaction.set_rollback(True, using=other)
    assert (recorded("default"), recorded(other)) == ([], [])
    with transaction.atomic(using=other):
        with transaction.atomic():
            Note(pk=2).save(using=other)
            Note(pk=3).save()
            transaction.set_rollback(True)
        assert recorded("default") == []
    assert len(recorded(other)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_request_in_a_transaction_claims_every_database_that_has_one(other: str) -> None:
    with transaction.atomic(using=other):
        rows.claim_open_transactions()
        Note.objects.using(other).create()

        def second() -> None:
            with connections[other].cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 10")
            with transaction.atomic(using=other):
                rows.claim_open_transactions()

        with pytest.raises(Busy):
            Call(second).result()


@pytest.mark.django_db(transaction=True)
def test_a_database_without_our_tables_is_left_alone(strange: str) -> None:
    with transaction.atomic(using=strange), connections[strange].cursor() as cursor:
        rows.claim_open_transactions()
        cursor.execute("CREATE TABLE theirs (id integer)")
    with connections[strange].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM theirs")
