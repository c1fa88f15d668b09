"""The rules stay pure: what a module of this package may not import or call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import drf_concord.protocol

FORBIDDEN = {
    *("django", "rest_framework", "channels", "asgiref", "redis", "psycopg"),
    *("asyncio", "socket", "threading", "time", "random", "secrets", "uuid", "os", "io", "pathlib"),
}
CLOCKS = {"now", "utcnow", "today"}
SOURCES = sorted(Path(drf_concord.protocol.__file__ or "").parent.glob("*.py"))
TESTS = Path(__file__).parent


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_rule_asks_nobody_outside(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert FORBIDDEN.isdisjoint(imports(tree))
    assert CLOCKS.isdisjoint(called)
    assert "open" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_says_what_is_public_and_has_tests(path: Path) -> None:
    module = import_module(f"drf_concord.protocol.{path.stem}".removesuffix(".__init__"))

    assert all(hasattr(module, name) for name in module.__all__)
    assert module.__doc__
    if path.stem != "__init__":
        assert (TESTS / f"test_{path.stem}.py").exists()
