"""The threads of the pool: as many as there is work for, and none for longer than that."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from django.test import override_settings

from drf_concord.live import pool as pools
from drf_concord.live.pool import Pool

THREADS, ROUNDS = 4, 100
PATIENCE = 10.0  # seconds


def threads() -> dict[str, Any]:
    return {"CONCORD": {"SOCKET_THREADS": THREADS, "CAPTURE": ["app.Watched"]}}


class Queue:
    """A queue at which one thread stands still when it has taken something."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.armed = False
        self.taken, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get(self, timeout: float) -> Any:
        item = self.real.get(timeout=timeout)
        if self.armed:
            self.armed = False
            self.taken.set()
            assert self.go.wait(PATIENCE)
        return item


def test_work_that_was_just_taken_keeps_no_thread_free_for_other_work() -> None:
    """A thread that has taken work is busy at once, else what comes in that moment waits for its end."""
    pool = Pool()
    queue = pool._queue = Queue(pool._queue)  # type: ignore[assignment]

    async def run() -> None:
        await pool.run(threading.get_ident)
        queue.armed = True
        first = asyncio.ensure_future(pool.run(threading.get_ident))
        await asyncio.to_thread(queue.taken.wait, PATIENCE)
        async with asyncio.timeout(PATIENCE):
            other = await pool.run(threading.get_ident)
        queue.go.set()
        assert await first != other

    try:
        asyncio.run(run())
    finally:
        queue.go.set()
        pool.close()


@override_settings(**threads())
def test_works_run_side_by_side() -> None:
    pool = Pool()

    async def run() -> None:
        for _ in range(ROUNDS):
            meeting = threading.Barrier(THREADS)
            await asyncio.gather(*(pool.run(partial(meeting.wait, PATIENCE)) for _ in range(THREADS)))

    try:
        asyncio.run(run())
    finally:
        pool.close()


@override_settings(**threads())
def test_there_are_no_more_threads_than_allowed() -> None:
    pool, seen = Pool(), set[int]()

    async def run() -> None:
        await asyncio.gather(*(pool.run(lambda: seen.add(threading.get_ident())) for _ in range(100)))

    asyncio.run(run())
    assert 1 <= len(seen) <= THREADS
    pool.close()


def test_a_thread_without_work_ends_and_another_takes_what_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "IDLE", 0.01)
    pool = Pool()

    async def run() -> threading.Thread:
        return await pool.run(threading.current_thread)

    first = asyncio.run(run())
    first.join(PATIENCE)
    assert not first.is_alive()
    assert asyncio.run(run()) is not first


def test_closing_ends_every_thread_after_the_work_that_was_there() -> None:
    pool = Pool()

    async def run() -> threading.Thread:
        work = asyncio.ensure_future(pool.run(threading.current_thread))
        await asyncio.sleep(0)
        pool.close()
        return await work

    thread = asyncio.run(run())
    thread.join(PATIENCE)
    assert not thread.is_alive()


@override_settings(**threads())
def test_work_that_comes_after_closing_is_done_though_all_threads_were_busy() -> None:
    pool, go = Pool(), threading.Event()

    async def run() -> int:
        busy = [asyncio.ensure_future(pool.run(partial(go.wait, PATIENCE))) for _ in range(THREADS)]
        await asyncio.sleep(0)
        pool.close()
        work = asyncio.ensure_future(pool.run(threading.get_ident))
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*busy)
            return await work

    assert asyncio.run(run())
    pool.close()


def test_a_connection_that_cannot_be_revived_is_told_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool()

    def revive(**_: Any) -> None:
        raise OSError("broken")

    async def run() -> int:
        with monkeypatch.context() as patch:
            patch.setattr(pools, "_revive", revive)
            with pytest.raises(OSError, match="broken"):
                async with asyncio.timeout(PATIENCE):
                    await pool.run(threading.get_ident)
        return await pool.run(threading.get_ident)

    assert asyncio.run(run())
    pool.close()
