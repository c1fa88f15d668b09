"""Fan-out: one view that all sockets share, against the bare loop of sends and two peers in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from .measure import Bar, Row, row
from .sockets.serving import ROWS, Server, server

if TYPE_CHECKING:
    from .databases import Database
    from .sockets.fleet import Fleet

__all__ = ["run"]

TOPIC = "fan-out to 1,000 sockets, a shared view"
SOCKETS = 1000
CHANGES = 24
REST = 0.004  # seconds a client lets pass between readings
OF_RAW, OF_OBSERVED, OF_RANKED = Bar(0.8, at_least=True), Bar(25, at_least=True), Bar(100, at_least=True)

# the socket's path, and the frame that subscribes
LIVE = '{{"request_id":{n},"model":"sockets.Live","group_by":"board_id","value":1}}'
SESSION = '{{"action":"subscribe","request_id":{n},"model":"sockets.Live","group_by":"board_id","value":1}}'
OBSERVED = '{{"action":"subscribe","request_id":{n}}}'
RANKED = '{{"type":"subscribe","id":{n},"model":"sockets.Ranked","action":"list"}}'


def run(database: Database, seconds: float) -> list[Row]:
    """Return deliveries per second of each way, and ours as a ratio to the others."""
    if database.vendor != "sqlite":
        return []  # what is measured here is behind the database, and the same for all of them
    quick = seconds < 40
    pairs = _ours(5 if quick else 12)
    observed = _peer("/observed/", OBSERVED, "Observed", SOCKETS, 3 if quick else 8)
    ranked = _peer("/ranked/", RANKED, "Ranked", 500, 2 if quick else 5)
    rows = [row(TOPIC, "the bare loop of sends", [raw for raw, _ in pairs["plain"]], unit="/s")]
    for name, found in pairs.items():
        note = f"{median(ours for _, ours in found):,.0f}/s"
        if name == "session":
            note += ": changes that come together share a frame"
        ratios = [ours / raw for raw, ours in found]
        rows.append(row(TOPIC, f"drf-concord, {name}, of the bare loop", ratios, bar=OF_RAW, note=note))
    for name, rate, bar in (
        ("djangochannelsrestframework", observed, OF_OBSERVED),
        ("django-rest-live", ranked, OF_RANKED),
    ):
        times = [ours / rate.per_second for _, ours in pairs["plain"]]
        note = f"{rate.per_second:,.0f}/s to {rate.sockets} sockets"
        rows.append(row(TOPIC, f"drf-concord, times {name}", times, bar=bar, note=note))
    return rows


@dataclass(frozen=True, slots=True)
class Rate:
    """Deliveries per second to so many sockets."""

    per_second: float
    sockets: int


def _ours(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return for each mode the deliveries per second of (the bare loop, ours), taking turns."""
    found = {}
    with server() as running:
        raw = running.fleet("/raw/", SOCKETS)
        for name, frame in (("plain", LIVE), ("session", SESSION)):
            fleet = subscribed(running, "/live/", frame, SOCKETS, session=name == "session")
            pairs = [(_raw(running, raw), _burst(running, fleet, "Live", CHANGES)) for _ in range(rounds + 1)]
            found[name] = pairs[1:]  # the first one warms up
            fleet.close()
    return found


def subscribed(
    running: Server, path: str, frame: str, count: int, *, session: bool = False, seconds: float = 1.0
) -> Fleet:
    """Return a fleet whose clients follow something."""
    fleet = running.fleet(path, count, session=session)
    fleet.send(lambda client: frame.format(n=client.number, user=client.number + 1))
    if session:
        fleet.until(lambda client: client.position is not None)
    fleet.quiet(seconds)
    return fleet


def _raw(running: Server, fleet: Fleet) -> float:
    running.controls.ask("raw", count=CHANGES)
    end = fleet.wait(CHANGES * len(fleet.clients), rest=REST)
    begin = running.controls.answer()
    fleet.quiet(0.05)
    return CHANGES * len(fleet.clients) / (end - begin)


def _burst(running: Server, fleet: Fleet, model: str, changes: int) -> float:
    """Return deliveries per second, from the beginning of the first write to the last frame that arrives."""
    keys = list(range(1, changes + 1))
    running.controls.ask("burst", model=model, keys=keys, first=1)
    end = fleet.wait(changes * len(fleet.clients), rest=REST, timeout=40)
    told: dict[str, Any] = running.controls.answer()
    fleet.quiet(0.05)
    return changes * len(fleet.clients) / (end - told["begin"])


def _peer(path: str, frame: str, model: str, sockets: int, changes: int) -> Rate:
    assert changes <= ROWS
    with server() as running:
        fleet = subscribed(running, path, frame, sockets, seconds=3.0)
        _burst(running, fleet, model, 1)
        return Rate(_burst(running, fleet, model, changes), sockets)
