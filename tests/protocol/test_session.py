"""The session: what goes out for what came in, without a socket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from drf_concord.protocol import session as module
from drf_concord.protocol.session import Follow, Leave, Overflow, Perform, Rendered, Session


def change(action: str = "UPDATED", pk: int = 1, version: int = 5, text: str = "a") -> Rendered:
    reason = "left" if action == "DELETED" else None
    return Rendered(action, str(pk), json.dumps({"id": pk, "text": text}), '"t"', version, reason)


def following(*, sequenced: bool = True, **options: Any) -> tuple[Session, bytes]:
    session = Session(sequenced=sequenced, **options)
    [command], _ = session.receive('{"request_id": 8, "model": "app.Item", "value": 1}')
    assert isinstance(command, Follow)
    return session, command.key


def parsed(frames: list[str]) -> list[Any]:
    return [json.loads(frame) for frame in frames]


def test_a_call_is_to_be_performed() -> None:
    [command], frames = Session().receive('{"action": "list", "model": "app.Item", "request_id": 1}')
    assert isinstance(command, Perform)
    assert (command.call.action, command.request_id, frames) == ("list", b"1", [])


def test_a_reply_has_five_members_and_in_session_mode_two_more() -> None:
    plain = json.loads(Session().reply("list", b"[1, 2]", 200, data=b'[{"id":1}]'))
    assert plain == {
        "action": "list",
        "errors": [],
        "response_status": 200,
        "request_id": [1, 2],
        "data": [{"id": 1}],
    }
    full = json.loads(Session(sequenced=True).reply("patch", b"1", 412, etag='"e"', code="version_mismatch"))
    assert full["etag"] == '"e"'
    assert full["code"] == "version_mismatch"


def test_subscribing_and_leaving() -> None:
    session, key = following()
    assert session.receive('{"action": "unsubscribe", "request_id": 8}') == ([Leave(key)], [])
    _, frames = session.receive('{"action": "unsubscribe", "request_id": 8}')
    [error] = parsed(frames)
    assert (error["type"], error["request_id"], error["code"]) == ("error", 8, 404)


def test_a_request_id_in_use_is_refused() -> None:
    session, _ = following()
    commands, frames = session.receive('{"request_id": 8, "model": "app.Item", "value": 2}')
    assert commands == []
    assert parsed(frames)[0]["code"] == 400


def test_the_number_of_subscriptions_has_a_limit() -> None:
    session = Session()
    for number in range(module.MAX_SUBSCRIPTIONS):
        session.receive(json.dumps({"request_id": number, "model": "app.Item", "value": 1}))
    commands, frames = session.receive('{"request_id": "more", "model": "app.Item", "value": 1}')
    assert commands == []
    assert "100 subscriptions" in parsed(frames)[0]["message"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", {"action": None, "response_status": 400, "request_id": None}),
        ('{"action": 1, "request_id": 3}', {"action": None, "response_status": 400, "request_id": 3}),
        (
            '{"action": "retrieve", "pk": [], "request_id": 3}',
            {"action": "retrieve", "response_status": 400, "request_id": 3},
        ),
        ("{}", {"action": None, "response_status": 400, "request_id": None}),
    ],
)
def test_what_cannot_be_read_gets_a_reply(text: str, expected: dict[str, Any]) -> None:
    commands, frames = Session().receive(text)
    [reply] = parsed(frames)
    assert commands == []
    assert reply["errors"]
    assert {k: reply[k] for k in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"action": "subscribe", "request_id": 3}',
        '{"model": 1, "value": 2, "request_id": 3}',
        '{"value": 2, "request_id": 3}',
    ],
)
def test_a_wrong_subscription_gets_an_error_frame(text: str) -> None:
    _, frames = Session().receive(text)
    [error] = parsed(frames)
    assert (error["type"], error["request_id"], error["code"]) == ("error", 3, 400)


def test_plain_mode_broadcasts_each_change() -> None:
    session, key = following(sequenced=False)
    frames = parsed(session.deliver(key, "app.Item", [change(), change("DELETED", 2)]))
    assert frames == [
        {
            "type": "broadcast",
            "request_id": 8,
            "model": "app.Item",
            "action": action,
            "instance": {"id": pk, "text": "a"},
        }
        for action, pk in (("UPDATED", 1), ("DELETED", 2))
    ]


def test_session_mode_numbers_its_frames() -> None:
    session, key = following()
    [one] = parsed(session.deliver(key, "app.Item", [change(), change("DELETED", 2)], more=True))
    assert one == {
        "type": "changes",
        "request_id": 8,
        "seq": 1,
        "changes": [
            {"action": "UPDATED", "pk": 1, "etag": '"t"', "version": 5, "instance": {"id": 1, "text": "a"}},
            {"action": "DELETED", "pk": 2, "etag": '"t"', "version": 5, "reason": "left"},
        ],
        "more": True,
    }
    [two] = parsed(session.deliver(key, "app.Item", [change()]))
    assert (two["seq"], two["more"]) == (2, False)


def test_the_encoding_is_made_once() -> None:
    one = change()
    assert one.session() is one.session()
    assert one.plain("app.Item") is one.plain("app.Item")


def test_past_the_window_only_the_latest_state_is_kept_until_there_is_room() -> None:
    session, key = following(window=100)
    assert session.deliver(key, "app.Item", [change(text="x" * 200)])
    assert session.deliver(key, "app.Item", [change(version=6)]) == []
    assert session.deliver(key, "app.Item", [change("CREATED", 2)]) == []
    assert session.deliver(key, "app.Item", [change("UPDATED", 2, 7)]) == []
    assert session.deliver(key, "app.Item", [change(version=8)]) == []
    assert not session.idle
    _, frames = session.receive('{"action": "ack", "seq": 1}')
    [kept] = parsed(frames)
    states = [(c["action"], c["pk"], c["version"]) for c in kept["changes"]]
    assert states == [("CREATED", 2, 7), ("UPDATED", 1, 8)]
    assert session.idle


def test_the_window_counts_bytes_and_not_characters() -> None:
    session, key = following(window=300, max_pending=1000)
    long = Rendered("UPDATED", "1", '{"text":"' + "\u6587" * 100 + '"}', '"t"', 5)
    assert session.deliver(key, "app.Item", [long])
    assert session.deliver(key, "app.Item", [change(version=6)]) == []  # 400 bytes, 200 characters
    with pytest.raises(Overflow):
        session.deliver(key, "app.Item", [replace(long, pk=str(pk)) for pk in range(2, 5)])


def test_an_ack_that_frees_too_little_sends_nothing() -> None:
    session, key = following(window=100)
    session.deliver(key, "app.Item", [change(text="x" * 50)])
    session.deliver(key, "app.Item", [change(text="x" * 500)])
    session.deliver(key, "app.Item", [change(version=9)])
    assert session.receive('{"action": "ack", "seq": 0}') == ([], [])
    assert not session.idle


def test_a_client_that_never_reads_cannot_grow_the_server() -> None:
    session, key = following(window=10, max_pending=1000)
    session.deliver(key, "app.Item", [change()])
    changes = [change(pk=pk) for pk in range(100)]
    with pytest.raises(Overflow):
        session.deliver(key, "app.Item", changes)


def test_one_object_that_changes_for_ever_is_no_overflow() -> None:
    session, key = following(window=10, max_pending=1000)
    for version in range(1000):
        session.deliver(key, "app.Item", [change(version=version)])


def test_news_of_a_lock_wait_beside_those_of_its_object() -> None:
    session, key = following(window=10)
    session.deliver(key, "app.Item", [change()])

    def locked(state: str) -> Rendered:
        return Rendered("LOCKED", "1", "null", lock=json.dumps({"state": state}))

    assert session.deliver(key, "app.Item", [change(version=6), locked("held")]) == []
    assert session.deliver(key, "app.Item", [locked("frozen")]) == []
    [frame] = parsed(session.receive('{"action": "ack", "seq": 1}')[1])
    assert frame["changes"] == [
        {"action": "UPDATED", "pk": 1, "etag": '"t"', "version": 6, "instance": {"id": 1, "text": "a"}},
        {"action": "LOCKED", "pk": 1, "etag": None, "version": None, "lock": {"state": "frozen"}},
    ]


def test_a_snapshot_larger_than_the_window_comes_in_pages() -> None:
    session, key = following(window=5000)
    items = [change("CREATED", pk) for pk in range(3 * module.PAGE)]
    first = parsed(session.snapshot(key, items))
    assert [(len(f["items"]), f["more"]) for f in first] == [(module.PAGE, True)]
    assert session.deliver(key, "app.Item", [change(version=9)]) == []
    assert not session.idle
    _, frames = session.receive('{"action": "ack", "seq": 1}')
    _, rest = session.receive('{"action": "ack", "seq": 2}')
    _, last = session.receive('{"action": "ack", "seq": 3}')
    kinds = [(f["type"], f["more"]) for f in parsed(frames + rest + last)]
    assert kinds == [("snapshot", True), ("snapshot", False), ("changes", False)]


def test_an_empty_snapshot_is_one_page() -> None:
    session, key = following()
    assert parsed(session.snapshot(key, [])) == [
        {"type": "snapshot", "request_id": 8, "seq": 1, "items": [], "more": False}
    ]


def test_leaving_drops_what_was_kept() -> None:
    session, key = following(window=10)
    session.snapshot(key, [change("CREATED", pk) for pk in range(2 * module.PAGE)])
    session.deliver(key, "app.Item", [change()])
    session.receive('{"action": "unsubscribe", "request_id": 8}')
    assert session.idle
    session.forget(key)


def test_the_other_frames() -> None:
    session, key = following()
    frames = parsed(
        [
            session.welcome("c", "e", 25, 8),
            session.subscribed(key, "live", "e", "p", 3600),
            session.mark("e", "p"),
            session.reset(key, "expired"),
            session.bye(4503, 900),
            session.bye(4401, 0),
            session.end(key, 403),
        ]
    )
    assert [f["type"] for f in frames] == ["welcome", "subscribed", "mark", "reset", "bye", "bye", "end"]
    assert frames[1] == {
        "type": "subscribed",
        "request_id": 8,
        "how": "live",
        "epoch": "e",
        "position": "p",
        "keep": 3600,
    }
    assert [f["reconnect"] for f in frames if f["type"] == "bye"] == [True, False]
    assert frames[-1] == {"type": "end", "request_id": 8, "code": 403}
    assert key not in session.subscriptions


def test_ping_is_answered_and_pong_is_not() -> None:
    assert Session().receive('{"action": "ping"}') == ([], ['{"type":"pong"}'])
    assert Session().receive('{"action": "pong"}') == ([], [])


def test_an_object_without_tag_and_version() -> None:
    session, key = following()
    [frame] = parsed(session.deliver(key, "app.Item", [Rendered("UPDATED", '"k"', "{}")]))
    [bare] = frame["changes"]
    assert bare == {"action": "UPDATED", "pk": "k", "etag": None, "version": None, "instance": {}}


def test_changes_that_are_told_each_do_not_replace_one_another() -> None:
    session, key = following(window=0)
    session.deliver(key, "app.Item", [Rendered("UPDATED", "1", "{}", event=1)])
    for event in (2, 3):
        assert session.deliver(key, "app.Item", [Rendered("UPDATED", "1", "{}", event=event)]) == []
    [frame] = session.receive('{"action":"ack","seq":1}')[1]
    assert len(json.loads(frame)["changes"]) == 2


def test_what_was_kept_back_is_no_whole_transaction_while_more_follows() -> None:
    session, key = following(window=0)
    session.deliver(key, "app.Item", [Rendered("UPDATED", "1", "{}")])
    session.deliver(key, "app.Item", [Rendered("UPDATED", "2", "{}")], more=True)
    [frame] = session.receive('{"action":"ack","seq":1}')[1]
    assert json.loads(frame)["more"] is True
    session.deliver(key, "app.Item", [Rendered("UPDATED", "3", "{}")], more=True)
    session.deliver(key, "app.Item", [Rendered("UPDATED", "4", "{}")])
    [frame] = session.receive('{"action":"ack","seq":2}')[1]
    assert json.loads(frame)["more"] is False


def test_a_subscription_stands_until_it_is_ended_whatever_has_its_request_id_then() -> None:
    session, subscribe = Session(sequenced=True), '{"action":"subscribe","model":"app.Item","value":1}'
    [first], _ = session.receive(subscribe)
    assert isinstance(first, Follow)
    assert session.stands(first)
    session.receive('{"action":"unsubscribe"}')
    assert not session.stands(first)
    [second], _ = session.receive(subscribe)
    assert isinstance(second, Follow)
    assert second == first
    assert session.stands(second)
    assert not session.stands(first)
