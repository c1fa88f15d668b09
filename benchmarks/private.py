"""Private data: every socket is another user, and the view shows each user something else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .fanout import subscribed
from .measure import Bar, Row, row
from .sockets.serving import OPEN_ROW, OWN_ROW, USERS, server

if TYPE_CHECKING:
    from .databases import Database
    from .sockets.fleet import Fleet
    from .sockets.serving import Server

__all__ = ["run"]

TOPIC = f"private data, {USERS} users"
TIMES = Bar(10, at_least=True)
LOOKS = Bar(1)

OWN = '{{"request_id":{n},"model":"sockets.Live","group_by":"owner","value":{user}}}'
OPEN = '{{"request_id":{n},"model":"sockets.Live","group_by":"board_id","value":2}}'
RANKED = '{{"type":"subscribe","id":{n},"model":"sockets.Ranked","action":"list"}}'


def run(database: Database, seconds: float) -> list[Row]:
    """Return deliveries per second as a ratio to django-rest-live, and how many cohorts were asked."""
    if database.vendor != "sqlite":
        return []  # the number of queries is what counts, and it is the same for all databases
    rounds = 3 if seconds < 20 else 5
    own = [OWN_ROW + 1 + 7 * number for number in range(60)]
    opened = [OPEN_ROW + number for number in range(4)]
    with server() as running:
        ranked = subscribed(running, "/private-ranked/?user={user}", RANKED, USERS, seconds=3.0)
        _deliver(running, ranked, "Ranked", own[:1], 1)
        theirs_own = _deliver(running, ranked, "Ranked", own[:3], 1)
        theirs_open = _deliver(running, ranked, "Ranked", opened[:2], USERS)
    rows = []
    for name, frame, keys, seen, theirs in (
        ("rows of one user each", OWN, own, 1, theirs_own),
        ("rows that all users may see", OPEN, opened, USERS, theirs_open),
    ):
        with server() as running:
            fleet = subscribed(running, "/private/?user={user}", frame, USERS, seconds=2.0)
            _deliver(running, fleet, "Live", keys, seen)
            running.controls.tell("asked")
            rates, looks = [], []
            for _ in range(rounds):
                rates.append(_deliver(running, fleet, "Live", keys, seen))
                looks.append(running.controls.tell("asked") / len(keys) / seen)
        note = f"{sorted(rates)[len(rates) // 2]:,.0f}/s against {theirs:,.0f}/s"
        rows.append(
            row(TOPIC, f"{name}, times django-rest-live", [r / theirs for r in rates], bar=TIMES, note=note)
        )
        note = f"of {USERS} cohorts, {seen} concerned"
        rows.append(row(TOPIC, f"{name}, queries per change and user", looks, unit="", bar=LOOKS, note=note))
    return rows


def _deliver(running: Server, fleet: Fleet, model: str, keys: list[int], seen: int) -> float:
    """Return deliveries per second of some writes, each of which so many users see."""
    running.controls.ask("burst", model=model, keys=keys, first=1)
    end = fleet.wait(len(keys) * seen, timeout=60)
    told: dict[str, Any] = running.controls.answer()
    time.sleep(0.1)
    return len(keys) * seen / (end - told["begin"])
