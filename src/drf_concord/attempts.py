"""Transactions that others get in the way of: what is tried again, and what a failure is called."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError, IntegrityError, OperationalError, connections

from .protocol.errors import Busy, Conflict, VersionMismatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["commit_noted", "run", "sqlstate", "waiting"]

R = TypeVar("R")

ATTEMPTS = 4
RETRY_AFTER = 1.0  # seconds

SERIALIZATION = {"40001", "40P01"}  # serialization failure, deadlock
UNAVAILABLE = {"55P03"}  # lock_timeout ran out
CLASHES = {"23505", "23503", "23P01"}  # unique, foreign key, exclusion
MYSQL_RETRY, MYSQL_BUSY, MYSQL_CLASH = {1213, 1020}, {1205}, {1062, 1451, 1452}


@dataclass(slots=True, eq=False)
class _Run:
    """A transaction that is tried again when another one got in its way, unless it was committed."""

    connection: BaseDatabaseWrapper
    committed: bool = False

    def commit(self) -> None:
        self.committed = True


_running: ContextVar[tuple[_Run, ...]] = ContextVar("concord_running", default=())


def run(attempt: Callable[[], R], *, using: str, conditional: bool) -> R:
    """Run a transaction, again where another one got in its way and nothing has been decided yet.

    A second attempt asks all the rules again, so that a tag which meanwhile got old is a mismatch. Inside
    somebody else's transaction there is no second attempt: what was read there is read.

    Raises:
        Busy: the database did not get to it. Conflict: a constraint says that something was written at the
            same time. VersionMismatch: inside a transaction, which cannot look at the new state.
    """
    connection = connections[using]
    nested, outer = connection.in_atomic_block, _runs(connection)
    for left in reversed(range(ATTEMPTS)):
        this = _Run(connection)
        token = _running.set((*_running.get(), this))
        try:
            return attempt()
        except (OperationalError, IntegrityError) as error:
            kind = _classify(error)
            # What fails after the commit is somebody's on_commit(), and what is done is not done twice.
            if kind is None or this.committed:
                raise
            if kind == "clash":
                raise Conflict from error
            if kind == "retry" and outer:
                raise  # the transaction is an outer run's, which tries it again as a whole
            if kind == "retry" and not nested and left:
                continue
            if kind == "retry" and nested and conditional:
                raise VersionMismatch from error
            raise Busy(retry_after=RETRY_AFTER) from error
        finally:
            _running.reset(token)
    raise AssertionError("unreachable: the last attempt returns or raises")


def commit_noted(connection: BaseDatabaseWrapper) -> Callable[[], None] | None:
    """Return what tells the run that opened a transaction that it was committed; None outside of any."""
    runs = _runs(connection)
    return runs[-1].commit if runs else None


def _runs(connection: BaseDatabaseWrapper) -> list[_Run]:
    return [run for run in _running.get() if run.connection is connection]


def _classify(error: DatabaseError) -> str | None:
    """Return "retry", "busy" or "clash" for errors that another writer caused, else None."""
    number = error.args[0] if error.args else None
    if isinstance(number, int):  # MariaDB; some of its drivers have a sqlstate too, which says less
        numbers = (("retry", MYSQL_RETRY), ("busy", MYSQL_BUSY), ("clash", MYSQL_CLASH))
        return next((kind for kind, known_numbers in numbers if number in known_numbers), None)
    state = sqlstate(error)
    if state is not None:
        known = (("retry", SERIALIZATION), ("busy", UNAVAILABLE), ("clash", CLASHES))
        return next((kind for kind, states in known if state in states), None)
    text = str(error)
    if "is locked" in text:  # SQLite: database is locked, database table is locked
        return "busy"
    if "UNIQUE constraint" in text or "FOREIGN KEY constraint" in text:
        return "clash"
    return None


def sqlstate(error: DatabaseError) -> str | None:
    """Return PostgreSQL's code of an error, whichever driver it comes from."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg 3, and psycopg2


class waiting:
    """Say ``Busy`` where a statement waited for another writer in vain.

    Raises:
        Busy
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OperationalError) and _classify(error) == "busy":
            raise Busy(retry_after=RETRY_AFTER) from error
