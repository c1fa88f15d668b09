"""A reader that goes by positions misses nothing, whoever writes; wrong cursors are caught by the same judge.

The writers are processes with slow transactions, savepoints, rollbacks and statements on many rows. What the
reader was given is judged by one rule for each promise: nothing missed, nothing twice, no row back in time,
no transaction in two parts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, connections

from drf_concord import changes
from drf_concord.protocol.changes import Snapshot
from tests.app.models import Texted
from tests.concurrency.raw_writer import ROWS, TRANSACTIONS
from tests.concurrency.threads import PATIENCE
from tests.settings import TEST_DB

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = {"postgresql": 4, "sqlite": 2}[TEST_DB] if TEST_DB in ("postgresql", "sqlite") else 0

# ---------------------------------------------------------------------------------- the writers


@pytest.fixture
def writers() -> Iterator[Callable[[], list[subprocess.Popen[str]]]]:
    """Return a function that starts the writers; they wait for a word to begin."""
    started: list[subprocess.Popen[str]] = []
    settings = connection.settings_dict
    target = {"path": str(settings["NAME"])}
    if TEST_DB == "postgresql":
        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
        target = {"dsn": " ".join(f"{k}={settings[v]}" for k, v in names.items() if settings[v])}

    def start() -> list[subprocess.Popen[str]]:
        for seed in range(WRITERS):
            command = [sys.executable, "-m", "tests.concurrency.raw_writer"]
            command.append(json.dumps(target | {"seed": seed}))
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.append(process)
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


# -------------------------------------------------------------------------------- the readers


@dataclass
class Reader:
    """Somebody who reads on, and what he was given: batches of (id, transaction, row, version)."""

    read: Callable[[], list[tuple[int, int, str, int]]]
    batches: list[list[tuple[int, int, str, int]]] = field(default_factory=list)

    def step(self) -> int:
        batch = self.read()
        if batch:
            self.batches.append(batch)
        return len(batch)


def raw(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def by_position() -> Reader:
    """Read as the product does."""
    position = changes.position("default")
    xids: dict[int, int] = {}

    def read() -> list[tuple[int, int, str, int]]:
        nonlocal position
        position, found = changes.read_after(position, using="default")
        if found and TEST_DB == "postgresql":
            xids.update(
                raw(
                    "SELECT id, xid::text::bigint FROM concord_change WHERE id = ANY(%s)",
                    [c.id for c in found],
                )
            )
        return [(c.id, xids.get(c.id, 0), c.pk, c.version or 0) for c in found]

    return Reader(read)


def by_cursor(where: str, order: str, key: Callable[[tuple[int, int, str, int]], Any], start: Any) -> Reader:
    """Read as one might think that it works."""
    last = start

    def read() -> list[tuple[int, int, str, int]]:
        nonlocal last
        parameters = last if isinstance(last, tuple) else (last,)
        found: list[tuple[int, int, str, int]] = raw(
            "SELECT id, xid::text::bigint, pk, version FROM concord_change"
            f" WHERE model = 'app.Texted' AND {where} ORDER BY {order}",
            *parameters,
        )
        last = max((key(row) for row in found), default=last)
        return found

    return Reader(read)


OVER = "xid < pg_snapshot_xmin(pg_current_snapshot())"
WRONG: dict[str, tuple[Callable[[int], Reader], str]] = {
    "by the id": (lambda at: by_cursor("id > %s", "id", lambda row: row[0], at), "missed"),
    "by the id, below every running transaction": (
        lambda at: by_cursor(f"id > %s AND {OVER}", "id", lambda row: row[0], at),
        "missed",
    ),
    "by the transaction, below every running one": (
        lambda at: by_cursor(
            f"(xid::text::bigint, id) > (%s, %s) AND {OVER}",
            "xid, id",
            lambda row: (row[1], row[0]),
            (0, 0),
        ),
        "inverted",
    ),
}

# ---------------------------------------------------------------------------------- the judge


def judge(reader: Reader, written: dict[int, int]) -> dict[str, int]:
    """Count what a reader was done wrong.

    Args:
        reader: who has read to the end.
        written: the transaction of every change that was committed.
    """
    given = [row for batch in reader.batches for row in batch]
    ids = [row[0] for row in given]
    newest: dict[str, int] = {}
    inverted = 0
    for _, _, row, version in given:
        inverted += version < newest.get(row, 0)
        newest[row] = max(version, newest.get(row, 0))
    parts = [{row[1] for row in batch} for batch in reader.batches]
    whole: set[int] = set()
    split = 0
    for part in parts:
        split += len(part & whole - {0})
        whole |= part
    return {
        "missed": len(written.keys() - set(ids)),
        "twice": len(ids) - len(set(ids)),
        "inverted": inverted,
        "split": split,
    }


def run(readers: list[Reader], processes: list[subprocess.Popen[str]], first: int) -> dict[int, int]:
    """Let the writers write and the readers read, to the end of both; returns what was committed."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    end = time.monotonic() + PATIENCE * 2
    running = True
    while running or sum([reader.step() for reader in readers]):
        running = any(process.poll() is None for process in processes)
        for reader in readers:
            reader.step()
        assert time.monotonic() < end, "the writers did not come to an end"
    assert [process.stdout.read() for process in processes if process.stdout] == ["done\n"] * WRITERS
    xid = "xid::text::bigint" if TEST_DB == "postgresql" else "0"
    return dict(raw(f"SELECT id, {xid} FROM concord_change WHERE id > %s AND model = 'app.Texted'", first))


