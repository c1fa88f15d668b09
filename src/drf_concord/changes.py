"""The log on rows: where it stands, what came after a position, what changed since a version, pruning."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.db import connections, transaction

from .conf import settings
from .fields import version_field
from .models import Mark
from .protocol.changes import Change, Op, Position, Snapshot, changed_columns
from .protocol.errors import PositionLost
from .rows import NotFree, impatient
from .rows import now as clock
from .triggers import VENDORS, ensure_log
from .triggers.plan import known_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = [
    "changed_since",
    "check_position",
    "position",
    "prune",
    "prune_some",
    "read_after",
    "resume_from",
    "writer_of",
]

WINDOWS = (200, 50_000)
"""How many of the newest changes are searched for what changed since a version: first few, as tags that are
refused are seldom old. The log has no index on (model, pk): it would cost every write, and only a refused
write asks."""

MARKS = 60
"""How many marks are kept of the time of ``RETENTION``, so that pruning is that exact."""

BATCH = {"sqlite": 5_000, "postgresql": 10_000}
"""How many changes one transaction deletes at the most. On SQLite nobody writes meanwhile, some hundredths
of a second; on PostgreSQL it takes a tenth, and only others who prune are kept out."""

COLUMNS = "c.id, c.nonce, c.model, c.pk, c.op, c.version, c.previous, c.columns, c.routes, c.actor, c.at"

HEAD = """
SELECT l.epoch, {timeline}, (SELECT cursor FROM concord_mark WHERE pruned ORDER BY id DESC LIMIT 1)
FROM (SELECT 1 AS one) o LEFT JOIN concord_log l ON l.id = 1
"""
TIMELINE = """
CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
"""
LAST_POSTGRESQL = """
SELECT pg_current_snapshot()::text, c.id, c.nonce FROM (SELECT 1 AS one) o
  LEFT JOIN LATERAL (SELECT id, nonce FROM concord_change ORDER BY id DESC LIMIT 1) c ON true
"""
AFTER_POSTGRESQL = f"""
WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS s)
SELECT s.s::text, {COLUMNS} FROM s LEFT JOIN LATERAL (
  SELECT * FROM concord_change WHERE xid = ANY(%s::text[]::xid8[]) AND pg_visible_in_snapshot(xid, s.s)
  UNION ALL
  SELECT * FROM concord_change WHERE xid >= %s::text::xid8 AND pg_visible_in_snapshot(xid, s.s)
) c ON true ORDER BY c.id LIMIT %s
"""
AFTER_SQLITE = f"SELECT {COLUMNS} FROM concord_change c WHERE c.id >= %s ORDER BY c.id LIMIT %s"
CHANGED = f"""
SELECT {COLUMNS} FROM concord_change c WHERE c.id > (SELECT max(id) FROM concord_change) - %s
  AND c.model = %s AND c.pk = %s AND c.previous >= %s ORDER BY c.id
"""
WRITER = """
SELECT c.actor FROM concord_change c WHERE c.id > (SELECT max(id) FROM concord_change) - %s
  AND c.model = %s AND c.pk = %s AND c.version = %s ORDER BY c.id DESC LIMIT 1
"""
KNOWN_POSTGRESQL = """
SELECT pg_current_snapshot()::text, (SELECT nonce FROM concord_change WHERE id = %s),
  EXISTS (SELECT 1 FROM concord_change WHERE id > %s AND pg_visible_in_snapshot(xid, %s::pg_snapshot))
