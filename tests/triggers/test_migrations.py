"""Migrations go through with triggers in place, miss no write, and leave nothing of ours behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connections

from drf_concord import checks, triggers
from tests.settings import TEST_DB
from tests.triggers.lab import ALIAS, Lab
from tests.triggers.recorded import Log

SQLITE = TEST_DB == "sqlite"

MODELS = """
class Tag(models.Model):
    name = models.CharField(max_length=9)

class Shelf(Versioned):
    code = models.IntegerField(default=0)
    name = models.CharField(max_length=9, default="")

class Book(Versioned):
    touches = ["shelf"]
    title = models.CharField(max_length=9, default="")
    pages = models.IntegerField(default=0)
    shelf = models.ForeignKey(Shelf, null=True, related_name="books", on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag)

class Novel(Book):
    base = models.OneToOneField(Book, parent_link=True, on_delete=models.CASCADE)
    hero = models.CharField(max_length=9, default="")
"""


@dataclass(frozen=True)
class Step:
    """A change of the models, the operations that make it, and what is true afterwards.

    ``first`` are operations of a migration before it, and ``anew`` says where a new epoch begins: a write
    could have passed unseen.
    """

    old: str
    new: str
    operations: str
    write: str = "UPDATE shop_book SET title = 'z'"
    column: str | None = "title"
    label: str = "shop.Book"
    shelf: str = "shop.Shelf"
    books: str = "books"
    anew: tuple[str, ...] = ()
    first: str = ""


BOOK = MODELS[MODELS.index("class Book") :]
PAGES = "    pages = models.IntegerField(default=0)\n"
TITLE = '    title = models.CharField(max_length=9, default="")\n'
NAME = '    name = models.CharField(max_length=9, default="")\n'
TAGS = "    tags = models.ManyToManyField(Tag)\n"
BOTH = ("sqlite", "postgresql")
REBUILT = ("sqlite",)  # where a table is made anew, its triggers go with the old one

STEPS = {
    "add a field that may be null": Step(
        PAGES,
        PAGES + "    more = models.IntegerField(null=True)\n",
        'migrations.AddField("Book", "more", models.IntegerField(null=True))',
        write="UPDATE shop_book SET more = 1",
        column="more",
    ),
    "add a field with a default": Step(
        PAGES,
        PAGES + "    more = models.IntegerField(default=3)\n",
        'migrations.AddField("Book", "more", models.IntegerField(default=3))',
        write="UPDATE shop_book SET more = 1",
        column="more",
        anew=REBUILT,
    ),
    "remove a field": Step(PAGES, "", 'migrations.RemoveField("Book", "pages")'),
    "rename a field": Step(
        TITLE,
        TITLE.replace("title", "name"),
        'migrations.RenameField("Book", "title", "name")',
        write="UPDATE shop_book SET name = 'z'",
        column="name",
    ),
    "alter a type": Step(
        PAGES,
        '    pages = models.CharField(max_length=9, default="")\n',
        'migrations.AlterField("Book", "pages", models.CharField(max_length=9, default=""))',
        write="UPDATE shop_book SET pages = 'many'",
        column="pages",
        anew=REBUILT,
    ),
    "alter a length": Step(
        TITLE,
        TITLE.replace("9", "99"),
        'migrations.AlterField("Book", "title", models.CharField(max_length=99, default=""))',
        write=f"UPDATE shop_book SET title = '{'z' * 50}'",
        anew=REBUILT,
    ),
    "rename the model": Step(
        BOOK,
        BOOK.partition("class Novel")[0].replace("Book", "Tome"),
        'migrations.RenameModel("Book", "Tome")',
        first='migrations.DeleteModel("Novel")',  # Django cannot rename a model that has children
        write="UPDATE shop_tome SET title = 'z'",
        label="shop.Tome",
        anew=BOTH,  # a change recorded under the old name is not one of the new
    ),
    "rename the table": Step(
        TAGS,
        TAGS + "    class Meta:\n        db_table = 'other'\n",
        'migrations.AlterModelTable("Book", "other")',
        write="UPDATE other SET title = 'z'",
    ),
    "add an index": Step(
        TAGS,
        TAGS + "    class Meta:\n        indexes = [models.Index(fields=['title'], name='titles')]\n",
        'migrations.AddIndex("Book", models.Index(fields=["title"], name="titles"))',
    ),
    "add a field to what it touches": Step(
        NAME,
        NAME + "    more = models.IntegerField(default=3)\n",
        'migrations.AddField("Shelf", "more", models.IntegerField(default=3))',
        anew=REBUILT,
    ),
    "remove a field from what it touches": Step(NAME, "", 'migrations.RemoveField("Shelf", "name")'),
    "rename what it touches": Step(
        "Shelf", "Rack", 'migrations.RenameModel("Shelf", "Rack")', shelf="shop.Rack", anew=BOTH
    ),
    "rename the table of what it touches": Step(
        NAME,
        NAME + "    class Meta:\n        db_table = 'other'\n",
        'migrations.AlterModelTable("Shelf", "other")',
    ),
    "rename the field that touches": Step(
        BOOK,
        BOOK.replace("shelf", "place", 2),
        'migrations.RenameField("Book", "shelf", "place")',
        anew=REBUILT,
    ),
    "touch no more": Step('    touches = ["shelf"]\n', "", "", shelf=""),
    "add a many-to-many field": Step(
        TAGS,
        TAGS + '    more = models.ManyToManyField(Tag, related_name="+")\n',
        'migrations.AddField("Book", "more", models.ManyToManyField("shop.Tag", related_name="+"))',
        write="INSERT INTO shop_book_more (book_id, tag_id) VALUES (1, 1)",
        column="more",
        anew=BOTH,  # there is a new table
    ),
    "remove a many-to-many field": Step(TAGS, "", 'migrations.RemoveField("Book", "tags")'),
    "rename a many-to-many field": Step(
        TAGS,
        TAGS.replace("tags", "marks"),
        'migrations.RenameField("Book", "tags", "marks")',
        write="INSERT INTO shop_book_marks (book_id, tag_id) VALUES (1, 1)",
        column="marks",
        anew=BOTH,
    ),
    "delete a child model": Step(
        MODELS[MODELS.index("class Novel") :], "", 'migrations.DeleteModel("Novel")'
    ),
    "alter a column of a child": Step(
        'hero = models.CharField(max_length=9, default="")',
        "hero = models.IntegerField(default=0)",
        'migrations.RemoveField("Novel", "hero"),\n'
        'migrations.AddField("Novel", "hero", models.IntegerField(default=0))',
        write="UPDATE shop_novel SET hero = 7",
        column="hero",
        anew=REBUILT,
    ),
}


def start(lab: Lab) -> Any:
    """Migrate to the first models, and put a row into each table."""
    shop = lab.write(MODELS)
    lab.generate()
    lab.migrate()
    shelf = shop.Shelf.objects.create()
    shop.Tag.objects.create(name="tag")
    shop.Novel.objects.create(title="a", shelf=shelf)
    return shop


@pytest.mark.parametrize("name", STEPS)
def test_a_migration_goes_through_and_capture_works_afterwards(name: str, lab: Lab) -> None:
    start(lab)
    step = STEPS[name]
    assert step.old in MODELS
    lab.write(MODELS.replace(step.old, step.new))
    if step.first:
        lab.step(step.first)
        lab.migrate()
    lab.step(step.operations)
    epoch = lab.epoch()

    lab.migrate()

    assert triggers.problems(ALIAS) == []
    assert (lab.epoch() != epoch) == (TEST_DB in step.anew)
    assert lab.installed() == lab.wanted()
    log = Log(ALIAS)
    lab.sql(step.write)
    lab.sql(step.write.replace("INSERT INTO", "DELETE FROM").partition("(")[0])
    found = log.new()
    assert found[0].short == (step.label, "1", "U", (step.column,))
    assert {c.model for c in found} == {step.label, step.shelf} - {""}
    shelf = [c for c in found if c.model == step.shelf]
    assert {c.columns for c in shelf} <= {(step.books,)}
    own = [c for c in found if c.model == step.label]
    assert [c.previous for c in own[1:]] == [c.version for c in own[:-1]]
    assert all((c.version or 0) > (c.previous or 0) for c in found)


def test_there_and_back(lab: Lab) -> None:
    start(lab)
    first, log = lab.steps[0], Log(ALIAS)
    lab.step('migrations.AddField("Book", "more", models.IntegerField(null=True))')
    lab.write(MODELS.replace(PAGES, PAGES + "    more = models.IntegerField(null=True)\n"))
    lab.migrate()
    lab.write(MODELS)
    lab.migrate("shop", first)
    lab.sql("UPDATE shop_book SET title = 'z'")
    assert log.short()[-2:] == [("shop.Book", "1", "U", ("title",)), ("shop.Shelf", "1", "U", ("books",))]

    lab.write("")
    lab.migrate("shop", "zero")
    assert lab.installed() == lab.wanted()


def test_models_that_are_gone_leave_nothing(lab: Lab) -> None:
    before = lab.installed()
    start(lab)
    lab.write("")
    lab.step("\n".join(f'migrations.DeleteModel("{name}"),' for name in ("Novel", "Book", "Shelf", "Tag")))
    lab.migrate()
    assert lab.installed() == before


def test_a_version_is_added_to_a_model_with_rows(lab: Lab) -> None:
    plain = "class Book(models.Model):\n    title = models.CharField(max_length=9)\n"
    shop = lab.write(plain)
    lab.generate()
    lab.migrate()
    shop.Book.objects.bulk_create([shop.Book(title="a"), shop.Book(title="b")])
    shop = lab.write(plain.replace("models.Model", "Versioned"))
    lab.step('migrations.AddField("Book", "version", VersionField())')
    lab.migrate()
    log = Log(ALIAS)
    before = {book.pk: book.version for book in shop.Book.objects.all()}
    lab.sql("UPDATE shop_book SET title = 'z'")
    assert {int(c.pk): c.previous for c in log.new()} == before
    assert min(before.values()) > 10**15

    lab.write(plain)
    lab.step('migrations.RemoveField("Book", "version")')
    lab.migrate()
    lab.sql("UPDATE shop_book SET title = 'y'")
    assert log.new() == []


def test_a_migration_of_another_app_alone_changes_no_epoch_and_no_version(lab: Lab) -> None:
    shop = start(lab)
    epoch, versions = lab.epoch(), [shop.Book.objects.get().version, shop.Shelf.objects.get().version]
    lab.step('migrations.AlterModelOptions("Tag", {"verbose_name": "mark"})')
    lab.migrate()
    lab.migrate()
    assert lab.epoch() == epoch
    assert [shop.Book.objects.get().version, shop.Shelf.objects.get().version] == versions


def test_code_that_is_ahead_of_the_database_stops_no_write(lab: Lab) -> None:
    """As when one app of several is migrated, or one is migrated back."""
    start(lab)
    ahead = MODELS.replace(PAGES, PAGES + "    more = models.IntegerField(null=True)\n")
    ahead += "\nclass Page(Versioned):\n    touches = ['book']\n"
    ahead += "    book = models.ForeignKey(Book, on_delete=models.CASCADE)\n"
    epoch, log = lab.epoch(), Log(ALIAS)
    lab.write(ahead)
    lab.migrate("concord")
    triggers.install(ALIAS)
    assert triggers.problems(ALIAS) == []
    lab.sql("UPDATE shop_book SET title = 'x'")
    assert log.short() == [("shop.Book", "1", "U", ("title",)), ("shop.Shelf", "1", "U", ("books",))]
    assert lab.epoch() == epoch

    lab.step('migrations.AddField("Book", "more", models.IntegerField(null=True))')
    lab.migrate()
    assert lab.epoch() == epoch
    lab.sql("UPDATE shop_book SET more = 1")
    assert log.short()[0] == ("shop.Book", "1", "U", ("more",))

    lab.migrate("shop", lab.steps[0])
    lab.sql("UPDATE shop_book SET title = 'y'")
    assert log.short()[0] == ("shop.Book", "1", "U", ("title",))


# ------------------------------------------------------------------------------- writes meanwhile

WRITING = """
def write(apps, editor):
    Shelf, Book, Tag = (apps.get_model("shop", name) for name in ("Shelf", "Book", "Tag"))
    book = Book.objects.get(pk=1)
    book.title = "b"
    book.save()
    Book.objects.update(pages=7)
    book.tags.add(Tag.objects.get())
    new = Book.objects.create(title="c", shelf=Shelf.objects.create(name="s"))
    new.delete()


