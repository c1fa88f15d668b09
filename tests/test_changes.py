"""The log on rows: positions, what comes after them, what changed since a version, pruning."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management.color import no_style
from django.db import connection, connections, models, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from drf_concord import changes, triggers
from drf_concord.models import Change as ChangeRow
from drf_concord.models import Log, Mark
from drf_concord.protocol.changes import Op, Position
from drf_concord.protocol.errors import PositionLost
from tests.app.models import Bare, Folder, Item, Keyed, Place, Restaurant, Tag, Texted, Watched
from tests.kinds.models import Badge, Orchard, Review, Root
from tests.settings import TEST_DB

pytestmark = pytest.mark.django_db(transaction=True)

USING = "default"
SECOND = 1_000_000  # microseconds
HOUR = 3600 * SECOND


def raw(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []


def after(position: Position, **options: Any) -> list[tuple[str, str]]:
    """Return what came after a position, as (key, op)."""
    _, found = changes.read_after(position, using=USING, **options)
    return [(change.pk, change.op.value) for change in found]


def lost(function: Callable[..., object], position: Position) -> str:
    """Return why a position is refused."""
    with pytest.raises(PositionLost) as caught:
        function(position, using=USING)
    return str(caught.value.members["reason"])


@pytest.fixture
def other() -> Iterator[Any]:
    """Another connection to the database."""
    found = connections[USING].copy()
    yield found
    found.close()


# ------------------------------------------------------------------------------ reading forward


def test_what_is_written_after_a_position_comes_once_and_in_order() -> None:
    Texted.objects.create(code="before")
    position = changes.position(USING)
    assert after(position) == []

    Texted.objects.create(code="a")
    Texted.objects.update(text="x")
    position, found = changes.read_after(position, using=USING)
    assert [(c.pk, c.op.value) for c in found[:1]] == [("a", "I")]
    assert sorted((c.pk, c.op.value) for c in found[1:]) == [("a", "U"), ("before", "U")]

    Texted.objects.get(code="a").delete()
    position, found = changes.read_after(position, using=USING)
    assert [(c.pk, c.op.value) for c in found] == [("a", "D")]
    position, found = changes.read_after(position, using=USING)
    assert found == []


def test_a_change_is_read_as_it_was_recorded() -> None:
    folder = Folder.objects.create()
    item = Item.objects.create(text="a", folder=folder)
    position, before = changes.position(USING), item.version
    item.folder = None
    item.save()
    change = changes.read_after(position, using=USING)[1][0]
    row = ChangeRow.objects.get(pk=change.id)
    assert (change.model, change.pk, change.op) == ("app.Item", str(item.pk), Op.UPDATE)
    assert (change.version, change.previous) == (item.version, before)
    assert change.columns == ("folder_id",)
    assert change.routes == {"folder_id": (folder.pk, None), "owner_id": (None, None)}
    assert (change.actor, change.at, change.nonce) == (None, row.at, row.nonce)


def test_a_position_survives_being_sent() -> None:
    Texted.objects.create(code="a")
    position = Position.decode(changes.position(USING).encode())
    Texted.objects.create(code="b")
    changes.check_position(position, using=USING)
    assert after(position) == [("b", "I")]


def test_a_position_names_the_last_change() -> None:
    Texted.objects.create(code="a")
    last = ChangeRow.objects.order_by("-id")[0]
    position = changes.position(USING)
    assert (position.last_id, position.last_nonce) == (last.id, last.nonce)
    Texted.objects.create(code="b")
    last = ChangeRow.objects.order_by("-id")[0]
    position, _ = changes.read_after(position, using=USING)
    assert (position.last_id, position.last_nonce) == (last.id, last.nonce)
    changes.check_position(position, using=USING)


def test_a_log_without_changes_has_a_position() -> None:
    ChangeRow.objects.all().delete()
    for _ in range(2):
        position = changes.position(USING)
        assert (position.last_id, position.last_nonce) == (0, 0)
        changes.check_position(position, using=USING)
        Texted.objects.create(code="a")
        assert after(position) == [("a", "I")]
        raw("DELETE FROM app_texted")
        raw("DELETE FROM concord_change")


def test_there_is_a_position_before_the_first_change_ever() -> None:
    raw("DELETE FROM concord_change")
    if TEST_DB == "sqlite":
        raw("DELETE FROM sqlite_sequence WHERE name = 'concord_change'")
    position = changes.position(USING)
    Texted.objects.create(code="a")
    assert after(position) == [("a", "I")]


def test_never_more_than_the_limit() -> None:
    position = changes.position(USING)
    Texted.objects.bulk_create([Texted(code=str(n)) for n in range(3)])
    assert len(after(position, limit=3)) == 3
    with pytest.raises(PositionLost) as caught:
        after(position, limit=2)
    assert caught.value.members["reason"] == "overflow"


@pytest.mark.postgresql
def test_a_transaction_that_commits_late_is_new_when_it_commits(other: Any) -> None:
    position = changes.position(USING)
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO app_texted (code, text) VALUES ('late', '')")
    Texted.objects.create(code="early")
    position, found = changes.read_after(position, using=USING)
    assert [c.pk for c in found] == ["early"]
    named = position.last_id
    other.commit()
    assert after(position) == [("late", "I")]
    position, _ = changes.read_after(position, using=USING)
    assert position.last_id == named  # the change with the highest id is still the last
    changes.check_position(position, using=USING)
    assert after(position) == []


# ------------------------------------------------------------------------ positions of another log


def test_another_epoch_is_noticed_by_every_reader() -> None:
    position = changes.position(USING)
    Log.objects.update(epoch=uuid.uuid4().hex)
    assert lost(changes.read_after, position) == "epoch"
    assert lost(changes.check_position, position) == "epoch"
    changes.check_position(changes.position(USING), using=USING)


def test_a_log_that_was_emptied_begins_a_new_epoch() -> None:
    position = changes.position(USING)
    Log.objects.all().delete()
    assert lost(changes.read_after, position) == "epoch"
    Log.objects.all().delete()
    fresh = changes.position(USING)
    assert fresh.epoch not in {"", position.epoch}
    changes.check_position(fresh, using=USING)


def test_the_epoch_is_read_before_the_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a write that passed unseen in between would be of an epoch in which all are seen."""
    head = changes._head

    def slow(*arguments: Any) -> Any:
        found = head(*arguments)
        Log.objects.update(epoch=uuid.uuid4().hex)  # what another test left may be any
        return found

    monkeypatch.setattr(changes, "_head", slow)
    position = changes.position(USING)
    monkeypatch.undo()
    assert lost(changes.read_after, position) == "epoch"


