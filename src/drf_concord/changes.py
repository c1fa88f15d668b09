"""The log on rows: where it stands, what came after a position, what changed since a version, pruning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import connections

from .conf import settings
from .fields import version_field
from .models import Change as ChangeRow
from .models import Log, Mark
from .protocol.changes import Change, Op, Position, Snapshot, changed_columns
from .protocol.errors import PositionLost
from .rows import now as clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import Model

__all__ = ["changed_since", "check_position", "position", "prune", "read_after"]

WINDOW = 50_000
"""How many of the newest changes are searched for what changed since a version. The log has no index on
(model, pk): it would cost every write, and only a refused write asks."""

COLUMNS = "c.id, c.nonce, c.model, c.pk, c.op, c.version, c.previous, c.columns, c.routes, c.actor, c.at"

AFTER_POSTGRESQL = f"""
WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS s)
SELECT s.s::text, {COLUMNS} FROM s LEFT JOIN LATERAL (
  SELECT * FROM concord_change WHERE xid = ANY(%s::text[]::xid8[]) AND pg_visible_in_snapshot(xid, s.s)
  UNION ALL
  SELECT * FROM concord_change WHERE xid >= %s::text::xid8 AND pg_visible_in_snapshot(xid, s.s)
) c ON true ORDER BY c.id LIMIT %s
"""
AFTER_SQLITE = f"SELECT {COLUMNS} FROM concord_change c WHERE c.id > %s ORDER BY c.id LIMIT %s"


def position(using: str) -> Position:
    """Return where the log stands now: every change that is visible now is at or before it.

    Raises:
        RuntimeError: the database is a standby, whose snapshots do not list running transactions.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_is_in_recovery()")
            if cursor.fetchone()[0]:
                raise RuntimeError("The log can only be read on the primary, and this is a standby.")
            # One statement: the last change must be of the same snapshot.
            cursor.execute(
                "SELECT pg_current_snapshot()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),"
                " c.id, c.nonce FROM (SELECT 1) one LEFT JOIN LATERAL"
                " (SELECT id, nonce FROM concord_change ORDER BY id DESC LIMIT 1) c ON true"
            )
            cursor_text, timeline, last_id, nonce = cursor.fetchone()
        else:
            cursor.execute("SELECT id, nonce FROM concord_change ORDER BY id DESC LIMIT 1")
            last_id, nonce = cursor.fetchone() or (_sequence(cursor), 0)
            cursor_text, timeline = str(last_id), ""
    return Position(_epoch(using), cursor_text, last_id or 0, nonce or 0, timeline)


def _sequence(cursor: Any) -> int:
    # An empty log may have been written and pruned: ids go on where they were.
    cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'concord_change'")
    row = cursor.fetchone()
    return row[0] if row else 0


def _epoch(using: str) -> str:
    return Log._base_manager.using(using).values_list("epoch", flat=True).get(id=1)


