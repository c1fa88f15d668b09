"""Looking at a SQLite file: every commit of another connection is noticed, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from drf_concord.live import watch as module

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = str(tmp_path / "watched.sqlite3")
    alias = SimpleNamespace(get_connection_params=lambda: {"database": found})
    monkeypatch.setattr(module, "connections", {"default": alias})
    return found


async def _woken(name: str, write: Any, *, wait: float = 5.0) -> bool:
    """Tell whether a write woke somebody; the first look always does."""
    woken = asyncio.Event()
    task = asyncio.create_task(module.watch("default", woken.set))
    try:
        await asyncio.wait_for(woken.wait(), 5)
        woken.clear()
        write(name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), wait)
        return woken.is_set()
    finally:
        task.cancel()
        await asyncio.wait([task])


def _commit(name: str) -> None:
    connection = sqlite3.connect(name)
    with connection:
        connection.execute("CREATE TABLE written (id)")
    connection.close()


def _roll_back(name: str) -> None:
    connection = sqlite3.connect(name)
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE written (id)")
    connection.rollback()
    connection.close()


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_commit_is_noticed(name: str, journal: str) -> None:
    connection = sqlite3.connect(name)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.close()

    assert asyncio.run(_woken(name, _commit))


def test_what_was_rolled_back_wakes_nobody(name: str) -> None:
    assert not asyncio.run(_woken(name, _roll_back, wait=0.1))


def test_a_file_that_is_locked_for_a_moment_is_looked_at_again(name: str) -> None:
    held: list[sqlite3.Connection] = []

    def lock(name: str) -> None:
        connection = sqlite3.connect(name, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        held.append(connection)

    async def run() -> bool:
        found = await _woken(name, lock)
        held.pop().close()
        return found

    assert asyncio.run(run())


def test_where_nobody_writes_it_looks_less_often(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1_100:
            _commit(name)
        if len(waits) == 1_200:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(module.watch("default", lambda: None))
    assert set(waits[:1_000]) == {module.SOON}
    assert set(waits[1_000:1_100]) == {module.LATER}
    assert set(waits[1_100:]) == {module.SOON}
