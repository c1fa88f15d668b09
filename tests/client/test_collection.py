"""The copy of what is there: whole transactions, and no state older than one that was shown."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import collection
from drf_concord.client.collection import Collection
from drf_concord.client.frames import Changed, Row
from drf_concord.client.values import Change

pytestmark = pytest.mark.sqlite


def row(pk: int, version: int | None = 1, **fields: Any) -> Row:
    return Row(pk, fields, f'"{version}"', version)


def upd(pk: int, version: int | None, **fields: Any) -> Changed:
    return Changed("UPDATED", pk, f'"{version}"', version, instance=fields)


def gone(pk: int, version: int | None) -> Changed:
    return Changed("DELETED", pk, version=version, reason="deleted")


@pytest.fixture
def tasks() -> Collection:
    made = Collection()
    made.begin()
    made.load([row(1, a=1), row(2, a=2)], more=False)
    return made


def data(tasks: Collection) -> dict[Any, Any]:
    return {pk: dict(item) for pk, item in tasks.items.items()}


def test_nothing_is_there_before_the_snapshot_is_whole() -> None:
    tasks = Collection()
    tasks.begin()

    assert tasks.load([row(1)], more=True) == []
    assert (tasks.loaded, tasks.whole, tasks.items) == (False, False, {})
    assert [change.action for change in tasks.load([row(2)], more=False)] == ["CREATED", "CREATED"]
    assert (tasks.loaded, tasks.whole, list(tasks.items)) == (True, True, [1, 2])


def test_changes_before_the_snapshot_is_whole_wait_for_it() -> None:
    tasks = Collection()
    tasks.begin()
    tasks.load([row(1, 5, a=5)], more=True)

    assert tasks.change([upd(1, 4, a=4), upd(2, 9, a=9)], more=False) == []
    tasks.load([row(2, 8, a=8)], more=False)
    assert data(tasks) == {1: {"a": 5}, 2: {"a": 9}}


def test_a_grave_keeps_old_states_away(tasks: Collection) -> None:
    assert tasks.change([gone(1, 5)], more=False) == [Change("DELETED", 1, reason="deleted")]
    assert tasks.change([upd(1, 4, a=4)], more=False) == []
    assert 1 not in tasks.items
    assert tasks.change([upd(1, 5, a=5)], more=False)[0].action == "CREATED"


def test_a_grave_remembers_the_newest_state(tasks: Collection) -> None:
    tasks.change([upd(1, 7), gone(1, None), upd(1, 6)], more=False)

    assert 1 not in tasks.items


def test_graves_are_bounded(tasks: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "GRAVES", 1)
    tasks.change([gone(1, 5), gone(2, 5)], more=False)

    assert tasks.change([upd(2, 4)], more=False) == []
    assert [change.action for change in tasks.change([upd(1, 4)], more=False)] == ["CREATED"]


def test_a_snapshot_is_the_truth_also_about_graves(tasks: Collection) -> None:
    tasks.change([gone(1, 5)], more=False)
    tasks.begin()
    tasks.load([row(2)], more=False)

    assert [change.action for change in tasks.change([upd(1, 4)], more=False)] == ["CREATED"]


def test_what_is_told_twice_is_news_once(tasks: Collection) -> None:
    assert len(tasks.change([upd(1, 3, a=3)], more=False)) == 1
    assert tasks.change([upd(1, 3, a=3)], more=False) == []
    assert len(tasks.change([upd(1, 3, a=4)], more=False)) == 1


def test_what_did_not_come_to_its_end_is_dropped(tasks: Collection) -> None:
    tasks.change([upd(1, 3, a=3)], more=True)
    assert not tasks.whole
    tasks.interrupted()

    assert tasks.whole
    tasks.change([upd(2, 4, a=4)], more=False)
    assert data(tasks) == {1: {"a": 1}, 2: {"a": 4}}


def test_an_object_knows_what_writes_it_back(tasks: Collection) -> None:
    tasks.change([upd(1, 3, a=3)], more=False)
    item = tasks.items[1]

    assert (item.pk, item.etag, item.version) == (1, '"3"', 3)


def test_news_of_a_lock_is_told_and_changes_nothing(tasks: Collection) -> None:
    before = data(tasks)

    assert tasks.change([Changed("LOCKED", 1, lock={"state": "held"})], more=False) == [
        Change("LOCKED", 1, lock={"state": "held"})
    ]
    assert data(tasks) == before


def test_an_update_without_an_object_is_passed_over(tasks: Collection) -> None:
    assert tasks.change([Changed("UPDATED", 1, version=9)], more=False) == []
    assert tasks.items[1].version == 1
