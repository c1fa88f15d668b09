"""The client with an event loop, against a real server: the same answers as without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from drf_concord.client import (
    AsyncClient,
    Client,
    ConflictError,
    ConnectionFailed,
    LockedError,
    LockLostError,
    NotFoundError,
)
from drf_concord.client.aio import AsyncResource
from tests.transports.proxy import free_port

pytestmark = pytest.mark.sqlite

WITHIN = 30


class Wire(httpx.AsyncHTTPTransport):
    """The network; renewals of locks are counted, and held back from when `hang` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.renewals = asyncio.Semaphore(0)
        self.hang = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        renewal = request.method == "PATCH" and request.url.path.endswith("/lock/")
        if self.hang and renewal:
            await asyncio.Event().wait()
        response = await super().handle_async_request(request)
        if renewal:
            self.renewals.release()
        return response


@pytest.fixture
def task(ada: Client) -> int:
    return int(ada.resource("tasks/").create({"text": "new", "list": 1})["id"])


@pytest.fixture
def run(api: str) -> Callable[[Callable[[AsyncResource, Wire], Awaitable[Any]]], Any]:
    """Run a coroutine with the tasks of a client, in an event loop of its own."""

    def run(play: Callable[[AsyncResource, Wire], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            wire = Wire()
            async with (
                asyncio.timeout(WITHIN),
                AsyncClient(api, auth=("guido", "guido"), transport=wire, timeout=60) as client,
            ):
                return await play(client.resource("tasks/", "todolist.Task"), wire)

        return asyncio.run(main())

    return run


def test_the_story(run: Any, ada: Client, task: int) -> None:
    hers = ada.resource("tasks/")

    async def story(tasks: AsyncResource, wire: Wire) -> None:
        mine = await tasks.get(task)
        assert await tasks.get(task) is mine
        hers.patch(task, {"text": "hers"})
        with pytest.raises(ConflictError) as refused:
            await tasks.patch(mine, {"text": "mine"})
        assert refused.value.theirs is not None
        done = await tasks.update(refused.value.theirs, {**mine, "text": "ours"})
        assert task in [item.pk for item in await tasks.list(list=1)]
        await tasks.delete(done)
        with pytest.raises(NotFoundError):
            await tasks.get(task)
        assert (await tasks.create({"text": "again", "list": 1}))["text"] == "again"

    run(story)


def test_a_lock(run: Any, ada: Client, task: int) -> None:
    hers = ada.resource("tasks/")

    async def story(tasks: AsyncResource, wire: Wire) -> None:
        async with tasks.lock(task, ttl=1, reason="tea") as held:
            for _ in range(4):
                await wire.renewals.acquire()
            await held.patch({"text": "mine"})
            await held.update({"text": "mine", "list": 1})
            assert (await held.get())["text"] == "mine"
            with pytest.raises(LockedError):
                hers.patch(task, {}, if_match=None)
        assert (await tasks.lock_state(task))["state"] == "free"
        async with tasks.lock(task) as held:
            await held.delete()

    run(story)


def test_a_lock_is_given_back_when_something_goes_wrong(run: Any, task: int) -> None:
    async def story(tasks: AsyncResource, wire: Wire) -> None:
        with pytest.raises(ZeroDivisionError):
            async with tasks.lock(task, ttl=60):
                raise ZeroDivisionError
        assert (await tasks.lock_state(task))["state"] == "free"

    run(story)


def test_a_lock_whose_renewal_is_not_answered_is_lost_in_time(run: Any, task: int) -> None:
    async def story(tasks: AsyncResource, wire: Wire) -> None:
        told: list[str] = []
        async with tasks.lock(task, ttl=1, on_lost=lambda: told.append("lost")) as held:
            wire.hang = True
            await held.lost.wait()
            with pytest.raises(LockLostError):
                await held.patch({"text": "too late"})
        assert told == ["lost"]

    run(story)


def test_a_lock_that_is_broken_is_lost(run: Any, admin: Client, task: int) -> None:
    async def story(tasks: AsyncResource, wire: Wire) -> None:
        async with tasks.lock(task, ttl=1.5) as held:
            admin.resource("tasks/").break_lock(task)
            await held.lost.wait()

    run(story)


def test_locks_of_others_and_ones_own(run: Any, api: str, task: int) -> None:
    async def story(tasks: AsyncResource, wire: Wire) -> None:
        async with AsyncClient(api, auth=("admin", "admin"), timeout=60) as admin, tasks.lock(task, ttl=60):
            assert str(task) in [lock["pk"] for lock in await admin.locks(mine=False)]
            assert await admin.locks() == []
            await admin.resource("tasks/").break_lock(task)
        async with tasks.lock(task, ttl=60):
            await tasks.unlock(task)

    run(story)


def test_nobody_answers() -> None:
    async def story() -> None:
        async with AsyncClient(f"http://127.0.0.1:{free_port()}/api/") as client:
            with pytest.raises(ConnectionFailed):
                await client.resource("tasks/").get(1)
            with pytest.raises(ConnectionFailed):
                async with client.connect():
                    pass

    asyncio.run(story())
