"""Who prunes the log, and when: the hub of a process now and then, and where there is none its writers.

`changes.prune_some` does it; here is what keeps it out of everybody's way.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from django.db import connections, transaction

from . import changes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["after_write", "prune_quietly", "tended"]

logger = logging.getLogger("drf_concord")

WRITES = 1_000
"""One in so many writes through the gate prunes, where no hub does."""

_tended: Counter[str] = Counter()
_behind: set[str] = set()
_failing: set[str] = set()


@contextmanager
def tended(using: str) -> Iterator[None]:
    """Say that something in this process prunes a database while this lasts: no writer has to."""
    _tended[using] += 1
    try:
        yield
    finally:
        _tended[using] -= 1


def after_write(using: str) -> None:
    """Let one in ``WRITES`` of the writes that are committed prune, after its commit; asks no database.

    A writer that leaves something is followed by the next one of this process, so that writes of many rows
    are kept up with, too, and none of them has to delete it all.

    Args:
        using: the alias of the database, in whose transaction this is called.
    """
    if _tended[using]:
        return
    # drawn, not counted: a process that ends after some hundred writes has its share
    if using in _behind or random.randrange(WRITES) == 0:  # noqa: S311
        transaction.on_commit(partial(prune_quietly, using), using=using, robust=True)


def prune_quietly(using: str) -> bool:
    """Prune a part of the log, unless somebody else is doing it; never raises, and never in a transaction.

    Of failures in a row the first is logged.

    Returns:
        True when there may be more to delete.
    """
    connection = connections[using]
    try:
        if not connection.get_autocommit():
            return False  # in a transaction: what is locked there stays so until somebody commits
        gone = changes.prune_some(using)
        more = bool(gone) and gone >= changes.batch(using)
        _failing.discard(using)
    except Exception:
        more = False
        if using not in _failing:
            _failing.add(using)
            logger.exception("The change log of database %r could not be pruned; trying again later.", using)
    (_behind.add if more else _behind.discard)(using)
    return more
