"""When a lock is renewed, and when it is lost; the clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import ClientError, ConnectionFailed, LockLostError, holds
from drf_concord.client.holds import Hold
from drf_concord.client.operations import LAST_SEEN, Memory, Operations
from tests.client.script import Played, answer, play

pytestmark = pytest.mark.sqlite

URL = "https://a.example/api/tasks/1/lock/"
HELD = answer(201, {"state": "held", "generation": 3}, lock_token="secret")
RENEWED = answer(200, {"state": "held", "generation": 3})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(holds, "time", made)
    return made


def hold(**claim: Any) -> Hold:
    operations = Operations("https://a.example/api/tasks/", lookup=None, memory=Memory())
    defaults: dict[str, Any] = {"ttl": 30.0, "reason": "", "mode": "hold", "scope": None}
    return Hold(operations, 1, **(defaults | claim))


def write(lock: Hold, *answers: Any) -> Played:
    return play(lock.writing("PATCH", {"a": 1}, LAST_SEEN, None), *answers)


@pytest.fixture
def taken(clock: Clock) -> Hold:
    lock = hold()
    play(lock.taking(), HELD)
    return lock


def test_a_lock_is_asked_for_under_a_name_and_renewed_at_a_third(clock: Clock) -> None:
    lock = hold(reason="tea", scope="delete")
    played = play(lock.taking(), HELD)
    (request,) = played.sent

    assert played.result == 10
    assert (request.method, request.url) == ("POST", URL)
    assert request.data == {
        "ttl": 30,
        "reason": "tea",
        "mode": "hold",
        "scope": "delete",
        "id": request.data["id"],
    }
    assert len(request.data["id"]) == 36
    assert (lock.token, lock.generation, lock.over()) == ("secret", 3, False)
    assert play(lock.taking(), HELD).sent[0].data["id"] != request.data["id"]


def test_a_repeated_request_has_the_same_name(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    played = play(hold().taking(), ConnectionFailed("?"), HELD)

    assert played.sent[0].data["id"] == played.sent[1].data["id"]


def test_nobody_reads_the_token_in_a_log(taken: Hold) -> None:
    assert "secret" not in repr(taken)
    assert repr(taken) == "<lock of 1: held>"


def test_renewing_makes_it_last_from_when_it_was_asked(taken: Hold, clock: Clock) -> None:
    clock.now += 20
    played = play(taken.renewing(), RENEWED)

    assert played.result == 10
    assert (played.sent[0].method, played.sent[0].data) == ("PATCH", {"ttl": 30})
    assert played.sent[0].headers == {"Lock-Token": "secret"}
    clock.now += 29.9
    assert not taken.over()
    clock.now += 0.2
    assert taken.over()


def test_no_renewal_is_waited_for_longer_than_the_lock_lasts(taken: Hold, clock: Clock) -> None:
    assert play(taken.renewing(), RENEWED).sent[0].timeout == 10
    clock.now += 28

    assert play(taken.renewing(), RENEWED).sent[0].timeout == 2


@pytest.mark.parametrize("failure", [ConnectionFailed("?"), answer(500), answer(429, {"code": "lock_limit"})])
def test_a_renewal_that_fails_is_tried_again_while_there_is_time(
    taken: Hold, clock: Clock, failure: Any
) -> None:
    clock.now += 10
    assert play(taken.renewing(), failure).result == 3
    assert not taken.over()
    clock.now += 18
    assert play(taken.renewing(), failure).result == 2
    clock.now += 2
    assert play(taken.renewing()).result is None
    assert isinstance(taken.problem, LockLostError)


@pytest.mark.parametrize("status", [401, 403, 404, 412])
def test_a_lock_that_is_somebody_elses_is_lost_at_once(taken: Hold, status: int) -> None:
    told: list[str] = []
    taken.told = lambda: told.append("lost")  # type: ignore[method-assign]

    assert (
        play(taken.renewing(), answer(status, {"code": "lock_lost"} if status == 412 else None)).result
        is None
    )
    assert taken.over()
    assert told == ["lost"]


def test_a_write_carries_the_token(taken: Hold) -> None:
    played = write(taken, answer(200, {"id": 1}))

    assert played.sent[0].headers == {"Lock-Token": "secret"}
    assert played.result == {"id": 1}


def test_nothing_is_written_through_a_lock_that_ended(taken: Hold, clock: Clock) -> None:
    clock.now += 30
    played = write(taken)

    assert isinstance(played.error, LockLostError)
    assert played.sent == []


def test_nothing_is_written_through_a_lock_that_was_not_taken(clock: Clock) -> None:
    assert isinstance(write(hold()).error, LockLostError)


def test_the_server_may_know_first_that_it_is_lost(taken: Hold) -> None:
    assert isinstance(write(taken, answer(412, {"code": "lock_lost"})).error, LockLostError)
    assert taken.over()
    assert write(taken).sent == []


def test_it_is_given_back_once(taken: Hold) -> None:
    played = play(taken.releasing(), answer(204))

    assert (played.sent[0].method, played.sent[0].headers) == ("DELETE", {"Lock-Token": "secret"})
    assert play(taken.releasing()).sent == []
    assert taken.token == ""


def test_what_is_lost_is_not_given_back(taken: Hold, clock: Clock) -> None:
    clock.now += 31

    assert play(taken.releasing()).sent == []


@pytest.mark.parametrize("status", [404, 412, 500])
def test_a_hold_that_cannot_be_given_back_ends_by_itself(taken: Hold, status: int) -> None:
    assert play(taken.releasing(), answer(status)).error is None


def test_a_freeze_that_cannot_be_given_back_is_told(clock: Clock) -> None:
    lock = hold(mode="freeze", ttl=None)

    assert play(lock.taking(), HELD).result is None
    clock.now += 10**9
    assert not lock.over()
    assert isinstance(play(lock.releasing(), answer(500)).error, ClientError)
