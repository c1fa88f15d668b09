from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connection, transaction

from drf_concord import transports
from drf_concord.transports import announce, announce_on_commit
from drf_concord.transports.channel_layer import ChannelLayer
from drf_concord.transports.memory import Memory
from drf_concord.transports.postgres import Postgres

from .listening import PATIENCE, Listening

ALL = {"memory": Memory, "channel_layer": ChannelLayer, "postgres": Postgres}


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    announced: list[str] = []
    monkeypatch.setattr(transports, "announce", announced.append)
    return announced


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Which kinds are configured, as a test likes it."""
    configured = dict.fromkeys(ALL, True)
    for kind in ALL.values():
        monkeypatch.setattr(kind, "available", lambda transport: configured[transport.name])
    return configured


class Rollback(Exception):
    """Ends a block without a trace."""


@contextmanager
def rolled_back() -> Iterator[None]:
    with suppress(Rollback), transaction.atomic():
        yield
        raise Rollback


def names(using: str = "default") -> list[str]:
    return [transport.name for transport in transports.transports(using)]


# Which there are


def test_postgres_is_left_out_where_the_channel_layer_is_used(configured: dict[str, bool]) -> None:
    assert names() == ["memory", "channel_layer"]
    configured["channel_layer"] = False
    assert names() == ["memory", "postgres"]
    configured["postgres"] = False
    assert names() == ["memory"]


@pytest.mark.parametrize(
    ("hints", "left"),
    [
        ((), []),
        (["postgres"], ["postgres"]),
        (["postgres", "memory"], ["postgres", "memory"]),
        (["postgres", "channel_layer"], ["channel_layer"]),
        (["carrier_pigeon", "memory", "memory"], ["memory"]),
    ],
)
def test_the_setting_is_read_late(
    settings: Any, configured: dict[str, bool], hints: list[str], left: list[str]
) -> None:
    assert names() == ["memory", "channel_layer"]
    settings.CONCORD = {"HINTS": hints}
    assert names() == left


def test_one_instance_for_each_process_alias_and_kind(configured: dict[str, bool]) -> None:
    default, other = transports.transports(), transports.transports("other")

    assert transports.transports("default") == default
    assert {id(each) for each in default}.isdisjoint(id(each) for each in other)
    assert [each.using for each in (*default, *other)] == ["default"] * 2 + ["other"] * 2


def test_one_instance_whoever_asks_first(configured: dict[str, bool]) -> None:
    found: list[transports.Transport] = []
    start = threading.Barrier(10)

    def ask() -> None:
        start.wait(PATIENCE)
        found.extend(transports.transports())

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(set(found)) == 2


def test_everybody_is_told(settings: Any) -> None:
    settings.CONCORD = {"HINTS": ["memory"]}
    [memory] = transports.transports()
    with Listening(memory) as listening:
        announce("default")
        listening.hears()
        announce("other")
        announce("default")
        listening.hears()
        assert listening.wakes.empty()


def test_importing_starts_and_loads_nothing() -> None:
    code = """if True:
        import sys, threading
        import django.conf
        django.conf.settings.configure()
        import drf_concord.transports
        assert threading.active_count() == 1
        assert not {"channels", "psycopg", "redis"} & sys.modules.keys()
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# When it is announced

committing = pytest.mark.django_db(transaction=True)


@committing
def test_outside_a_transaction_at_once(announced: list[str]) -> None:
    announce_on_commit("default")
    announce_on_commit("default")
    assert announced == ["default"] * 2


@committing
def test_once_for_a_transaction_when_it_commits(announced: list[str]) -> None:
    for _ in range(2):
        with transaction.atomic():
            for _ in range(100):
                announce_on_commit("default")
            assert len(connection.run_on_commit) == 1
            assert announced == []
        assert announced == ["default"]
        announced.clear()


@committing
def test_not_when_it_is_rolled_back(announced: list[str]) -> None:
    with rolled_back():
        announce_on_commit("default")
    assert announced == []
    with transaction.atomic():
        announce_on_commit("default")
    assert announced == ["default"]


@committing
def test_not_for_a_savepoint_that_is_rolled_back(announced: list[str]) -> None:
    with transaction.atomic(), rolled_back():
        announce_on_commit("default")
    assert announced == []


@committing
def test_what_is_written_after_a_savepoint_that_is_rolled_back(announced: list[str]) -> None:
    with transaction.atomic():
        for _ in range(3):
            with rolled_back():
                announce_on_commit("default")
        announce_on_commit("default")
    assert announced == ["default"]


@committing
def test_what_was_written_before_a_savepoint_that_is_rolled_back(announced: list[str]) -> None:
    with transaction.atomic():
        announce_on_commit("default")
        for _ in range(3):
            with rolled_back():
                announce_on_commit("default")
            announce_on_commit("default")
        assert len(connection.run_on_commit) == 1
    assert announced == ["default"]


@committing
def test_once_for_many_savepoints(announced: list[str]) -> None:
    """As when many objects are saved in one transaction: each save has a savepoint."""
    with transaction.atomic():
        for _ in range(5):
            with transaction.atomic(), transaction.atomic():
                announce_on_commit("default")
        assert len(connection.run_on_commit) == 1
    assert announced == ["default"]


@committing
def test_the_savepoint_round_the_first_write_is_rolled_back(announced: list[str]) -> None:
    with transaction.atomic():
        with rolled_back():
            with transaction.atomic():
                announce_on_commit("default")
            with transaction.atomic():
                announce_on_commit("default")
        with transaction.atomic():
            announce_on_commit("default")
    assert announced == ["default"]


@committing
def test_others_wait_for_the_commit_too(announced: list[str]) -> None:
    order: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: order.append("first"))
        announce_on_commit("default")
        with rolled_back():
            transaction.on_commit(lambda: order.append("never"))
            announce_on_commit("default")
        transaction.on_commit(lambda: announce_on_commit("default"))
    assert order == ["first"]
    assert announced == ["default"] * 2


@committing
def test_without_autocommit_at_once(announced: list[str]) -> None:
    """Nobody says then when the commit is: a hint that comes too early is better than none."""
    transaction.set_autocommit(False)
    try:
        announce_on_commit("default")
        assert announced == ["default"]
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.django_db
def test_callbacks_that_tests_run_themselves(
    announced: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    """Django's test cases run what waits for the commit, and leave it in the queue."""
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True) as callbacks:
            announce_on_commit("default")
            announce_on_commit("default")
        assert len(callbacks) == 1
    assert announced == ["default"] * 2


@committing
def test_a_transport_that_fails_does_not_fail_the_write(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(using: str) -> None:
        raise RuntimeError("no transport")

    monkeypatch.setattr(transports, "announce", fail)
    with transaction.atomic():
        announce_on_commit("default")

    assert "no transport" in caplog.text


@committing
def test_who_listens_is_woken_by_a_commit_only(settings: Any) -> None:
    settings.CONCORD = {"HINTS": ["memory"]}
    [memory] = transports.transports()
    with Listening(memory) as listening:
        with rolled_back():
            announce_on_commit("default")
        with transaction.atomic():
            announce_on_commit("default")
            assert listening.wakes.empty()
        listening.hears()
        assert listening.wakes.empty()
