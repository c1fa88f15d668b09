"""Transactions that others get in the way of: tried again, or answered with the right name."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction

from drf_concord import attempts
from drf_concord.protocol.errors import Busy, Conflict, VersionMismatch

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
    pytest.mark.mariadb,
]


class Fault(Exception):
    """As a driver raises it, each of which has a name of its own for the code."""

    def __init__(self, code: str, name: str = "sqlstate") -> None:
        setattr(self, name, code)


def failing(sqlstate: str, times: int, tries: list[int], name: str = "sqlstate") -> Any:
    def attempt() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise OperationalError("failed") from Fault(sqlstate, name)
        return "done"

    return attempt


@pytest.mark.parametrize("name", ["sqlstate", "pgcode"])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_serialization_failure_is_tried_again(sqlstate: str, name: str) -> None:
    tries: list[int] = []

    assert attempts.run(failing(sqlstate, 3, tries, name), using="default", conditional=False) == "done"
    assert len(tries) == 4


def test_in_the_end_it_is_busy_and_says_when_to_come_again() -> None:
    tries: list[int] = []
    with pytest.raises(Busy) as caught:
        attempts.run(failing("40001", 9, tries), using="default", conditional=True)

    assert len(tries) == 4
    assert caught.value.retry_after == 1


@pytest.mark.parametrize(("conditional", "error"), [(True, VersionMismatch), (False, Busy)])
def test_inside_a_transaction_there_is_no_second_attempt(conditional: bool, error: type[Exception]) -> None:
    tries: list[int] = []
    with transaction.atomic(), pytest.raises(error):
        attempts.run(failing("40001", 1, tries), using="default", conditional=conditional)

    assert len(tries) == 1


def test_what_no_other_writer_caused_is_raised_as_it_is() -> None:
    with pytest.raises(OperationalError):
        attempts.run(failing("57P01", 9, []), using="default", conditional=False)


def test_an_inner_run_leaves_it_to_the_outer_one() -> None:
    inner: list[int] = []
    outer: list[int] = []

    def attempt() -> str:
        outer.append(1)
        with transaction.atomic():
            return str(attempts.run(failing("40001", 1, inner), using="default", conditional=True))

    assert attempts.run(attempt, using="default", conditional=False) == "done"
    assert (len(inner), len(outer)) == (2, 2)


@pytest.mark.parametrize("sqlstate", ["23505", "23503", "23P01"])
def test_a_constraint_that_another_filled_is_a_conflict(sqlstate: str) -> None:
    with pytest.raises(Conflict):
        attempts.run(failing(sqlstate, 1, []), using="default", conditional=True)


@pytest.mark.parametrize(
    ("number", "error"),
    [(1213, None), (1020, None), (1205, Busy), (1062, Conflict), (1451, Conflict), (1048, IntegrityError)],
)
def test_mariadb_says_it_in_numbers(number: int, error: type[Exception] | None) -> None:
    tries: list[int] = []

    def attempt() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise IntegrityError(number, "said in words") from Fault("23000")
        return "done"

    if error is None:
        assert attempts.run(attempt, using="default", conditional=False) == "done"
    else:
        with pytest.raises(error):
            attempts.run(attempt, using="default", conditional=False)


def test_what_was_committed_is_not_done_again() -> None:
    done: list[int] = []

    def attempt() -> None:
        with transaction.atomic():
            transaction.on_commit(attempts.commit_noted(connections["default"]))
            done.append(1)
        raise OperationalError("failed") from Fault("40001")

    with pytest.raises(OperationalError):
        attempts.run(attempt, using="default", conditional=False)
    assert done == [1]


def test_only_waiting_is_busy() -> None:
    with pytest.raises(OperationalError), attempts.waiting():
        raise OperationalError("disk I/O error")
    with pytest.raises(Busy), attempts.waiting():
        raise OperationalError("database is locked")
