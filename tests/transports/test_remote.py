from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from drf_concord.transports import remote
from drf_concord.transports.remote import RemoteTransport

from .listening import PATIENCE, Logged


class Wire(RemoteTransport):
    """Sends into a pipe, when it is let."""

    name: ClassVar[str] = "wire"

    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = os.pipe()
        self.connections = 0
        self.closed = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.errors: list[Exception] = []

    def available(self) -> bool:
        return True

    async def listen(self, wake: Callable[[], None]) -> None:
        raise NotImplementedError

    @contextmanager
    def sending(self) -> Iterator[Callable[[], None]]:
        self.connections += 1
        yield self.send
        self.closed.release()

    def send(self) -> None:
        self.begun.release()
        assert self.gate.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop()
        os.write(self.write, b".")

    def begins(self) -> None:
        """Wait until a hint is being sent."""
        assert self.begun.acquire(timeout=PATIENCE)

    def sent(self) -> int:
        """End the thread, and return how many hints were sent since this was asked."""
        self.close()
        os.write(self.write, b"|")
        return len(os.read(self.read, 65536)) - 1


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.gate.set()
    wire.close()
    os.close(wire.read)
    os.close(wire.write)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "concord-wire-default"]


def test_no_thread_before_the_first_hint(wire: Wire) -> None:
    assert threads() == []
    wire.announce()
    [thread] = threads()
    assert thread.daemon
    assert wire.sent() == 1
    assert threads() == []


def test_the_caller_does_not_wait_and_many_are_as_good_as_one(wire: Wire) -> None:
    wire.gate.clear()
    wire.announce()
    wire.begins()
    for _ in range(1000):
        wire.announce()
    wire.gate.set()

    assert wire.sent() == 2
    assert wire.connections == 1


def test_one_thread_whoever_is_first(wire: Wire) -> None:
    wire.gate.clear()
    start = threading.Barrier(20)

    def write() -> None:
        start.wait(PATIENCE)
        wire.announce()

    writers = [threading.Thread(target=write) for _ in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)

    assert len(threads()) == 1


def test_what_could_not_be_sent_is_sent_again(wire: Wire, logged: Logged) -> None:
    wire.errors = [ConnectionError("refused") for _ in range(3)]
    wire.announce()
    for _ in range(4):
        wire.begins()

    assert wire.sent() == 1
    assert wire.connections == 4
    assert [line.split(" is ")[1].split()[0] for line in logged.lines] == ["down", "back."]


def test_an_idle_connection_is_let_go_and_the_next_hint_has_another(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "IDLE", 0.0)
    for _ in range(2):
        wire.announce()
        assert wire.closed.acquire(timeout=PATIENCE)

    assert wire.sent() == 2
    assert wire.connections == 2


def test_a_busy_writer_sends_few_hints(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", PATIENCE)
    wire.announce()
    wire.begins()
    for _ in range(1000):
        wire.announce()

    assert not wire.begun.acquire(blocking=False)
    assert wire.sent() == 2


def test_a_closed_one_can_be_used_again(wire: Wire) -> None:
    wire.close()
    wire.announce()
    assert wire.sent() == 1
    wire.announce()
    assert wire.sent() == 1


def test_closing_does_not_wait_for_a_server_for_ever(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CLOSE_TIMEOUT", 0.01)
    wire.gate.clear()
    wire.announce()
    wire.begins()
    wire.close()

    [thread] = threads()
    wire.gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_closing_in_an_outage_gives_up(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drf_concord.transports.base.RETRY_CAP", PATIENCE)
    monkeypatch.setattr("drf_concord.transports.base.delay", lambda attempt, jitter, cap: cap)
    wire.errors = [ConnectionError("refused") for _ in range(9)]
    wire.announce()
    wire.begins()
    wire.begins()

    assert wire.sent() == 0
    assert threads() == []


def test_a_thread_that_cannot_be_started_is_no_error(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        wire.announce()
        wire.announce()
    wire.announce()

    assert wire.sent() == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("busy", [False, True])
def test_a_child_process_has_a_thread_of_its_own(wire: Wire, busy: bool) -> None:
    wire.announce()
    wire.begins()
    if busy:
        wire.gate.clear()
        wire.announce()
        wire.begins()
        wire.announce()  # is not taken up as long as the last one is being sent
    held = wire._sender.changed
    with held:  # some other thread is just about to announce
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(int(PATIENCE))
                wire.gate.set()
                wire.read, wire.write = os.pipe()  # the other one is shared with the parent
                wire.announce()
                os._exit(0 if wire.sent() == 1 else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    wire.gate.set()
    wire.announce()
    wire.begins()
