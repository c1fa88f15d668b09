from __future__ import annotations

import random
from base64 import urlsafe_b64encode
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol.errors import PositionLost
from drf_concord.protocol.positions import MAX_POSITION, Position, Snapshot

from .vectors import cases

texts = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.integers(0, 2**63 - 1)
positions = st.builds(Position, texts, texts, ids, st.integers(-(2**63), 2**63 - 1), texts)


@pytest.mark.parametrize("case", cases("changes", "positions"))
def test_positions(case: dict[str, Any]) -> None:
    position = Position(**case["position"])

    assert position.encode() == case["text"]
    assert Position.decode(case["text"]) == position


@pytest.mark.parametrize("case", cases("changes", "not_positions"))
def test_what_is_no_position(case: dict[str, Any]) -> None:
    with pytest.raises(PositionLost) as caught:
        Position.decode(case["text"])

    assert caught.value.members == {"reason": "epoch"}


@given(positions)
def test_a_position_is_read_as_it_is_written(position: Position) -> None:
    text = position.encode()

    assert Position.decode(text) == position
    assert text.replace("-", "a").replace("_", "a").isalnum()
    assert text.isascii()


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_whatever_comes_back_is_a_position_or_refused(text: str) -> None:
    try:
        position = Position.decode(text)
    except PositionLost:
        return
    assert position.encode() == text


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 40_000,
        b'[1,"' + b"a" * 60_000,
        b'[1,"e","' + b"9" * 60_000 + b'",0,0,""]',
        b'[1,"\\ud800","",0,0,""]',
        b'[1,"\xff","",0,0,""]',
        b'[1,"","",' + b"9" * 5000 + b',0,""]',
    ],
    ids=["deep", "cut off", "too long", "half a character", "no UTF-8", "huge"],
)
def test_hostile_positions(raw: bytes) -> None:
    with pytest.raises(PositionLost):
        Position.decode(urlsafe_b64encode(raw).decode().rstrip("="))


def test_the_longest_position() -> None:
    def of(length: int) -> str:
        return Position("e", "1" * length).encode()

    length = next(n for n in range(49_000, 50_000) if len(of(n)) > MAX_POSITION)

    assert Position.decode(of(length - 1)).cursor == "1" * (length - 1)
    with pytest.raises(PositionLost):
        Position.decode(of(length))


@pytest.mark.parametrize("case", cases("changes", "check"))
def test_whether_a_position_is_of_this_log(case: dict[str, Any]) -> None:
    position = Position(cursor="42", **case["position"])
    now = {name: case[name] for name in ("epoch", "timeline", "nonce")}
    if case["lost"] is None:
        position.check(**now)
        return
    with pytest.raises(PositionLost) as caught:
        position.check(**now)
    assert caught.value.members == {"reason": case["lost"]}


def test_the_cursor_of_sqlite_is_an_id() -> None:
    assert Position("e", "42").cursor_id() == 42
    assert Position("e", "0").cursor_id() == 0


@pytest.mark.parametrize("cursor", ["", "-1", "042", "1:2:", "x", "1\n", "٤", "9" * 19])
def test_the_cursor_of_sqlite_is_nothing_else(cursor: str) -> None:
    with pytest.raises(PositionLost):
        Position("e", cursor).cursor_id()


@pytest.mark.parametrize("case", cases("changes", "snapshots"))
def test_snapshots(case: dict[str, Any]) -> None:
    snapshot = Snapshot.parse(case["text"])

    assert str(snapshot) == case["text"]
    assert [xid for xid in case["sees"] if not snapshot.sees(xid)] == []
    assert [xid for xid in case["not"] if snapshot.sees(xid)] == []


@pytest.mark.parametrize("case", cases("changes", "not_snapshots"))
def test_what_is_no_snapshot(case: dict[str, Any]) -> None:
    with pytest.raises(PositionLost):
        Snapshot.parse(case["text"])


@pytest.mark.parametrize("case", cases("changes", "later"))
def test_which_snapshot_is_later(case: dict[str, Any]) -> None:
    a, b = Snapshot.parse(case["a"]), Snapshot.parse(case["b"])

    assert a.not_before(b) is case["a_not_before_b"]
    assert b.not_before(a) is case["b_not_before_a"]


@given(st.integers(0, 2**32))
def test_snapshots_of_one_primary_are_in_one_order(seed: int) -> None:
    """Let transactions begin and end as PostgreSQL does, and take snapshots on the way."""
    random_ = random.Random(seed)
    following, running, over = 10, [], set(range(10))
    taken = []
    for _ in range(30):
        if running and random_.random() < 0.5:
            over.add(running.pop(random_.randrange(len(running))))
        else:
            running.append(following)
            following += 1
        xmax = max(over) + 1
        xip = tuple(xid for xid in sorted(running) if xid < xmax)
        taken.append((Snapshot(min((*xip, xmax)), xmax, xip), set(over)))

    for snapshot, seen in taken:
        assert Snapshot.parse(str(snapshot)) == snapshot
        assert {xid for xid in range(following + 2) if snapshot.sees(xid)} == seen
    for (earlier, fewer), (later, more) in combinations(taken, 2):
        assert later.not_before(earlier)
        assert earlier.not_before(later) is (fewer == more)
