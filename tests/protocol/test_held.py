"""What a client holds, found out from a digest."""

from __future__ import annotations

import random

import pytest

from drf_concord.protocol.changes import Change, Op, Position
from drf_concord.protocol.errors import PositionLost
from drf_concord.protocol.held import UNCERTAIN, Held, Seal, held_of, subset

SEAL = Seal(b"a key")
HERE = Position("epoch", "7", 7, -3)


def change(pk: str, op: Op = Op.UPDATE, number: int = 1) -> Change:
    return Change(number, 0, "app.Item", pk, op, None, None, (), {}, None, 0)


def concerned(*pks: str, op: Op = Op.UPDATE) -> dict[str, list[Change]]:
    return {pk: [change(pk, op)] for pk in pks}


def digest(*pks: str) -> int:
    return Held(SEAL, pks).digest


def test_what_is_sealed_can_be_opened_by_the_same_seal_only() -> None:
    text = SEAL.close(HERE, digest("1", "2"))
    assert SEAL.open(text) == (HERE, digest("1", "2"))
    assert len(text) < 300
    with pytest.raises(PositionLost):
        Seal(b"another key").open(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "ä.b.c", "\x00", "a" * 500_000, '{"epoch": 1}', "=", "0.0.0.0"]
)
def test_what_is_not_ours_says_so(text: str) -> None:
    with pytest.raises(PositionLost) as lost:
        SEAL.open(text)
    assert lost.value.members == {"reason": "epoch"}


def test_no_letter_can_be_changed() -> None:
    text = SEAL.close(HERE, digest("1"))
    for place, letter in enumerate(text):
        other = "A" if letter != "A" else "B"
        with pytest.raises(PositionLost):
            SEAL.open(text[:place] + other + text[place + 1 :])


def test_one_text_for_one_state() -> None:
    with pytest.raises(PositionLost):
        SEAL.open(SEAL.close(HERE, 1) + "=")


def test_a_set_that_grows_and_shrinks() -> None:
    held, known = Held(SEAL, ["1", "2"]), {"1", "2"}
    chance = random.Random(7)
    for _ in range(500):
        pk, there = str(chance.randrange(40)), chance.random() < 0.5
        held.put(pk, there=there)
        (known.add if there else known.discard)(pk)
        assert len(held) == len(known)
        assert held.digest == digest(*known)
    for pk in known:
        held.put(pk, there=False)
    assert held.digest == 0


def test_what_did_not_change_is_held_and_of_the_rest_it_is_found_out() -> None:
    # 2 was changed, 3 went, 4 came, 5 came in by an update, 6 is another's
    changed = {**concerned("2", "3", "5", "6"), **concerned("4", op=Op.INSERT)}
    assert held_of(SEAL, digest("1", "2", "3"), {"1", "2", "4", "5"}, changed) == ["1", "2", "3"]
    assert held_of(SEAL, digest("1"), {"1"}, {}) == ["1"]


def test_where_it_does_not_add_up_nobody_can_tell() -> None:
    assert held_of(SEAL, digest("1", "2"), {"1"}, {}) is None
    assert held_of(SEAL, digest("1"), {"1", "2"}, concerned("3")) is None
    assert held_of(SEAL, digest("1", "9"), {"1"}, {"": [change("", Op.TRUNCATE)], **concerned("3")}) is None


def test_as_many_as_may_be_uncertain() -> None:
    keys = [str(n) for n in range(UNCERTAIN)]
    wanted = keys[::3]
    assert held_of(SEAL, digest("a", *wanted), {"a"}, concerned(*keys)) == ["a", *wanted]
    # one of them is not in the log: with as many unknowns there is no wrong answer either
    assert held_of(SEAL, digest("a", "b", *wanted), {"a"}, concerned(*keys)) is None


def test_more_than_that_only_where_it_is_simple() -> None:
    keys = [str(n) for n in range(UNCERTAIN + 1)]
    both = {**concerned(*keys), **concerned("new", op=Op.INSERT)}
    assert held_of(SEAL, digest("a", *keys), {"a", "new", *keys}, both) == ["a", *keys]
    # those of others changed as well
    assert held_of(SEAL, digest("a", *keys[:9]), {"a", *keys[:9]}, both) == ["a", *keys[:9]]
    assert held_of(SEAL, digest("a", *keys[::2]), {"a"}, both) is None


def test_a_system_with_two_solutions_has_none() -> None:
    assert subset(3, [1, 2, 3]) is None
    assert subset(0, [0]) is None
    assert subset(3, [1, 2, 4]) == {0, 1}
    assert subset(0, []) == set()
    assert subset(1, []) is None
