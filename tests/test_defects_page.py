"""The page of former systems' defects names all of them, and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/explanation/defects.md").read_text()

# the lists that the page answers: 26 defects, 9 rules, 15 wishes
NUMBERS = [
    *(f"D-{number}" for number in range(1, 27)),
    *(f"R-{number}" for number in range(1, 10)),
    *(f"W-{number}" for number in range(1, 16)),
]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| [DRW]-.*", PAGE, re.M)
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@lru_cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_number_has_one_row_and_nothing_else_has() -> None:
    assert [row[0] for row in ROWS] == NUMBERS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_was_wrong_what_holds_and_which_tests_prove_it(row: list[str]) -> None:
    _, wrong, holds, tests = row
    assert wrong.endswith(".")
    assert holds.endswith(".")
    named = NAMED.findall(tests)
    assert named
    assert " ".join(f"`{path}::{name}`" for path, name in named) == tests  # and nothing that is no test
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert missing == []


def test_every_test_of_a_defect_is_named() -> None:
    named = set(NAMED.findall(PAGE))
    written = {
        (str(path.relative_to(ROOT)), name)
        for path in sorted((ROOT / "tests/documented").glob("test_defects_*.py"))
        for name in names_in(str(path.relative_to(ROOT)))
    }
    assert written
    assert written - named == set()