def test_a_change_that_is_not_the_one_that_was_seen() -> None:
    Texted.objects.create(code="a")
    position = changes.position(USING)
    assert lost(changes.check_position, replace(position, last_nonce=position.last_nonce ^ 1)) == "epoch"
    assert lost(changes.check_position, replace(position, last_id=position.last_id + 9)) == "expired"


@pytest.mark.sqlite
def test_a_file_that_was_copied_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Texted.objects.create(code="a")
    early = changes.position(USING)
    Texted.objects.create(code="b")
    path = str(tmp_path / "copy.sqlite3")
    copy = sqlite3.connect(path)
    connections[USING].connection.backup(copy)
    copy.close()
    Texted.objects.create(code="c")
    late = changes.position(USING)

    connection.close()
    with monkeypatch.context() as restored:
        restored.setitem(connection.settings_dict, "NAME", path)
        changes.check_position(early, using=USING)
        assert after(early) == [("b", "I")]
        assert lost(changes.check_position, late) == "expired"
        Texted.objects.create(code="d")  # has the number that "c" had in the lost file
        assert lost(changes.check_position, late) == "epoch"
        connection.close()
    changes.check_position(late, using=USING)


@pytest.mark.postgresql
def test_a_position_of_a_primary_that_is_not_one_any_more() -> None:
    position = changes.position(USING)
    other = replace(position, timeline="00000009")
    assert lost(changes.read_after, other) == "epoch"
    assert lost(changes.check_position, other) == "epoch"


