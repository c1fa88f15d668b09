"""Live connections: against a real server whose connections are cut, and against one that is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from drf_concord.client import (
    AsyncClient,
    Change,
    Client,
    ClientError,
    ConnectionFailed,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    live,
)
from drf_concord.client.following import LiveCollection
from drf_concord.client.live import Live
from tests.demo.process import Demo
from tests.transports.proxy import Proxy

pytestmark = pytest.mark.sqlite

WITHIN = 60
WELCOME = {"type": "welcome", "connection": "c", "ping": 25, "pong": 8, "window": 1000, "max_frame": 100_000}


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(WITHIN):
            return await main()

    return asyncio.run(bounded())


@pytest.fixture(autouse=True)
def no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lot falls on no wait at all, wherever one is drawn."""
    monkeypatch.setattr("random.random", lambda: 0.0)


def told(items: Any) -> dict[Any, Any]:
    return {item.pk: dict(item) for item in items}


async def settled(collection: LiveCollection, wanted: Callable[[], Any]) -> None:
    """Wait until the collection is what a GET returns."""
    while told(collection.items) != await asyncio.to_thread(wanted):
        await anext(collection)


# A real server


@pytest.fixture
def group(guido: Client) -> int:
    """A list with three tasks."""
    made = int(guido.resource("lists/").create({"name": "live"})["id"])
    for number in range(3):
        guido.resource("tasks/").create({"text": f"task {number}", "list": made})
    return made


def fresh(client: Client, group: int) -> dict[Any, Any]:
    return told(client.resource("tasks/").list(list=group))


def test_what_is_there_and_what_changes(api: str, guido: Client, group: int) -> None:
    tasks = guido.resource("tasks/")

    async def story() -> None:
        async with AsyncClient(api, auth=("ada", "ada")) as client, client.connect() as connection:
            assert connection.connected
            everything = client.resource("tasks/", "todolist.Task")
            live_tasks = await connection.subscribe(everything, group_by="list_id", value=group).ready()
            assert told(live_tasks.items) == fresh(guido, group)

            first = live_tasks.items[0]
            assert first.pk is not None
            tasks.patch(first.pk, {"text": "changed"})
            change = await anext(live_tasks)
            assert (change.action, change.pk) == ("UPDATED", first.pk)
            assert change.item is live_tasks.get(first.pk)
            # what was pushed carries the tag that writes it back
            assert change.item is not None
            assert (await everything.patch(change.item, {"done": True}))["done"] is True
            assert (await anext(live_tasks)).action == "UPDATED"

            tasks.delete(first.pk, if_match=None)
            assert await anext(live_tasks) == Change("DELETED", first.pk, reason="deleted")
            with tasks.lock(live_tasks.items[0]):
                assert (await anext(live_tasks)).lock is not None
            assert told(live_tasks.items) == fresh(guido, group)

            await live_tasks.close()
            assert [change.action async for change in live_tasks] in ([], ["UNLOCKED"])

    run(story)


def test_a_collection_ends_as_a_get_whatever_is_cut(
    demo: Demo, api: str, guido: Client, group: int, database: Path
) -> None:
    """Writers go on while the connection is cut again and again: over HTTP, and past it in SQL."""
    rng = random.Random(7)
    other = int(guido.resource("lists/").create({"name": "elsewhere"})["id"])
    tasks = guido.resource("tasks/")
    going, done = threading.Event(), threading.Event()

    def write() -> None:
        going.wait(WITHIN)
        for number in range(60):
            here = [item.pk for item in tasks.list(list=group)]
            match rng.choice(["create", "patch", "patch", "move", "back", "delete", "sql"]):
                case "create":
                    tasks.create({"text": f"more {number}", "list": group})
                case "patch" if here:
                    tasks.patch(rng.choice(here), {"text": f"changed {number}"}, if_match=None)
                case "move" if here:
                    tasks.patch(rng.choice(here), {"list": other}, if_match=None)
                case "back":
                    for item in tasks.list(list=other)[:1]:
                        tasks.patch(item.pk, {"list": group}, if_match=None)
                case "delete" if here:
                    tasks.delete(rng.choice(here), if_match=None)
                case "sql":
                    with contextlib.closing(sqlite3.connect(database, timeout=20)) as raw:
                        raw.execute(
                            "UPDATE todolist_task SET notes = notes || 'x' WHERE list_id = ?", [group]
                        )
                        raw.commit()
        done.set()

    async def story(proxy: Proxy) -> None:
        async with (
            AsyncClient(api, auth=("guido", "guido")) as client,
            client.connect(f"ws://127.0.0.1:{proxy.port}/ws/") as connection,
        ):
            one = await connection.subscribe("todolist.Task", group_by="list_id", value=group).ready()
            queried = await connection.subscribe("todolist.Task", query={"list": group}).ready()
            seen = told(one.items)
            going.set()
            while not done.is_set():
                # after some changes, so that a resume has something to go on from
                for _ in range(rng.randrange(1, 4)):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            apply(seen, await anext(one))
                await asyncio.to_thread(proxy.cut)
                proxy.restore()
            await settled(queried, lambda: fresh(guido, group))
            while seen != fresh(guido, group):
                apply(seen, await anext(one))
            assert told(one.items) == seen

    writer = threading.Thread(target=write)
    writer.start()
    with Proxy("127.0.0.1", demo.port) as proxy:
        run(lambda: story(proxy))
        assert proxy.connected > 3
    writer.join(WITHIN)


