"""Writing at a steady rate from a process of its own, over HTTP or straight into the database."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

from . import commits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write"]

KEYS = 50
THREADS = 4


def write(way: str, port: int, *, rate: int, seconds: float) -> tuple[Any, Any]:
    """Start to write, ``rate`` times a second.

    Args:
        way: ``"http"`` or ``"database"``.
        port: of the server.
        rate: writes per second.
        seconds: for how long.

    Returns:
        The process, and the end of a pipe that will give (number, when committed) of each write.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, way, port, rate, seconds))
    process.start()
    theirs.close()
    return process, ours


def _work(pipe: Any, way: str, port: int, rate: int, seconds: float) -> None:
    if way == "database":
        import django

        django.setup()
    threads = THREADS if way == "http" else 1
    start, total = time.monotonic() + 0.5, int(rate * seconds)
    put: Callable[[int], Callable[[int], None]] = _over_http if way == "http" else _into_database

    def run(first: int) -> None:
        one = put(port)
        for number in range(first, total, threads):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            one(number)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    pipe.send(commits.noted())


def _over_http(port: int) -> Callable[[int], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def put(number: int) -> None:
        body = json.dumps({"text": commits.text_of(number)})
        headers = {"Content-Type": "application/json"}
        connection.request("PATCH", f"/live/{1 + number % KEYS}/", body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    return put


def _into_database(port: int) -> Callable[[int], None]:
    from .models import Live

    rows = {row.pk: row for row in Live.objects.filter(pk__lte=KEYS)}

    def put(number: int) -> None:
        row = rows[1 + number % KEYS]
        row.text = commits.text_of(number)
        row.save()
        commits.note(row.text)

    return put
