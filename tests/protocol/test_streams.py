"""One event stream: what is told, in which order, and from where a client may resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drf_concord.protocol.changes import Position
from drf_concord.protocol.held import Held, Seal
from drf_concord.protocol.rendered import PAGE, Overflow, Rendered
from drf_concord.protocol.streams import Stream, event
from tests.eventstreams import parsed

SEAL = Seal(b"a key")
ONE, TWO, THREE = (Position("e", str(n), n) for n in (1, 2, 3))


def state(pk: Any, action: str = "UPDATED", version: int = 1, **more: Any) -> Rendered:
    named = f'"{pk}"' if isinstance(pk, str) else str(pk)
    return Rendered(action, named, f'{{"id":{named}}}', None, version, **more)


def gone(pk: int) -> Rendered:
    return state(pk, "DELETED", reason="left")


def taken(stream: Stream) -> Iterator[Any]:
    while not stream.over and (text := stream.take()) is not None:
        yield from parsed(text)


def begun(*pks: Any) -> Stream:
    stream = Stream(SEAL)
    stream.subscribed("snapshot", ONE, 60)
    stream.snapshot([state(pk, "CREATED") for pk in pks])
    list(taken(stream))
    return stream


def stands(id: str | None, position: Position, *pks: Any) -> bool:
    return id is not None and SEAL.open(id) == (position, Held(SEAL, map(str, pks)).digest)


def test_an_event_on_the_wire() -> None:
    assert event("mark", '"a":1') == 'event: mark\ndata: {"a":1}\n\n'
    assert event("mark", "", id="x", retry=5) == "retry: 5\nid: x\nevent: mark\ndata: {}\n\n"
    assert event("mark", "", id="") == "id:\nevent: mark\ndata: {}\n\n"


def test_a_snapshot_can_be_resumed_from_its_last_page() -> None:
    stream = Stream(SEAL)
    stream.subscribed("snapshot", ONE, 60)
    stream.snapshot([state(n, "CREATED") for n in range(PAGE + 1)])
    subscribed, first, last = taken(stream)
    assert subscribed.data == {"how": "snapshot", "epoch": "e", "position": ONE.encode(), "keep": 60}
    # before that, nothing the client has from an earlier snapshot may be taken for this one
    assert (subscribed.id, first.id, first.data["more"]) == ("", None, True)
    assert len(first.data["items"]) == PAGE
    assert last.data["items"] == [{"pk": PAGE, "etag": None, "version": 1, "instance": {"id": PAGE}}]
    assert last.data["more"] is False
    assert stands(last.id, ONE, *range(PAGE + 1))


def test_an_empty_snapshot_is_one_page() -> None:
    stream = Stream(SEAL)
    stream.subscribed("snapshot", ONE, 60)
    stream.snapshot([])
    _, page = taken(stream)
    assert page.data == {"items": [], "more": False}
    assert stands(page.id, ONE)


def test_changes_move_what_is_held_and_the_position_where_nothing_waits() -> None:
    stream = begun(1, "b")
    stream.deliver([state(3, "CREATED"), gone(1)])
    (changes,) = taken(stream)
    assert [c["action"] for c in changes.data["changes"]] == ["CREATED", "DELETED"]
    assert stands(changes.id, ONE, "b", 3)
    stream.mark(TWO)
    stream.mark(TWO)
    (mark,) = taken(stream)
    assert (mark.kind, mark.data) == ("mark", {"epoch": "e", "position": TWO.encode()})
    assert stands(mark.id, TWO, "b", 3)
    stream.deliver([state(3)])
    stream.mark(THREE)
    (changes,) = taken(stream)
    assert stands(changes.id, THREE, "b", 3)
    assert stream.take() is None


def test_a_mark_does_not_pass_what_waits() -> None:
    stream = Stream(SEAL)
    stream.subscribed("snapshot", ONE, 60)
    stream.snapshot([state(1, "CREATED")])
    stream.deliver([state(2, "CREATED")])
    stream.mark(TWO)
    _, page, changes = taken(stream)
    assert stands(page.id, ONE, 1)
    assert stands(changes.id, TWO, 1, 2)


def test_for_who_does_not_read_the_latest_of_each_object_is_kept() -> None:
    stream = begun()
    stream.deliver([state(1, "CREATED")], more=True)
    stream.deliver([state(1, version=2)])
    (changes,) = taken(stream)
    assert [(c["action"], c["version"]) for c in changes.data["changes"]] == [("CREATED", 2)]
    assert changes.data["more"] is False
    stream.deliver([state(2, "CREATED")], more=True)
    (changes,) = taken(stream)
    assert changes.data["more"] is True
    stream.deliver([])
    (changes,) = taken(stream)
    assert changes.data == {"changes": [], "more": False}


def test_who_never_reads_cannot_grow_the_server() -> None:
    stream = begun()
    stream.max_pending = 300
    with pytest.raises(Overflow):
        stream.deliver([state(pk) for pk in range(100)])
    stream.drop()
    assert (stream.take(), stream.over) == ("", True)


def test_news_of_a_lock_change_nothing_that_is_held() -> None:
    stream = begun(1)
    stream.deliver([state(1, "LOCKED", lock="{}"), state(2, "LOCKED", lock="{}")])
    (changes,) = taken(stream)
    assert stands(changes.id, ONE, 1)


def test_who_resumes_goes_on_with_what_he_held() -> None:
    stream = Stream(SEAL)
    stream.holds(["1", "2"])
    stream.subscribed("resumed", ONE, 60)
    stream.deliver([gone(1)])
    subscribed, changes = taken(stream)
    # his last id is good until something moves
    assert subscribed.id is None
    assert stands(changes.id, ONE, 2)


def test_after_a_reset_nothing_of_before_counts() -> None:
    stream = Stream(SEAL)
    stream.holds(["1"])
    stream.reset("expired")
    stream.subscribed("snapshot", TWO, 60)
    stream.snapshot([state(2, "CREATED")])
    reset, _, page = taken(stream)
    assert (reset.data, reset.id) == ({"code": "expired"}, "")
    assert stands(page.id, TWO, 2)


def test_an_end_comes_before_what_waits() -> None:
    stream = begun(1)
    stream.deliver([state(1)])
    stream.end(403)
    (end,) = taken(stream)
    assert (end.kind, end.data, stream.over) == ("end", {"code": 403}, True)


def test_a_goodbye_comes_after_what_waits() -> None:
    stream = begun(1)
    stream.deliver([state(1)])
    stream.mark(TWO)
    stream.leave(4503, 250)
    changes, bye = taken(stream)
    assert stands(changes.id, TWO, 1)
    assert (bye.kind, bye.retry) == ("bye", 250)
    assert bye.data == {"code": 4503, "reconnect": True, "after_ms": 250}
    assert stream.over
