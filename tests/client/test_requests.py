"""What an answer means, when a request is sent again, and where it is never sent."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import (
    BusyError,
    ClientError,
    ConflictError,
    ConnectionFailed,
    LockedError,
    ValidationError,
)
from drf_concord.client.requests import (
    ATTEMPTS,
    LONGEST_PAUSE,
    Request,
    authorization,
    child,
    exchange,
    repeated,
    site,
)
from tests.client.script import answer, play

pytestmark = pytest.mark.sqlite

HERE = "https://a.example/api/tasks/1/"
BUSY = answer(503, {"code": "busy", "detail": "Somebody is writing."}, retry_after="1")


def get(url: str = HERE) -> Any:
    return exchange(Request("GET", url))


def patch() -> Any:
    return exchange(Request("PATCH", HERE, {"Lock-Token": "secret"}, {"done": True}))


def test_busy_is_tried_again_no_sooner_than_asked() -> None:
    played = play(patch(), BUSY, BUSY, answer(200, {}))

    assert played.result.status == 200
    assert len(played.sent) == 3
    assert all(pause >= 1 for pause in played.pauses)
    assert played.sent[0] == played.sent[2]


def test_busy_is_not_tried_for_ever() -> None:
    played = play(patch(), *[BUSY] * ATTEMPTS)

    assert isinstance(played.error, BusyError)
    assert (played.error.status, played.error.retry_after) == (503, 1)


def test_a_long_wait_is_the_callers_decision() -> None:
    later = answer(503, {"code": "busy"}, retry_after=str(int(LONGEST_PAUSE) + 1))

    assert isinstance(play(patch(), later).error, BusyError)


def test_another_503_says_not_whether_the_write_was_done() -> None:
    played = play(patch(), answer(503))

    assert type(played.error) is ClientError
    assert played.pauses == []


def test_a_wait_without_retry_after_is_drawn_by_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    busy = answer(503, {"code": "busy"})

    assert play(patch(), busy, busy, answer(200)).pauses == [0.25, 0.5]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_read_follows_this_server(status: int) -> None:
    played = play(get("https://a.example/api/tasks/1"), answer(status, location="/api/tasks/1/"), answer())

    assert [request.url for request in played.sent] == ["https://a.example/api/tasks/1", HERE]


@pytest.mark.parametrize(
    "target", ["https://b.example/", "http://a.example/", "https://a.example:8443/", "//b.example/"]
)
@pytest.mark.parametrize("make", [get, patch])
def test_nothing_is_sent_to_another_server(make: Any, target: str) -> None:
    played = play(make(), answer(307, location=target))

    assert isinstance(played.error, ClientError)
    assert played.error.code == "redirected"
    assert len(played.sent) == 1


def test_a_write_that_is_sent_on_stays_the_same_write() -> None:
    played = play(patch(), answer(308, location="/other/"), answer(200, {}))

    assert [request.method for request in played.sent] == ["PATCH", "PATCH"]
    assert played.sent[1].headers == {"Lock-Token": "secret"}
    assert played.sent[1].data == {"done": True}


@pytest.mark.rfc("9110", "15.4", "a redirect that may change the method of a write is not followed")
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_write_does_not_turn_into_a_read(status: int) -> None:
    played = play(patch(), answer(status, location="/other/"))

    assert isinstance(played.error, ClientError)
    assert "nothing was changed" in str(played.error)


def test_redirects_come_to_an_end() -> None:
    played = play(get(), *[answer(302, location=HERE)] * 5)

    assert isinstance(played.error, ClientError)


def test_what_can_be_repeated_is() -> None:
    lost = ConnectionFailed("gone")
    request = Request("POST", HERE, data={"id": "x"})

    assert play(repeated(request), lost, lost, answer(201, {})).result.status == 201
    assert isinstance(play(repeated(request), lost, lost, lost).error, ConnectionFailed)
    assert isinstance(play(exchange(request), lost).error, ConnectionFailed)


def test_a_conflict_has_both_sides() -> None:
    body = {
        "code": "version_mismatch",
        "detail": "Changed.",
        "current_etag": '"2-0"',
        "current": {"id": 1, "done": False},
        "changed_fields": ["done"],
        "conflicting_fields": ["done"],
    }
    error = play(patch(), answer(412, body)).error

    assert isinstance(error, ConflictError)
    assert error.mine == {"done": True}
    assert error.theirs == {"id": 1, "done": False}
    assert error.theirs is not None
    assert error.theirs.etag == error.current_etag == '"2-0"'
    assert (error.changed, error.conflicting) == (["done"], ["done"])
    assert (error.status, error.code, error.detail) == (412, "version_mismatch", "Changed.")


def test_what_a_conflict_does_not_tell_is_none() -> None:
    error = play(patch(), answer(412)).error

    assert isinstance(error, ConflictError)
    assert (error.theirs, error.changed, error.conflicting, error.current_etag) == (None, None, None, None)


@pytest.mark.parametrize("status", [409, 423])
def test_a_lock_says_whose_it_is(status: int) -> None:
    body = {"code": "object_locked", "holder": "ada", "reason": "tea", "since": "s", "expires_at": "e"}
    error = play(patch(), answer(status, body, retry_after="7")).error

    assert isinstance(error, LockedError)
    assert (error.holder, error.reason, error.since, error.expires_at) == ("ada", "tea", "s", "e")
    assert error.retry_after == 7


def test_what_is_wrong_with_values_is_said_in_words() -> None:
    error = play(patch(), answer(400, {"text": ["May not be blank."], "list": ["Required."]})).error

    assert isinstance(error, ValidationError)
    assert error.errors == {"text": ["May not be blank."], "list": ["Required."]}
    assert str(error) == "text: May not be blank. list: Required."


def test_an_answer_that_is_no_json_has_its_status() -> None:
    error = play(patch(), answer(502)).error

    assert isinstance(error, ClientError)
    assert (error.status, error.code, error.body) == (502, "", None)
    assert "502" in str(error)


@pytest.mark.parametrize("pk", ["", ".", ".."])
def test_a_key_leads_nowhere_else(pk: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        child("https://a.example/tasks/", pk, slash=True)


def test_a_key_is_one_segment_of_the_address() -> None:
    assert child("https://a.example/t/", "a/../b?c", slash=True) == "https://a.example/t/a%2F..%2Fb%3Fc/"
    assert child("https://a.example/t/", 1, slash=False) == "https://a.example/t/1"


def test_who_is_asking() -> None:
    assert authorization(("guido", "pass:word"), None) == {"Authorization": "Basic Z3VpZG86cGFzczp3b3Jk"}
    assert authorization(None, "abc") == {"Authorization": "Token abc"}
    assert authorization(None, "Bearer abc") == {"Authorization": "Bearer abc"}
    assert authorization(None, None) == {}
    with pytest.raises(ValueError, match="not both"):
        authorization(("a", "b"), "c")


def test_the_name_of_a_server_holds_no_secret() -> None:
    assert site("https://me:secret@a.example:8443/x?token=y") == "https://a.example:8443"