@pytest.mark.alone
@pytest.mark.postgresql
def test_a_dump_that_was_restored_where_transactions_are_counted_anew() -> None:
    Texted.objects.create(code="a")
    position = changes.position(USING)
    ((xmax,),) = raw("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    for ahead in (1000, 3):
        foreign = replace(position, cursor=f"{xmax + ahead}:{xmax + ahead}:")
        assert lost(changes.check_position, foreign) == "epoch"
    for code in "bcdefg":  # of these the foreign position would take some for seen
        Texted.objects.create(code=code)
    assert lost(changes.check_position, foreign) == "epoch"
    changes.check_position(position, using=USING)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1;2", "5:4:", "1:2:3:4", "9" * 40, "1:9:9,8", "é"])
def test_a_cursor_that_is_none(cursor: str) -> None:
    position = replace(changes.position(USING), cursor=cursor)
    Mark.objects.create(at=1, cursor="5:5:" if TEST_DB == "postgresql" else "5", pruned=True)
    assert lost(changes.read_after, position) == "epoch"
    assert lost(changes.check_position, position) in {"epoch", "expired"}


@pytest.mark.postgresql
def test_a_standby_has_no_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "TIMELINE", "NULL::text")
    with pytest.raises(RuntimeError, match="standby"):
        changes.position(USING)


def test_a_database_without_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connections[USING]), "vendor", "mysql")
    with pytest.raises(RuntimeError, match="no log on mysql"):
        changes.position(USING)
    assert changes.prune(USING) == 0
    assert changes.changed_since(Item, 1, 1, 2, using=USING) is None


# -------------------------------------------------------------------------------------- pruning


def codes() -> list[str]:
    return list(ChangeRow.objects.order_by("id").values_list("pk_text", flat=True))


def test_what_was_visible_an_hour_ago_goes_but_for_the_last_of_it() -> None:
    begin = changes.position(USING)
    for code in "ab":
        Texted.objects.create(code=code)
    assert changes.prune(USING, now=HOUR) == 0
    Texted.objects.create(code="c")
    assert changes.prune(USING, now=2 * HOUR - 1) == 0
    assert codes() == ["a", "b", "c"]

    assert changes.prune(USING, now=2 * HOUR) == 1
    assert codes() == ["b", "c"]
    assert lost(changes.read_after, begin) == "expired"
    assert lost(changes.check_position, begin) == "expired"
    assert changes.prune(USING, now=2 * HOUR) == 0


def test_a_position_from_after_the_horizon_is_good_however_quiet_it_was() -> None:
    for code in "ab":
        Texted.objects.create(code=code)
    changes.prune(USING, now=HOUR)
    quiet = changes.position(USING)
    Texted.objects.create(code="c")
    assert changes.prune(USING, now=2 * HOUR) == 1
    changes.check_position(quiet, using=USING)
    assert after(quiet) == [("c", "I")]


@pytest.mark.postgresql
def test_the_early_rows_of_a_long_transaction_stay(other: Any) -> None:
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO app_texted (code, text) VALUES ('long', '')")
    Texted.objects.create(code="a")
    Texted.objects.create(code="b")
    changes.prune(USING, now=HOUR)
    position = changes.position(USING)
    assert changes.prune(USING, now=2 * HOUR) == 1
    other.commit()
    changes.check_position(position, using=USING)
    assert after(position) == [("long", "I")]
    assert changes.prune(USING, now=3 * HOUR) == 0
    assert changes.prune(USING, now=4 * HOUR) == 1
    assert codes() == ["b"]


def test_the_number_of_rows_is_limited_also_within_the_hour() -> None:
    with override_settings(CONCORD={"RETENTION_ROWS": 5}):
        for hour in range(1, 4):
            for step in range(4):
                Texted.objects.bulk_create([Texted(code=f"{hour}{step}{n}") for n in range(3)])
                changes.prune(USING, now=hour * HOUR + step * 100 * SECOND)
                assert ChangeRow.objects.count() <= 6
            early = changes.position(USING)
            assert codes()[-1] == f"{hour}32"
            changes.check_position(early, using=USING)


