"""Which tag a request carries, and what is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import ClientError, ConflictError, ConnectionFailed, Item, NotFoundError
from drf_concord.client.operations import LAST_SEEN, Memory, Operations, lock_list
from tests.client.script import answer, play

pytestmark = pytest.mark.sqlite

LIST = "https://a.example/api/tasks/"


@pytest.fixture
def tasks() -> Operations:
    return Operations(LIST, lookup=None, memory=Memory())


def see(tasks: Operations, etag: str = '"1-0"', pk: int = 1) -> Item:
    item: Item = play(tasks.get(pk), answer(200, {"id": pk, "done": False}, etag=etag)).result
    return item


def sent(tasks: Operations, target: Any, if_match: Any = LAST_SEEN, **known: Any) -> Any:
    return play(tasks.write("PATCH", target, {"done": True}, if_match, **known), answer(200, {"id": 1})).sent[
        0
    ]


def test_an_object_comes_with_its_tag(tasks: Operations) -> None:
    item = see(tasks)

    assert item == {"id": 1, "done": False}
    assert (item.pk, item.etag) == (1, '"1-0"')


def test_what_did_not_change_is_not_sent_again(tasks: Operations) -> None:
    item = see(tasks)
    played = play(tasks.get(1), answer(304, etag='"1-0"'))

    assert played.result is item
    assert played.sent[0].headers == {"If-None-Match": '"1-0"'}


def test_a_write_says_what_it_is_based_on(tasks: Operations) -> None:
    see(tasks)
    request = sent(tasks, 1)

    assert (request.method, request.url) == ("PATCH", f"{LIST}1/")
    assert request.headers == {"If-Match": '"1-0"'}


def test_the_tag_of_the_answer_is_that_of_the_next_write(tasks: Operations) -> None:
    see(tasks)
    play(tasks.write("PATCH", 1, {}, LAST_SEEN), answer(200, {"id": 1}, etag='"2-0"'))

    assert sent(tasks, 1).headers == {"If-Match": '"2-0"'}


def test_an_object_is_written_as_it_was_seen_and_not_as_another_saw_it(tasks: Operations) -> None:
    mine = see(tasks)
    see(tasks, '"2-0"')

    assert sent(tasks, mine).headers == {"If-Match": '"1-0"'}


def test_a_conflict_does_not_make_the_next_write_a_blind_one(tasks: Operations) -> None:
    see(tasks)
    refused = answer(412, {"code": "version_mismatch", "current_etag": '"2-0"', "current": {"id": 1}})
    error = play(tasks.write("PATCH", 1, {}, LAST_SEEN), refused).error

    assert sent(tasks, 1).headers == {"If-Match": '"1-0"'}
    assert isinstance(error, ConflictError)
    assert sent(tasks, error.theirs).headers == {"If-Match": '"2-0"'}


@pytest.mark.parametrize(
    ("given", "headers"), [(None, {}), ("*", {"If-Match": "*"}), ('"x"', {"If-Match": '"x"'})]
)
def test_a_tag_of_ones_own_choice(tasks: Operations, given: Any, headers: Any) -> None:
    see(tasks)

    assert sent(tasks, 1, given).headers == headers


def test_an_object_without_a_tag_is_not_written_over(tasks: Operations) -> None:
    (row,) = play(tasks.list({}), answer(200, [{"id": 1}])).result
    see(tasks)

    with pytest.raises(ValueError, match="without a tag"):
        next(tasks.write("PATCH", row, {}, LAST_SEEN))
    assert sent(tasks, row, None).headers == {}


def test_what_was_never_seen_is_written_as_it_is(tasks: Operations) -> None:
    assert sent(tasks, 1).headers == {}


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_what_is_gone_is_forgotten(tasks: Operations, method: str) -> None:
    see(tasks)
    operation = tasks.get(1) if method == "GET" else tasks.write("PATCH", 1, {}, LAST_SEEN)

    assert isinstance(play(operation, answer(404)).error, NotFoundError)
    assert sent(tasks, 1).headers == {}


def test_what_was_deleted_is_forgotten(tasks: Operations) -> None:
    see(tasks)
    played = play(tasks.write("DELETE", 1, None, LAST_SEEN), answer(204))

    assert (played.result, played.sent[0].headers) == (None, {"If-Match": '"1-0"'})
    assert sent(tasks, 1).headers == {}


def test_what_was_created_can_be_written_at_once(tasks: Operations) -> None:
    item = play(tasks.create({"text": "x"}), answer(201, {"id": 7, "text": "x"}, etag='"1-0"')).result

    assert item.pk == 7
    assert sent(tasks, 7).headers == {"If-Match": '"1-0"'}


def test_the_memory_is_bounded(tasks: Operations) -> None:
    memory = Memory(2)
    few = Operations(LIST, lookup=None, memory=memory)
    for pk in (1, 2):
        see(few, pk=pk)
    memory.get(f"{LIST}1/")
    see(few, pk=3)

    assert memory.get(f"{LIST}2/") is None
    assert memory.get(f"{LIST}1/") is not None


def test_a_list_is_read_page_by_page(tasks: Operations) -> None:
    first = {
        "count": 2,
        "next": "http://inside:8000/api/tasks/?page=2",
        "results": [{"id": 1, "etag": '"1-0"'}],
    }
    played = play(
        tasks.list({"list": 4}), answer(200, first), answer(200, {"next": None, "results": [{"id": 2}]})
    )

    assert [request.url for request in played.sent] == [f"{LIST}?list=4", f"{LIST}?page=2"]
    assert [(item.pk, item.etag) for item in played.result] == [(1, '"1-0"'), (2, None)]


@pytest.mark.parametrize("body", [None, {"results": 3}, [1], "x"])
def test_what_is_no_list_is_said(tasks: Operations, body: Any) -> None:
    assert isinstance(play(tasks.list({}), answer(200, body)).error, ClientError)


def test_a_field_named_etag_may_be_something_else(tasks: Operations) -> None:
    (row,) = play(tasks.list({}), answer(200, [{"id": 1, "etag": "of a car"}])).result

    assert row.etag is None


def test_the_field_of_the_address_is_the_views_own() -> None:
    machines = Operations("https://a.example/m/", lookup="uuid", memory=Memory())
    (row,) = play(machines.list({}), answer(200, [{"id": 1, "uuid": "ab"}])).result
    live = Item({"id": 1, "uuid": "ab"}, pk=1, etag='"1-0"')

    assert row.pk == "ab"
    assert machines.address(live) == machines.address(row) == "https://a.example/m/ab/"


def test_an_object_without_a_key_has_no_address(tasks: Operations) -> None:
    with pytest.raises(ValueError, match="no key"):
        tasks.address(Item({}))


def test_a_lock_that_is_taken_is_asked_for_again_under_its_own_name(tasks: Operations) -> None:
    claim = {"ttl": 30, "id": "u"}
    played = play(tasks.take(1, claim), ConnectionFailed("?"), answer(200, {"state": "held"}, lock_token="t"))

    assert played.result == ("t", {"state": "held"})
    assert [(request.url, request.data) for request in played.sent] == [(f"{LIST}1/lock/", claim)] * 2


def test_the_other_requests_about_locks(tasks: Operations) -> None:
    state = answer(200, {"state": "free"})

    assert play(tasks.lock_state(1), state).result == {"state": "free"}
    assert play(tasks.release(1, "t"), answer(204)).sent[0].headers == {"Lock-Token": "t"}
    assert play(tasks.release(1, None), answer(204)).sent[0].headers == {}
    broken = play(tasks.break_lock(1, reason="fire", period=None), state).sent[0]
    assert (broken.url, broken.data) == (f"{LIST}1/lock/break/", {"reason": "fire"})
    listed = play(lock_list(f"{LIST}locks/", mine=True, model="a.B"), answer(200, [])).sent[0]
    assert listed.url == f"{LIST}locks/?mine=1&model=a.B"
    assert isinstance(play(lock_list(LIST, mine=False, model=None), answer(200, {})).error, ClientError)


def test_an_answer_that_is_no_object_is_no_item(tasks: Operations) -> None:
    assert isinstance(play(tasks.get(1), answer(200, [1])).error, ClientError)
