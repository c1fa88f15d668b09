"""A row that is read by its key alone, as a queryset would read it; and which querysets are just that."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.models import Prefetch, QuerySet, Value
from django.db.models.lookups import Exact
from django.db.models.sql import Query
from django.test.utils import isolate_apps, register_lookup
from django.utils.timezone import now

from drf_concord import keyed, rows
from drf_concord.versioned import VersionedQuerySet
from tests.app.models import Bare, Event, Folder, Item, Keyed, Note, Pair, Tag, Texted
from tests.kinds.models import Machine, Post, Report

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite, pytest.mark.postgresql]

MADE: dict[str, Any] = {
    "item": lambda: Item.objects.create(text="%s ? é", folder=Folder.objects.create(name="f")),
    "uuid": lambda: Keyed.objects.create(id=uuid.uuid4(), text="uuid"),
    "text": lambda: Texted.objects.create(code="a'b%s", text="text"),
    "dates": lambda: Event.objects.create(title="dates", start=now(), paper="a.txt"),
    "json": lambda: Report.objects.create(sealed=True, marks={"a": [1, None, "x"]}),
    "boolean": lambda: Post.objects.create(text="post", closed=True),
    "machine": lambda: Machine.objects.create(name="m"),
    "bare": lambda: Bare.objects.create(text="no version"),
    "user": lambda: get_user_model().objects.create(username="ada", is_staff=True, last_login=now()),
}


@pytest.fixture
def unwritten() -> Iterator[Any]:
    """The connection, before and after the test without any statements."""
    this = connections[DEFAULT_DB_ALIAS]
    this.__dict__.pop("_concord_selects", None)
    yield this
    this.__dict__.pop("_concord_selects", None)


def read(model: Any, pk: Any) -> Any:
    with rows.enter(model, pk, using=DEFAULT_DB_ALIAS, wait=False, read=True) as entry:
        return entry.instance


@pytest.mark.parametrize("name", MADE)
def test_it_is_the_object_that_a_queryset_finds(name: str) -> None:
    made = MADE[name]()
    model = type(made)
    expected = model._base_manager.get(pk=made.pk)
    for _ in range(2):  # once as the statement is written, and once as it was kept
        found = read(model, made.pk)
        assert type(found) is model
        names = [f.attname for f in model._meta.concrete_fields]
        assert [getattr(found, n) for n in names] == [getattr(expected, n) for n in names]
        assert [type(getattr(found, n)) for n in names] == [type(getattr(expected, n)) for n in names]
        assert (found._state.db, found._state.adding) == (DEFAULT_DB_ALIAS, False)
        assert not found.get_deferred_fields()


class Money:
    """What a project makes of a column."""

    def __init__(self, amount: str) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)


class MoneyField(models.CharField):  # type: ignore[type-arg]
    def from_db_value(self, value: Any, *args: Any) -> Money:
        return Money(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.amount if isinstance(value, Money) else value


def doubled() -> Any:
    return models.GeneratedField(
        expression=models.F("count") * 2, output_field=models.IntegerField(), db_persist=True
    )


SHAPES: dict[str, Any] = {
    "decimal key": (
        {"id": models.DecimalField(primary_key=True, max_digits=8, decimal_places=2)},
        Decimal("2.50"),
    ),
    "date key": (
        {"id": models.DateField(primary_key=True), "at": models.TimeField(default=time(1, 2))},
        date(2020, 1, 2),
    ),
    "time key": ({"id": models.DateTimeField(primary_key=True)}, datetime(2020, 1, 2, 3, tzinfo=UTC)),
    "duration key": ({"id": models.DurationField(primary_key=True)}, timedelta(1, 2)),
    "address key": ({"id": models.GenericIPAddressField(primary_key=True)}, "1.2.3.4"),
    "own key": ({"id": MoneyField(primary_key=True, max_length=9)}, Money("7")),
    "own column": (
        {"price": MoneyField(max_length=9, default=Money("7")), "rate": models.FloatField(default=1.5)},
        5,
    ),
    "names": ({"text": models.CharField(max_length=9, default="x", db_column="Select From")}, 5),
    "computed": ({"count": models.IntegerField(db_default=3), "double": doubled()}, 5),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", SHAPES)
def test_whatever_the_key_and_the_columns_are(name: str) -> None:
    fields, key = SHAPES[name]
    meta = type("Meta", (), {"app_label": "app", "db_table": "odd.table name"})
    with isolate_apps("tests.app"):
        columns = {n: copy.copy(field) for n, field in fields.items()}
        columns.setdefault("id", models.AutoField(primary_key=True, db_column="odd id"))
        model: Any = type("Odd", (models.Model,), {"__module__": __name__, "Meta": meta, **columns})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    try:
        model(id=key).save(force_insert=True)
        expected, found = model.objects.get(pk=key), read(model, key)
        names = [f.attname for f in model._meta.concrete_fields]
        assert [getattr(found, n) for n in names] == [getattr(expected, n) for n in names]
        assert [type(getattr(found, n)) for n in names] == [type(getattr(expected, n)) for n in names]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(model)


def test_each_key_has_its_row() -> None:
    one, two = Note.objects.create(text="one"), Note.objects.create(text="two")
    assert [read(Note, note.pk).text for note in (one, two, one)] == ["one", "two", "one"]


def test_it_is_loaded_by_the_models_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def from_db(cls: Any, db: str, names: Any, values: Any, **kwargs: Any) -> Any:
        loaded.append(db)
        return models.Model.from_db.__func__(cls, db, names, values, **kwargs)  # type: ignore[attr-defined]

    monkeypatch.setattr(Note, "from_db", classmethod(from_db))
    assert read(Note, Note.objects.create(text="one").pk).text == "one"
    assert loaded == [DEFAULT_DB_ALIAS]


def test_what_is_not_there_is_not_free() -> None:
    with pytest.raises(rows.NotFree):
        read(Note, 2**31 - 1)


def test_what_is_waited_for_is_not_read() -> None:
    note = Note.objects.create()
    with rows.enter(Note, note.pk, using=DEFAULT_DB_ALIAS, read=True) as entry:
        assert entry.instance is None


def test_what_the_orm_would_not_ask_has_no_statement(unwritten: Any) -> None:
    assert keyed.select(unwritten, Pair, 10**30) is None  # no column holds that number
    assert keyed.select(unwritten, Pair, 1) is not None  # but this one


def test_a_key_that_is_compared_in_its_own_way_has_no_statement(unwritten: Any) -> None:
    class Lower(Exact):
        """Asks for another key than the one that it is given."""

        def process_rhs(self, compiler: Any, connection: Any) -> Any:
            sql, given = super().process_rhs(compiler, connection)
            return sql, [value.lower() for value in given]

    field: Any = Texted._meta.pk
    with register_lookup(field, Lower, lookup_name="exact"):
        assert keyed.select(unwritten, Texted, "A") is None
    unwritten._concord_selects.clear()
    assert keyed.select(unwritten, Texted, "A") is not None


def test_a_column_that_is_read_by_an_expression(unwritten: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def percent(compiler: Any, sql: str, parameters: Any) -> Any:
        return f"'100 %%s ' || {sql}", parameters

    monkeypatch.setattr(Note._meta.get_field("text"), "select_format", percent)
    note = Note.objects.create(text="sure")
    assert [read(Note, note.pk).text, Note.objects.get(pk=note.pk).text] == ["100 %s sure"] * 2


# ------------------------------------------------------------------------------- what is everything


ALL: dict[str, Any] = {
    "all": lambda: Note.objects.all(),
    "ordered": lambda: Note.objects.order_by("pk"),
    "backwards": lambda: Note.objects.order_by("-text"),
    "reverse": lambda: Item.objects.order_by("text").reverse(),
    "bare": lambda: Bare.objects.all(),
    "base manager": lambda: Item._base_manager.all(),
    "users": lambda: get_user_model().objects.all(),
}


@pytest.mark.parametrize("name", ALL)
def test_all_rows_of_a_model(name: str) -> None:
    assert keyed.is_everything(ALL[name]())
    assert keyed.is_everything(ALL[name]().all())


NARROW: dict[str, Any] = {
    "filter": lambda q: q.filter(text="x"),
    "exclude": lambda q: q.exclude(text="x"),
    "none": lambda q: q.none(),
    "slice": lambda q: q[:3],
    "distinct": lambda q: q.distinct(),
    "using": lambda q: q.using("default"),
    "only": lambda q: q.only("text"),
    "defer": lambda q: q.defer("text"),
    "annotate": lambda q: q.annotate(one=Value(1)),
    "alias": lambda q: q.alias(one=Value(1)),
    "extra": lambda q: q.extra(select={"one": "1"}),
    "values": lambda q: q.values("text"),
    "values_list": lambda q: q.values_list("text"),
    "select_related": lambda q: q.select_related("folder"),
    "prefetch_related": lambda q: q.prefetch_related("tags"),
    "Prefetch": lambda q: q.prefetch_related(Prefetch("tags", queryset=Tag.objects.all())),
    "select_for_update": lambda q: q.select_for_update(),
    "union": lambda q: q.union(q),
    "dates": lambda q: q.dates("owner__last_login", "year"),
}


@pytest.mark.parametrize("name", NARROW)
def test_whatever_is_asked_beside_makes_it_something_else(name: str) -> None:
    assert keyed.is_everything(Item.objects.all())
    assert not keyed.is_everything(NARROW[name](Item.objects.all()))


def test_the_rows_of_a_related_object_are_not_all() -> None:
    assert not keyed.is_everything(Folder.objects.create(name="f").items.all())


def test_a_manager_that_leaves_rows_out() -> None:
    class Kept(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(text="kept")

    manager = Kept()
    manager.model = Note
    assert not keyed.is_everything(manager.all())


class Named(VersionedQuerySet[Any]):
    """Adds a word of the project's."""

    def late(self) -> Any:
        return self.filter(text="late")


