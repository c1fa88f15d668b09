"""One socket whose query takes half a second, beside others who ask for an object now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .measure import Bar, Row, percentiles
from .sockets.fleet import TimedOut
from .sockets.serving import ROWS, Server, server

if TYPE_CHECKING:
    from .databases import Database
    from .sockets.fleet import Client, Fleet

__all__ = ["run"]

TOPIC = "50 sockets beside a slow query, retrieve"
SOCKETS = 50
RATE = 200
"""Questions a second, of all sockets together: there is to be no queue but the one behind the slow query."""
LAST = Bar(50)
RETRIEVE = '{{"action":"retrieve","model":"sockets.Live","pk":{pk},"request_id":1}}'
SLOW = '{"action":"slow","model":"sockets.Live","request_id":1}'


def run(database: Database, seconds: float) -> list[Row]:
    """Return how long an answer takes, in milliseconds, with and without somebody who asks slow questions."""
    rows = []
    with server() as running:
        fleet = running.fleet("/live/", SOCKETS)
        _asked(fleet, 1.0)
        for name, slow in (("alone", 0), ("beside one slow query", 1), ("beside four", 4)):
            times = _beside(running, fleet, slow, seconds / 3)
            bar = LAST if slow == 1 else None
            rows += percentiles(TOPIC, name, times, last=bar, note=f"{len(times):,} answers")
    return rows


def _beside(running: Server, fleet: Fleet, slow: int, seconds: float) -> list[float]:
    """Ask while some sockets ask slow questions, each the next one as soon as it is answered."""
    others = running.fleet("/live/", slow)
    others.send(lambda _: SLOW)
    return _asked(fleet, seconds, others)


def _asked(fleet: Fleet, seconds: float, others: Fleet | None = None) -> list[float]:
    """Ask at a steady rate, each socket in its turn; returns how long each answer took, in milliseconds."""
    clients = list(fleet.clients.values())
    asked: dict[int, float] = {}
    times: list[float] = []

    def took(client: Client, chunk: bytes) -> None:
        times.append(1000 * (time.monotonic() - asked.pop(client.number)))

    begin, number = time.monotonic(), 0
    while (now := time.monotonic()) < begin + seconds or asked:
        due = begin + number / RATE
        client = clients[number % len(clients)]
        if now < begin + seconds and now >= due and client.number not in asked:
            asked[client.number] = due  # what was asked late because the others were waited for counts, too
            client.send(RETRIEVE.format(pk=1 + number % ROWS))
            number += 1
        fleet.read(max(0.0, min(0.002, due - now)), took)
        if others is not None:
            others.read(0.0, lambda client, _: client.send(SLOW))
        if now > begin + seconds + 30:
            raise TimedOut(f"{len(asked)} sockets are not answered.")
    return times
