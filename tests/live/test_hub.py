"""The hub's life: when it reads by itself, and that it ends when it is told to."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync

from drf_concord.live.hub import Hub
from drf_concord.live.pool import pool


def test_a_stop_that_comes_together_with_a_hint_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> int:
        return 0

    async def run() -> bool:
        hub = Hub()
        monkeypatch.setattr(hub, "step", nothing)
        reading = asyncio.create_task(hub._run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hub._wake.set()
        await asyncio.sleep(0)  # what waits for the hint has it, who waits for that has not
        reading.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        over = reading.done()
        reading.cancel()
        return over

    assert asyncio.run(run())


@pytest.mark.sqlite
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_where_a_test_steps_it_nothing_happens_by_itself() -> None:
    async def run() -> None:
        pool.run_inline()
        hub = Hub()
        before = asyncio.all_tasks()
        await hub.start()
        assert hub.started
        assert hub.position.epoch
        assert asyncio.all_tasks() == before

    async_to_sync(run)()