def write_more(apps, editor):
    Book, Novel = (apps.get_model("shop", name) for name in ("Book", "Novel"))
    Book.objects.update(name="d")
    Novel.objects.update(hero="Ada")
    Novel.objects.create(name="e").delete()
    with editor.connection.cursor() as cursor:
        cursor.execute("UPDATE shop_book SET version = 7")
"""
WRITTEN = """
migrations.RunPython(write),
migrations.AddField("Book", "more", models.IntegerField(null=True)),
migrations.RenameField("Book", "title", "name"),
migrations.RunPython(write_more),
"""


@pytest.mark.postgresql
def test_what_a_migration_writes_is_recorded(lab: Lab) -> None:
    shop = start(lab)
    epoch, log, before = lab.epoch(), Log(ALIAS), shop.Book.objects.get().version
    shop = lab.write(
        MODELS.replace(PAGES, PAGES + "    more = models.IntegerField(null=True)\n").replace("title", "name")
    )
    # each operation in a transaction of its own: PostgreSQL alters no table with pending checks of keys
    lab.step(WRITTEN, WRITING, atomic=False)
    lab.migrate()

    found = log.new()
    assert [c.short for c in found] == [
        ("shop.Book", "1", "U", ("title",)),
        ("shop.Shelf", "1", "U", ("books",)),
        ("shop.Book", "1", "U", ("pages",)),
        ("shop.Shelf", "1", "U", ("books",)),
        ("shop.Book", "1", "U", ("tags",)),
        ("shop.Shelf", "1", "U", ("books",)),
        ("shop.Shelf", "2", "I", None),
        ("shop.Book", "2", "I", None),
        ("shop.Shelf", "2", "U", ("books",)),
        ("shop.Book", "2", "D", None),
        ("shop.Shelf", "2", "U", ("books",)),
        ("shop.Book", "1", "U", ("name",)),
        ("shop.Shelf", "1", "U", ("books",)),
        ("shop.Book", "1", "U", ("hero",)),
        ("shop.Shelf", "1", "U", ("books",)),
        ("shop.Book", "3", "I", None),
        ("shop.Novel", "3", "I", None),
        ("shop.Book", "3", "U", ()),
        ("shop.Novel", "3", "D", None),
        ("shop.Book", "3", "U", ()),
        ("shop.Book", "3", "D", None),
        ("shop.Book", "1", "U", ()),
        ("shop.Shelf", "1", "U", ("books",)),
    ]
    chain = [c for c in found if (c.model, c.pk) == ("shop.Book", "1")]
    assert [c.previous for c in chain] == [before, *(c.version for c in chain[:-1])]
    assert chain[-1].version == shop.Book.objects.get().version
    assert [c.routes for c in found if c.pk == "2" and c.model == "shop.Book"] == [
        {"shelf_id": [None, 2]},
        {"shelf_id": [2, None]},
    ]
    gone = next(c for c in found if (c.model, c.op) == ("shop.Book", "D"))
    assert (gone.version or 0) > (gone.previous or 0)
    assert lab.epoch() == epoch


@pytest.mark.sqlite
def test_what_a_migration_writes_is_told_of(lab: Lab) -> None:
    """On SQLite a migration runs without triggers; its writes are told of, and give each row a new tag."""
    shop = start(lab)
    other = shop.Shelf.objects.create(name="other")
    epoch, log = lab.epoch(), Log(ALIAS)
    versions = [*shop.Book.objects.values_list("version"), *shop.Shelf.objects.values_list("version")]
    shop = lab.write(
        MODELS.replace(PAGES, PAGES + "    more = models.IntegerField(null=True)\n").replace("title", "name")
    )
    lab.step(WRITTEN, WRITING)
    lab.migrate()

    found = log.new()
    told = {"shop.Book", "shop.Shelf", "shop.Novel"}
    assert {c.short for c in found} == {(label, "", "T", None) for label in told}
    now = [*shop.Book.objects.values_list("version"), *shop.Shelf.objects.values_list("version")]
    assert all(a < b for a, b in zip(versions, now, strict=False))
    assert other.version < shop.Shelf.objects.get(pk=other.pk).version
    assert lab.epoch() == epoch
    lab.sql("UPDATE shop_book SET name = 'z' WHERE id = 1")
    assert log.new()[0].previous == now[0][0]


@pytest.mark.sqlite
@pytest.mark.parametrize("table", ["shop_shelf", "shop_book", "shop_book_tags", "shop_novel"])
def test_only_rows_that_a_write_may_have_reached_get_a_new_tag(table: str, lab: Lab) -> None:
    shop = start(lab)
    shop.Book.objects.get().tags.add(shop.Tag.objects.get())
    versions = shop.Book.objects.get().version, shop.Shelf.objects.get().version
    key = {"shop_novel": "base_id"}.get(table, "id")
    lab.step(f'migrations.RunSQL("UPDATE {table} SET {key} = {key}")')
    log = Log(ALIAS)
    lab.migrate()
    moved = shop.Book.objects.get().version > versions[0], shop.Shelf.objects.get().version > versions[1]
    assert moved == (table != "shop_shelf", True)
    told = {
        "shop_shelf": {"shop.Shelf"},
        "shop_novel": {"shop.Shelf", "shop.Book", "shop.Novel"},
    }
    assert {c.model for c in log.new()} == told.get(table, {"shop.Book", "shop.Shelf"})


CRASH = 'migrations.RunSQL("SELECT nothing_of_that_name")'
UNTOLD = {
    "the key": 'migrations.RenameField("Keyed", "code", "name")',
    "the version": 'migrations.RunSQL("ALTER TABLE shop_keyed RENAME version TO v")',
    "a column that touches": 'migrations.RunSQL("ALTER TABLE shop_keyed RENAME shelf_id TO s")',
    "a table that is touched": 'migrations.RunSQL("ALTER TABLE shop_shelf RENAME TO s")',
}


@pytest.mark.postgresql
@pytest.mark.parametrize("what", UNTOLD)
def test_a_write_that_cannot_be_told_begins_a_new_epoch(what: str, lab: Lab) -> None:
    shop = lab.write(
        """
