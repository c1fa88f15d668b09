"""Every way to write a row moves its version forward and leaves exactly one change of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.db.models import F

from drf_concord import rows
from drf_concord.models import Lock
from drf_concord.rows import Actor
from tests.app.models import Bare, Folder, Item, Keyed, Place, Restaurant, Tag, Texted, Watched
from tests.triggers.recorded import Log, Recorded

pytestmark = pytest.mark.django_db

HOUR = 3_600_000_000


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="old", notes="other")


def stored(obj: Any) -> int:
    version: int = type(obj)._base_manager.values_list("version", flat=True).get(pk=obj.pk)
    return version


def raw(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)


def only(log: Log, label: str) -> list[Recorded]:
    return [change for change in log.new() if change.model == label]


# ------------------------------------------------------------------------------------- updates


def save(item: Item) -> None:
    item.text = "new"
    item.save()


def save_update_fields(item: Item) -> None:
    item.text = "new"
    item.save(update_fields=["text"])


def save_expression(item: Item) -> None:
    item.text = F("notes")
    item.save()


def save_base(item: Item) -> None:
    """Save as a fixture is loaded: with the version that it has."""
    item.text = "new"
    item.version = 7
    item.save_base(raw=True)


def bulk_update(item: Item) -> None:
    item.text = "new"
    Item.objects.bulk_update([item], ["text"])


def upsert(item: Item) -> None:
    again = Item(pk=item.pk, text="new")
    Item.objects.bulk_create([again], update_conflicts=True, update_fields=["text"], unique_fields=["id"])


UPDATES: dict[str, Callable[[Item], object]] = {
    "save": save,
    "save(update_fields)": save_update_fields,
    "save with an expression": save_expression,
    "save_base(raw)": save_base,
    "update": lambda item: Item.objects.filter(pk=item.pk).update(text="new"),
    "update with an expression": lambda item: Item.objects.filter(pk=item.pk).update(text=F("notes")),
    "update past our queryset": lambda item: Item._base_manager.filter(pk=item.pk).update(text="new"),
    "bulk_update": bulk_update,
    "bulk_create(update_conflicts)": upsert,
    "update_or_create": lambda item: Item.objects.update_or_create(pk=item.pk, defaults={"text": "new"}),
    "raw": lambda item: raw("UPDATE app_item SET text = 'new' WHERE id = %s", item.pk),
    "raw, backwards": lambda item: raw(
        "UPDATE app_item SET text = 'new', version = 7 WHERE id = %s", item.pk
    ),
}


@pytest.mark.parametrize("ahead", [0, HOUR], ids=["now", "an hour ahead"])
@pytest.mark.parametrize("way", UPDATES)
def test_an_update_moves_the_version_and_is_recorded_once(way: str, ahead: int, item: Item) -> None:
    before = stored(item) + ahead
    if ahead:
        raw("UPDATE app_item SET version = %s WHERE id = %s", before, item.pk)
    log = Log()

    UPDATES[way](item)

    assert only(log, "app.Item") == [
        Recorded(
            "app.Item",
            str(item.pk),
            "U",
            version=stored(item),
            previous=before,
            columns=("text",),
            routes={"folder_id": [None, None], "owner_id": [None, None]},
            actor=None,
        )
    ]
    assert stored(item) > before


def test_a_save_of_an_older_state_does_not_move_the_version_back(item: Item) -> None:
    stale = Item.objects.get(pk=item.pk)
    raw("UPDATE app_item SET version = version + %s WHERE id = %s", HOUR, item.pk)
    before = stored(item)

    stale.save()

    assert before < stored(item) == stale.version


def test_each_row_of_a_statement_is_recorded_once() -> None:
    items = Item.objects.bulk_create([Item(text=str(n)) for n in range(5)])
    log = Log()

    Item.objects.update(count=F("count") + 1)
    Item.objects.bulk_update([Item(pk=i.pk, text="new") for i in items], ["text"])
    raw("UPDATE app_item SET notes = 'new'")

    found = log.new()
    assert sorted(change.short[1:] for change in found) == sorted(
        (str(i.pk), "U", (column,)) for i in items for column in ("count", "text", "notes")
    )
    for row in items:
        chain = [change for change in found if change.pk == str(row.pk)]
        assert [c.previous for c in chain[1:]] == [c.version for c in chain[:-1]]
        assert chain[-1].version == stored(row)


def test_an_update_that_changes_nothing_is_a_change_without_columns(item: Item) -> None:
    log = Log()
    item.save()
    assert log.short() == [("app.Item", str(item.pk), "U", ())]


def test_null_and_the_empty_text_differ(item: Item) -> None:
    User.objects.create(pk=5, username="ada")
    log = Log()
    for value in (5, 5, None, None):
        raw("UPDATE app_item SET owner_id = %s WHERE id = %s", value, item.pk)
    assert [change.columns for change in log.new()] == [("owner_id",), (), ("owner_id",), ()]


# ------------------------------------------------------------------------- inserts and deletes

INSERTS: dict[str, Callable[[], object]] = {
    "create": lambda: Item.objects.create(text="new"),
    "save": lambda: Item(text="new").save(),
    "save(force_insert)": lambda: Item(pk=99, text="new").save(force_insert=True),
    "save with a key": lambda: Item(pk=99, text="new").save(),
    "get_or_create": lambda: Item.objects.get_or_create(text="new"),
    "update_or_create": lambda: Item.objects.update_or_create(text="new", defaults={"notes": ""}),
    "bulk_create": lambda: Item.objects.bulk_create([Item(text="new")]),
    "bulk_create(ignore_conflicts)": lambda: Item.objects.bulk_create(
        [Item(text="new")], ignore_conflicts=True
    ),
    "bulk_create(update_conflicts)": lambda: Item.objects.bulk_create(
        [Item(pk=99, text="new")], update_conflicts=True, update_fields=["text"], unique_fields=["id"]
    ),
    "raw": lambda: raw("INSERT INTO app_item (text, count, notes, hidden) VALUES ('new', 0, '', '')"),
}


@pytest.mark.parametrize("way", INSERTS)
def test_an_insert_is_recorded_once_with_a_version_of_now(way: str) -> None:
    folder = Folder.objects.create(name="f")
    log, begin = Log(), rows.now("default")

    INSERTS[way]()

    new = Item.objects.get(text="new")
    routes = {"folder_id": [None, None], "owner_id": [None, None]}
    found = log.new()
    assert found == [Recorded("app.Item", str(new.pk), "I", new.version, None, None, routes, None)]
    # SQLite's own clock, by which a raw insert goes, ticks in milliseconds
    assert begin - 1000 <= new.version <= rows.now("default")
    assert folder.version == stored(folder)


def test_ignored_conflicts_are_no_change() -> None:
    Texted.objects.create(code="a")
    log = Log()
    Texted.objects.bulk_create([Texted(code="a"), Texted(code="b")], ignore_conflicts=True)
    assert log.short() == [("app.Texted", "b", "I", None)]


DELETES: dict[str, Callable[[Item], object]] = {
    "delete": lambda item: item.delete(),
    "delete of a queryset": lambda item: Item.objects.filter(pk=item.pk).delete(),
    "_raw_delete": lambda item: Item.objects.filter(pk=item.pk)._raw_delete("default"),
    "raw": lambda item: raw("DELETE FROM app_item WHERE id = %s", item.pk),
}


@pytest.mark.parametrize("way", DELETES)
def test_a_delete_is_recorded_once_with_a_version_above_the_last(way: str) -> None:
    folder = Folder.objects.create(name="f")
    item = Item.objects.create(text="old", folder=folder)
    pk, last, log = str(item.pk), stored(item), Log()

    DELETES[way](item)

    (gone,) = only(log, "app.Item")
    assert gone.short == ("app.Item", pk, "D", None)
    assert gone.previous == last < (gone.version or 0)
    assert gone.routes == {"folder_id": [folder.pk, None], "owner_id": [None, None]}


def test_a_cascade_of_django_records_every_row_once() -> None:
    folder = Folder.objects.create(name="f")
    items = Item.objects.bulk_create([Item(folder=folder) for _ in range(3)])
    kept = Item.objects.create(text="kept")
    log, pk = Log(), folder.pk

    folder.delete()

    found = log.new()
    gone = {(change.model, change.pk) for change in found if change.op == "D"}
    assert gone == {("app.Folder", str(pk)), *(("app.Item", str(item.pk)) for item in items)}
    assert len([change for change in found if change.op == "D"]) == 4
    assert str(kept.pk) not in {change.pk for change in found if change.model == "app.Item"}


def test_another_primary_key_is_another_row() -> None:
    Texted.objects.create(code="a", text="x")
    before, log = stored(Texted(code="a")), Log()

    raw("UPDATE app_texted SET code = 'b', text = 'y' WHERE code = 'a'")

    gone, come = log.new()
    assert (gone.pk, gone.op, gone.previous) == ("a", "D", before)
    assert (come.pk, come.op, come.columns) == ("b", "I", ("text",))
    assert before < (come.version or 0) == stored(Texted(code="b"))


@pytest.mark.postgresql
def test_truncate_is_a_change_of_the_whole_table() -> None:
    Texted.objects.create(code="a")
    log = Log()
    raw("TRUNCATE app_texted")
    assert log.new() == [Recorded("app.Texted", "", "T", None, None, None, None, None)]


@pytest.mark.parametrize(
    "make", [lambda: Texted(code="a"), lambda: Keyed(pk=uuid.UUID(int=7))], ids=["text", "uuid"]
)
def test_a_key_that_is_used_again_never_repeats_or_lowers_a_version(make: Callable[[], Any]) -> None:
    log = Log()
    for _ in range(30):
        obj = make()
        obj.save(force_insert=True)
        obj.text = "again"
        obj.save()
        obj.delete()
    versions = [change.version or 0 for change in log.new()]
    assert len(versions) == 90
    assert all(a < b for a, b in pairwise(versions))


# ---------------------------------------------------------------------------- versions in memory


@pytest.mark.parametrize(
    "obj",
    [
        lambda: Item(text="x"),
        lambda: Item(text="x", folder=Folder.objects.create(name="f")),
        lambda: Keyed(text="x"),
        lambda: Texted(code="x"),
        lambda: Restaurant(name="x"),
        lambda: Restaurant(place_ptr=Place.objects.create(name="p"), name="x"),
    ],
    ids=["item", "in a folder", "uuid", "text", "child", "child of a parent that is there"],
)
def test_the_version_in_memory_is_the_one_in_the_database(obj: Callable[[], Any]) -> None:
    one = obj()
    one.save()
    assert type(one.version) is int
    assert one.version == stored(one)
    for arguments in ({}, {"update_fields": ["version"]}, {"force_update": True}):
        before = one.version
        one.save(**arguments)
        assert before < one.version == stored(one), arguments
    other = type(one).objects.get(pk=one.pk)
    one.save()
    other.save()
    assert one.version < other.version == stored(one)


def test_bulk_create_leaves_the_versions_in_memory() -> None:
    made = [
        *Item.objects.bulk_create([Item(text="a"), Item(text="b")]),
        *Keyed.objects.bulk_create([Keyed(text="a"), Keyed(text="b")]),
        *Texted.objects.bulk_create([Texted(code="a")]),
    ]
    assert [obj.version for obj in made] == [stored(obj) for obj in made]


def test_get_or_create_and_update_or_create_leave_the_version_in_memory() -> None:
    for _ in range(2):
        obj, _ = Texted.objects.get_or_create(code="a")
        assert obj.version == stored(obj)
        obj, _ = Texted.objects.update_or_create(code="a", defaults={"text": "x"})
        assert obj.version == stored(obj)


# ------------------------------------------------------------------------ rows that hang together


def test_many_to_many_moves_the_row_that_declares_it(item: Item) -> None:
    one, two = Tag.objects.create(name="1"), Tag.objects.create(name="2")
    changes: list[Callable[[], object]] = [
        lambda: item.tags.add(one, two),
        lambda: item.tags.remove(one),
        lambda: item.tags.set([one]),
        lambda: item.tags.clear(),
        lambda: one.item_set.add(item),
        lambda: raw("DELETE FROM app_item_tags"),
    ]
    for change in changes:
        before, log = stored(item), Log()
        change()
        found = log.new()
        assert {c.short for c in found} == {("app.Item", str(item.pk), "U", ("tags",))}
        assert before < stored(item) == found[-1].version
        assert found[0].previous == before
    log = Log()
    item.tags.add()
    item.tags.clear()
    assert log.new() == []


def test_a_row_moves_those_that_show_it() -> None:
    one, two = Folder.objects.create(name="1"), Folder.objects.create(name="2")
    item = Item(text="x", folder=one)
    for change, moved in (
        (item.save, [one]),
        (lambda: raw("UPDATE app_item SET text = 'y' WHERE id = %s", item.pk), [one]),
        (lambda: raw("UPDATE app_item SET folder_id = %s WHERE id = %s", two.pk, item.pk), [one, two]),
        (lambda: raw("UPDATE app_item SET folder_id = NULL WHERE id = %s", item.pk), [two]),
        (lambda: raw("UPDATE app_item SET text = 'z' WHERE id = %s", item.pk), []),
        (lambda: raw("UPDATE app_item SET folder_id = %s WHERE id = %s", two.pk, item.pk), [two]),
        (lambda: raw("DELETE FROM app_item"), [two]),
    ):
        before, log = {f.pk: stored(f) for f in (one, two)}, Log()
        change()
        found = only(log, "app.Folder")
        assert sorted(c.short[1:] for c in found) == [(str(f.pk), "U", ("items",)) for f in moved]
        for folder in (one, two):
            assert (stored(folder) > before[folder.pk]) == (folder in moved)


def test_the_name_of_what_moved_a_row_stays_with_that_change() -> None:
    folder = Folder.objects.create(name="f")
    Item.objects.create(folder=folder)
    log = Log()
    folder.save()
    assert log.short() == [("app.Folder", str(folder.pk), "U", ())]


@pytest.mark.postgresql
def test_a_statement_moves_a_row_that_shows_many_once() -> None:
    """Else each of a thousand rows would look through the versions of the parent that the others left."""
    folder = Folder.objects.create(name="f")
    for statement in (
        lambda: Item.objects.bulk_create([Item(folder=folder) for _ in range(20)]),
        lambda: Item.objects.filter(folder=folder).update(text="x"),
        lambda: raw("DELETE FROM app_item"),
    ):
        before, log = stored(folder), Log()
        statement()
        found = log.new()
        assert len(found) == 21
        assert [c.short[1:] for c in found if c.model == "app.Folder"] == [(str(folder.pk), "U", ("items",))]
        assert before < stored(folder)


@pytest.mark.postgresql
def test_truncate_moves_the_rows_that_showed_what_went(item: Item) -> None:
    folder, other = Folder.objects.create(name="f"), Folder.objects.create(name="g")
    item.folder = folder
    item.save()
    item.tags.add(Tag.objects.create(name="t"))
    versions, log = [stored(item), stored(folder), stored(other)], Log()
    raw("SET CONSTRAINTS ALL IMMEDIATE")

    raw("TRUNCATE app_item_tags")
    assert {c.short for c in log.new()} == {
        ("app.Item", str(item.pk), "U", ("tags",)),
        ("app.Folder", str(folder.pk), "U", ("items",)),
    }
    raw("TRUNCATE app_item, app_item_tags")
    found = log.short()
    assert found.count(("app.Folder", str(folder.pk), "U", ("items",))) == 1
    assert ("app.Item", "", "T", None) in found
    assert stored(folder) > versions[1]
    assert stored(other) == versions[2]


def test_the_tables_of_an_inheriting_model_have_one_version() -> None:
    place = Restaurant.objects.create(name="r", stars=1)
    pk, log = str(place.pk), Log()
    for change, columns in (
        (lambda: raw("UPDATE app_restaurant SET stars = 2"), {("stars",)}),
        (lambda: Restaurant.objects.filter(pk=place.pk).update(stars=3), {("stars",), ()}),
        (lambda: raw("UPDATE app_place SET name = 's'"), {("name",)}),
        (lambda: Place.objects.get(pk=place.pk).save(), {()}),
    ):
        before = stored(place)
        change()
        found = log.new()
        assert {c.short[:3] for c in found} == {("app.Place", pk, "U")}
        assert {c.columns for c in found} <= columns
        assert found[0].previous == before < stored(place) == found[-1].version
    raw("UPDATE app_restaurant SET stars = 3")
    assert log.new() == []
    raw("DELETE FROM app_restaurant")
    assert log.short() == [("app.Restaurant", pk, "D", None), ("app.Place", pk, "U", ())]


def test_deleting_a_child_is_a_delete_of_its_one_object() -> None:
    place = Restaurant.objects.create(name="r", stars=1)
    pk, log = str(place.pk), Log()
    place.delete()
    found = log.new()
    assert found[-1].short == ("app.Place", pk, "D", None)
    assert [c.model for c in found if c.op == "D"] == ["app.Restaurant", "app.Place"]


def test_of_a_row_that_is_a_part_it_is_recorded_that_it_comes_and_goes() -> None:
    """Else nobody could tell an object with that part from one without, once it is gone."""
    log, of_restaurants = Log(), "app.Restaurant"

    def told() -> list[tuple[str, str, int | None]]:
        return [(c.op, c.pk, c.version) for c in log.new() if c.model == of_restaurants]

    place = Restaurant.objects.create(name="r", stars=1)
    pk = str(place.pk)
    assert told() == [("I", pk, None)]
    Restaurant.objects.update(stars=2, name="s")
    assert told() == []
    other = Place.objects.create(name="p")
    raw("UPDATE app_restaurant SET place_ptr_id = %s", other.pk)
    assert told() == [("D", pk, None), ("I", str(other.pk), None)]
    place.delete()  # which deletes nothing any more of a restaurant
    Place.objects.create(name="q").delete()
    assert told() == []
    Restaurant.objects.get().delete(keep_parents=True)
    assert told() == [("D", str(other.pk), None)]


@pytest.mark.postgresql
def test_a_table_of_parts_that_is_emptied() -> None:
    place = Restaurant.objects.create(name="r")
    raw("SET CONSTRAINTS ALL IMMEDIATE")  # else the table has work to do at the end of the transaction
    log = Log()
    raw("TRUNCATE app_restaurant")
    assert [c.short[:3] for c in log.new()] == [
        ("app.Restaurant", "", "T"),
        ("app.Place", str(place.pk), "U"),
    ]


# ---------------------------------------------------------------------------------- what is seen


def test_models_without_a_version_are_recorded_where_that_was_asked_for() -> None:
    log = Log()
    watched = Watched.objects.create(text="a")
    Watched.objects.update(text="b")
    watched.delete()
    Bare.objects.create(text="a")
    found = log.new()
    assert [c.short[0::2] for c in found] == [("app.Watched", op) for op in "IUD"]
    assert [c.columns for c in found] == [None, ("text",), None]
    assert {c.version for c in found} | {c.previous for c in found} == {None}


def test_accounts_and_locks_are_recorded() -> None:
    log = Log()
    user = User.objects.create(username="ada")
    user.groups.add(Group.objects.create(name="g"))
    Lock.objects.create(model="app.Item", object_pk="1")
    found = log.new()
    assert [c.short[0::2] for c in found] == [
        ("auth.User", "I"),
        ("auth.Group", "I"),
        ("auth.User_groups", "I"),
        ("concord.Lock", "I"),
    ]
    assert (found[2].routes or {})["user_id"] == [None, user.pk]


def test_keys_are_text_as_a_query_has_them() -> None:
    log = Log()
    keyed = Keyed.objects.create()
    texted = Texted.objects.create(code="a ' \" \\ % é")
    pks = [str(f._meta.pk.get_db_prep_value(f.pk, connection)) for f in (keyed, texted)]
    assert [c.pk for c in log.new()] == pks


def test_a_change_says_who_wrote_in_the_gate(item: Item) -> None:
    log = Log()
    with rows.enter(Item, item.pk, using="default", actor=Actor("7")):
        item.save()
        with rows.enter(Item, item.pk, using="default", actor=Actor("8")):
            raw("UPDATE app_item SET text = 'a'")
        raw("UPDATE app_item SET text = 'b'")
    item.save()
    assert [c.actor for c in log.new()] == ["7", "8", "7", None]


def test_what_is_rolled_back_was_never_recorded(item: Item) -> None:
    log, before = Log(), stored(item)
    with transaction.atomic():
        item.save()
        transaction.set_rollback(True)
    assert (log.new(), stored(item)) == ([], before)

    with transaction.atomic():
        item.save()
        with transaction.atomic():
            raw("UPDATE app_item SET text = 'lost'")
            transaction.set_rollback(True)
        raw("UPDATE app_item SET notes = 'kept'")
    found = log.new()
    assert [c.columns for c in found] == [(), ("notes",)]
    assert found[-1].previous == found[-2].version