def apply(seen: dict[Any, Any], change: Change) -> None:
    """Keep a copy from nothing but the changes."""
    if change.action == "DELETED":
        del seen[change.pk]
    else:
        assert change.item is not None
        assert (change.pk in seen) == (change.action == "UPDATED")
        seen[change.pk] = dict(change.item)


def test_a_connection_that_says_nothing_is_noticed(
    demo: Demo, api: str, guido: Client, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that it speaks every 25 seconds; here it is taken to have said sooner."""
    monkeypatch.setattr(live, "heartbeat", lambda seconds: 0.2)
    noticed = asyncio.Event()

    async def pause(seconds: float) -> None:
        noticed.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(live, "pause", pause)

    async def story(proxy: Proxy) -> None:
        async with (
            AsyncClient(api, auth=("guido", "guido")) as client,
            client.connect(f"ws://127.0.0.1:{proxy.port}/ws/") as connection,
        ):
            tasks = await connection.subscribe("todolist.Task", group_by="list_id", value=group).ready()
            proxy.hold()
            await client.resource("tasks/").create({"text": "unheard", "list": group})
            await noticed.wait()
            proxy.cut()
            proxy.restore()
            assert (await anext(tasks)).action == "CREATED"

    with Proxy("127.0.0.1", demo.port) as proxy:
        run(lambda: story(proxy))


def test_what_cannot_be_followed(api: str, guido: Client, group: int) -> None:
    async def story() -> None:
        async with AsyncClient(api) as client, client.connect() as connection:
            with pytest.raises(NotFoundError):
                await connection.subscribe("todolist.Nothing").ready()
            with pytest.raises(ClientError, match="no grouping"):
                await connection.subscribe("todolist.Task", group_by="colour", value=1).ready()
            with pytest.raises(ValueError, match="which model"):
                connection.subscribe(client.resource("tasks/"))
            # the others go on
            assert (
                len((await connection.subscribe("todolist.Task", query={"list": group}).ready()).items) == 3
            )

    run(story)


def test_one_object(api: str, guido: Client, group: int) -> None:
    tasks = guido.resource("tasks/")
    pk = tasks.list(list=group)[0].pk
    assert pk is not None

    async def story() -> None:
        async with AsyncClient(api) as client, client.connect() as connection:
            followed = await connection.subscribe("todolist.Task", group_by="pk", value=pk).ready()
            assert [item.pk for item in followed.items] == [pk]
            tasks.delete(pk)
            assert (await anext(followed)).action == "DELETED"
            assert followed.items == []

    run(story)


# A scripted server

Script = Callable[[ServerConnection, int], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(script: Script, **options: Any) -> AsyncIterator[str]:
    """Serve every connection by a script, which gets the connection and its number."""
    count = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await script(connection, count)

    options.setdefault("subprotocols", ["concord.v1"])
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/"


async def say(connection: ServerConnection, kind: str, **members: Any) -> None:
    await connection.send(json.dumps({"type": kind, **members}))


async def hear(connection: ServerConnection) -> Any:
    return json.loads(await connection.recv())


async def welcome(connection: ServerConnection, **members: Any) -> None:
    await connection.send(json.dumps(WELCOME | members))


async def snapshot(connection: ServerConnection, ask: Any, *pks: int, position: str = "p1") -> None:
    name = ask["request_id"]
    await say(
        connection, "subscribed", request_id=name, how="snapshot", epoch="e", position=position, keep=60
    )
    items = [{"pk": pk, "etag": '"1-0"', "version": 1, "instance": {"id": pk}} for pk in pks]
    await say(connection, "snapshot", request_id=name, seq=1, items=items, more=False)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(4400, ClientError), (4401, UnauthorizedError), (4403, ForbiddenError), (4499, ClientError)],
)
def test_a_final_close_is_final(code: int, kind: type[ClientError]) -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        assert number == 1
        await welcome(connection)
        await snapshot(connection, await hear(connection), 1)
        await connection.close(code)

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            tasks = await connection.subscribe("a.B").ready()
            with pytest.raises(kind):
                await anext(tasks)
            with pytest.raises(kind):
                connection.subscribe("a.B")
            assert [item.pk for item in tasks.items] == [1]

    run(story)


@pytest.mark.parametrize("code", [1000, 1011, 1012, 4429, 4500, 4503, 4508])
def test_after_any_other_close_it_comes_back_and_goes_on(code: int) -> None:
    asked = []

    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        asked.append(await hear(connection))
        if number == 1:
            await snapshot(connection, asked[0], 1)
            await say(connection, "mark", seq=2, epoch="e", position="p2")
            await connection.close(code)
            return
        name = asked[1]["request_id"]
        await say(connection, "subscribed", request_id=name, how="resumed", epoch="e", position="p2", keep=60)
        change = {"action": "CREATED", "pk": 2, "etag": '"2-0"', "version": 2, "instance": {"id": 2}}
        await say(connection, "changes", request_id=name, seq=1, changes=[change], more=False)
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            tasks = await connection.subscribe("a.B").ready()
            assert (await anext(tasks)).pk == 2
            assert [item.pk for item in tasks.items] == [1, 2]

    run(story)
    assert (asked[1]["since"], asked[1]["have"]) == ({"epoch": "e", "position": "p2"}, [1])


def test_who_is_sent_away_comes_back_no_sooner_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(live, "pause", pause)

    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        await snapshot(connection, await hear(connection), number)
        if number == 1:
            await say(connection, "bye", code=4503, reconnect=True, after_ms=12_345)
            await connection.close(4503)
        else:
            await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            tasks = await connection.subscribe("a.B").ready()
            assert {(await anext(tasks)).pk for _ in range(2)} == {1, 2}

    run(story)
    assert waits == [12.345]


def test_a_bye_for_good_is_for_good() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        await say(connection, "bye", code=4503, reconnect=False, after_ms=0)
        await connection.close(4503)

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            with pytest.raises(ClientError, match="for good"):
                await connection.subscribe("a.B").ready()

    run(story)


@pytest.mark.parametrize("text", ["{", '{"type": "mark"}', "[]"])
def test_a_frame_that_breaks_the_protocol_costs_the_socket_and_nothing_else(text: str) -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        ask = await hear(connection)
        if number == 1:
            await connection.send(text)
        else:
            await snapshot(connection, ask, 1)
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            assert len((await connection.subscribe("a.B").ready()).items) == 1

    run(story)


def test_what_the_server_ends_for_now_is_asked_for_again() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        first = await hear(connection)
        await snapshot(connection, first, 1)
        await say(connection, "end", request_id=first["request_id"], code=410)
        again = await hear(connection)
        assert "since" not in again
        await snapshot(connection, again, 1, 2)
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            tasks = await connection.subscribe("a.B").ready()
            assert (await anext(tasks)).pk == 2

    run(story)


def test_frames_are_acknowledged_and_pings_answered() -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection, window=10)
        await say(connection, "mark", seq=5, epoch="e", position="p")
        await say(connection, "ping")
        for _ in range(2):
            await heard.put(await hear(connection))
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}):
            assert await heard.get() == {"action": "ack", "seq": 5}
            assert await heard.get() == {"action": "pong"}

    run(story)


def test_who_leaves_says_so() -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        for _ in range(2):
            await heard.put(await hear(connection))
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url, Live(url, {}) as connection:
            tasks = connection.subscribe("a.B", arguments={"list": 1})
            name = (await heard.get())["request_id"]
            await tasks.close()
            assert await heard.get() == {"action": "unsubscribe", "request_id": name}
            with pytest.raises(ClientError, match="closed"):
                await tasks.ready()

    run(story)


def test_leaving_the_connection_ends_every_loop() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        await snapshot(connection, await hear(connection), 1)
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url:
            async with Live(url, {}) as connection:
                tasks = await connection.subscribe("a.B").ready()
                loop = asyncio.create_task(anext(tasks, None))
            assert await loop is None
            assert not connection.connected
            with pytest.raises(ConnectionFailed, match="closed"):
                connection.subscribe("a.B")

    run(story)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UnauthorizedError), (403, ForbiddenError), (500, ConnectionFailed), (302, ConnectionFailed)],
)
def test_who_is_not_let_in_is_told_at_once(status: int, kind: type[ClientError]) -> None:
    reached = []

    async def script(connection: ServerConnection, number: int) -> None:
        reached.append(number)

    def refuse(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(status, "no")  # type: ignore[arg-type]
        response.headers["Location"] = "/elsewhere/"
        return None if request.path == "/elsewhere/" else response

    async def story() -> None:
        async with scripted(script, process_request=refuse) as url:
            with pytest.raises(kind):
                async with Live(url, {"Authorization": "Token x"}):
                    pass

    run(story)
    assert reached == []


def test_a_server_of_another_protocol_is_no_server() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script, subprotocols=None) as url:
            with pytest.raises(ClientError, match=r"concord\.v1"):
                async with Live(url, {}):
                    pass

    run(story)


def test_the_handshake_says_who_is_asking() -> None:
    seen = []

    async def script(connection: ServerConnection, number: int) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers["Authorization"])
        await welcome(connection)
        await connection.wait_closed()

    async def story() -> None:
        async with (
            scripted(script) as url,
            AsyncClient("http://a.example/", token="t") as client,
            client.connect(url),
        ):
            pass

    run(story)
    assert seen == ["Token t"]


def test_a_mistake_of_ours_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        await welcome(connection)
        await connection.wait_closed()

    async def story() -> None:
        async with scripted(script) as url:
            connection = Live(url, {})
            monkeypatch.setattr(connection._session, "receive", lambda frame, size: 1 / 0)
            with pytest.raises(ClientError, match="division"):
                async with connection:
                    pass

    run(story)
