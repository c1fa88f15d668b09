"""The hub's life: when it reads by itself, and that it ends when it is told to."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from drf_concord.live.hub import Hub
from drf_concord.live.pool import pool
from drf_concord.protocol.changes import Change, Op


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


class Socket:
    """Somebody's, as the hub knows it."""

    def __init__(self, pk: str) -> None:
        self.caller = SimpleNamespace(pks={pk})
        self.asked = False

    def members(self) -> list[Any]:
        return []

    def spawn(self, work: Any) -> None:
        work.close()
        self.asked = True


@pytest.mark.parametrize(("model", "column"), [("app.Keyed", None), ("auth.User_groups", "user_id")])
def test_a_user_is_known_however_the_database_writes_his_key(
    settings: Any, monkeypatch: pytest.MonkeyPatch, model: str, column: str | None
) -> None:
    settings.AUTH_USER_MODEL = "app.Keyed"
    monkeypatch.setattr("drf_concord.live.hub.account_labels", lambda: {"auth.User_groups"})
    ada = uuid.uuid4()
    routes = {} if column is None else {column: (None, ada.hex)}
    # as SQLite has it
    change = Change(1, 1, model, ada.hex, Op.UPDATE, None, None, (), routes, None, 0)

    async def run() -> list[bool]:
        hub, hers, his = Hub(), Socket(str(ada)), Socket(str(uuid.uuid4()))
        hub.listeners = {hers, his}  # type: ignore[arg-type]
        hub._accounts_changed([change], set())
        return [hers.asked, his.asked]

    assert asyncio.run(run()) == [True, False]
