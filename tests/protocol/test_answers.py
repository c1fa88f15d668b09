"""What the session sends is what the types and the schema say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drf_concord.protocol import answers
from drf_concord.protocol.session import Follow, Rendered, Session

SCHEMA = Path(__file__).resolve().parents[2] / "spec" / "frames.schema.json"


def test_the_schema_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == answers.schema(), "run: python scripts/schema.py"


def session(*, sequenced: bool) -> tuple[Session, bytes]:
    made = Session(sequenced=sequenced)
    [command], _ = made.receive('{"request_id": [8], "model": "app.Item", "value": 1}')
    assert isinstance(command, Follow)
    return made, command.key


def rendered(action: str) -> Rendered:
    return Rendered(action, '"k"', '{"id":"k"}', '"t"', 5, "left" if action == "DELETED" else None)


@pytest.mark.parametrize("action", ["CREATED", "UPDATED", "DELETED"])
def test_changes(action: str) -> None:
    plain, key = session(sequenced=False)
    [frame] = plain.deliver(key, "app.Item", [rendered(action)])
    found: Any = msgspec.json.decode(frame, type=answers.Broadcast)
    assert (found.request_id, found.action, found.model) == ([8], action, "app.Item")
    sequenced, key = session(sequenced=True)
    [frame] = sequenced.deliver(key, "app.Item", [rendered(action)])
    assert msgspec.json.decode(frame, type=answers.Changes).seq == 1


def test_the_other_frames() -> None:
    plain, key = session(sequenced=False)
    made, key = session(sequenced=True)
    for frame, kind in (
        (plain.reply("list", b"1", 200, data=b"[]"), answers.Reply),
        (made.reply("list", b"1", 200, data=b"[]"), answers.SessionReply),
        (made.error(b"1", 404, "no"), answers.Refused),
        (made.welcome("c", "e", 25, 8), answers.Welcome),
        (made.subscribed(key, "live", "e", "p", 3600), answers.Subscribed),
        (made.snapshot(key, [rendered("CREATED")])[0], answers.Snapshot),
        (made.mark("e", "p"), answers.Mark),
        (made.reset(key, "expired"), answers.Reset),
        (made.bye(4503, 10), answers.Bye),
        (made.end(key, 403), answers.End),
    ):
        assert isinstance(msgspec.json.decode(frame, type=kind), kind)
