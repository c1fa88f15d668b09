"""Who prunes the log: one write in so many, after its commit and at nobody's expense."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from drf_concord import changes, pruning, rows, writes
from drf_concord.models import Change, Mark
from tests.app.models import Item, Texted
from tests.concurrency.threads import Call, gate
from tests.settings import TEST_DB

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite, pytest.mark.postgresql]

USING = "default"


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The lot that writes draw: ``drawn.lot`` is what they draw, ``drawn.among`` of how many they did."""
    found = SimpleNamespace(lot=0, among=[])

    def draw(among: int) -> int:
        found.among.append(among)
        lot: int = found.lot
        return lot

    monkeypatch.setattr(pruning, "random", SimpleNamespace(randrange=draw))
    monkeypatch.setattr(pruning, "_tended", Counter())
    monkeypatch.setattr(pruning, "_behind", set())
    monkeypatch.setattr(pruning, "_failing", set())
    return found


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="first")


def write(item: Item) -> None:
    def perform(obj: Any) -> None:
        obj.text = "second"
        obj.save()

    gate(item, perform)


def seen_by_others(item: Item) -> str:
    return Call(lambda: Item.objects.get(pk=item.pk).text).result()


def broken(*_: Any, **__: Any) -> int:
    raise ZeroDivisionError


def test_a_write_prunes_when_it_is_committed(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = []

    def prune_some(using: str) -> int:
        moments.append((using, connection.in_atomic_block, seen_by_others(item)))
        return 0

    monkeypatch.setattr(changes, "prune_some", prune_some)
    with transaction.atomic():
        write(item)
        assert moments == []
    assert moments == [(USING, False, "second")]


def test_creating_is_writing() -> None:
    writes.create(rows.NOBODY, model=Item, using=USING, perform=lambda: Item.objects.create(text="a"))
    assert Mark.objects.count() == 1


def test_one_write_in_a_thousand(item: Item, drawn: SimpleNamespace) -> None:
    drawn.lot = 999
    write(item)
    assert not Mark.objects.exists()
    assert drawn.among == [1000]
    drawn.lot = 0
    write(item)
    assert Mark.objects.count() == 1


def test_deciding_asks_no_database(drawn: SimpleNamespace, django_assert_num_queries: Any) -> None:
    with transaction.atomic(), django_assert_num_queries(0):
        pruning.after_write(USING)
        transaction.set_rollback(True)
    assert drawn.among == [1000]


def test_what_is_rolled_back_does_not_prune(item: Item) -> None:
    with transaction.atomic():
        write(item)
        transaction.set_rollback(True)
    assert not Mark.objects.exists()


def test_where_a_hub_prunes_no_write_does(item: Item) -> None:
    with pruning.tended(USING):
        with pruning.tended(USING):
            pass
        write(item)
        assert not Mark.objects.exists()
    write(item)
    assert Mark.objects.count() == 1


def test_never_in_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction.atomic():
        assert pruning.prune_quietly(USING) is False
        assert not Mark.objects.exists()
    transaction.set_autocommit(False)
    try:
        assert pruning.prune_quietly(USING) is False
        assert not Mark.objects.exists()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_a_failure_fails_no_write_and_is_told_once(
    item: Item, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as failing, caplog.at_level(logging.ERROR):
        failing.setattr(changes, "prune_some", broken)
        for _ in range(3):
            write(item)
    item.refresh_from_db()
    assert item.text == "second"
    assert [record.name for record in caplog.records] == ["drf_concord"]
    write(item)  # goes well
    with monkeypatch.context() as failing, caplog.at_level(logging.ERROR):
        failing.setattr(changes, "prune_some", broken)
        write(item)
    assert len(caplog.records) == 2


def test_the_next_write_goes_on_where_there_is_more(
    item: Item, monkeypatch: pytest.MonkeyPatch, drawn: SimpleNamespace
) -> None:
    monkeypatch.setitem(changes.BATCH, TEST_DB, 4)
    Texted.objects.bulk_create([Texted(code=str(n)) for n in range(9)])
    with override_settings(CONCORD={"RETENTION_ROWS": 1}):
        write(item)
        drawn.lot = 1  # nobody is drawn any more
        counts = [Change.objects.count()]
        for _ in range(4):
            write(item)
            counts.append(Change.objects.count())
    # 11 and 4 less; then each write adds one, two of them delete, and the last ones only add
    assert counts[0] == 7
    assert counts[1] == 4
    assert counts[-1] - counts[-2] == 1
    assert pruning._behind == set()


def test_whom_somebody_else_is_before_goes_on_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """While another one has the log, who would prune it neither waits nor fails."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("UPDATE concord_log SET via = via")
        assert Call(lambda: pruning.prune_quietly(USING)).result() is False
    assert not Mark.objects.exists()
    assert caplog.records == []
    assert pruning.prune_quietly(USING) is False
    assert Mark.objects.count() == 1
