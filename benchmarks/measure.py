"""How figures are taken: the ways to be compared take turns, and each round gives one ratio."""

from __future__ import annotations

import gc
import random
import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Bar", "Rounds", "Row", "clock", "interleave", "percentiles", "row"]

WARM_UP = 2  # rounds that are thrown away


@dataclass(frozen=True, slots=True)
class Bar:
    """The figure to reach."""

    value: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        """Tell whether a figure is good enough."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        topic: the headline it stands under.
        name: what was measured.
        unit: of the figures: ``x`` for a ratio, else a unit of measure.
        value: the median over the rounds.
        low: the lower quartile of the rounds.
        high: the upper quartile of the rounds.
        rounds: how many there were.
        bar: what is to be reached, if anything is.
        note: what else there is to say.
        counts: what was counted beside it.
    """

    topic: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    rounds: int
    bar: Bar | None = None
    note: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rounds:
    """The time of each way in each round, in seconds: the lower quartile of its turns.

    What else runs on the machine only ever makes a turn longer, and hits the ways unequally in a short round.
    """

    times: Mapping[str, Sequence[float]]

    def ratios(self, name: str, to: str) -> list[float]:
        """Return one way's time against another's, a ratio for each round."""
        return [one / other for one, other in zip(self.times[name], self.times[to], strict=True)]

    def differences(self, name: str, to: str) -> list[float]:
        """Return by how much one way is slower than another, in seconds, for each round."""
        return [one - other for one, other in zip(self.times[name], self.times[to], strict=True)]

    def milliseconds(self, name: str) -> str:
        """Return one way's time for the note; it drifts with the machine, so it is no figure."""
        return f"{median(self.times[name]) * 1e3:.2f} ms"


def clock(call: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interleave(ways: Mapping[str, Callable[[], float]], *, seconds: float, per_round: int) -> Rounds:
    """Let several ways take turns until the time is over.

    Args:
        ways: each does its work once and returns how long that took, without its preparations.
        seconds: for all rounds together; there are always three at least.
        per_round: how often each way has its turn in a round.
    """
    names, chance = list(ways), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in names}
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or number < WARM_UP + 3:
        taken: dict[str, list[float]] = {name: [] for name in names}
        gc.collect()
        gc.disable()
        try:
            for _ in range(per_round):
                # A new order each time: who comes after whom, or first after a checkpoint, is nobody's merit.
                for name in chance.sample(names, len(names)):
                    taken[name].append(ways[name]())
        finally:
            gc.enable()
        if number >= WARM_UP:
            for name in names:
                times[name].append(_lower_quartile(taken[name]))
        number += 1
    return Rounds(times)


def _lower_quartile(figures: Sequence[float]) -> float:
    return quantiles(figures, n=4, method="inclusive")[0] if len(figures) > 1 else figures[0]


def row(
    topic: str,
    name: str,
    figures: Sequence[float],
    *,
    unit: str = "x",
    bar: Bar | None = None,
    note: str = "",
    counts: Mapping[str, int] | None = None,
) -> Row:
    """Return a line of the table from one figure for each round."""
    low, middle, high = quantiles(figures, n=4, method="inclusive")
    return Row(topic, name, unit, middle, low, high, len(figures), bar, note, dict(counts or {}))


def percentiles(
    topic: str,
    name: str,
    times: Sequence[float],
    *,
    middle: Bar | None = None,
    last: Bar | None = None,
    note: str = "",
) -> list[Row]:
    """Return two lines of the table: how long half of something took, and 99 of 100, in milliseconds."""
    found, count = quantiles(times, n=100), len(times)
    return [
        Row(topic, f"{name}: p50", "ms", found[49], found[24], found[74], count, middle, note),
        Row(topic, f"{name}: p99", "ms", found[98], found[94], max(times), count, last),
    ]
