from __future__ import annotations

import pytest

from drf_concord.protocol.claims import Mode
from drf_concord.protocol.lock_states import LIVE, TRANSITIONS, Event, Lock, State, diagram

from .vectors import load

SECOND = 1_000_000


def test_the_table_is_that_of_the_vectors() -> None:
    table = [[before, event, after] for (before, event), after in TRANSITIONS.items()]

    assert sorted(table) == sorted(load("locks")["transitions"])


def test_every_state_is_reached_and_left() -> None:
    assert {before for before, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_the_diagram_has_every_transition() -> None:
    lines = diagram().splitlines()
    drawn = {}
    for line in lines[2:]:
        arrow, _, events = line.strip().partition(": ")
        before, after = arrow.split(" --> ")
        drawn.update({(State(before), Event(event)): State(after) for event in events.split(", ")})

    assert lines[:2] == ["stateDiagram-v2", "    [*] --> free"]
    assert drawn == TRANSITIONS
    assert diagram().endswith("\n")


@pytest.mark.parametrize(
    ("lock", "before", "at_the_end"),
    [
        (Lock(), State.FREE, State.FREE),
        (Lock(expires_at=SECOND), State.FREE, State.FREE),
        (Lock(mode=Mode.HOLD, expires_at=SECOND), State.HELD, State.EXPIRED),
        (Lock(mode=Mode.HOLD), State.HELD, State.HELD),
        (Lock(mode=Mode.HOLD, expires_at=SECOND, broken=True), State.BREAKING, State.FREE),
        (Lock(mode=Mode.FREEZE, expires_at=SECOND), State.FROZEN, State.FREE),
        (Lock(mode=Mode.FREEZE), State.FROZEN, State.FROZEN),
    ],
)
def test_time_alone_moves_a_lock(lock: Lock, before: State, at_the_end: State) -> None:
    assert lock.state(SECOND - 1) is before
    assert lock.state(SECOND) is at_the_end
    for now in (SECOND - 1, SECOND):
        assert lock.live(now) is (lock.state(now) in LIVE)
    if before is not at_the_end:
        assert TRANSITIONS[before, Event.EXPIRE] is at_the_end


def test_what_is_left_of_a_lock() -> None:
    lock = Lock(mode=Mode.HOLD, expires_at=2 * SECOND)

    assert lock.remaining(SECOND // 2) == 1.5
    assert lock.remaining(2 * SECOND) == 0
    assert lock.remaining(3 * SECOND) == 0
    assert Lock(mode=Mode.FREEZE).remaining(0) is None
    assert Lock().remaining(0) == 0
