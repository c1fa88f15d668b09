"""Calls over a websocket: round trips per second beside a peer's, and beside the same view over HTTP."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from .measure import Bar, Row, row
from .sockets.fleet import Fleet
from .sockets.http import HttpFleet
from .sockets.serving import server

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database
    from .sockets.fleet import Client

__all__ = ["run"]

TOPIC = "websocket calls, 20 sockets"
SOCKETS = 20
ROUNDS = 5
OURS, HTTP = "drf-concord", "the view over HTTP (ASGI)"
BARS = {"djangochannelsrestframework": Bar(2, at_least=True), HTTP: Bar(1, at_least=True)}
FRAMES = {
    "retrieve": '{{"action":"retrieve",{model}"pk":{pk},"request_id":1}}',
    "patch": '{{"action":"patch",{model}"pk":{pk},"request_id":1,"data":{{"text":"{text}"}}}}',
}


def run(database: Database, seconds: float) -> list[Row]:
    """Return our round trips per second as a ratio to the others'."""
    rows = []
    with server() as running:
        fleets = {
            OURS: running.fleet("/live/", SOCKETS),
            "djangochannelsrestframework": running.fleet("/observed/", SOCKETS),
            HTTP: HttpFleet(running.port, SOCKETS),
        }
        turn = seconds / len(FRAMES) / len(fleets) / (ROUNDS + 1)
        for action in FRAMES:
            rates: dict[str, list[float]] = {name: [] for name in fleets}
            for _ in range(ROUNDS + 1):
                for name, fleet in fleets.items():
                    rates[name].append(_exchange(fleet, name, action, turn))
            ours = rates.pop(OURS)[1:]
            for name, theirs in rates.items():
                ratios = [one / other for one, other in zip(ours, theirs[1:], strict=True)]
                note = f"{median(ours):,.0f}/s against {median(theirs):,.0f}/s"
                rows.append(row(TOPIC, f"{action}, times {name}", ratios, bar=BARS[name], note=note))
    return rows


def _exchange(fleet: Fleet | HttpFleet, name: str, action: str, turn: float) -> float:
    """Let every client ask again as soon as it was answered; returns answers per second."""
    count = 0
    end = time.monotonic() + turn

    def question(client: Client) -> str:
        pk = 1 + client.number
        if isinstance(fleet, HttpFleet):
            return fleet.question(action, pk, f"{name} {count}")
        model = '"model":"sockets.Live",' if name == OURS else ""
        return FRAMES[action].format(model=model, pk=pk, text=f"{name} {count}")

    def took(client: Client, chunk: bytes) -> None:
        nonlocal count
        if fleet.complete(client, chunk):
            count += 1
            if time.monotonic() < end:
                client.send(question(client))
            else:
                idle.add(client)

    idle: set[Client] = set()
    ask: Callable[[Client], str] = question
    begin = time.monotonic()
    fleet.send(ask)
    while len(idle) < len(fleet.clients):
        fleet.read(1.0, took)
        assert time.monotonic() < end + 30, f"{name} does not answer"
    return count / (time.monotonic() - begin)