"""
# What goes is what a mark had seen, but for the last of it: positions from then on are known by that one.
PRUNE_POSTGRESQL = """
DELETE FROM concord_change WHERE id = ANY(ARRAY(
  SELECT id FROM concord_change
  WHERE xid < %(xmax)s::text::xid8 AND pg_visible_in_snapshot(xid, %(cursor)s::pg_snapshot)
    AND id < (SELECT max(id) FROM concord_change WHERE pg_visible_in_snapshot(xid, %(cursor)s::pg_snapshot))
  ORDER BY id LIMIT %(batch)s
))
"""
PRUNE_SQLITE = """
DELETE FROM concord_change WHERE id IN (
  SELECT id FROM concord_change WHERE id < (SELECT max(id) FROM concord_change WHERE id <= %(cursor)s)
  ORDER BY id LIMIT %(batch)s
)
"""
LEFT_POSTGRESQL = """
SELECT count(*) FROM (
  SELECT 1 FROM concord_change
  WHERE xid < %(xmax)s::text::xid8 AND pg_visible_in_snapshot(xid, %(cursor)s::pg_snapshot) LIMIT 2
) c
"""
LEFT_SQLITE = "SELECT count(*) FROM (SELECT 1 FROM concord_change WHERE id <= %(cursor)s LIMIT 2)"


@dataclass(frozen=True, slots=True)
class Head:
    """What holds for all of the log: its epoch and timeline, and the position up to which it was pruned."""

    epoch: str
    timeline: str
    horizon: str | None


def _head(connection: BaseDatabaseWrapper) -> Head:
    timeline = {"postgresql": TIMELINE, "sqlite": "''"}.get(connection.vendor)
    if timeline is None:
        raise RuntimeError(f"There is no log on {connection.vendor}.")
    with connection.cursor() as cursor:
        cursor.execute(HEAD.format(timeline=timeline))
        epoch, found, horizon = cursor.fetchone()
    if found is None:
        raise RuntimeError("The log can only be read on the primary, and this is a standby.")
    return Head(ensure_log(connection.alias) if epoch is None else epoch, found, horizon)


def position(using: str) -> Position:
    """Return where the log stands now: every change that is visible now is at or before it.

    Raises:
        RuntimeError: the database is a standby, whose snapshots do not list running transactions.
    """
    connection = connections[using]
    # First the epoch, then the place in it: what goes unseen in between is of the old epoch.
    head = _head(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # One statement: the last change must be of the same snapshot.
            cursor.execute(LAST_POSTGRESQL)
            cursor_text, last_id, nonce = cursor.fetchone()
        else:
            cursor.execute("SELECT id, nonce FROM concord_change ORDER BY id DESC LIMIT 1")
            last_id, nonce = cursor.fetchone() or (None, None)
            cursor_text = str(_sequence(cursor) if last_id is None else last_id)
    return Position(head.epoch, cursor_text, last_id or 0, nonce or 0, head.timeline)


def _sequence(cursor: Any) -> int:
    # An empty log may have been written and emptied: ids go on where they were.
    cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'concord_change'")
    row = cursor.fetchone()
    return row[0] if row else 0


def read_after(after: Position, *, using: str, limit: int = 100_000) -> tuple[Position, list[Change]]:
    """Return the changes after a position, in the order they were recorded, and the new position.

    On PostgreSQL the position is a snapshot: a change is new when its transaction is visible now and was not
    then. Ids are no position there, as they are given out before the commit.

    Raises:
        PositionLost: more than ``limit`` changes came since, and a fresh copy is cheaper than those; or the
            log does not tell all that came since: another epoch began, or it was pruned further than that.
    """
    connection, known = connections[using], True
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            seen = Snapshot.parse(after.cursor)
            cursor.execute(AFTER_POSTGRESQL, [[str(x) for x in seen.xip], str(seen.xmax), limit + 1])
            fetched = cursor.fetchall()
            cursor_text, found = fetched[0][0], [row[1:] for row in fetched if row[1] is not None]
        else:
            found, known = _after_sqlite(cursor, after, limit)
            cursor_text = str(found[-1][0]) if found else after.cursor
    # Afterwards: what was pruned before the changes were read shows in the horizon now.
    _still(after, _head(connection))
    if not known:
        raise PositionLost(reason="epoch")
    if len(found) > limit:
        raise PositionLost("Too much changed since that position. Fetch a fresh copy.", reason="overflow")
    changes = [_change(row) for row in found]
    last = max(changes, key=lambda c: c.id, default=None)
    if last is None or last.id < after.last_id:
        return Position(after.epoch, cursor_text, after.last_id, after.last_nonce, after.timeline), changes
    return Position(after.epoch, cursor_text, last.id, last.nonce, after.timeline), changes


def _after_sqlite(cursor: Any, after: Position, limit: int) -> tuple[list[Any], bool]:
    """Return what came after a position, and whether the last change before it is the one it was.

    A database that is restored while it is in use, by SQLite's own means, has the same file and the same
    epoch, and other changes under ids that were given out before.
    """
    first = after.cursor_id()
    if not after.last_id or first != after.last_id:  # there was no change yet, or none any more
        cursor.execute(AFTER_SQLITE, [first + 1, limit + 1])
        return cursor.fetchall(), True
    cursor.execute(AFTER_SQLITE, [first, limit + 2])
    rows = cursor.fetchall()
    return rows[1:], bool(rows) and rows[0][:2] == (first, after.last_nonce)


def _still(given: Position, head: Head) -> None:
    """Refuse to read on from a position of another epoch, or from before the horizon."""
    if (given.epoch, given.timeline) != (head.epoch, head.timeline):
        raise PositionLost(reason="epoch")
    if head.horizon is not None and not _not_before(given, head.horizon):
        raise PositionLost(reason="expired")


def _not_before(given: Position, cursor: str) -> bool:
    if ":" in cursor:
        return Snapshot.parse(given.cursor).not_before(Snapshot.parse(cursor))
    return given.cursor_id() >= int(cursor)


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


def resume_from(given: Position, *, using: str) -> tuple[Position, list[Change]]:
    """Return what `read_after` does, of a position that somebody comes back with.

    Raises:
        PositionLost: as `check_position`.
    """
    check_position(given, using=using)
    return read_after(given, using=using)


def check_position(given: Position, *, using: str) -> None:
    """Make sure that reading on from a position misses nothing.

    Raises:
        PositionLost: it is older than the log goes back, or of another history: a restore, a failover or a
            copied file leaves the epoch as it was, but not the last change with its nonce.
    """
    connection = connections[using]
    _still(given, head := _head(connection))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            seen = Snapshot.parse(given.cursor)
            cursor.execute(KNOWN_POSTGRESQL, [given.last_id, given.last_id, given.cursor])
            now, nonce, later = cursor.fetchone()
            # The numbers of transactions begin anew where a dump is restored: there, this snapshot takes for
            # seen what is not over yet, or what came after the last change that it saw.
            if later or not Snapshot.parse(now).not_before(seen):
                raise PositionLost(reason="epoch")
        else:
            cursor.execute("SELECT nonce FROM concord_change WHERE id = %s", [given.last_id])
            nonce = (cursor.fetchone() or (None,))[0]
    given.check(epoch=head.epoch, timeline=head.timeline, nonce=nonce)


def changed_since(
    model: type[Model], pk: Any, base: int, current: int, *, using: str
) -> frozenset[str] | None:
    """Return the columns of a row that changed from version ``base`` to ``current``, as far as the log tells.

    Returns:
        Names of columns, and of many-to-many and reverse fields; None when the log does not cover the way, or
        covers it under a name that is not known any more.
    """
    known, row = known_names(model), _row_in_log(model, pk, using)
    if known is None or row is None:
        return None
    columns = None
    for window in WINDOWS:
        with connections[using].cursor() as cursor:
            cursor.execute(CHANGED, [window, *row, base])
            changes = [_change(row) for row in cursor.fetchall()]
        columns = changed_columns(changes, base, current)
        if columns is not None:
            break
    return columns if columns is not None and columns <= known else None


def writer_of(model: type[Model], pk: Any, version: int, *, using: str) -> str | None:
    """Return who led a row to a version, as the primary key of a user; None where the log does not tell."""
    row = _row_in_log(model, pk, using)
    if row is None:
        return None
    with connections[using].cursor() as cursor:
        for window in WINDOWS:
            cursor.execute(WRITER, [window, *row, version])
            found = cursor.fetchone()
            if found is not None:
                return cast("str | None", found[0])
    return None


def _row_in_log(model: type[Model], pk: Any, using: str) -> tuple[str, str] | None:
    """Return label and key under which the log has a row; None without a version, or without a log."""
    field, connection = version_field(model), connections[using]
    if field is None or connection.vendor not in VENDORS:
        return None
    home = field.model
    return home._meta.label, str(home._meta.pk.get_db_prep_value(pk, connection))


def prune(using: str, *, now: int | None = None) -> int:
    """Delete changes older than ``RETENTION`` and beyond ``RETENTION_ROWS``; returns how many went.

    Old is what was visible at a position saved that long ago. By timestamp, the first rows of a long
    transaction would go before anybody could see them. Waits while somebody else prunes.

    Args:
        using: the database alias.
        now: the time in microseconds since the epoch; the database's when None.
    """
    gone = found = prune_some(using, now=now, wait=True)
    while found and found >= batch(using):
        gone += (found := prune_some(using, now=now, wait=True))
    return gone


def prune_some(using: str, *, now: int | None = None, wait: bool = False) -> int:
    """Delete no more than a `batch` of what `prune` does, in one transaction; returns how many went.

    Where there is nothing to do it reads a few rows and takes no lock. What one call leaves, the next one of
    whatever process finds.

    Args:
        using: the database alias.
        now: the time in microseconds since the epoch; the database's when None.
        wait: whether to wait while somebody else prunes (on SQLite: writes), or do nothing then.
    """
    connection = connections[using]
    if connection.vendor not in VENDORS:
        return 0
    now = clock(using) if now is None else now
    with connection.cursor() as cursor:
        unmarked, due = _due(cursor, using, now)
    if not unmarked and due is None:
        return 0
    # All of it: with transaction_mode IMMEDIATE it would wait when it begins, without WAL when it ends.
    impatience = nullcontext() if wait or connection.vendor != "sqlite" else impatient(connection)
    with suppress(NotFree), impatience, transaction.atomic(using=using), connection.cursor() as cursor:
        _take_turn(cursor, wait=wait)
        return _prune(cursor, using, now)
    if connection.vendor == "postgresql":
        ensure_log(using)  # a flush may have taken the row that is locked: the next one finds it again
    return 0


def _prune(cursor: Any, using: str, now: int) -> int:
    """Move the horizon, and delete the first changes before it: without one they would go in silence."""
    unmarked, due = _due(cursor, using, now)  # again: somebody else may have done it meanwhile
    if unmarked:
        _mark(using, now)
        _, due = _due(cursor, using, now)
    if due is None:
        return 0
    sql = PRUNE_POSTGRESQL if cursor.db.vendor == "postgresql" else PRUNE_SQLITE
    cursor.execute(sql, {**_seen_by(due), "batch": batch(using)})
    gone: int = cursor.rowcount
    Mark._base_manager.using(using).filter(pk__lt=due.pk).delete()
    Mark._base_manager.using(using).filter(pk=due.pk).update(pruned=True)
    return gone


def batch(using: str) -> int:
    """Return how many changes one transaction deletes at the most."""
    return BATCH[connections[using].vendor]


def _take_turn(cursor: Any, *, wait: bool) -> None:
    """Lock the log against others who prune, on SQLite against all who write.

    Raises:
        NotFree: without ``wait``, somebody has it.
    """
    if wait or cursor.db.vendor == "sqlite":
        cursor.execute("UPDATE concord_log SET via = via")
        return
    cursor.execute("SELECT id FROM concord_log WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED")
    if cursor.fetchone() is None:
        raise NotFree


def _due(cursor: Any, using: str, now: int) -> tuple[bool, Mark | None]:
    """Return whether a mark is missing, and the one up to which there are changes to delete."""
    retention = settings.RETENTION * 1_000_000
    marks = list(Mark._base_manager.using(using).order_by("id"))
    unmarked = not marks or marks[-1].at <= now - retention // MARKS
    old = [mark for mark in marks if mark.pruned or mark.at <= now - retention]
    beyond = _beyond(cursor, using)
    if beyond is not None:
        seeing = next((mark for mark in marks if _sees(mark, *beyond)), None)
        unmarked = unmarked or seeing is None
        old += [seeing] if seeing is not None else []
    due = max(old, key=lambda mark: mark.pk, default=None)
    if due is not None and due.pruned:
        # An earlier call may not have come to the end of it. The last change always stays.
        cursor.execute(LEFT_POSTGRESQL if cursor.db.vendor == "postgresql" else LEFT_SQLITE, _seen_by(due))
        due = due if cursor.fetchone()[0] > 1 else None
    return unmarked, due


def _seen_by(mark: Mark) -> dict[str, Any]:
    if ":" in mark.cursor:
        return {"cursor": mark.cursor, "xmax": str(Snapshot.parse(mark.cursor).xmax)}
    return {"cursor": int(mark.cursor)}


def _beyond(cursor: Any, using: str) -> tuple[int, int] | None:
    """Return (id, transaction) of the last change beyond ``RETENTION_ROWS``, if there are any."""
    transaction_of = "xid::text" if connections[using].vendor == "postgresql" else "0"
    cursor.execute(
        f"SELECT id, {transaction_of} FROM concord_change"
        " WHERE id <= (SELECT max(id) FROM concord_change) - %s ORDER BY id DESC LIMIT 1",
        [settings.RETENTION_ROWS],
    )
    row = cursor.fetchone()
    return None if row is None else (row[0], int(row[1]))


def _sees(mark: Mark, last: int, transaction_of: int) -> bool:
    if ":" in mark.cursor:
        return Snapshot.parse(mark.cursor).sees(transaction_of)
    return int(mark.cursor) >= last


def _mark(using: str, now: int) -> Mark:
    return Mark._base_manager.using(using).create(at=now, cursor=position(using).cursor)
