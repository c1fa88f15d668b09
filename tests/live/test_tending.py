"""The hub prunes now and then, in a thread of the pool, and writers of its process leave it to it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from drf_concord import changes, pruning
from drf_concord.live import tending
from drf_concord.live.hub import Hub
from drf_concord.live.pool import pool
from drf_concord.models import Change
from tests.app.models import Texted
from tests.settings import TEST_DB

USING = "default"


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tending, "PAUSE", 0.0)
    monkeypatch.setattr(pruning, "_tended", Counter())
    monkeypatch.setattr(pruning, "_behind", set())
    monkeypatch.setattr(pruning, "_failing", set())
    yield
    pool.close()


def test_it_goes_on_until_nothing_is_left_in_threads_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def part(using: str) -> bool:
        seen.append(threading.current_thread().name)
        return len(seen) < 3

    monkeypatch.setattr(pruning, "prune_quietly", part)
    asyncio.run(tending.sweep(USING))
    assert seen == ["concord-pool"] * 3


def test_it_comes_round_again_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sweeps: list[bool] = []

    async def run() -> None:
        enough = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        async def sweep(using: str) -> None:
            sweeps.append(bool(pruning._tended[using]))
            if len(sweeps) == 50:
                enough.set()
                await asyncio.Event().wait()

        monkeypatch.setattr(tending, "asyncio", SimpleNamespace(sleep=sleep))
        monkeypatch.setattr(tending, "sweep", sweep)
        task = asyncio.create_task(tending.tend(USING))
        await asyncio.wait_for(enough.wait(), 5)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert all(sweeps)
    assert not pruning._tended[USING]
    assert all(30 <= wait < 90 for wait in waits)
    assert len(set(waits)) > 40


@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_hub_prunes_for_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.BATCH, TEST_DB, 2)
    Texted.objects.bulk_create([Texted(code=str(n)) for n in range(6)])
    swept = asyncio.Event()
    sweep = tending.sweep

    async def tell(using: str) -> None:
        await sweep(using)
        swept.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(tending, "EVERY", 0.0)
    monkeypatch.setattr(tending, "sweep", tell)

    async def run() -> None:
        hub = Hub(USING)
        await hub.start()
        try:
            await asyncio.wait_for(swept.wait(), 10)
            assert pruning._tended[USING] == 1
        finally:
            await hub.stop()
        assert pruning._tended[USING] == 0

    with override_settings(CONCORD={"RETENTION_ROWS": 1, "HINTS": ()}):
        async_to_sync(run)()
    assert Change.objects.count() == 1


@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_hub_that_cannot_prune_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "EVERY", 0.0)
    tried = asyncio.Event()

    def broken(*_: Any, **__: Any) -> int:
        tried.set()
        raise ZeroDivisionError

    monkeypatch.setattr(changes, "prune_some", broken)

    async def run() -> None:
        hub = Hub(USING)
        await hub.start()
        try:
            await asyncio.wait_for(tried.wait(), 10)
            await pool.run(lambda: Texted.objects.create(code="a"))
            before = hub.tick
            await hub.drain()
            assert hub.tick >= before
            assert not [task for task in hub._tasks if task.done()]
        finally:
            await hub.stop()

    with override_settings(CONCORD={"HINTS": ()}):
        async_to_sync(run)()
