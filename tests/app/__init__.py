"""The project the tests run in: models and views of every kind the package meets."""

from __future__ import annotations
