"""A live connection over its sockets: what is asked for, from where it goes on, what is acknowledged."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import ClientError, ForbiddenError, session
from drf_concord.client.frames import BadFrame
from drf_concord.client.session import Session, State, Subscription
from tests.protocol.vectors import cases

pytestmark = pytest.mark.sqlite

WELCOME = {"type": "welcome", "connection": "c", "ping": 25, "pong": 8, "window": 1000, "max_frame": 500}


class Conversation:
    """A session with one subscription, and what it sent."""

    def __init__(self, **welcome: Any) -> None:
        self.session = Session()
        self.welcome = WELCOME | welcome
        self.subscription, sent = self.session.subscribe({"model": "todolist.Task"})
        assert sent == []
        self.sent = self.connect()

    def connect(self) -> list[Any]:
        self.session.opened()
        self.sent = self.session.receive(self.welcome, 1)
        return self.sent

    def take(self, kind: str, size: int = 1, **members: Any) -> list[Any]:
        frame = {"type": kind, "request_id": self.subscription.request_id, "seq": 1, **members}
        return self.session.receive(frame, size)

    def load(self, *pks: int, position: str = "p1") -> None:
        self.take("subscribed", how="snapshot", epoch="e", position=position, keep=60)
        self.take("snapshot", items=[item(pk) for pk in pks], more=False)


def item(pk: int, version: int = 1) -> dict[str, Any]:
    return {"pk": pk, "etag": f'"{version}"', "version": version, "instance": {"id": pk}}


def updated(pk: int, version: int) -> dict[str, Any]:
    return {"action": "UPDATED", **item(pk, version)}


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


@pytest.mark.parametrize("case", cases("live", "copies"))
def test_the_copy_is_the_one_every_client_has(case: dict[str, Any]) -> None:
    talk = Conversation(max_frame=100_000)
    for step in case["steps"]:
        begun = talk.subscription.collection.loaded
        if "take" in step:
            talk.take(**{"kind" if name == "type" else name: value for name, value in step["take"].items()})
        else:
            talk.connect()
        items = talk.subscription.collection.items
        news = [[change.action, change.pk] for change in talk.subscription.take_news() if change.lock is None]
        if not begun:  # here what is there to begin with is no news
            news += [["CREATED", pk] for pk in items]
        if "rows" in step:
            assert [[pk, dict(items[pk])] for pk in sorted(items, key=str)] == step["rows"]
        if "changes" in step:
            assert news == (step["changes"] or [])
        if "resume" in step:
            assert talk.subscription.resume() == step["resume"]


def test_a_subscription_asks_for_all_there_is(talk: Conversation) -> None:
    assert talk.sent == [
        {"action": "subscribe", "request_id": 1, "model": "todolist.Task", "snapshot": True},
    ]


def test_each_request_has_a_name_of_its_own(talk: Conversation) -> None:
    talk.load(1)
    old = talk.subscription.request_id
    talk.connect()
    talk.session.receive(
        {"type": "changes", "request_id": old, "seq": 1, "changes": [updated(9, 9)], "more": False}, 1
    )

    assert talk.subscription.request_id != old
    assert list(talk.subscription.collection.items) == [1]


def test_too_much_to_name_is_begun_afresh() -> None:
    talk = Conversation(max_frame=300)
    talk.load(*range(20))
    assert talk.connect()[0]["have"] == list(range(20))
    talk.load(*range(1000, 1100))

    assert talk.connect() == [
        {"action": "subscribe", "request_id": 3, "model": "todolist.Task", "snapshot": True}
    ]


def test_a_subscription_that_is_too_long_is_refused_here() -> None:
    talk = Conversation(max_frame=20)

    assert talk.sent == []
    assert talk.subscription.state is State.ENDED
    assert isinstance(talk.subscription.error, ClientError)


def test_what_was_taken_in_is_acknowledged_at_half_the_window(talk: Conversation) -> None:
    talk.load(1)

    assert talk.take("changes", 400, seq=5, changes=[], more=False) == []
    assert talk.take("changes", 98, seq=6, changes=[], more=False) == []
    assert talk.take("mark", 100, seq=7, epoch="e", position="p") == [{"action": "ack", "seq": 7}]
    assert talk.take("changes", 499, seq=8, changes=[], more=False) == []
    assert talk.take("reset", 1, seq=9, code="overflow") == [{"action": "ack", "seq": 9}]


def test_a_new_socket_has_a_window_of_its_own(talk: Conversation) -> None:
    talk.take("mark", 499, epoch="e", position="p")
    talk.connect()

    assert talk.take("mark", 499, epoch="e", position="p") == []


def test_each_subscription_has_its_own_position(talk: Conversation) -> None:
    talk.load(1)
    other, sent = talk.session.subscribe({"model": "todolist.List"})
    talk.take("mark", epoch="e", position="p2")

    assert [frame["model"] for frame in sent] == ["todolist.List"]
    assert talk.subscription.position == ("e", "p2")
    assert other.position is None


def test_a_mark_within_a_transaction_is_not_where_it_ends(talk: Conversation) -> None:
    talk.load(1)
    talk.take("changes", changes=[updated(1, 5)], more=True)
    talk.take("mark", epoch="e", position="p9")

    assert talk.subscription.position == ("e", "p1")


def test_half_a_transaction_does_not_become_part_of_another(talk: Conversation) -> None:
    talk.load(1, 2)
    talk.take("changes", changes=[updated(1, 5)], more=True)
    talk.connect()
    talk.take("subscribed", how="resumed", epoch="e", position="p1", keep=60)
    talk.take("changes", changes=[updated(2, 6)], more=False)

    assert [item.version for item in talk.subscription.collection.items.values()] == [1, 6]


@pytest.mark.parametrize("code", [410, 503])
def test_what_ends_for_now_is_asked_for_again(talk: Conversation, code: int) -> None:
    talk.load(1)
    assert talk.take("end", code=code) == []
    assert talk.session.again == [talk.subscription]
    assert talk.subscription.attempts == 1

    talk.session.again = []
    assert talk.session.resubscribe(talk.subscription) == [
        {"action": "subscribe", "request_id": 2, "model": "todolist.Task", "snapshot": True}
    ]
    assert talk.session.resubscribe(talk.subscription) == []
    assert list(talk.subscription.collection.items) == [1]
    talk.load(2)
    assert talk.subscription.attempts == 0
    assert list(talk.subscription.collection.items) == [2]


def test_who_is_refused_is_told(talk: Conversation) -> None:
    talk.load(1)
    talk.take("end", code=403)

    assert isinstance(talk.subscription.error, ForbiddenError)
    assert talk.subscription.state is State.ENDED
    assert talk.connect() == []


def test_a_subscription_that_was_never_made_has_a_reason(talk: Conversation) -> None:
    talk.take("error", code=404, message="There is no model x.")

    assert talk.subscription.error is not None
    assert str(talk.subscription.error) == "There is no model x."


def test_who_leaves_hears_no_more(talk: Conversation) -> None:
    talk.load(1)

    assert talk.session.unsubscribe(talk.subscription) == [{"action": "unsubscribe", "request_id": 1}]
    talk.take("changes", changes=[updated(1, 9)], more=False)
    assert talk.subscription.collection.items[1].version == 1
    assert talk.subscription.take_news() == []
    assert talk.connect() == []
    assert talk.session.unsubscribe(talk.subscription) == []


def test_who_leaves_while_waiting_is_not_asked_for_again(talk: Conversation) -> None:
    talk.take("end", code=503)

    assert talk.session.unsubscribe(talk.subscription) == []
    assert talk.session.again == []
    assert talk.session.resubscribe(talk.subscription) == []


def test_news_that_nobody_looks_at_is_bounded(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_NEWS", 2)
    talk.load(1)
    for version in range(2, 5):
        talk.take("changes", changes=[updated(1, version)], more=False)

    assert [change.action for change in talk.subscription.take_news()] == ["RESET"]
    assert talk.subscription.collection.items[1].version == 4


def test_the_server_is_answered_and_heard(talk: Conversation) -> None:
    assert talk.take("ping") == [{"action": "pong"}]
    assert talk.take("pong") == []
    assert talk.take("bye", code=4503, reconnect=True, after_ms=250) == []
    assert talk.session.bye is not None
    assert talk.session.bye.after_ms == 250
    talk.connect()
    assert talk.session.bye is None


def test_welcome_is_said_once(talk: Conversation) -> None:
    with pytest.raises(BadFrame):
        talk.session.receive(WELCOME, 1)


def test_frames_of_others_are_passed_over(talk: Conversation) -> None:
    for name in (99, None, "1", [1]):
        talk.take("subscribed", request_id=name, how="live", epoch="e", position="p")
        talk.take("changes", request_id=name, changes=[updated(1, 9)], more=False)
        talk.take("reset", request_id=name)
        talk.take("end", request_id=name, code=500)

    assert talk.subscription.state is State.ASKED
    assert talk.subscription.collection.items == {}


def test_when_it_fails_for_good_everybody_knows(talk: Conversation) -> None:
    error = ClientError("closed")
    talk.session.fail(error)

    assert talk.subscription.error is error
    assert isinstance(talk.subscription, Subscription)
