"""From the commit to the client: a steady rate of writes, by the gate over HTTP and from another process."""

from __future__ import annotations

import re
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fanout import LIVE, SOCKETS, subscribed
from .measure import Bar, Row, percentiles
from .sockets.fleet import TimedOut
from .sockets.serving import Server, server
from .sockets.writers import write

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database
    from .sockets.fleet import Client, Fleet

__all__ = ["run"]

TOPIC = "commit to client, 1,000 sockets"
RATE = 50
MIDDLE, LAST = Bar(10), Bar(50)
BARE = "the bare loop, from its begin"
WAYS = {"http": "PATCH over HTTP", "database": "save() in another process"}
NUMBER = re.compile(rb"@@(\d+);")


@dataclass(frozen=True, slots=True)
class Found:
    """How long each delivery took, in milliseconds; writes per second; what a later state overtook."""

    times: list[float]
    rate: float
    overtaken: int


def run(database: Database, seconds: float) -> list[Row]:
    """Return how long a change is under way, in milliseconds; the bare loop at the same rate is the limit."""
    rows = []
    with server() as running:
        raw = running.fleet("/raw/", SOCKETS)
        rows += _rows(BARE, _bare(running, raw, min(5.0, seconds / 5)), bars=False)
        fleet = subscribed(running, "/live/", LIVE, SOCKETS)
        for way, name in WAYS.items():
            rows += _rows(name, _written(running, fleet, way, seconds / len(WAYS)))
    return rows


def _bare(running: Server, fleet: Fleet, seconds: float) -> Found:
    reader = Reader(fleet)
    running.controls.ask("raw", count=int(RATE * seconds), rate=RATE)
    reader.read(lambda: reader.missing(int(RATE * seconds)) == 0, seconds + 30)
    running.controls.answer()
    return reader.found(dict(running.controls.tell("commits")))


def _written(running: Server, fleet: Fleet, way: str, seconds: float) -> Found:
    running.controls.tell("commits")
    process, pipe = write(way, running.port, rate=RATE, seconds=seconds)
    reader = Reader(fleet)
    reader.read(pipe.poll, 3 * seconds + 30)
    noted = pipe.recv()
    process.join()
    end = time.monotonic() + 2
    reader.read(lambda: time.monotonic() > end, 5)
    return reader.found(dict(noted or running.controls.tell("commits")))


class Reader:
    """Notes when each number arrives at each client."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._numbers, self._times = array("L"), array("d")

    def read(self, over: Callable[[], bool], timeout: float) -> None:
        """Read until it is over."""
        end = time.monotonic() + timeout
        while not over():
            self._fleet.read(0.05, self._took)
            if time.monotonic() > end:
                raise TimedOut("The writes have no end.")

    def _took(self, client: Client, chunk: bytes) -> None:
        now = time.monotonic()
        for number in NUMBER.findall(chunk):
            self._numbers.append(int(number))
            self._times.append(now)

    def missing(self, writes: int) -> int:
        """Return how many deliveries have not come."""
        return writes * len(self._fleet.clients) - len(self._times)

    def found(self, committed: dict[int, float]) -> Found:
        """Compare with the times of the commits."""
        times = [1000 * (at - committed[n]) for n, at in zip(self._numbers, self._times, strict=True)]
        span = max(committed.values()) - min(committed.values())
        return Found(times, (len(committed) - 1) / span, self.missing(len(committed)))


def _rows(name: str, found: Found, *, bars: bool = True) -> list[Row]:
    note = f"{found.rate:.0f} writes/s, {len(found.times):,} deliveries"
    if found.overtaken:
        # two writes of one row within a tick are delivered as one
        note += f", {found.overtaken:,} overtaken by a later state"
    middle, last = (MIDDLE, LAST) if bars else (None, None)
    return percentiles(TOPIC, name, found.times, middle=middle, last=last, note=note)
