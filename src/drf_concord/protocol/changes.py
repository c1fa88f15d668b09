"""Changes of rows as the log has them, and what a reader makes of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, pairwise

from .positions import Position, Snapshot

__all__ = ["Change", "Op", "Position", "Snapshot", "changed_columns", "coalesce"]


class Op(StrEnum):
    """What was done to a row."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"
    """Not to a row but to all of the model."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row; a reference to it, not a copy.

    Attributes:
        id: of the change; ascending for the states of one row.
        nonce: a random number that tells this change from another with the same id in a copied log.
        model: the label of the model.
        pk: the primary key as text; empty for `TRUNCATE`.
        op: what was done.
        version: of the row after it; None for a model without one.
        previous: the version before it; None when the row was not there, or when that is not known.
        columns: the columns that changed.
        routes: for each routing column its value before and after.
        actor: who did it, if that is known.
        at: when, in microseconds since the epoch.
    """

    id: int
    nonce: int
    model: str
    pk: str
    op: Op
    version: int | None
    previous: int | None
    columns: tuple[str, ...]
    routes: Mapping[str, tuple[object, object]]
    actor: str | None
    at: int


def coalesce(changes: Iterable[Change]) -> list[Change]:
    """Return one change for each row, which leads to the same state as all of them.

    It is the last change of the row, with the columns of all, each route from its first value to
    its last, and `previous` of the first if every change continues the one before, else None. Its
    `op` follows from how the row's changes begin and end:

    * ends with a delete: DELETE, even after an insert. A reader that took a snapshot meanwhile may
      have met the row there; one that never met it knows that it did not.
    * begins with an insert: INSERT.
    * else, also when the row was deleted and inserted again: UPDATE.

    A TRUNCATE replaces everything of its model before it. A change that comes twice counts once.

    Args:
        changes: in the order of the log.

    Returns:
        The changes in the order of the last ones.
    """
    rows: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        key, all_rows = (change.model, change.pk), (change.model, "")
        known = [rows[k][-1].id for k in (key, all_rows) if k in rows]
        if known and change.id <= max(known):
            continue
        if change.op is Op.TRUNCATE:
            rows = {k: history for k, history in rows.items() if k[0] != change.model}
        # taken out and put in, so that the row moves to the end
        history = rows.pop(key, [])
        history.append(change)
        rows[key] = history
    return [_joined(history) for history in rows.values()]


def _joined(history: list[Change]) -> Change:
    first, last = history[0], history[-1]
    if first is last:
        return last
    op = last.op
    if op is not Op.DELETE:
        op = Op.INSERT if first.op is Op.INSERT else Op.UPDATE
    linked = all(b.previous is not None and b.previous == a.version for a, b in pairwise(history))
    begin: dict[str, object] = {}
    end: dict[str, object] = {}
    for change in history:
        for column, (before, after) in change.routes.items():
            begin.setdefault(column, before)
            end[column] = after
    return replace(
        last,
        op=op,
        previous=first.previous if linked else None,
        columns=tuple(dict.fromkeys(chain.from_iterable(c.columns for c in history))),
        routes={column: (before, end[column]) for column, before in begin.items()},
    )


def changed_columns(changes: Iterable[Change], base: int, current: int) -> frozenset[str] | None:
    """Return the columns that changed between two versions of a row, if the log covers all of it.

    Args:
        changes: of this row, in the order of the log; more than those between the two do no harm.
        base: the version that somebody has.
        current: the version the row has now.

    Returns:
        The columns, or None when a change between the two is missing or is no update: then nobody
        can say what changed, and nothing is to be guessed.
    """
    at = base
    columns: set[str] = set()
    for change in changes:
        if at == current:
            break
        # the update that continues a version is the only one with it as `previous`
        if change.op is Op.UPDATE and change.previous == at and change.version is not None:
            columns.update(change.columns)
            at = change.version
    return frozenset(columns) if at == current else None
