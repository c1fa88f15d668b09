"""Tables of former paths, and what is to be found there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.utils.module_loading import import_string

__all__ = ["found_at", "rows_of"]

Table = dict[str, dict[str, str]]


def rows_of(table: Table) -> list[tuple[str, str, str]]:
    """Return (module, name, what is expected there) for each name of a table."""
    return [(module, name, ours) for module, names in table.items() for name, ours in names.items()]


def found_at(package: str, module: str, name: str, ours: str) -> tuple[Any, Any]:
    """Return what a former path leads to, and the object of the package that it is to be or to adapt."""
    path = f"drf_concord.compat.{package}{'.' if module else ''}{module}"
    found = import_module(path)
    assert name in found.__all__
    return getattr(found, name), import_string(f"drf_concord.{ours.removeprefix('<')}")
