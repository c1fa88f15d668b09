"""The cases of `spec/vectors/`, as parameters of tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


def load(name: str) -> dict[str, Any]:
    """Return all of one file."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def cases(name: str, section: str) -> list[Any]:
    """Return the cases of one section; each says why it is there, and may name a section of an RFC."""
    found = []
    for number, case in enumerate(load(name)[section]):
        why = case.get("why", f"{section} {number}")
        marks = []
        if rule := case.get("rfc"):
            rfc, _, part = rule.rpartition(" ")
            marks = [pytest.mark.rfc(rfc or "9110", part, why)]
        found.append(pytest.param(case, id=f"{number}: {why}", marks=marks))
    return found
