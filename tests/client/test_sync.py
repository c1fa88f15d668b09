"""The client without an event loop, against a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from drf_concord.client import (
    Client,
    ClientError,
    ConflictError,
    ConnectionFailed,
    ForbiddenError,
    LockedError,
    LockLostError,
    NotFoundError,
    UnauthorizedError,
    ValidationError,
)
from drf_concord.client.sync import Resource
from tests.transports.proxy import free_port

pytestmark = pytest.mark.sqlite


class Wire(httpx.HTTPTransport):
    """The network, with what went over it; a request that `refuse` names does not arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, int]] = []
        self.renewals = threading.Semaphore(0)
        self.refuse: Any = lambda request: False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.refuse(request):
            raise httpx.ConnectError("no way", request=request)
        response = super().handle_request(request)
        self.seen.append((request.method, request.url.path, response.status_code))
        if request.method == "PATCH" and request.url.path.endswith("/lock/"):
            self.renewals.release()
        return response


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def tasks(api: str, wire: Wire) -> Any:
    with Client(api, auth=("guido", "guido"), transport=wire, timeout=60) as client:
        yield client.resource("tasks/", "todolist.Task")


@pytest.fixture
def adas(ada: Client) -> Resource:
    return ada.resource("tasks/")


@pytest.fixture
def task(adas: Resource) -> int:
    return int(adas.create({"text": "new", "list": 1})["id"])


def test_the_story(tasks: Resource, adas: Resource, task: int, wire: Wire) -> None:
    mine = tasks.get(task)
    assert tasks.get(task) is mine
    assert wire.seen[-1][2] == 304

    adas.patch(task, {"text": "hers"})
    with pytest.raises(ConflictError) as refused:
        tasks.patch(mine, {"text": "mine"})
    conflict = refused.value
    assert conflict.theirs == {**mine, "text": "hers"}
    assert (conflict.mine, conflict.changed, conflict.conflicting) == ({"text": "mine"}, ["text"], ["text"])

    assert conflict.theirs is not None
    done = tasks.patch(conflict.theirs, {"text": f"{conflict.theirs['text']} and mine"})
    assert done["text"] == "hers and mine"
    assert tasks.patch(task, {"done": True})["done"] is True
    assert adas.get(task) == {**done, "done": True}


def test_a_write_on_top_of_whatever_is_there(tasks: Resource, adas: Resource, task: int) -> None:
    tasks.get(task)
    adas.patch(task, {"text": "hers"})

    assert tasks.patch(task, {"text": "mine"}, if_match=None)["text"] == "mine"


def test_replace_and_delete(tasks: Resource, adas: Resource, task: int) -> None:
    whole = tasks.get(task)
    assert tasks.update(whole, {**whole, "text": "other"})["text"] == "other"
    with pytest.raises(ConflictError):
        tasks.delete(whole)
    tasks.delete(task)
    with pytest.raises(NotFoundError):
        adas.get(task)


def test_a_list(tasks: Resource, task: int) -> None:
    found = tasks.list(list=1)

    assert task in [item.pk for item in found]
    assert {item["list"] for item in found} == {1}


def test_refusals(api: str, tasks: Resource) -> None:
    with Client(api) as nobody, pytest.raises(UnauthorizedError):
        nobody.resource("tasks/").create({})
    with Client(api, auth=("guido", "wrong")) as wrong, pytest.raises(UnauthorizedError):
        wrong.resource("tasks/").get(1)
    with pytest.raises(ValidationError) as invalid:
        tasks.create({"text": ""})
    assert set(invalid.value.errors) == {"text", "list"}
    with Client(api, auth=("mina", "mina")) as mina, pytest.raises(ForbiddenError):
        mina.locks(mine=False)


def test_nobody_answers() -> None:
    with Client(f"http://127.0.0.1:{free_port()}/api/") as client:
        with pytest.raises(ConnectionFailed) as failed:
            client.resource("tasks/").get(1)
        with pytest.raises(ConnectionFailed) as unsent:
            client.resource("tasks/").patch(1, {})

    assert failed.value.status == 0
    assert "not known" not in f"{failed.value} {unsent.value}"


def test_a_write_that_got_no_answer_may_have_been_done() -> None:
    def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut", request=request)

    with (
        Client("http://a.example/", transport=httpx.MockTransport(cut)) as client,
        pytest.raises(ConnectionFailed, match="not known whether"),
    ):
        client.resource("tasks/").patch(1, {})


def test_credentials_stay_with_their_server() -> None:
    asked = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"Location": "http://b.example/steal"})

    with (
        Client("http://a.example/", auth=("a", "b"), transport=httpx.MockTransport(elsewhere)) as client,
        pytest.raises(ClientError, match=r"b\.example"),
    ):
        client.resource("tasks/").get(1)
    assert asked == ["a.example"]


