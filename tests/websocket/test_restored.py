"""A database file that was put back: who resumes after it is told to begin anew, and only who has to."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from drf_concord import changes
from drf_concord.models import Change
from drf_concord.protocol.errors import PositionLost
from drf_concord.protocol.positions import Position
from drf_concord.testing import APICommunicator
from tests.app.models import Item
from tests.app.sockets import application

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

USING = "default"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The database, in a file that nobody else has open, so that it can be taken away."""
    path = tmp_path / "live.sqlite3"
    copy_to(path)
    connection.close()
    with monkeypatch.context() as moved:
        moved.setitem(connection.settings_dict, "NAME", str(path))
        yield path
        connection.close()


def copy_to(path: Path) -> None:
    """Copy the database as it is now, with what is only in its write-ahead log yet."""
    connection.ensure_connection()
    copy = sqlite3.connect(path)
    connection.connection.backup(copy)
    copy.close()


def put_back(copy: Path, path: Path) -> None:
    """Restore a copy while nobody has the database open."""
    connection.close()
    for rest in ("-wal", "-shm"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    shutil.copyfile(copy, path)


@dataclass
class Client:
    """What a client keeps from one socket to the next: its copy, and the position it is of."""

    copy: dict[int, Any] = field(default_factory=dict)
    since: dict[str, str] | None = None
    frames: list[Any] = field(default_factory=list)

    @property
    def position(self) -> Position:
        assert self.since is not None
        return Position.decode(self.since["position"])

    @property
    def kinds(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    async def visit(self) -> None:
        """Open a socket in session mode, subscribe or resume, take in what comes, and go."""
        resumption = {} if self.since is None else {"since": self.since, "have": list(self.copy)}
        socket = APICommunicator(application, "/ws/", subprotocols=["concord.v1"])
        assert await socket.connect() == (True, "concord.v1")
        assert (await socket.receive_json_from())["type"] == "welcome"
        frame = {"action": "subscribe", "request_id": 1, "model": "app.Item", "snapshot": not resumption}
        await socket.send_json_to({**frame, **resumption})
        self.frames = []
        while not await socket.receive_nothing():
            self.take_in(await socket.receive_json_from())
        await socket.disconnect()

    def take_in(self, frame: Any) -> None:
        self.frames.append(frame)
        if frame["type"] == "reset":
            self.copy.clear()
        elif frame["type"] == "subscribed":
            self.since = {"epoch": frame["epoch"], "position": frame["position"]}
        for change in (*frame.get("items", ()), *frame.get("changes", ())):
            if change.get("action") == "DELETED":
                self.copy.pop(change["pk"], None)
            else:
                self.copy[change["pk"]] = change["instance"]


def texts(client: Client) -> dict[int, str]:
    return {pk: instance["text"] for pk, instance in client.copy.items()}


def stored() -> dict[int, str]:
    return dict(Item.objects.values_list("pk", "text"))


def test_a_reader_notices_a_restore_under_its_hands(file: Path, tmp_path: Path) -> None:
    """With SQLite's ``.restore``: the file stays, and so does every connection to it."""
    Item.objects.create(pk=1, text="kept")
    copy_to(tmp_path / "copy.sqlite3")
    early = changes.position(USING)
    Item.objects.create(pk=2, text="lost")
    late = changes.position(USING)
    copy = sqlite3.connect(tmp_path / "copy.sqlite3")
    copy.backup(connection.connection)
    copy.close()
    assert stored() == {1: "kept"}
    for text in ("other", "another"):
        with pytest.raises(PositionLost) as caught:
            changes.read_after(late, using=USING)
        assert caught.value.members == {"reason": "epoch"}
        Item.objects.create(text=text)
    position, found = changes.read_after(early, using=USING)
    assert len(found) == 2
    assert changes.read_after(position, using=USING) == (position, [])


def test_who_resumes_after_a_restore_gets_a_fresh_copy(file: Path, tmp_path: Path) -> None:
    visit = async_to_sync(Client.visit)  # each on an event loop, and so with a hub, of its own
    early, late = Client(), Client()
    Item.objects.create(pk=1, text="kept")
    visit(early)
    Item.objects.create(pk=2, text="kept, in the write-ahead log")
    assert file.with_name("live.sqlite3-wal").stat().st_size > 0
    copy_to(tmp_path / "copy.sqlite3")
    Item.objects.create(pk=3, text="lost")
    Item.objects.filter(pk=1).update(text="lost")
    visit(late)
    assert texts(late) == stored() == {1: "lost", 2: "kept, in the write-ahead log", 3: "lost"}

    put_back(tmp_path / "copy.sqlite3", file)
    with transaction.atomic():
        Item.objects.create(pk=4, text="other")
        Item.objects.filter(pk=2).update(text="other")
        Item.objects.create(pk=5, text="later")
    # else the position would be lost because its change is not there, and not because it is another one
    seen = Change.objects.get(pk=late.position.last_id)
    assert seen.nonce != late.position.last_nonce
    with pytest.raises(PositionLost) as caught:
        changes.check_position(late.position, using=USING)
    assert caught.value.members == {"reason": "epoch"}

    visit(late)
    assert late.kinds == ["reset", "subscribed", "snapshot"]
    assert late.frames[0]["code"] == "epoch"
    assert late.frames[1]["how"] == "snapshot"
    assert texts(late) == stored() == {1: "kept", 2: "other", 4: "other", 5: "later"}

    # what an older client saw is in the copy too: it misses nothing and is not sent away
    visit(early)
    assert early.kinds == ["subscribed", "changes"]
    assert early.frames[0]["how"] == "resumed"
    assert texts(early) == stored()
    visit(late)
    assert late.kinds == ["subscribed"]
