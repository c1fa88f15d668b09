"""A server that gets SIGTERM: a real uvicorn process, started as people start it, and clients that listen."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.demo.process import PATIENCE, ROOT, environment

pytestmark = pytest.mark.sqlite

MANY = 50


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a demo with an empty database."""
    file = tmp_path_factory.mktemp("draining") / "db.sqlite3"
    variables = environment(DATABASE_URL=f"sqlite:///{file}", DJANGO_SETTINGS_MODULE="demo.settings")
    variables["PYTHONPATH"] = str(ROOT)
    migrate = [sys.executable, str(Path(ROOT) / "demo" / "manage.py"), "migrate", "-v", "0"]
    subprocess.run(migrate, env=variables, check=True, timeout=PATIENCE)
    return variables


@pytest.fixture(params=["websockets-sansio", "websockets"])
def server(request: Any, prepared: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A uvicorn process and its port; the socket is ours, so that a client that is early waits."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=MANY)) as listening:
        command = [sys.executable, "-m", "uvicorn", "demo.asgi:application", "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            [*command, "--ws", request.param, "--log-level", "warning"],
            env=prepared | {"PYTHONWARNINGS": "ignore"},
            cwd=ROOT,
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
        )
        try:
            yield process, listening.getsockname()[1]
        finally:
            process.kill()
            process.communicate()


def frames(opened: ClientConnection) -> tuple[list[Any], int | None]:
    """Return every frame that comes, and the close code."""
    found = []
    with suppress(ConnectionClosed):
        while True:
            found.append(json.loads(opened.recv(PATIENCE)))
    return found, opened.close_code


@pytest.fixture
def client(server: tuple[Any, int]) -> Iterator[Callable[..., ClientConnection]]:
    """Open sockets, and close them at the end."""
    with ExitStack() as opened:

        def client(path: str = "/ws/", protocols: Any = None) -> ClientConnection:
            address = f"ws://127.0.0.1:{server[1]}{path}"
            made = connect(address, subprotocols=protocols, open_timeout=PATIENCE, proxy=None)
            return opened.enter_context(made)

        yield client


def test_sigterm_sends_everybody_away(server: Any, client: Callable[..., ClientConnection]) -> None:
    process = server[0]
    sessions = [client(protocols=["concord.v1"]) for _ in range(MANY - 3)]
    for session in sessions:
        assert json.loads(session.recv(PATIENCE))["type"] == "welcome"
    plain, consumer = client(), client("/ws/users/")
    for each in (plain, consumer):  # an answer says that they are served
        each.send("{")
        assert json.loads(each.recv(PATIENCE))["response_status"] == 400
    address = f"http://127.0.0.1:{server[1]}/api/tasks/"
    listening = httpx.stream("GET", address, headers={"accept": "text/event-stream"}, timeout=PATIENCE)
    with listening as stream:  # an open response, for which uvicorn waits
        assert stream.status_code == 200, stream.read()
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: subscribed"
        os.kill(process.pid, signal.SIGTERM)
        assert [line for line in lines if line.startswith("event:")][-1] == "event: bye"
    waits = []
    for session in sessions:
        found, code = frames(session)
        assert code == 4503
        bye = found[-1]
        assert bye == {"type": "bye", "code": 4503, "reconnect": True, "after_ms": bye["after_ms"]}
        waits.append(bye["after_ms"])
    # each of the fifty has a slot of its own in the second
    assert len({wait // 20 for wait in waits}) == len(waits)
    assert frames(plain) == ([], 1012)
    assert frames(consumer) == ([], 1012)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert complaints == b""
    assert process.returncode == -signal.SIGTERM  # as uvicorn ends when nobody drains
