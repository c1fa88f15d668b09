"""One database's part of a run, in a process of its own: Django has one set of settings per process."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .databases import Database
    from .measure import Row

__all__ = ["TOPICS", "run"]

# each a module of this package, with the seconds it is given of a run of the usual length
TOPICS = {
    "guarded_patch": 40,
    "not_modified": 12,
    "capture": 10,
    "loading": 10,
    "fanout": 45,
    "latency": 40,
    "private": 20,
    "socket_calls": 30,
    "slow_query": 15,
    "idle": 20,
}
ROWS = 100


def run(database: Database, topics: list[str], scale: float) -> list[Row]:
    """Make the tables and the rows, then measure.

    Args:
        database: which the environment names.
        topics: keys of ``TOPICS``.
        scale: of the time that is given to each topic.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    _migrate()
    _fill()
    rows: list[Row] = []
    for topic in (name for name in TOPICS if name in topics):
        print(f"  {topic} on {database.vendor} ...", flush=True)
        module: Any = import_module(f"benchmarks.{topic}")
        rows += module.run(database, TOPICS[topic] * scale)
    from django.db import connections

    connections.close_all()
    return rows


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def _fill() -> None:
    from .app.models import Folder, Guarded, Numbered, Plain

    folder = Folder._base_manager.create(name="folder")
    for model, extra in ((Plain, {}), (Numbered, {"version": 1}), (Guarded, {})):
        model._base_manager.bulk_create(
            [
                model(pk=n, text=f"row {n}", notes="n" * 120, folder=folder, **extra)
                for n in range(1, ROWS + 1)
            ]
        )