def test_marks_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MARKS", 5)
    for tick in range(50):
        changes.prune(USING, now=HOUR + tick * HOUR // 20)
    assert 3 < Mark.objects.count() <= 5 + 2
    assert Mark.objects.filter(pruned=True).count() == 1


def test_nothing_goes_without_a_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in "ab":
        Texted.objects.create(code=code)
    changes.prune(USING, now=HOUR)

    def broken(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(models.QuerySet, "update", broken)
    with pytest.raises(ZeroDivisionError):
        changes.prune(USING, now=2 * HOUR)
    assert codes() == ["a", "b"]


def test_pruning_goes_by_the_clock_of_the_database() -> None:
    changes.prune(USING)
    mark = Mark.objects.get()
    assert abs(mark.at - raw_now()) < 60 * SECOND


def test_pruning_goes_in_parts_behind_one_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.BATCH, TEST_DB, 3)
    begin = changes.position(USING)
    Texted.objects.bulk_create([Texted(code=code) for code in "abcdefgh"])
    assert changes.prune_some(USING, now=HOUR) == 0
    quiet = changes.position(USING)

    assert changes.prune_some(USING, now=2 * HOUR) == 3
    assert lost(changes.read_after, begin) == "expired"  # also what is still there is not to be had any more
    assert [changes.prune_some(USING, now=2 * HOUR) for _ in range(3)] == [3, 1, 0]
    assert codes() == ["h"]
    changes.check_position(quiet, using=USING)


def test_what_was_left_goes_although_no_other_mark_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(CONCORD={"RETENTION_ROWS": 5}):
        Texted.objects.bulk_create([Texted(code=code) for code in "abcdefgh"])
        with monkeypatch.context() as small:
            small.setitem(changes.BATCH, TEST_DB, 4)
            assert changes.prune_some(USING, now=HOUR) == 4
        assert changes.prune_some(USING, now=HOUR) == 3  # by now there are not too many
    assert codes() == ["h"]


@pytest.mark.postgresql
def test_sequences_that_are_set_back_give_no_id_twice() -> None:
    """As a test case with ``reset_sequences`` does it, while the log has what its last flush recorded."""
    Item.objects.create(text="a")
    found = connection.introspection.sequence_list()
    for statement in connection.ops.sequence_reset_by_name_sql(no_style(), found):
        raw(statement)
    Texted.objects.create(code="b")
    assert [row.model for row in ChangeRow.objects.order_by("id")] == ["app.Item", "app.Texted"]


def test_the_command_takes_as_many_parts_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.BATCH, TEST_DB, 3)
    Texted.objects.bulk_create([Texted(code=code) for code in "abcdefgh"])
    changes.prune(USING, now=HOUR)
    assert changes.prune(USING, now=2 * HOUR) == 7


def test_where_there_is_nothing_to_prune_nothing_is_locked() -> None:
    for code in "ab":
        Texted.objects.create(code=code)
    changes.prune(USING, now=HOUR)
    assert changes.prune(USING, now=2 * HOUR) == 1
    with CaptureQueriesContext(connection) as seen:
        assert changes.prune_some(USING, now=2 * HOUR + 1) == 0
    assert {query["sql"].split()[0] for query in seen} == {"SELECT"}
    assert not [query for query in seen if "FOR NO KEY UPDATE" in query["sql"]]


def test_who_does_not_wait_leaves_it_to_whom_has_the_log(other: Any) -> None:
    for code in "ab":
        Texted.objects.create(code=code)
    changes.prune(USING, now=HOUR)
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("UPDATE concord_log SET via = via")
    assert changes.prune_some(USING, now=2 * HOUR) == 0
    other.rollback()
    assert codes() == ["a", "b"]
    assert changes.prune_some(USING, now=2 * HOUR) == 1


@pytest.mark.sqlite
@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_nor_does_it_wait_to_begin(other: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections[USING], "transaction_mode", mode)
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("UPDATE concord_log SET via = via")
    assert changes.prune_some(USING, now=HOUR) == 0
    other.rollback()
    ((patience,),) = raw("PRAGMA busy_timeout")
    assert patience == 20_000


@pytest.mark.postgresql
def test_pruning_outlives_a_flush() -> None:
    Log.objects.all().delete()
    assert changes.prune_some(USING, now=HOUR) == 0
    changes.prune_some(USING, now=HOUR)
    assert Mark.objects.count() == 1


def raw_now() -> int:
    import time

    return time.time_ns() // 1000


# ------------------------------------------------------------------------------- since a version


def since(obj: Any, base: int, model: type[models.Model] | None = None) -> frozenset[str] | None:
    current = type(obj)._base_manager.values_list("version", flat=True).get(pk=obj.pk)
    return changes.changed_since(model or type(obj), obj.pk, base, current, using=USING)