def test_a_lock(tasks: Resource, adas: Resource, task: int, guido: Client) -> None:
    with tasks.lock(task, ttl=60, reason="tea") as held:
        assert held.get()["text"] == "new"
        assert held.patch({"text": "mine"})["text"] == "mine"
        assert held.update({"text": "all mine", "list": 1})["text"] == "all mine"
        with pytest.raises(LockedError) as refused:
            adas.patch(task, {"text": "hers"})
        assert (refused.value.holder, refused.value.reason) == ("guido", "tea")
        assert refused.value.retry_after is not None
        assert refused.value.since is not None
        with pytest.raises(LockedError), adas.lock(task):
            pass
        assert str(task) in [lock["pk"] for lock in guido.locks(model="todolist.Task")]
        assert adas.lock_state(task)["state"] == "held"

    assert not held.lost.is_set()
    assert adas.patch(task, {"text": "hers"}, if_match=None)["text"] == "hers"
    with pytest.raises(LockLostError):
        held.patch({})


def test_a_lock_is_given_back_when_something_goes_wrong(tasks: Resource, task: int) -> None:
    with pytest.raises(ZeroDivisionError), tasks.lock(task, ttl=60):
        raise ZeroDivisionError

    assert tasks.lock_state(task)["state"] == "free"


def test_an_object_goes_with_its_lock(tasks: Resource, task: int) -> None:
    with tasks.lock(task) as held:
        held.delete()


def test_a_lock_is_renewed(tasks: Resource, task: int, wire: Wire) -> None:
    with tasks.lock(task, ttl=1) as held:
        # the fourth renewal is later than the lock would have lasted
        assert all(wire.renewals.acquire(timeout=20) for _ in range(4))
        assert not held.lost.is_set()
        held.patch({"text": "still mine"})


def test_a_lock_that_is_broken_is_lost(tasks: Resource, admin: Client, task: int, wire: Wire) -> None:
    told = threading.Event()
    with tasks.lock(task, ttl=1.5, on_lost=told.set) as held:
        admin.resource("tasks/").break_lock(task, reason="fire")
        assert held.lost.wait(20)
        assert told.wait(20)
        wire.seen.clear()
        with pytest.raises(LockLostError):
            held.patch({"text": "too late"})
        assert wire.seen == []


def test_a_lock_that_cannot_be_renewed_is_lost_in_time(tasks: Resource, task: int, wire: Wire) -> None:
    with tasks.lock(task, ttl=1) as held:
        wire.refuse = lambda request: request.url.path.endswith("/lock/")
        assert held.lost.wait(20)
        with pytest.raises(LockLostError):
            held.patch({"text": "too late"})


def test_who_froze_it_may_not_write_either(admin: Client, task: int) -> None:
    everything = admin.resource("tasks/")
    with everything.lock(task, mode="freeze", ttl=None) as frozen:
        assert frozen.state["state"] == "frozen"
        with pytest.raises(LockedError):
            everything.patch(task, {"text": "x"}, if_match=None)

    assert everything.lock_state(task)["state"] == "free"


def test_a_freeze_that_stays_is_told_unless_something_worse_is(
    api: str, admin: Client, task: int, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    wire.refuse = lambda request: request.method == "DELETE"
    with Client(api, auth=("admin", "admin"), transport=wire, timeout=60) as client:
        frozen = client.resource("tasks/").lock(task, mode="freeze", ttl=None)
        with pytest.raises(ConnectionFailed), frozen:
            pass
        admin.resource("tasks/").unlock(task)
        with pytest.raises(ZeroDivisionError), frozen:
            raise ZeroDivisionError


def test_what_is_addressed_by_another_field(guido: Client) -> None:
    machines = guido.resource("instances/", lookup="uuid")
    first = machines.list()[0]

    assert machines.get(first)["uuid"] == first.pk
    assert machines.get(first.pk or "") is machines.get(first)


def test_unlock(tasks: Resource, adas: Resource, task: int) -> None:
    held = tasks.lock(task, ttl=60)
    held.take(keep=False)
    with pytest.raises(ForbiddenError):
        adas.unlock(task)
    tasks.unlock(task)
    assert adas.lock_state(task)["state"] == "free"


CODE = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "channels", "asgiref"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from drf_concord.client import Client
from drf_concord.client.cli import main
with Client(sys.argv[1], auth=("guido", "guido")) as client:
    print(client.resource("tasks/").get(1)["id"])
    with client.watch("todolist.Task", group_by="pk", value=1) as watch:
        print(len(watch.items))
"""


def test_no_django_is_needed(api: str) -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, api],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (found.stdout, found.stderr) == ("1\n1\n", "")
