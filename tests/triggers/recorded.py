"""What the log has, read as a test wants it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connections

__all__ = ["Log", "Recorded"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A change as the log has it."""

    model: str
    pk: str
    op: str
    version: int | None
    previous: int | None
    columns: tuple[str, ...] | None
    routes: dict[str, list[Any]] | None
    actor: str | None

    @property
    def short(self) -> tuple[str, str, str, tuple[str, ...] | None]:
        """What was done to which row, and which columns changed."""
        return (self.model, self.pk, self.op, self.columns)


class Log:
    """The log of a database, from now on."""

    def __init__(self, using: str = "default") -> None:
        self.using = using
        self.last = 0
        self.new()

    def new(self) -> list[Recorded]:
        """Return the changes since the last call, in order."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(
                "SELECT id, model, pk, op, version, previous, columns, routes, actor FROM concord_change"
                " WHERE id > %s ORDER BY id",
                [self.last],
            )
            found = cursor.fetchall()
        self.last = max((row[0] for row in found), default=self.last)
        return [
            Recorded(*head, _json(columns, tuple), _json(routes, dict), actor)
            for _, *head, columns, routes, actor in found
        ]

    def short(self) -> list[tuple[str, str, str, tuple[str, ...] | None]]:
        """Return the changes since the last call, without versions."""
        return [change.short for change in self.new()]


def _json(text: str | None, form: Any) -> Any:
    return None if text is None else form(json.loads(text))