def prepare() -> int:
    """Make the rows; returns the id of the last change so far."""
    Texted.objects.bulk_create([Texted(code=f"{n:02}") for n in range(ROWS)])
    return int(raw("SELECT max(id) FROM concord_change")[0][0])


NOTHING = {"missed": 0, "twice": 0, "inverted": 0, "split": 0}


def test_nothing_is_missed_repeated_inverted_or_split(
    writers: Callable[[], list[subprocess.Popen[str]]],
) -> None:
    first = prepare()
    right = by_position()
    wrong = {name: make(first) for name, (make, _) in WRONG.items()} if TEST_DB == "postgresql" else {}
    written = run([right, *wrong.values()], writers(), first)

    # without traffic, and without competition, nothing was tried
    assert len(written) > WRITERS * TRANSACTIONS, "void"
    assert len(right.batches) > 10, "void"
    assert judge(right, written) == NOTHING
    for name, (_, what) in WRONG.items() if wrong else ():
        assert judge(wrong[name], written)[what] > 0, f"{name}: void, or the judge is blind"


@pytest.fixture
def others() -> Iterator[Callable[[], Any]]:
    """Return a function that opens one more connection, in a transaction."""
    opened: list[Any] = []

    def open_() -> Any:
        opened.append(connections["default"].copy())
        opened[-1].set_autocommit(False)
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def update(session: Any, code: str, table: str = "app_texted") -> None:
    with session.cursor() as cursor:
        if table == "app_bare":
            cursor.execute("INSERT INTO app_bare (text) VALUES ('x')")
        else:
            cursor.execute("UPDATE app_texted SET text = 'x' WHERE code = %s", [code])


def commits_late(step: Callable[[], None], others: Callable[[], Any]) -> None:
    """The change with the lower id is committed later."""
    one, two = others(), others()
    update(one, "01")
    update(two, "02")
    two.commit()
    step()
    one.commit()


def begins_early(step: Callable[[], None], others: Callable[[], Any]) -> None:
    """A transaction below every running one has a higher id than a running one's."""
    early, late = others(), others()
    update(late, "00", "app_bare")  # has the lower number, and no change yet
    update(early, "01")
    update(late, "02")
    late.commit()
    step()
    early.commit()


def overtaken(step: Callable[[], None], others: Callable[[], Any]) -> None:
    """The transaction with the lower number writes a row after the one with the higher number."""
    one, two = others(), others()
    update(one, "00", "app_bare")
    update(two, "01")
    two.commit()
    update(one, "01")
    one.commit()


STORIES = {
    "by the id": commits_late,
    "by the id, below every running transaction": begins_early,
    "by the transaction, below every running one": overtaken,
}


@pytest.mark.alone
@pytest.mark.postgresql
@pytest.mark.parametrize("name", WRONG)
def test_the_story_in_which_a_wrong_cursor_fails(name: str, others: Callable[[], Any]) -> None:
    first = prepare()
    make, what = WRONG[name]
    readers = [by_position(), make(first)]

    def step() -> None:
        for reader in readers:
            reader.step()

    for reader in readers:
        reader.step()
        reader.batches.clear()  # what was there before
    STORIES[name](step, others)
    step()
    step()
    xid = "SELECT id, xid::text::bigint FROM concord_change WHERE id > %s AND model = 'app.Texted'"
    written = dict(raw(xid, first))
    assert len(written) == 2
    assert judge(readers[0], written) == NOTHING
    assert judge(readers[1], written)[what] == 1


@pytest.mark.postgresql
def test_a_reader_does_not_wait_for_a_long_transaction(others: Callable[[], Any]) -> None:
    prepare()
    reader, long = by_position(), others()
    update(long, "00", "app_bare")
    for code in ("01", "02"):
        short = others()
        update(short, code)
        short.commit()
        assert reader.step() == 1
    assert Snapshot.parse(changes.position("default").cursor).xip != ()
