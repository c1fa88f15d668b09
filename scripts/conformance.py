"""Write the conformance matrix from the markers of the tests: `python scripts/conformance.py`."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["BEGIN", "END", "PAGE", "Rule", "page", "rules_of", "rules_of_tests"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "conformance.md"
VECTORS = ROOT / "spec" / "vectors"

TITLES = {
    "4918": "HTTP Extensions for WebDAV",
    "6585": "Additional HTTP Status Codes",
    "7240": "Prefer Header for HTTP",
    "9110": "HTTP Semantics",
    "9457": "Problem Details for HTTP APIs",
}

BEGIN, END = "<!-- the rules -->\n", "<!-- the end of the rules -->\n"
"""What stands between them is written here; the rest of the page by hand."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """A rule of an RFC, and a test that proves it; `cases` of vectors say theirs in `text`, one by one."""

    rfc: str
    section: str
    text: str
    test: str
    cases: int = 0


@cache
def rules_of_tests() -> list[Rule]:
    """Return what the markers of all tests say."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [rule for path in paths for rule in rules_of(path.read_text(), str(path.relative_to(ROOT)))]


def rules_of(source: str, path: str) -> list[Rule]:
    """Return what the markers in one file say.

    Raises:
        ValueError: a marker is not three texts over a test, so that it would be missing on the page.
    """
    found: list[Rule] = []
    read = 0
    tree = ast.parse(source)
    for test in ast.walk(tree):
        if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = f"{path}::{test.name}"
        for decorator in test.decorator_list:
            if _is_marker(decorator):
                found.append(Rule(*_texts(decorator, path), name))
                read += 1
            found += _of_vectors(decorator, name)
    if read != sum(map(_is_marker, ast.walk(tree))):
        raise ValueError(f"{path} has an rfc marker that stands over no test.")
    return found


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rfc"


def _texts(marker: ast.expr, path: str) -> list[str]:
    arguments = marker.args if isinstance(marker, ast.Call) else []
    texts = [each.value for each in arguments if isinstance(each, ast.Constant)]
    if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}:{marker.lineno}: an rfc marker has a number, a section and a text.")
    return [str(text) for text in texts]


def _of_vectors(decorator: ast.expr, test: str) -> Iterator[Rule]:
    """Return the rules of the vectors that a test is run with, those of one section together."""
    for call in ast.walk(decorator):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "cases"):
            continue
        file, group = (ast.literal_eval(each) for each in call.args)
        said: dict[tuple[str, str], list[str]] = defaultdict(list)
        for number, case in enumerate(json.loads((VECTORS / f"{file}.json").read_text())[group]):
            if "rfc" in case:
                rfc, _, section = case["rfc"].rpartition(" ")
                said[rfc or "9110", section].append(case.get("why", f"{group} {number}"))
        for (rfc, section), texts in said.items():
            yield Rule(rfc, section, "; ".join(texts), test, len(texts))


def page(rules: list[Rule], text: str) -> str:
    """Return the page with these rules, given the page as it is."""
    before, _, rest = text.partition(BEGIN)
    parts = [before, BEGIN]
    for rfc in sorted({rule.rfc for rule in rules}, key=int):
        parts += [f"\n## RFC {rfc}: {TITLES[rfc]}\n\n", "| section | rule | tests |\n|---|---|---|\n"]
        rows: dict[tuple[str, str], list[Rule]] = defaultdict(list)
        for rule in rules:
            if rule.rfc == rfc:
                rows[rule.section, rule.text].append(rule)
        # in each section first what is said in words, then the cases
        for (section, text), tests in sorted(rows.items(), key=lambda row: (_order(row[0][0]), *_kind(row))):
            link = f"[{section}](https://www.rfc-editor.org/rfc/rfc{rfc}.html#section-{section})"
            named = ", ".join(_named(rule) for rule in sorted(tests))
            parts.append(f"| {link} | {_cell(text)} | {named} |\n")
    return "".join([*parts, "\n", END, rest.partition(END)[2]])


def _order(section: str) -> list[int]:
    return [int(part) for part in section.split(".")]


def _kind(row: tuple[tuple[str, str], list[Rule]]) -> tuple[bool, str]:
    return row[1][0].cases > 0, row[0][1]


def _named(rule: Rule) -> str:
    cases = {0: "", 1: " (1 case)"}.get(rule.cases, f" ({rule.cases} cases)")
    return f"`{rule.test}`{cases}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(rules_of_tests(), PAGE.read_text()))
