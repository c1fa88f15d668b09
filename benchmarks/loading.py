"""Loading many rows: what a model pays for being a live one when nobody writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

from .app.models import Folder, Guarded, Numbered, Plain
from .measure import Bar, Row, clock, interleave, row

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .databases import Database

__all__ = ["run"]

ROWS = 20_000
TOPIC = f"loading {ROWS:,} rows"
BAR = Bar(1.02)
SAME = "a bare model with as many columns"


def run(database: Database, seconds: float) -> list[Row]:
    """Return the time to load a live model's rows as a ratio to a bare model's."""
    models: dict[str, Any] = {SAME: Numbered, "a bare model without the column": Plain, "Versioned": Guarded}
    for model in models.values():
        _fill(model)
    ways = {name: _load(model) for name, model in models.items()}
    rounds = interleave(ways, seconds=seconds, per_round=1)
    return [
        row(
            TOPIC,
            name,
            rounds.ratios(name, SAME),
            bar=BAR if name == "Versioned" else None,
            note=rounds.milliseconds(name),
        )
        for name in ways
    ]


def _fill(model: Any) -> None:
    folder = Folder._base_manager.all()[0]
    extra = {"version": 1_700_000_000_000_000} if model is Numbered else {}
    missing = range(model._base_manager.count() + 1, ROWS + 1)
    model._base_manager.bulk_create(
        [model(pk=n, text=f"row {n}", notes="n" * 120, folder=folder, **extra) for n in missing],
        batch_size=500,
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {model._meta.db_table}")


def _load(model: Any) -> Callable[[], float]:
    queryset = model._default_manager.order_by("pk")
    return lambda: clock(lambda: list(queryset.all()))
