from __future__ import annotations

import pytest

from drf_concord.transports import base
from drf_concord.transports.base import Outage

from .listening import Logged

DOWN = "Telling is down (ConnectionError: refused). Changes arrive later, by polling, until it is back."


@pytest.fixture
def outage() -> Outage:
    return Outage("Telling")


def fail(outage: Outage) -> float:
    return outage.failed(ConnectionError("refused"))


def test_the_first_failure_is_tried_again_at_once_and_told_nobody(outage: Outage, logged: Logged) -> None:
    assert fail(outage) == 0.0
    outage.over()
    assert fail(outage) == 0.0

    assert logged.lines == []


def test_an_outage_is_told_once_and_so_is_its_end(outage: Outage, logged: Logged) -> None:
    waits = [fail(outage) for _ in range(50)]
    outage.over()
    outage.over()

    assert logged.lines == [DOWN, "Telling is back."]
    assert len(set(waits)) > 40
    assert max(waits) < base.RETRY_CAP


def test_a_connection_that_breaks_at_once_is_the_same_outage(outage: Outage, logged: Logged) -> None:
    for _ in range(5):
        outage.connected()
        fail(outage)

    assert logged.lines == [DOWN]


def test_a_connection_that_lasted_was_good(
    outage: Outage, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py ends an idle connection after five seconds: no reason to wait, and none to say anything."""
    monkeypatch.setattr(base, "PROVEN", 0.0)
    for _ in range(5):
        outage.connected()
        assert fail(outage) == 0.0

    assert logged.lines == []


def test_how_long_the_last_connection_lasted_counts_once(
    outage: Outage, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PROVEN", 0.0)
    outage.connected()
    waits = [fail(outage) for _ in range(5)]

    assert waits[0] == 0.0
    assert 0.0 not in waits[1:]
    assert logged.lines == [DOWN]


def test_an_error_without_words_is_told_too(outage: Outage, logged: Logged) -> None:
    outage.failed(TimeoutError())
    outage.failed(TimeoutError())

    assert logged.of("is down (TimeoutError).")