def test_the_columns_that_changed_since_a_version() -> None:
    item = Item.objects.create(text="a")
    versions = [item.version]
    for column, value in (("text", "b"), ("count", 2), ("folder", Folder.objects.create()), ("text", "c")):
        setattr(item, column, value)
        item.save()
        versions.append(item.version)
    Item.objects.create(text="other").delete()
    assert [since(item, version) for version in versions] == [
        {"text", "count", "folder_id"},
        {"text", "count", "folder_id"},
        {"text", "folder_id"},
        {"text"},
        frozenset(),
    ]
    assert since(item, versions[0] - 1) is None  # nobody had that one
    assert since(item, versions[-1] + 1) is None


def test_names_of_fields_that_are_no_columns() -> None:
    folder = Folder.objects.create()
    item = Item.objects.create(text="a")
    bases = folder.version, item.version
    item.tags.add(Tag.objects.create(name="t"))
    assert since(item, bases[1]) == {"tags"}
    item.refresh_from_db()
    item.folder = folder
    item.save()
    assert since(folder, bases[0]) == {"items"}


def test_an_object_of_several_tables() -> None:
    place = Restaurant.objects.create(name="a")
    base = place.version
    raw("UPDATE app_restaurant SET stars = 3")
    assert since(place, base) == {"stars"}
    raw("UPDATE app_place SET name = 'b'")
    assert since(place, base) == {"stars", "name"}
    assert since(Place.objects.get(), base) == {"stars", "name"}

    orchard = Orchard.objects.create(name="a")
    base = orchard.version
    orchard.trees, orchard.fruit = 3, "plum"
    orchard.save()
    assert since(orchard, base) == {"trees", "fruit"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Keyed.objects.create(),
        lambda: Texted.objects.create(code='it\'s "one"'),
        lambda: Badge.objects.create(root=Root.objects.create()),
    ],
    ids=["uuid", "text", "key of another row"],
)
def test_keys_of_every_kind(make: Callable[[], Any]) -> None:
    obj = make()
    base = obj.version
    obj.text = "x"
    obj.save()
    assert since(obj, base) == {"text"}


def test_what_the_log_does_not_cover_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    item = Item.objects.create(text="a")
    base = item.version
    for text in "bc":
        item.text = text
        item.save()
    assert since(item, base) == {"text"}
    first = ChangeRow.objects.filter(op="U").order_by("id")[0]
    columns = first.columns

    ChangeRow.objects.filter(pk=first.pk).update(columns='["no_column_any_more"]')
    assert since(item, base) is None
    ChangeRow.objects.filter(pk=first.pk).update(columns=columns)
    assert since(item, base) == {"text"}

    monkeypatch.setattr(changes, "WINDOWS", (1,))
    assert since(item, base) is None
    monkeypatch.setattr(changes, "WINDOWS", (1, 2))
    assert since(item, base) == {"text"}
    monkeypatch.undo()

    first.delete()
    assert since(item, base) is None


def test_what_was_pruned_is_not_guessed() -> None:
    item = Item.objects.create(text="a")
    base = item.version
    for text in "bcd":
        item.text = text
        item.save()
    changes.prune(USING, now=HOUR)
    changes.prune(USING, now=2 * HOUR)
    assert since(item, base) is None


def test_a_row_that_was_deleted_meanwhile_is_another_one() -> None:
    one = Texted.objects.create(code="a")
    base = one.version
    one.delete()
    two = Texted.objects.create(code="a", text="x")
    assert since(two, base) is None


def test_models_without_a_version_have_no_history_of_versions() -> None:
    for model in (Bare, Watched, Review):
        assert changes.changed_since(model, 1, 1, 2, using=USING) is None


def test_writes_that_are_rolled_back_are_not_in_the_chain() -> None:
    item = Item.objects.create(text="a")
    base = item.version
    with transaction.atomic():
        raw("UPDATE app_item SET notes = 'x'")
        transaction.set_rollback(True)
    raw("UPDATE app_item SET text = 'x'")
    assert since(item, base) == {"text"}


def test_the_triggers_are_in_place() -> None:
    """Else these tests say nothing."""
    assert triggers.problems(USING) == []
