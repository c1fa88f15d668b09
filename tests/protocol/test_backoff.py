from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol.backoff import delay, spread

attempts = st.integers(0, sys.maxsize)
jitters = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "bound"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (7, 30.0), (10**6, 30.0)]
)
def test_the_bound_doubles_up_to_the_cap(attempt: int, bound: float) -> None:
    assert delay(attempt, 1.0) == bound
    assert delay(attempt, 0.5) == bound / 2
    assert delay(attempt, 0.0) == 0.0


def test_base_and_cap_are_the_callers() -> None:
    assert [delay(n, 1.0, base=0.1, cap=0.35) for n in range(4)] == [0.1, 0.2, 0.35, 0.35]
    assert delay(0, 1.0, base=9.0, cap=5.0) == 5.0


@given(attempts, jitters)
def test_every_wait_is_within_the_bounds(attempt: int, jitter: float) -> None:
    assert 0.0 <= delay(attempt, jitter) < 30.0
    assert delay(attempt, jitter) <= delay(attempt + 1, jitter)


def test_those_who_failed_together_do_not_come_back_together() -> None:
    waits = [delay(10, n / 1000) for n in range(1000)]
    seconds = [sum(int(wait) == second for wait in waits) for second in range(30)]

    assert max(seconds) <= 34
    assert min(seconds) >= 33


@pytest.mark.parametrize(("among", "whole"), [(1, 1.0), (99, 1.0), (1000, 10.0), (10**6, 60.0)])
def test_those_who_are_sent_away_together_come_back_within_a_time_that_suits_their_number(
    among: int, whole: float
) -> None:
    assert spread(0, among, 0.0) == 0.0
    assert spread(among - 1, among, 1.0) == pytest.approx(whole)


@given(jitters)
def test_everybody_has_a_slot_of_their_own(jitter: float) -> None:
    waits = [spread(place, 1000, jitter) for place in range(1000)]

    for place, wait in enumerate(waits):
        assert place * 0.01 - 1e-9 <= wait <= (place + 1) * 0.01 + 1e-9
    assert spread(1, 4, jitter, each=1.0, least=0.0, most=2.0) == pytest.approx((1 + jitter) / 2)
