"""Workers that are killed, orphaned or busy when the demo stops, on a small application."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import websockets.sync.client

from tests.demo.process import PATIENCE, ROOT

pytestmark = pytest.mark.sqlite  # no database at all: once is enough

SERVE = """
import signal, sys
from demo import run, serving
# the test sends a signal as soon as it has read the port, which may be before serve() waits for it
signal.pthread_sigmask(signal.SIG_BLOCK, serving.STOPPING)
sockets = run.bind(0)
run.listen(sockets)
print(sockets[0].getsockname()[1], flush=True)
sys.exit(serving.serve(sys.argv[1], sockets, int(sys.argv[2])))
"""


@contextmanager
def serving(
    workers: int, application: str = "tests.demo.echo:application"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve the small application; yields the parent process and the port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, application, str(workers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()
        process.stderr.close()


def worker(port: int) -> int:
    """Return the process that answers."""
    return int(httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE).text)


def stop(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, see it end at once, and return what it wrote to stderr."""
    os.killpg(process.pid, signal.SIGINT)
    # half a second of grace, and time for a machine that is busy with other tests
    assert process.wait(5) == 0
    assert process.stderr is not None
    return process.stderr.read()


def refused(port: int) -> bool:
    """Tell whether nobody takes a new connection."""
    try:
        worker(port)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_an_open_websocket_does_not_hold_it_up(workers: int) -> None:
    with (
        serving(workers) as (process, port),
        websockets.sync.client.connect(f"ws://127.0.0.1:{port}/") as opened,
    ):
        opened.send("hello")
        assert opened.recv() == "hello"
        assert stop(process) == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_request_does_not_hold_it_up(workers: int) -> None:
    with (
        serving(workers) as (process, port),
        socket.create_connection(("127.0.0.1", port)) as asking,
    ):
        asking.sendall(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
        worker(port)
        assert stop(process) == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_before_the_workers_are_ready(workers: int) -> None:
    with serving(workers) as (process, _):
        assert stop(process) == ""


def test_a_worker_that_was_killed_is_replaced() -> None:
    with serving(1) as (process, port):
        first = worker(port)
        os.kill(first, signal.SIGKILL)
        # the connection waits in the parent's socket until the next worker is there
        assert worker(port) != first
        assert stop(process) == ""


def test_workers_do_not_outlive_the_parent() -> None:
    with serving(2) as (process, port):
        worker(port)
        process.kill()
        process.wait(PATIENCE)
        assert any(refused(port) for _ in range(1000))


def test_an_application_that_cannot_be_imported_ends_it() -> None:
    with serving(2, application="tests.demo.echo:nothing") as (process, _):
        assert process.wait(PATIENCE) == 1