class Soft(VersionedQuerySet[Any]):
    """Deletes its own way."""

    def delete(self) -> Any:
        return self.update(text="deleted")


class Hiding(VersionedQuerySet[Any]):
    """Finds its own way."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return super().filter(text="shown").get(*args, **kwargs)


class Fetching(Named):
    """Loads its own way, two classes up from what is asked."""

    def _fetch_all(self) -> None:
        raise AssertionError


class Above(Fetching):
    pass


@pytest.mark.parametrize(
    ("kind", "everything"), [(Named, True), (Soft, True), (Hiding, False), (Above, False)]
)
def test_a_class_of_querysets_that_reads_its_own_way(kind: Any, everything: bool) -> None:
    assert keyed.is_everything(kind(Note)) is everything


class Trees(Query):
    """Writes its own SQL."""


def test_a_query_of_an_own_class_makes_it_something_else() -> None:
    given = Note.objects.all()
    given.query.__class__ = Trees
    assert not keyed.is_everything(given)
    assert not keyed.is_everything(QuerySet(Note, query=Trees(Note)))


def test_what_this_does_not_know_makes_it_something_else() -> None:
    """A later Django may keep more in a queryset than this one."""
    of_queries, of_querysets = Note.objects.all(), Note.objects.all()
    of_queries.query.tomorrow = True  # type: ignore[attr-defined]
    of_querysets._tomorrow = True  # type: ignore[attr-defined]
    assert not keyed.is_everything(of_queries)
    assert not keyed.is_everything(of_querysets)
