"""A demo for the clients."""

from __future__ import annotations

from tests.demo.conftest import demo, make_database

__all__ = ["demo", "make_database"]
