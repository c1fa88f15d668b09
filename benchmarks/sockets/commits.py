"""When each write was committed, by the number in its text; clocks of one machine's processes agree."""

from __future__ import annotations

import time

__all__ = ["MARK", "note", "noted", "number_of", "text_of"]

MARK = b"@@"
"""Begins the number in a row's text, and occurs nowhere else in a frame."""
LENGTH = 250  # of the text, so that the object has 300 bytes

_noted: list[tuple[int, float]] = []


def text_of(number: int) -> str:
    """Return the text of a write."""
    return f"@@{number};".ljust(LENGTH, ".")


def number_of(text: str) -> int:
    """Return the number of a write."""
    return int(text[2 : text.index(";")])


def note(text: str) -> None:
    """Note that a write is committed now."""
    if text.startswith("@@"):
        _noted.append((number_of(text), time.monotonic()))


def noted() -> list[tuple[int, float]]:
    """Return (number, time in seconds) of the writes since this was asked last."""
    found = list(_noted)
    _noted.clear()
    return found
