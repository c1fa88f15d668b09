"""What a socket that follows something costs while nothing happens, and how long all take to come back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .fanout import LIVE, SESSION, SOCKETS, subscribed
from .measure import Bar, Row
from .sockets.serving import ROWS, Server, server

if TYPE_CHECKING:
    from .databases import Database
    from .sockets.fleet import Client

__all__ = ["run"]

MEMORY = "memory of an idle socket"
STORM = "1,000 sockets cut at once"
KIB = Bar(60)
SECONDS = Bar(10)
RESUME = (
    '{{"action":"subscribe","request_id":{n},"model":"sockets.Live","group_by":"board_id","value":1,'
    '"since":{{"epoch":"{epoch}","position":"{position}"}},"have":{have}}}'
)
SNAPSHOT = (
    '{{"action":"subscribe","request_id":{n},"model":"sockets.Live","group_by":"board_id","value":1,'
    '"snapshot":true}}'
)


def run(database: Database, seconds: float) -> list[Row]:
    """Return the memory of each kind of socket, and the seconds until every client has what it missed."""
    if database.vendor != "sqlite":
        return []  # the same for all databases
    return [*_memory(), *_storm()]


def _memory() -> list[Row]:
    rows = []
    with server() as running:
        open_ones = [subscribed(running, "/live/", LIVE, 50)]  # the first ones load what all need
        for name, path, frame, session, bar in (
            ("bare, accepted", "/raw/", None, False, None),
            ("drf-concord, plain, one subscription", "/live/", LIVE, False, KIB),
            ("drf-concord, session, one subscription", "/live/", SESSION, True, KIB),
        ):
            before = running.controls.tell("memory")
            if frame is None:
                fleet = running.fleet(path, SOCKETS)
            else:
                fleet = subscribed(running, path, frame, SOCKETS, session=session)
            open_ones.append(fleet)
            each = (running.controls.tell("memory") - before) / SOCKETS / 1024
            rows.append(_row(MEMORY, name, "KiB", each, bar))
    return rows


def _storm() -> list[Row]:
    with server() as running:
        resumed, snapshots = _return(running, RESUME), _return(running, SNAPSHOT)
        begin = time.monotonic()
        running.fleet("/raw/", SOCKETS)
        bare = time.monotonic() - begin
    return [
        _row(STORM, "bare, accepted again", "s", bare, None),
        _row(STORM, "drf-concord, resumed with 24 changes missed", "s", resumed, SECONDS),
        _row(STORM, f"drf-concord, with a snapshot of {ROWS} rows", "s", snapshots, SECONDS),
    ]


def _return(running: Server, frame: str) -> float:
    before = subscribed(running, "/live/", SNAPSHOT, SOCKETS, session=True)
    stood = {client.number: client.position for client in before.clients.values()}
    before.close()
    running.controls.tell("burst", model="Live", keys=list(range(1, 25)), first=1)
    have = str(list(range(1, ROWS + 1))).replace(" ", "")
    begin = time.monotonic()
    after = running.fleet("/live/", SOCKETS, session=True)

    def text(client: Client) -> str:
        epoch, position = stood[client.number] or ("", "")
        return frame.format(n=client.number, epoch=epoch, position=position, have=have)

    after.send(text)
    end = after.until(lambda client: client.count >= 24)
    after.close()
    return end - begin


def _row(topic: str, name: str, unit: str, value: float, bar: Bar | None) -> Row:
    return Row(topic, name, unit, value, value, value, 1, bar)
