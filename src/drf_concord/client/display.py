"""What the command line prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import ClientError, ConflictError

__all__ = ["clean", "conflict", "describe_lock", "dump", "error_body", "lines_of"]

NARROW = 40


def dump(value: Any) -> str:
    """Return a value as JSON in one line."""
    return msgspec.json.encode(value).decode()


def clean(line: str) -> str:
    """Return a line with nothing in it that a terminal would obey; what others wrote is only shown."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)


def lines_of(body: Any) -> list[str]:
    """Return an answer for people: an object as `field: value`, of a list each object in a line."""
    if isinstance(body, Mapping) and isinstance(body.get("results"), list):
        body = body["results"]
    if isinstance(body, list):
        return [dump(each) for each in body] or ["nothing"]
    if isinstance(body, Mapping):
        return [f"{name}: {_shown(value)}" for name, value in body.items()]
    return [dump(body)]


def describe_lock(lock: Mapping[str, Any]) -> list[str]:
    """Return who has a lock, since when and until when."""
    names = {"state": "state", "mode": "mode", "scope": "scope", "holder": "holder", "reason": "reason"}
    times = {"acquired_at": "since", "expires_at": "until", "generation": "generation"}
    return [
        f"{label}: {_shown(lock[name])}"
        for name, label in {**names, **times}.items()
        if lock.get(name) not in (None, "")
    ]


def conflict(error: ConflictError) -> list[str]:
    """Return a conflict for people: what was to be written beside what is there now."""
    said = [f"Nothing was changed. {error.detail}"]
    mine = error.mine if isinstance(error.mine, Mapping) else {}
    theirs = error.theirs if error.theirs is not None else {}
    names = [*mine, *(name for name in error.changed or () if name not in mine)]
    rows = [("field", "yours", "now", "")]
    for name in names:
        note = "changed by others" if name in (error.changed or ()) else ""
        rows.append((name, _cell(mine, name), _cell(theirs, name), note))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    if names:
        said += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
            for row in rows
        ]
    if error.current_etag is not None:
        said.append(f"To write on top of what is there now: --if-match '{error.current_etag}'")
    return said


def error_body(error: ClientError) -> dict[str, Any]:
    """Return an error for programs."""
    return {"status": error.status, "detail": error.detail, "code": error.code, **error.members}


def _cell(fields: Mapping[str, Any], name: str) -> str:
    text = dump(fields[name]) if name in fields else "-"
    return text if len(text) <= NARROW else f"{text[: NARROW - 3]}..."


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else dump(value)
