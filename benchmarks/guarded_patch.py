"""A guarded PATCH, the whole request: what it costs beside its peers, and who of them loses writes."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from .calls import PROJECT, call
from .contention import contend
from .measure import Bar, Rounds, Row, interleave, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database

__all__ = ["run"]

TOPIC = "guarded PATCH, with the middleware of a new project"
BARE = "guarded PATCH, the view alone"
OWN = "guarded PATCH, views with their own get_queryset()"
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
# the same with a get_queryset() of the project's, against a plain view that has one too
NARROW = {
    "plain DRF": ("plain-narrow", False),
    "drf-concord, If-Match": ("guarded-narrow", True),
}
ROWS = 100
CONTENDED = ROWS  # this row is nobody's but the contended run's


def run(database: Database, seconds: float) -> list[Row]:
    """Return the cost of each way as a ratio to plain DRF, with its lost writes."""
    contended = contend(WAYS.values(), pk=CONTENDED, seconds=seconds / 25)
    rounds = _measure(WAYS, PROJECT, seconds * 0.45)
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
    rows.append(row(TOPIC, f"{ours}, against atomic()", against, bar=AGAINST_ATOMIC))
    # What every view pays alike brings the ratios closer to one: here is what they are without it.
    bare = _measure(WAYS, (), seconds * 0.2)
    rows += [
        row(BARE, name, bare.ratios(name, "plain DRF"), note=bare.milliseconds(name))
        for name, (view, _) in WAYS.items()
        if view == "guarded"
    ]
    narrow = _measure(NARROW, PROJECT, seconds * 0.15)
    rows.append(row(OWN, ours, narrow.ratios(ours, "plain DRF"), note=narrow.milliseconds(ours)))
    return rows


def _measure(views: dict[str, tuple[str, bool]], middleware: tuple[str, ...], seconds: float) -> Rounds:
    starts = {name: 1 + 15 * number for number, name in enumerate(views)}
    ways = {name: _patch(view, starts[name], middleware, tag=tag) for name, (view, tag) in views.items()}
    return interleave(ways, seconds=seconds, per_round=20)


def _patch(view: str, first: int, middleware: tuple[str, ...], *, tag: bool) -> Callable[[], float]:
    """Return a way to PATCH: every way reads the row first, as a client would, and only the PATCH counts."""
    numbers, values = cycle(range(first, first + 15)), cycle(range(1_000_000))

    def patch() -> float:
        path = f"/{view}/{next(numbers)}/"
        seen = call("GET", path)
        headers = {"HTTP_IF_MATCH": seen.headers["ETag"]} if tag else {}
        answer = call("PATCH", path, {"count": next(values)}, middleware=middleware, **headers)
        assert answer.status == 200, answer
        return answer.seconds

    return patch
