"""A guarded PATCH, the whole request: what it costs beside its peers, and who of them loses writes."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from .calls import call
from .contention import contend
from .measure import Bar, Row, interleave, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database

__all__ = ["run"]

TOPIC = "guarded PATCH"
BARS = {"sqlite": Bar(1.25), "postgresql": Bar(1.50)}
AGAINST_ATOMIC = Bar(1.30)

# the row in the table, the view, and whether the PATCH says which state it was made for
WAYS = {
    "plain DRF": ("plain", False),
    "plain DRF in atomic()": ("atomic", False),
    "drf-extensions, If-Match": ("extensions", True),
    "drf-concord": ("guarded", False),
    "drf-concord, If-Match": ("guarded", True),
}
ROWS = 100
CONTENDED = ROWS  # this row is nobody's but the contended run's


def run(database: Database, seconds: float) -> list[Row]:
    """Return the cost of each way as a ratio to plain DRF, with its lost writes."""
    contended = contend(WAYS.values(), pk=CONTENDED, seconds=seconds / 25)
    starts = {name: 1 + 15 * number for number, name in enumerate(WAYS)}
    ways = {name: _patch(view, starts[name], tag=tag) for name, (view, tag) in WAYS.items()}
    rounds = interleave(ways, seconds=seconds * 0.7, per_round=20)
    ours = "drf-concord, If-Match"
    rows = [
        row(
            TOPIC,
            name,
            rounds.ratios(name, "plain DRF"),
            bar=BARS[database.vendor] if view == "guarded" else None,
            note=rounds.milliseconds(name),
            counts=contended[view, tag],
        )
        for name, (view, tag) in WAYS.items()
    ]
    against = rounds.ratios(ours, "plain DRF in atomic()")
    return [*rows, row(TOPIC, f"{ours}, against atomic()", against, bar=AGAINST_ATOMIC)]


def _patch(view: str, first: int, *, tag: bool) -> Callable[[], float]:
    """Return a way to PATCH: every way reads the row first, as a client would, and only the PATCH counts."""
    numbers, values = cycle(range(first, first + 15)), cycle(range(1_000_000))

    def patch() -> float:
        path = f"/{view}/{next(numbers)}/"
        seen = call("GET", path)
        headers = {"HTTP_IF_MATCH": seen.headers["ETag"]} if tag else {}
        answer = call("PATCH", path, {"count": next(values)}, **headers)
        assert answer.status == 200, answer
        return answer.seconds

    return patch