def read_after(after: Position, *, using: str, limit: int = 100_000) -> tuple[Position, list[Change]]:
    """Return the changes after a position, in the order they were recorded, and the new position.

    On PostgreSQL the position is a snapshot: a change is new when its transaction is visible now and was not
    then. Ids are no position there, as they are given out before the commit.

    Raises:
        PositionLost: more than ``limit`` changes came since; a fresh copy is cheaper than those.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            seen = Snapshot.parse(after.cursor)
            cursor.execute(AFTER_POSTGRESQL, [[str(x) for x in seen.xip], str(seen.xmax), limit + 1])
            fetched = cursor.fetchall()
            cursor_text, found = fetched[0][0], [row[1:] for row in fetched if row[1] is not None]
        else:
            cursor.execute(AFTER_SQLITE, [int(after.cursor), limit + 1])
            found = cursor.fetchall()
            cursor_text = str(found[-1][0]) if found else after.cursor
    if len(found) > limit:
        raise PositionLost("Too much changed since that position. Fetch a fresh copy.", reason="overflow")
    changes = [_change(row) for row in found]
    last = max(changes, key=lambda c: c.id, default=None)
    if last is None or last.id < after.last_id:
        return Position(after.epoch, cursor_text, after.last_id, after.last_nonce, after.timeline), changes
    return Position(after.epoch, cursor_text, last.id, last.nonce, after.timeline), changes


def _change(row: Sequence[Any]) -> Change:
    id_, nonce, model, pk, op, version, previous, columns, routes, actor, at = row
    return Change(
        id=id_,
        nonce=nonce,
        model=model,
        pk=pk,
        op=Op(op),
        version=version,
        previous=previous,
        columns=tuple(json.loads(columns)) if columns else (),
        routes={name: (old, new) for name, (old, new) in json.loads(routes or "{}").items()},
        actor=actor,
        at=at,
    )


def check_position(given: Position, *, using: str) -> None:
    """Make sure that reading on from a position misses nothing.

    Raises:
        PositionLost: it is older than the log goes back, or of another history: a restore, a failover or a
            copied file leaves the epoch as it was, but not the last change with its nonce.
    """
    now = position(using)
    if given.epoch != now.epoch or given.timeline != now.timeline:
        raise PositionLost(reason="epoch")
    horizon = Mark._base_manager.using(using).filter(pruned=True).order_by("-at").first()
    if horizon is not None and not _not_before(given.cursor, horizon.cursor):
        raise PositionLost(reason="expired")
    if given.last_id:
        known = ChangeRow._base_manager.using(using).filter(id=given.last_id, nonce=given.last_nonce)
        if not known.exists():
            raise PositionLost(reason="epoch")


def _not_before(cursor: str, other: str) -> bool:
    if ":" in cursor:
        return Snapshot.parse(cursor).not_before(Snapshot.parse(other))
    return int(cursor) >= int(other)


def changed_since(
    model: type[Model], pk: Any, base: int, current: int, *, using: str
) -> frozenset[str] | None:
    """Return the columns of a row that changed from version ``base`` to ``current``, as far as the log tells.

    Returns:
        Names of columns, and of many-to-many and reverse fields; None when the log does not cover the way.
    """
    field = version_field(model)
    connection = connections[using]
    if field is None or connection.vendor not in {"sqlite", "postgresql"}:
        return None
    home = field.model
    pk_text = str(home._meta.pk.get_db_prep_value(pk, connection))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COLUMNS} FROM concord_change c"
            " WHERE c.id > (SELECT max(id) FROM concord_change) - %s AND c.model = %s AND c.pk = %s"
            " ORDER BY c.id",
            [WINDOW, home._meta.label, pk_text],
        )
        changes = [_change(row) for row in cursor.fetchall()]
    return changed_columns(changes, base, current)


def prune(using: str, *, now: int | None = None) -> int:
    """Delete changes older than ``RETENTION`` and beyond ``RETENTION_ROWS``; returns how many went.

    Old is what was visible at a position saved that long ago. By timestamp, the first rows of a long
    transaction would go before anybody could see them.

    Args:
        using: the database alias.
        now: the time in microseconds since the epoch; the database's when None.
    """
    now = clock(using) if now is None else now
    marks = Mark._base_manager.using(using)
    marks.create(at=now, cursor=position(using).cursor)
    due = marks.filter(at__lte=now - settings.RETENTION * 1_000_000).order_by("-at").first()
    log = ChangeRow._base_manager.using(using)
    newest = log.order_by("-id").values_list("id", flat=True).first() or 0
    if due is None and log.count() > settings.RETENTION_ROWS:
        # Too many within the window: what the oldest mark had seen goes first.
        due = marks.filter(pruned=False).order_by("at").first()
    if due is None:
        return 0
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "DELETE FROM concord_change WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot) AND id < %s",
                [due.cursor, newest],
            )
        else:
            cursor.execute(
                "DELETE FROM concord_change WHERE id <= %s AND id < %s",
                [int(due.cursor), newest],
            )
        gone: int = cursor.rowcount
    marks.filter(at__lt=due.at).delete()
    marks.filter(pk=due.pk).update(pruned=True)
    return gone
