"""What a project's models inherit: versions in every way to save, and locks that ``save()`` respects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F
from django.db.models.signals import post_save, pre_save
from django.utils.functional import SimpleLazyObject

from drf_concord import locks, rows
from drf_concord.models import Change, Lock, Log, Mark, VersionedQuerySet
from drf_concord.protocol.claims import Claim, Mode
from drf_concord.protocol.errors import LockLost, ObjectLocked
from tests.app.models import Folder, Item, Note, Place, Restaurant, Slugged
from tests.concurrency.threads import Call
from tests.kinds.models import (
    Area,
    Badge,
    Chained,
    Garden,
    Keyed,
    Locked,
    LockedFirst,
    Managed,
    Orchard,
    Root,
    Sheet,
    Texted,
    Yard,
)

HOUR = 3_600_000_000  # microseconds

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite, pytest.mark.postgresql, pytest.mark.mariadb]

ADA, GUIDO = (SimpleLazyObject(lambda pk=pk: type("User", (), {"pk": pk})()) for pk in (1, 2))


def stored(obj: Any) -> int:
    found: int = type(obj)._base_manager.values_list("version", flat=True).get(pk=obj.pk)
    return found


def ahead(obj: Any, by: int = HOUR) -> int:
    """Let a row have been written by a database whose clock was ahead."""
    future = rows.now("default") + by
    type(obj)._base_manager.filter(pk=obj.pk).update(version=future)
    return future


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="first")


# --------------------------------------------------------------------------- the version moves


def test_the_first_version_is_the_databases_clock() -> None:
    before = rows.now("default")
    item = Item.objects.create()
    after = rows.now("default")

    # the clock that SQLite's own default uses ticks in milliseconds
    assert before - 1000 <= item.version <= after
    assert item.version == stored(item) < 2**53


VERSIONED: dict[Any, Any] = {
    Item: dict,
    Place: lambda: {"name": "p"},
    Restaurant: lambda: {"name": "r"},
    Orchard: dict,
    Yard: dict,
    Badge: lambda: {"root": Root.objects.create()},
    Keyed: dict,
    Texted: lambda: {"code": "t"},
    LockedFirst: dict,
    Sheet: lambda: {"root": Root.objects.create()},
    Managed: dict,
    Chained: dict,
    Slugged: lambda: {"title": "A b"},
}


@pytest.mark.parametrize("model", VERSIONED)
def test_every_save_moves_it_and_leaves_it_in_memory(model: Any) -> None:
    obj = model._default_manager.create(**VERSIONED[model]())
    seen = [obj.version]
    for _ in range(3):
        obj.save()
        assert isinstance(obj.version, int)
        assert obj.version == stored(obj)
        seen.append(obj.version)

    assert sorted(set(seen)) == seen


WAYS: dict[str, Any] = {
    "save": lambda item: item.save(),
    "some fields": lambda item: item.save(update_fields=["text"]),
    "the version too": lambda item: item.save(update_fields=("text", "version")),
    "forced": lambda item: item.save(force_update=True),
    "alias": lambda item: item.save(using="default"),
    "new object": lambda item: Item(pk=item.pk, text="again").save(),
    "new object with a version": lambda item: Item(pk=item.pk, version=1, text="again").save(),
    "only": lambda item: Item.objects.only("text").get().save(),
    "defer": lambda item: Item.objects.defer("version").get().save(),
    "update": lambda item: Item.objects.filter(pk=item.pk).update(text="again"),
    "bulk_update": lambda item: Item.objects.bulk_update([item], ["text"]),
    "update_or_create": lambda item: Item.objects.update_or_create(pk=item.pk, defaults={"text": "x"}),
    "asave": lambda item: asynchronously(item.asave),
    "aupdate": lambda item: asynchronously(lambda: Item.objects.aupdate(text="again")),
}


def asynchronously(call: Callable[[], Awaitable[Any]]) -> Any:
    """Await something, and close the connection of the thread in which it wrote."""

    async def main() -> Any:
        try:
            return await call()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.django_db(transaction=True)
def test_no_way_to_write_moves_it_backwards(item: Item, way: str) -> None:
    future = ahead(item)
    stale = Item.objects.get()
    stale.version = item.version
    stale.text = "stale"
    WAYS[way](stale)

    assert stored(item) > future


def test_a_save_of_some_fields_writes_those_and_the_version(item: Item) -> None:
    Item.objects.filter(pk=item.pk).update(notes="by somebody")
    item.text, item.notes = "second", "forgotten"
    item.save(update_fields=["text"])

    assert item.version == stored(item)
    assert Item.objects.values_list("text", "notes").get() == ("second", "by somebody")


def test_a_save_of_no_fields_does_nothing(item: Item) -> None:
    before = item.version
    item.save(update_fields=[])

    assert (item.version, stored(item)) == (before, before)


def test_an_expression_is_saved_beside_it(item: Item) -> None:
    item.count = F("count") + 5  # type: ignore[assignment]
    item.save()

    assert item.version == stored(item)
    item.refresh_from_db()
    assert item.count == 5


def test_of_a_deferred_object_only_what_was_loaded_is_written(item: Item) -> None:
    part = Item.objects.only("text").get()
    Item.objects.update(notes="by somebody")
    part.text = "second"
    part.save()

    assert part.version == stored(item)
    assert "notes" not in part.__dict__
    assert Item.objects.values_list("text", "notes").get() == ("second", "by somebody")


def test_a_refreshed_object_has_the_rows_version(item: Item) -> None:
    Item.objects.update(text="second")
    item.refresh_from_db()

    assert (item.text, item.version) == ("second", stored(item))


def test_the_version_is_read_back_on_demand(item: Item) -> None:
    Item.objects.update(text="second")

    assert item.read_version() == item.version == stored(item)
    Item.objects.all().delete()
    assert item.read_version() is None


# ------------------------------------------------------------------------- what goes wrong


def test_a_save_that_fails_leaves_the_version_that_was_there(item: Item) -> None:
    before = item.version
    item.text = None  # type: ignore[assignment]
    with pytest.raises(IntegrityError), transaction.atomic():
        item.save()

    assert item.version == before


def test_a_save_that_a_signal_refuses_leaves_the_version_that_was_there(item: Item) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError

    for signal in (pre_save, post_save):
        before = item.version
        signal.connect(refuse, sender=Item)
        try:
            with pytest.raises(RuntimeError), transaction.atomic():
                item.save()
        finally:
            signal.disconnect(refuse, sender=Item)
        assert item.version == before
    fresh = Item.objects.defer("version").get()
    pre_save.connect(refuse, sender=Item)
    try:
        with pytest.raises(RuntimeError):
            fresh.save()
    finally:
        pre_save.disconnect(refuse, sender=Item)
    assert "version" not in fresh.__dict__


@pytest.mark.django_db(transaction=True)
def test_a_commit_that_fails_leaves_the_version_that_was_there() -> None:
    if connection.vendor == "mysql":
        pytest.skip("MariaDB checks foreign keys at once")
    item = Item.objects.create()
    before = item.version
    item.folder_id = 999
    with pytest.raises(IntegrityError):
        item.save()

    assert item.version == before == stored(item)


@pytest.mark.parametrize("model", [Item, Note, LockedFirst])
def test_a_refused_save_does_not_end_the_callers_transaction(model: Any) -> None:
    obj = model.objects.create()

    def refuse(**_: Any) -> None:
        raise ValueError("not this one")

    pre_save.connect(refuse, sender=model)
    try:
        with transaction.atomic():
            with pytest.raises(ValueError, match="not this one"):
                obj.save()
            assert model.objects.count() == 1
    finally:
        pre_save.disconnect(refuse, sender=model)


def test_an_insert_on_a_taken_key_fails(item: Item) -> None:
    copy = Item(pk=item.pk, text="copy")
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save(force_insert=True)

    assert stored(item) == item.version


# ------------------------------------------------------------------- objects that come again


@pytest.mark.parametrize("adding", [True, False])
def test_a_copy_has_a_version_of_its_own(item: Item, adding: bool) -> None:
    future = ahead(item)
    copy = Item.objects.get()
    copy.pk, copy._state.adding = None, adding
    copy.save()

    assert copy.pk != item.pk
    assert copy.version == stored(copy) < future


@pytest.mark.parametrize("again", ["save", "force_insert", "adding", "bulk_create", "create"])
def test_a_row_that_comes_again_repeats_no_version(item: Item, again: str) -> None:
    other = Item.objects.get()
    seen = {item.version}
    for _ in range(3):
        item.save()
        seen.add(item.version)
    Item.objects.all().delete()

    if again == "bulk_create":
        Item.objects.bulk_create([other])
    elif again == "create":
        Item.objects.create(pk=other.pk, text="again")
    else:
        other._state.adding = again == "adding"
        other.save(force_insert=again == "force_insert")
        assert other.version == stored(item)

    assert stored(item) > max(seen)


def test_bulk_create_over_rows_that_are_there_moves_their_versions(item: Item) -> None:
    future = ahead(item)
    fields: dict[str, Any] = {} if connection.vendor == "mysql" else {"unique_fields": ["id"]}
    Item.objects.bulk_create(
        [Item(pk=item.pk, text="again")], update_conflicts=True, update_fields=["text"], **fields
    )

    assert Item.objects.get().text == "again"
    if connection.vendor != "mysql":  # there the database's clock is all there is
        assert stored(item) > future
    assert stored(item) != item.version


# -------------------------------------------------------------------------- managers and tables


def test_a_managers_own_queryset_moves_it() -> None:
    busy, idle = Managed.busy.create(text="a"), Managed.busy.create(text="b", idle=True)
    Managed.busy.update(text="c")

    assert stored(busy) > busy.version
    assert stored(idle) == idle.version
    assert isinstance(Managed.busy.all(), VersionedQuerySet)


def test_a_version_may_be_given_to_an_update(item: Item) -> None:
    Item.objects.update(version=item.version + HOUR)

    assert stored(item) == item.version + HOUR


def test_an_update_of_an_inheriting_table_moves_the_version_in_the_parents() -> None:
    restaurant = Restaurant.objects.create(name="r")
    Restaurant.objects.update(stars=3)
    assert stored(restaurant) > restaurant.version
    restaurant.refresh_from_db()
    Restaurant.objects.update(name="s")
    assert stored(restaurant) > restaurant.version
    restaurant.refresh_from_db()
    Restaurant.objects.bulk_update([restaurant], ["stars", "name"])
    assert stored(restaurant) > restaurant.version


def test_what_is_computed_on_the_way_is_saved_with_some_fields_only() -> None:
    chained = Chained.objects.create(text=" a ")
    assert (chained.text, chained.stamp) == ("a", "stamped")
    chained.text = " b "
    chained.save(update_fields=["text"])

    assert Chained.objects.get().text == "b"
    assert chained.version == stored(chained)


# ----------------------------------------------------------------------------- Lockable

LOCKABLE: dict[Any, Any] = {
    Note: dict,
    LockedFirst: dict,
    Locked: dict,
    Area: dict,
    Orchard: dict,
    Yard: dict,
    Keyed: dict,
    Texted: lambda: {"code": "T"},
    Chained: dict,
    Sheet: lambda: {"root": Root.objects.create()},
}


@pytest.fixture(params=LOCKABLE)
def lockable(request: pytest.FixtureRequest) -> Any:
    return request.param.objects.create(**LOCKABLE[request.param]())


def take(obj: Any, by: Any, **claim: Any) -> str:
    """Lock an object for a user; return the hash of the token."""
    actor = locks.actor_for(by)
    with rows.enter(type(obj), obj.pk, using="default", actor=actor) as entry:
        _, _, token = locks.acquire(entry, Claim(holder=actor.holder, **claim))
    return locks.hash_token(token or "")


def writes_of(obj: Any) -> Iterator[Any]:
    yield obj.save
    yield lambda: obj.save(
        update_fields=[f.name for f in obj._meta.concrete_fields if not f.primary_key][-1:]
    )
    yield obj.delete


def test_without_a_lock_anybody_may_write(lockable: Any) -> None:
    for write in writes_of(lockable):
        write()

    assert not type(lockable).objects.exists()


def test_a_hold_lets_its_holder_write_and_nobody_else(lockable: Any) -> None:
    take(lockable, ADA)
    before = getattr(lockable, "version", None)
    for write in writes_of(lockable):
        with pytest.raises(ObjectLocked) as caught:
            write()
        assert caught.value.retry_after == pytest.approx(30, abs=20)
        with locks.acting(GUIDO), pytest.raises(ObjectLocked):
            write()
        assert getattr(lockable, "version", None) == before

    with locks.acting(ADA):
        for write in writes_of(lockable):
            write()
    assert not type(lockable).objects.exists()


def test_a_freeze_lets_nobody_write(lockable: Any) -> None:
    locks.freeze(lockable, by=ADA)
    for write in writes_of(lockable):
        for user in (ADA, GUIDO, None):
            with locks.acting(user), pytest.raises(ObjectLocked) as caught:
                write()
            assert caught.value.retry_after is None

    locks.release_lock(lockable, by=GUIDO)
    lockable.save()


def test_a_lock_on_deleting_lets_everybody_update(lockable: Any) -> None:
    locks.freeze(lockable, scope="delete")
    lockable.save()
    with pytest.raises(ObjectLocked):
        lockable.delete()


def test_a_lock_that_is_over_stops_nobody(lockable: Any) -> None:
    take(lockable, ADA)
    Lock.objects.update(expires_at=rows.now("default"))
    lockable.save()
    lockable.delete()


@pytest.mark.parametrize("way", ["save", "delete"])
def test_a_refusal_can_be_caught_within_a_transaction(lockable: Any, way: str) -> None:
    locks.freeze(lockable)
    with transaction.atomic():
        with pytest.raises(ObjectLocked):
            getattr(lockable, way)()
        assert type(lockable).objects.count() == 1


def test_deleting_ends_the_lock_and_keeps_its_generation(lockable: Any) -> None:
    pk = lockable.pk
    take(lockable, ADA)
    with locks.acting(ADA):
        lockable.delete()
    lock = Lock.objects.get()

    assert (lock.mode, lock.holder, lock.token_hash, lock.expires_at) == ("", None, None, None)
    assert lock.generation == 1
    lockable.pk = pk
    lockable.save(force_insert=True) if not lockable._meta.parents else lockable.save()
    take(lockable, GUIDO)
    assert Lock.objects.get().generation == 2


def test_of_a_parent_the_lock_counts_for_the_child_and_of_the_child_for_the_parent() -> None:
    orchard = Orchard.objects.create(name="o")
    seen_as: list[Any] = [orchard, *(m.objects.get() for m in (Area, Garden, Yard))]
    for locked in seen_as:
        locks.freeze(locked)
        for other in seen_as:
            with pytest.raises(ObjectLocked):
                other.save()
        locks.release_lock(locked)


OVERWRITING: dict[str, Any] = {
    "itself": lambda area: Area(pk=area.pk, name="x").save(),
    "update_or_create": lambda area: Area.objects.update_or_create(pk=area.pk, defaults={"name": "x"}),
    "child": lambda area: Garden(area_ptr=area, name="x").save(),
    "inserted child": lambda area: Garden(area_ptr=area, name="x").save(force_insert=True),
    "child by the parent's key": lambda area: Garden(id=area.pk, name="x").save(),
    "created child": lambda area: Garden.objects.create(area_ptr_id=area.pk, name="x"),
    "proxy of a child": lambda area: Yard(id=area.pk, name="x").save(),
}


@pytest.mark.parametrize("way", OVERWRITING)
def test_a_locked_row_is_not_replaced_by_a_new_object_of_its_key(way: str) -> None:
    area = Area.objects.create(name="kept")
    locks.freeze(area)
    with pytest.raises(ObjectLocked):
        OVERWRITING[way](area)

    assert Area.objects.get().name == "kept"
    locks.release_lock(area)
    OVERWRITING[way](area)
    assert Area.objects.get().name == "x"


def test_a_text_key_is_refused_when_it_is_locked_and_a_uuid_when_it_is_taken() -> None:
    texted, keyed = Texted.objects.create(code="t"), Keyed.objects.create()
    locks.freeze(texted)
    locks.freeze(keyed)
    with pytest.raises(ObjectLocked):
        Texted(code="t").save()
    with pytest.raises(IntegrityError), transaction.atomic():
        Texted.objects.create(code="t")
    with pytest.raises(IntegrityError), transaction.atomic():
        Keyed(pk=keyed.pk).save()
    Texted(code="u").save()
    assert (Texted.objects.count(), Keyed.objects.count()) == (2, 1)


def test_a_copy_of_a_locked_object_is_free() -> None:
    note = Note.objects.create(text="kept")
    locks.freeze(note)
    note.pk = None
    note.save()

    assert Note.objects.count() == 2
    note.save()


def test_an_object_that_was_not_saved_cannot_be_deleted() -> None:
    for unsaved in (Note(), Sheet(), Item(folder=Folder.objects.create()), LockedFirst()):
        with pytest.raises(ValueError, match="can't be deleted"):
            unsaved.delete()


@pytest.mark.django_db(transaction=True)
def test_asynchronous_writes_are_asked_as_well() -> None:
    note, other = Note.objects.create(), Note.objects.create()
    locks.freeze(note)

    async def write() -> list[str]:
        refused = []
        for way in ("asave", "adelete"):
            try:
                await getattr(note, way)()
            except ObjectLocked:
                refused.append(way)
        await other.asave()
        await other.adelete()
        return refused

    assert asynchronously(write) == ["asave", "adelete"]
    assert Note.objects.get() == note


@pytest.mark.django_db(transaction=True)
def test_the_holder_is_known_in_asynchronous_code() -> None:
    note = Note.objects.create()
    take(note, ADA)

    async def write() -> None:
        with locks.acting(ADA):
            await note.asave()

    asynchronously(write)


@pytest.mark.django_db(transaction=True)
def test_another_thread_is_nobody_until_it_says_who() -> None:
    note = Note.objects.create()
    take(note, ADA)
    with locks.acting(ADA), pytest.raises(ObjectLocked):
        Call(note.save).result()


def test_a_robbed_holder_learns_of_it() -> None:
    note = Note.objects.create()
    token = take(note, ADA)
    name = rows.key(Note, note.pk)
    with rows.acting(rows.Actor("1", tokens={name: token})):
        note.save()
        with rows.enter(Note, note.pk, using="default", actor=rows.Actor("2")) as entry:
            locks.break_lock(entry)
        with pytest.raises(LockLost):
            note.save()
        with pytest.raises(LockLost):
            note.delete()
        Note.objects.create().save()


# ------------------------------------------------------------------------------- own tables


def test_the_tables_can_be_read_by_people() -> None:
    note = Note.objects.create()
    locks.freeze(note, reason="closed")
    lock = Lock.objects.get()

    assert str(lock) == f"app.Note {note.pk}"
    assert (lock.value().mode, lock.value().reason, lock.value().scope) == (Mode.FREEZE, "closed", ("write",))
    assert str(Change(op="U", model="app.Note", pk_text="1")) == "U app.Note 1"
    assert str(Log(epoch="e")) == "e"
    assert str(Mark(cursor="1:1:")) == "1:1:"


def test_the_bases_add_no_query_to_loading(django_assert_num_queries: Any) -> None:
    Item.objects.bulk_create([Item() for _ in range(20)])
    with django_assert_num_queries(1):
        assert len(list(Item.objects.all())) == 20
    with django_assert_num_queries(1):
        assert len(list(Item.objects.only("text"))) == 20


def test_saving_is_one_statement_more_than_djangos_at_the_most(
    item: Item, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(2):
        item.save()
