"""What a run says: a table for people, and the same in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .measure import Row

__all__ = ["save", "table"]

WIDTH = 46


def table(title: str, rows: Iterable[Row]) -> str:
    """Return the lines of one database, under a headline for each topic."""
    lines = [title]
    topic = None
    for row in rows:
        if row.topic != topic:
            topic = row.topic
            lines += ["", f"  {topic:{WIDTH}}  {'median':>9}  {'quartiles':>17}  bar"]
        lines.append(f"    {_line(row)}".rstrip())
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    spread = f"{_figure(row.low)} - {_figure(row.high)}"
    said = [text for text in (row.note, _counts(row)) if text]
    value = f"{_figure(row.value)} {row.unit}"
    return f"{row.name:{WIDTH - 2}}  {value:>9}  {spread:>17}  {_bar(row):15}  {', '.join(said)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    return f"{row.bar} {'ok' if row.bar.reached(row.value) else 'MISSED'}"


def _counts(row: Row) -> str:
    counts = row.counts
    if not counts:
        return ""
    told = f"lost {counts['lost']} of {counts['acknowledged']}"
    others = ", ".join(f"{counts[name]} {name}" for name in ("refused", "failed") if counts.get(name))
    return f"{told} ({others})" if others else told


def save(path: Path, about: dict[str, Any], found: dict[str, list[Row]]) -> None:
    """Write everything as JSON, a list of rows for each database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {
        name: [asdict(row) | {"reached": row.bar.reached(row.value) if row.bar else None} for row in rows]
        for name, rows in found.items()
    }
    path.write_text(json.dumps({**about, "databases": rows}, indent=2) + "\n")
