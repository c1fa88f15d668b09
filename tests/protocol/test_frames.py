"""Frames: what may be sent, and what is said of what may not."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol import frames
from drf_concord.protocol.frames import BadFrame, Call, Subscribe, members, read, request_key


def take(value: object) -> tuple[frames.Frame, bytes]:
    return read(members(value if isinstance(value, str) else json.dumps(value)))


@pytest.mark.parametrize(
    "request_id",
    ["1337", "1700000000000", '"a"', "null", "1.50", '{"a": [1, 2]}', "12345678901234567890123", '"\\u0061"'],
)
def test_request_id_is_echoed_to_the_letter(request_id: str) -> None:
    _, echoed = take(f'{{"action": "list", "model": "app.Item", "request_id": {request_id}}}')
    assert echoed == request_id.encode()


def test_request_id_is_null_when_left_out() -> None:
    assert take({"action": "list", "model": "app.Item"})[1] == b"null"


@pytest.mark.parametrize(("one", "other"), [(b'"a"', b'"\\u0061"'), (b'{"a":1}', b'{ "a" : 1 }')])
def test_two_spellings_of_a_request_id_are_one(one: bytes, other: bytes) -> None:
    assert request_key(one) == request_key(other)


def test_an_unreadable_request_id_is_its_own_key() -> None:
    assert request_key(b"{") == b"{"


def test_a_call_has_its_members() -> None:
    frame, _ = take(
        {"action": "patch", "model": "app.Item", "pk": 3, "data": {"text": "b"}, "if_match": '"x"', "odd": 1}
    )
    assert isinstance(frame, Call)
    assert (frame.action, frame.model, frame.pk, frame.if_match) == ("patch", "app.Item", 3, '"x"')
    assert bytes(frame.data) == b'{"text": "b"}'  # type: ignore[arg-type]


def test_a_frame_without_action_subscribes() -> None:
    frame, _ = take({"model": "app.Item", "value": "1", "request_id": 1})
    assert isinstance(frame, Subscribe)
    assert (frame.model, frame.value, frame.group_by) == ("app.Item", "1", None)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("subscribe", frames.Subscribe),
        ("unsubscribe", frames.Unsubscribe),
        ("ping", frames.Ping),
        ("pong", frames.Pong),
        ("anything", frames.Call),
    ],
)
def test_the_action_says_what_a_frame_is(action: str, kind: type) -> None:
    assert isinstance(take({"action": action, "model": "app.Item"})[0], kind)


@pytest.mark.parametrize(
    "text",
    ["", "x", "[1]", '"text"', "1", "null", "{", '{"a": 1', '{"action": }', '{"a":1}{"b":2}', "\ud800"],
)
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadFrame, match="JSON object"):
        members(text)


def test_bytes_are_read_as_text_is() -> None:
    assert read(members(b'{"action": "list"}'))[0] == Call("list")
    with pytest.raises(BadFrame):
        members(b"\xff\xfe")


def test_a_long_frame_is_refused() -> None:
    with pytest.raises(BadFrame, match="262144 bytes"):
        members('{"a": "' + "x" * frames.MAX_FRAME + '"}')


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_deep_frame_is_refused(opening: str) -> None:
    with pytest.raises(BadFrame, match="nested 32 deep"):
        members('{"a":' + opening * 5000)
    with pytest.raises(BadFrame, match="nested 32 deep"):
        members(('{"a":' + opening * 5000).encode())


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert members(json.dumps({"have": [[1]] * 100}))
    assert members(json.dumps({"text": "[" * 100}))
    assert members(json.dumps({"text": '\\"' + "{[" * 100 + "\\"}))


@pytest.mark.parametrize(
    ("frame", "detail"),
    [
        ({}, "Say an action"),
        ({"action": None}, "Say an action"),
        ({"action": 1}, "The action is a text"),
        ({"action": ["list"]}, "The action is a text"),
        ({"action": "list", "model": 1}, "The member model is wrong"),
        ({"action": "retrieve", "pk": {}}, "The member pk is wrong"),
        ({"action": "list", "query": []}, "The member query is wrong"),
        ({"action": "patch", "if_match": 1}, "The member if_match is wrong"),
        ({"action": "subscribe"}, "The member model is missing"),
        ({"model": ["app.Item"]}, "The member model is wrong"),
        ({"model": "app.Item", "have": {}}, "The member have is wrong"),
        ({"action": "ack"}, "The member seq is missing"),
        ({"action": "ack", "seq": "1"}, "The member seq is wrong"),
        ({"action": "subscribe", "model": "a", "since": {}}, "The member since is wrong"),
    ],
)
def test_a_wrong_member_is_named(frame: dict[str, object], detail: str) -> None:
    with pytest.raises(BadFrame, match=detail) as caught:
        take({**frame, "request_id": 7})
    assert caught.value.request_id == b"7"


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9)


@given(VALUES)
def test_no_value_of_a_member_does_more_than_raise(value: object) -> None:
    for name in ("action", "model", "pk", "query", "seq", "request_id", "value", "have", "since", "data"):
        for action in ("list", "subscribe", "ack"):
            with contextlib.suppress(BadFrame):
                take({"action": action, "model": "app.Item", name: value})


def test_what_a_frame_may_hold_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    take({"action": "list", "model": "app.Item"})
    monkeypatch.delattr(frames.msgspec.structs, "fields")  # slow: it reads the annotations each time
    assert take({"action": "list", "model": "app.Item"})[0] == Call(action="list", model="app.Item")
