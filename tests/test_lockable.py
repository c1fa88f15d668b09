"""Objects that say themselves when they are locked: ``save()`` and ``delete()`` go by the row."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from drf_concord import ObjectLocked, asking, locks
from drf_concord.lockable import LockableMixin
from drf_concord.models import Lock
from tests.app.models import Folder, Item
from tests.kinds.models import Annual, Contract, Footnote, Locked, Paragraph, Post, Report, Undefined

pytestmark = pytest.mark.django_db


def sealed(**kwargs: Any) -> Report:
    return Report.objects.create(sealed=True, **kwargs)


def seal(report: Report, value: bool = True) -> None:
    """What another process did meanwhile."""
    Report.objects.filter(pk=report.pk).update(sealed=value)


# ------------------------------------------------------------------------------------- save()


def test_a_locked_object_is_not_saved() -> None:
    report = Report.objects.get(pk=sealed(title="old").pk)
    report.title = "new"
    with pytest.raises(ObjectLocked):
        report.save()
    assert Report.objects.get().title == "old"


def test_what_was_locked_meanwhile_is_not_saved_and_stays_locked() -> None:
    report = Report.objects.create(title="old")
    mine = Report.objects.get(pk=report.pk)
    seal(report)
    mine.title = "new"
    with pytest.raises(ObjectLocked):
        mine.save()
    report.refresh_from_db()
    assert (report.title, report.sealed) == ("old", True)


def test_what_was_unlocked_in_memory_is_saved_with_all_that_changed() -> None:
    report = Report.objects.get(pk=sealed(title="old").pk)
    report.set_locked(False)
    report.title = "new"
    report.save()
    report.refresh_from_db()
    assert (report.title, report.sealed) == ("new", False)


def test_what_was_locked_in_memory_is_saved_once() -> None:
    report = Report.objects.get(pk=Report.objects.create(title="old").pk)
    report.set_locked(True)
    report.title = "new"
    report.save()
    assert Report.objects.get().title == "new"
    report.title = "newer"
    with pytest.raises(ObjectLocked):
        report.save()
    report.set_locked(False)  # what was written counts as loaded
    report.save()
    assert Report.objects.get().title == "newer"


def test_unlocking_what_was_loaded_unlocked_does_not_take_anothers_lock() -> None:
    report = Report.objects.create()
    mine = Report.objects.get()
    seal(report)
    mine.set_locked(False)
    with pytest.raises(ObjectLocked):
        mine.save()
    assert Report.objects.get().sealed


def test_a_reloaded_object_is_as_it_was_reloaded() -> None:
    mine = Report.objects.get(pk=Report.objects.create().pk)
    seal(mine)
    mine.refresh_from_db()
    with pytest.raises(ObjectLocked):
        mine.save()
    mine.set_locked(False)
    mine.save()
    assert not Report.objects.get().sealed


def test_an_object_made_by_hand_does_not_replace_a_locked_row() -> None:
    report = sealed(title="old")
    with pytest.raises(ObjectLocked):
        Report(pk=report.pk, title="new").save()
    with pytest.raises(ObjectLocked):
        Report(pk=report.pk, title="new").save(force_update=True)
    Report(pk=report.pk + 1, title="new").save()
    assert set(Report.objects.values_list("title", flat=True)) == {"old", "new"}


def test_an_object_that_was_unlocked_does_not_replace_another_locked_row() -> None:
    one, other = sealed(), sealed(title="old")
    mine = Report.objects.get(pk=one.pk)
    mine.set_locked(False)
    mine.pk = other.pk
    with pytest.raises(ObjectLocked):
        mine.save()
    assert Report.objects.get(pk=other.pk).sealed


def test_an_object_of_which_a_part_was_saved_was_never_loaded() -> None:
    mine = Report(pk=Report.objects.create().pk, title="new")
    mine.save(update_fields=["title"])
    seal(mine)
    with pytest.raises(ObjectLocked):
        Report(pk=mine.pk).save()
    mine.sealed = False
    with pytest.raises(ObjectLocked):
        mine.save()


def test_an_object_may_be_created_locked_and_is_so_at_once() -> None:
    report = sealed()
    report.title = "new"
    with pytest.raises(ObjectLocked):
        report.save()


def test_a_part_that_is_saved_is_guarded_too() -> None:
    report = Report.objects.get(pk=sealed().pk)
    with pytest.raises(ObjectLocked):
        report.save(update_fields=["title"])


def test_a_part_that_leaves_the_row_locked_is_not_saved() -> None:
    report = Report.objects.get(pk=sealed(title="old").pk)
    report.set_locked(False)
    report.title = "new"
    with pytest.raises(ObjectLocked):
        report.save(update_fields=["title"])
    report.save(update_fields=(name for name in ("title", "sealed")))
    report.set_locked(True)
    report.save(update_fields=["sealed"])
    assert (Report.objects.get().title, Report.objects.get().sealed) == ("new", True)
    with pytest.raises(ObjectLocked):
        report.save()


def test_a_column_that_is_read_later_counts_as_it_was_read() -> None:
    pk = sealed().pk
    mine = Report.objects.only("title").get(pk=pk)
    mine.title = "new"
    with pytest.raises(ObjectLocked):
        mine.save()
    mine = Report.objects.only("title").get(pk=pk)
    assert mine.sealed
    mine.set_locked(False)
    mine.save()
    assert not Report.objects.get().sealed

    mine = Report.objects.only("title").get(pk=pk)
    assert not mine.sealed  # read here, unlocked
    seal(mine)
    mine.set_locked(False)
    with pytest.raises(ObjectLocked):
        mine.save()


def test_a_value_that_is_changed_in_place_was_loaded_all_the_same() -> None:
    pk = Report.objects.create(marks={"sealed": True}).pk
    mine = Report.objects.get(pk=pk)
    mine.marks["sealed"] = False
    mine.save()
    assert Report.objects.get().marks == {"sealed": False}

    mine = Report.objects.get(pk=pk)
    Report.objects.update(marks={"sealed": True})
    mine.marks["sealed"] = True
    mine.marks["sealed"] = False
    with pytest.raises(ObjectLocked):
        mine.save()


def test_a_refused_save_leaves_an_open_transaction_usable() -> None:
    mine = Report.objects.get(pk=sealed().pk)
    with transaction.atomic():
        with pytest.raises(ObjectLocked):
            mine.save()
        Report.objects.create(title="other")
    assert Report.objects.count() == 2


def test_a_child_table_is_guarded_by_its_parents_row() -> None:
    annual = Annual.objects.create(title="old", sealed=True)
    mine = Annual.objects.get()
    with pytest.raises(ObjectLocked):
        mine.save()
    with pytest.raises(ObjectLocked):
        Report.objects.get().delete()
    mine.set_locked(False)
    mine.save()
    assert not Annual.objects.get(pk=annual.pk).sealed

    report = sealed(title="other")
    with pytest.raises(ObjectLocked):  # it would replace the columns of a locked row
        Annual(report_ptr=report, title="new").save()


# ------------------------------------------------------------------------------------ delete()


def test_a_locked_object_is_not_deleted_whatever_memory_says() -> None:
    report = Report.objects.get(pk=sealed().pk)
    with pytest.raises(ObjectLocked):
        report.delete()
    report.set_locked(False)
    with pytest.raises(ObjectLocked):
        report.delete()
    assert Report.objects.exists()


def test_what_was_locked_meanwhile_is_not_deleted() -> None:
    mine = Report.objects.get(pk=Report.objects.create().pk)
    seal(mine)
    with pytest.raises(ObjectLocked):
        mine.delete()


def test_what_was_unlocked_meanwhile_is_deleted() -> None:
    mine = Report.objects.get(pk=sealed().pk)
    seal(mine, False)
    mine.delete()
    assert not Report.objects.exists()


def test_delete_returns_what_django_returns() -> None:
    report = Report.objects.create()
    Paragraph.objects.create(report=report)
    assert report.delete() == (2, {"kinds.Report": 1, "kinds.Paragraph": 1})


# ------------------------------------------------------------------------- locks that are derived


def test_a_child_is_locked_with_its_parent() -> None:
    paragraph = Paragraph.objects.create(report=Report.objects.create(), text="old")
    mine = Paragraph.objects.get()
    assert not mine.is_locked()  # its parent is in memory now, unlocked
    seal(paragraph.report)
    mine.text = "new"
    with pytest.raises(ObjectLocked):
        mine.save()
    with pytest.raises(ObjectLocked):
        mine.delete()
    seal(paragraph.report, False)
    mine.save()
    assert Paragraph.objects.get().text == "new"


def test_a_child_follows_a_parent_that_was_unlocked_in_memory() -> None:
    Paragraph.objects.create(report=sealed(), text="old")
    mine = Paragraph.objects.select_related("report").get()
    mine.report.set_locked(False)
    mine.text = "new"
    mine.save()
    assert Paragraph.objects.get().text == "new"


def test_a_child_that_is_given_to_another_parent_is_asked_by_the_one_it_has() -> None:
    Paragraph.objects.create(report=sealed())
    mine = Paragraph.objects.select_related("report").get()
    mine.report = Report.objects.create()
    mine.save()  # loaded locked, and not locked as it is now
    assert not Paragraph.objects.get().is_locked()

    other = sealed()
    mine = Paragraph.objects.get()
    mine.report = other
    mine.save()  # the row is not locked; who locks it this way may
    mine.text = "new"
    with pytest.raises(ObjectLocked):
        mine.save()


def test_a_lock_reaches_down_two_steps() -> None:
    paragraph = Paragraph.objects.create(report=Report.objects.create())
    footnote = Footnote.objects.create(paragraph=paragraph)
    footnote.save()
    seal(paragraph.report)
    with pytest.raises(ObjectLocked):
        footnote.save()


def test_the_rows_that_were_asked_are_known_the_furthest_first() -> None:
    report = Report.objects.create()
    paragraph = Paragraph.objects.create(report=report)
    row = Footnote.objects.get(pk=Footnote.objects.create(paragraph=paragraph).pk)
    assert asking.asked(row) == []
    row.is_locked()
    assert asking.asked(row) == [(Report, report.pk), (Paragraph, paragraph.pk)]


def test_what_a_view_reads_along_is_not_taken_for_asked() -> None:
    item = Item.objects.create(folder=Folder.objects.create())
    row = Item.objects.select_related("folder").get(pk=item.pk)
    assert asking.asked(row, asking.noted(row)) == []
    paragraph = Paragraph.objects.create(report=Report.objects.create())
    read = Paragraph.objects.select_related("report").get(pk=paragraph.pk)
    assert asking.asked(read, asking.noted(read)) == [(Report, paragraph.report_id)]


# -------------------------------------------------------------------------------- what it costs


def test_loading_asks_nothing() -> None:
    report = Report.objects.create()
    Paragraph.objects.bulk_create([Paragraph(report=report) for _ in range(50)])
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert len(Paragraph.objects.all()) == 50
    assert len(found) == 1


# -------------------------------------------------------------------------------- what is missing


def test_who_needs_an_undefined_rule_is_told() -> None:
    made = Undefined.objects.create(text="old")  # nobody needs it to create
    for ask in (made.is_locked, lambda: made.set_locked(True), made.save, made.delete):
        with pytest.raises(NotImplementedError, match=r"Define Undefined\.(is|set)_locked"):
            ask()


# ------------------------------------------------------------------------ with versions and Lock rows


def test_a_version_and_a_rule_go_together() -> None:
    contract = Contract.objects.create(text="old")
    before = contract.version
    contract.set_locked(True)
    contract.save()
    assert contract.version > before
    contract.text = "new"
    with pytest.raises(ObjectLocked):
        contract.save()
    contract.refresh_from_db()
    assert contract.text == "old"


def test_a_lock_that_was_taken_holds_beside_the_rule(django_user_model: Any) -> None:
    ada = django_user_model.objects.create(username="ada")
    report = Report.objects.create()
    with locks.hold(report, holder=ada):
        report.save()
        with locks.acting(None), pytest.raises(ObjectLocked):
            report.save()
    locks.freeze(report)
    with pytest.raises(ObjectLocked):
        report.delete()
    locks.release_lock(report)
    pk = report.pk
    report.delete()
    assert Lock.objects.get(object_pk=str(pk)).mode == ""


# --------------------------------------------------------------------- what views and the admin ask


class Closing(LockableMixin):
    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.closed)

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock


def test_the_mixin_asks_the_model() -> None:
    report = Report()
    LockableMixin().set_locked_status(report, True)
    assert LockableMixin().is_instance_locked(report)


def test_the_mixin_asks_the_lock_of_a_lockable_as_whoever_acts(django_user_model: Any) -> None:
    ada = django_user_model.objects.create(username="ada")
    note = Locked.objects.create()
    assert not LockableMixin().is_instance_locked(note)
    with locks.hold(note, holder=ada):
        assert not LockableMixin().is_instance_locked(note)
        with locks.acting(None):
            assert LockableMixin().is_instance_locked(note)


def test_the_mixin_may_be_defined_otherwise_and_says_what_is_missing() -> None:
    post = Post()
    Closing().set_locked_status(post, True)
    assert Closing().is_instance_locked(post)
    with pytest.raises(NotImplementedError, match=r"LockableMixin has no rule for locks of kinds\.Post"):
        LockableMixin().is_instance_locked(post)
    with pytest.raises(NotImplementedError, match="set_locked_status"):
        LockableMixin().set_locked_status(post, True)


# ---------------------------------------------------------------- what counts as loaded


def test_a_column_that_was_never_loaded_was_not_loaded_locked() -> None:
    report = Report.objects.create()
    mine = Report.objects.only("title").get()
    seal(report)
    mine.sealed = False
    with pytest.raises(ObjectLocked):
        mine.save()


def test_what_was_rolled_back_was_not_loaded() -> None:
    Report.objects.create()
    mine = Report.objects.get()
    with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012
        mine.sealed = True
        mine.save()
        raise KeyError
    seal(Report.objects.get())
    mine.sealed = False
    with pytest.raises(ObjectLocked):
        mine.save()  # it would take another one's lock away


def test_in_one_transaction_an_object_is_locked_and_unlocked() -> None:
    Report.objects.create()
    mine = Report.objects.get()
    with transaction.atomic():
        mine.sealed = True
        mine.save()
        with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012
            mine.sealed = False
            mine.save()
            raise KeyError
        assert Report.objects.get().sealed
        mine.save()
        mine.sealed = True
        mine.save()
        pickle.loads(pickle.dumps(mine))  # noqa: S301
        mine.sealed = False
        mine.save()
    assert not Report.objects.get().sealed