class Shelf(Versioned):
    name = models.CharField(max_length=9, default="")

class Keyed(Versioned):
    touches = ["shelf"]
    code = models.CharField(max_length=9, primary_key=True)
    text = models.CharField(max_length=9, default="")
    shelf = models.ForeignKey(Shelf, null=True, on_delete=models.CASCADE)
"""
    )
    lab.generate()
    lab.migrate()
    shop.Keyed.objects.create(code="a", shelf=shop.Shelf.objects.create())
    epoch, write = lab.epoch(), "UPDATE shop_keyed SET text = 'x'"
    lab.vendor.suspend(connections[ALIAS])
    lab.sql(write)
    triggers.install(ALIAS)
    assert lab.epoch() == epoch

    lab.step(f"{UNTOLD[what]}, migrations.RunSQL({write!r}), {CRASH}", atomic=False)
    with pytest.raises(Exception, match="nothing_of_that_name"):
        lab.migrate()
    assert lab.epoch() != epoch


# ----------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "step by step"])
def test_a_migrate_that_crashes_is_reported_and_repaired_by_the_next(lab: Lab, atomic: bool) -> None:
    shop = start(lab)
    rename = 'migrations.RenameField("Book", "title", "name")'
    name = lab.step(f"{rename}, {CRASH}", atomic=atomic)
    epoch, log = lab.epoch(), Log(ALIAS)
    with pytest.raises(Exception, match="nothing_of_that_name"):
        lab.migrate()

    assert triggers.problems(ALIAS) != []
    found = checks.check_databases(databases=[ALIAS])
    assert {message.id for message in found} & {"concord.W006"}
    column = "title" if atomic else "name"
    lab.sql(f"UPDATE shop_book SET {column} = 'x'")
    told = [c.short for c in log.new() if c.model == "shop.Book"]
    assert told == [("shop.Book", "", "T", None) if SQLITE else ("shop.Book", "1", "U", (column,))]
    before = lab.sql("SELECT version FROM shop_book")[0][0]

    lab.write(MODELS.replace("title", "name"))
    lab.rewrite(name, rename if atomic else f"migrations.SeparateDatabaseAndState([], [{rename}])")
    lab.migrate()
    assert triggers.problems(ALIAS) == []
    assert lab.epoch() == epoch
    after = lab.sql("SELECT version FROM shop_book")[0][0]
    assert after > before if SQLITE else after == before
    log.new()
    lab.sql("UPDATE shop_book SET name = 'z'")
    assert log.short() == [("shop.Book", "1", "U", ("name",)), ("shop.Shelf", "1", "U", ("books",))]
    assert shop is not None


@pytest.mark.sqlite
def test_a_crash_so_long_ago_that_the_log_was_pruned(lab: Lab) -> None:
    shop = start(lab)
    epoch, before = lab.epoch(), shop.Book.objects.get().version
    lab.step(CRASH)
    with pytest.raises(Exception, match="nothing_of_that_name"):
        lab.migrate()
    lab.sql("DELETE FROM concord_change")
    lab.sql("INSERT INTO concord_mark (at, cursor, pruned) VALUES (1, '999', 1)")
    lab.rewrite(lab.steps[-1], "")
    lab.migrate()
    assert lab.epoch() != epoch
    assert shop.Book.objects.get().version > before


def test_the_log_can_be_migrated_away_and_back(lab: Lab) -> None:
    shop = start(lab)
    lab.migrate("concord", "zero")
    assert lab.installed() == set()
    lab.sql("UPDATE shop_book SET title = 'x'")
    assert triggers.problems(ALIAS) == []
    lab.migrate()
    assert triggers.problems(ALIAS) == []
    log = Log(ALIAS)
    shop.Book.objects.get().save()
    assert log.short()[0] == ("shop.Book", "1", "U", ())
