"""Real processes that write to the test database, and what their history has to fulfil."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.concurrency.threads import PATIENCE

__all__ = ["Violation", "Worker", "crew", "nothing_is_lost", "pair", "workers"]

ROOT = Path(__file__).resolve().parent.parent.parent


class Worker:
    """Another process of the project, on the database of the tests."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.worker", str(connection.settings_dict["NAME"])],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._collect, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _collect(self) -> None:
        self._errors.extend(self.process.stderr or ())

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds: float = PATIENCE) -> Any:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no answer within {seconds} s:\n{''.join(self._errors)}") from None
        assert line, "".join(self._errors)
        return json.loads(line)

    def ask(self, **command: Any) -> Any:
        self.tell(**command)
        return self.answer()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def crew(django_db_setup: None) -> Iterator[list[Worker]]:
    """Two processes that serve all tests of a module that neither change nor end them."""
    started = [Worker(), Worker()]
    for worker in started:
        assert worker.answer(60) == "ready"
    yield started
    for worker in started:
        worker.stop()


@pytest.fixture
def workers(transactional_db: None) -> Iterator[Any]:
    """Start that many processes for one test: ``workers(2)``."""
    started: list[Worker] = []

    def start(count: int) -> list[Worker]:
        started.extend(Worker() for _ in range(count))
        for worker in started[-count:]:
            assert worker.answer(60) == "ready"
        return started[-count:]

    yield start
    for worker in started:
        worker.stop()


def pair(workers: list[Worker], *commands: dict[str, Any], lead: float = 0) -> list[Any]:
    """Give each process its command at once, or ``lead`` seconds apart, and return their answers."""
    for number, (worker, command) in enumerate(zip(workers, commands, strict=True)):
        if number and lead:
            time.sleep(lead)
        worker.tell(**command)
    return [worker.answer() for worker in workers]


class Violation(Exception):
    """The history breaks a promise."""


def nothing_is_lost(histories: list[dict[str, Any]], final: int, *, least: int) -> int:
    """Judge a run of conditional writes to one counter; returns how many were acknowledged.

    Args:
        histories: what ``count`` returned in each process.
        final: where the counter stands.
        least: how many acknowledged writes, and how many refused ones, make a run worth judging.

    Raises:
        Violation: a write was lost, an answer was an error, or one state was built upon twice.
        AssertionError: there was too little traffic to say anything.
    """
    statuses: dict[str, int] = {}
    for history in histories:
        for status, times in history["statuses"].items():
            statuses[status] = statuses.get(status, 0) + times
    steps = [tuple(step) for history in histories for step in history["steps"]]
    if unexpected := statuses.keys() - {"200", "412", "503"}:
        raise Violation(f"answers that are errors: {unexpected} of {statuses}")
    if final != len(steps):
        raise Violation(f"{len(steps)} writes were acknowledged, and the counter stands at {final}")
    befores = [before.split("-")[0] for before, _ in steps]
    afters = [after.split("-")[0] for _, after in steps]
    if len(set(befores)) != len(steps) or len(set(afters)) != len(steps):
        raise Violation("two writes were built upon one state, or led to one")
    if all(afters) and len(set(befores) - set(afters)) != 1:
        raise Violation("a write was built upon a state that no write led to")
    assert len(steps) >= least, f"void: {len(steps)} writes were acknowledged"
    assert statuses.get("412", 0) >= min(least // 10, 50), f"void: no competition in {statuses}"
    assert all(history["steps"] for history in histories), "void: a process wrote nothing"
    return len(steps)
