from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core import mail
from django.db import connection

from drf_concord import transports
from drf_concord.transports import postgres
from drf_concord.transports.postgres import CHANNEL, Postgres

from .announcer import announce_elsewhere
from .costs import cost
from .listening import PATIENCE, Listening, Logged
from .proxy import Proxy, free_port

STARTS = 2  # it wakes when it is connected, and by the hint to itself

pytestmark = pytest.mark.django_db

on_postgresql = pytest.mark.postgresql


@pytest.fixture
def transport() -> Postgres:
    [transport] = [t for t in transports.transports() if isinstance(t, Postgres)]
    return transport


@pytest.fixture
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep connections as in production, not as under tests."""
    monkeypatch.delattr(mail, "outbox")


def through(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    """Have connections for hints go through a proxy."""
    given = Postgres._parameters
    where = {"host": "127.0.0.1", "port": proxy.port, "sslmode": "disable", "gssencmode": "disable", **more}
    monkeypatch.setattr(Postgres, "_parameters", lambda transport: given(transport) | where)


def backends(query: str) -> list[int]:
    """Return the server's processes whose last statement in this database was this one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # or a transaction sees the same until its end
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = %s"
            " AND application_name = 'drf_concord hints' ORDER BY pid",
            [query],
        )
        return [pid for (pid,) in cursor.fetchall()]


def terminate(*pids: int) -> None:
    with connection.cursor() as cursor:
        for pid in pids:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert cursor.fetchone() == (True,)


@pytest.mark.sqlite
def test_other_databases_have_no_such_thing() -> None:
    assert not Postgres().available()


@on_postgresql
def test_without_its_driver_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Postgres().available()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    assert not Postgres().available()


@on_postgresql
def test_who_listens_is_woken(transport: Postgres) -> None:
    with Listening(transport, STARTS) as one:
        transport.announce()
        one.hears()
        with Listening(transport, STARTS) as two:
            one.hears()  # the other's hint to itself
            for _ in range(3):
                transport.announce()
                one.hears()
                two.hears()


@on_postgresql
def test_another_process_is_heard(transport: Postgres) -> None:
    with Listening(transport, STARTS) as listening:
        announce_elsewhere(["postgres"])
        listening.hears()


@on_postgresql
def test_a_listener_whose_backend_is_terminated_hears_the_next_hint(
    transport: Postgres, logged: Logged
) -> None:
    with Listening(transport, STARTS) as listening:
        for _ in range(3):
            [pid] = backends(f"LISTEN {CHANNEL}")
            terminate(pid)
            listening.hears()  # connected again
            transport.announce()
            listening.hears()

    assert logged.lines == []


@on_postgresql
def test_nobody_listens_after_the_end(transport: Postgres) -> None:
    with Listening(transport, STARTS):
        assert len(backends(f"LISTEN {CHANNEL}")) == 1
    wait_until(lambda: backends(f"LISTEN {CHANNEL}") == [])


@on_postgresql
@pytest.mark.usefixtures("keeps")
def test_a_sender_whose_backend_is_terminated_sends_the_next_hint(
    transport: Postgres, logged: Logged
) -> None:
    with Listening(transport, STARTS) as listening:
        for _ in range(3):
            wait_until(lambda: len(backends(f"NOTIFY {CHANNEL}")) == 1)
            terminate(*backends(f"NOTIFY {CHANNEL}"))
            transport.announce()
            listening.hears()

    assert logged.lines == []


@on_postgresql
def test_under_tests_no_connection_is_kept(transport: Postgres) -> None:
    """Or the test runner could not drop the database."""
    with Listening(transport, STARTS) as listening:
        transport.announce()
        listening.hears()
        wait_until(lambda: backends(f"NOTIFY {CHANNEL}") == [])


@on_postgresql
def test_under_tests_nobody_is_told_where_nobody_listens(transport: Postgres) -> None:
    """Or it would be connected still when the test runner drops the database."""
    transport.announce()
    assert transport._sender.thread is None
    with Listening(transport, STARTS):
        assert transport._listening == 1
    assert transport._listening == 0


@on_postgresql
@pytest.mark.usefixtures("keeps")
def test_a_hint_is_no_part_of_the_writers_transaction(transport: Postgres) -> None:
    with Listening(transport, STARTS) as listening:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [ours] = cursor.fetchone()
        transport.announce()
        listening.hears()  # this test is in a transaction, which nobody commits
        wait_until(lambda: len(backends(f"NOTIFY {CHANNEL}")) == 1)
        assert backends(f"NOTIFY {CHANNEL}") != [ours]


@on_postgresql
def test_the_server_may_go_and_come_back(
    transport: Postgres, postgresql: Proxy, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    through(postgresql, monkeypatch)
    with Listening(transport, STARTS) as listening:
        postgresql.cut()
        transport.announce()
        logged.waits_for("Sending hints over postgres is down")
        logged.waits_for("Listening for hints over postgres is down")
        postgresql.restore()
        listening.hears()
        logged.waits_for("Sending hints over postgres is back")
        transport.announce()
        listening.hears()
        logged.waits_for("Listening for hints over postgres is back")

    assert len(logged.lines) == 4


@on_postgresql
def test_a_connection_that_falls_silent_is_left(
    transport: Postgres, postgresql: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IDLE", 0.05)
    with direct_sender(transport), monkeypatch.context() as patch:
        through(postgresql, patch)
        with Listening(transport, STARTS) as listening:
            monkeypatch.setattr(postgres, "TIMEOUT", 0.1)
            postgresql.hold()
            wait_until(lambda: postgresql.connected > 1)  # it has asked, and not been answered
            postgresql.cut()
            postgresql.restore()
            listening.hears()


@on_postgresql
@pytest.mark.usefixtures("keeps")
def test_a_writer_does_not_notice_that_the_server_is_away(
    transport: Postgres, postgresql: Proxy, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    through(postgresql, monkeypatch)
    postgresql.cut()
    assert cost(transport) < 0.001
    logged.waits_for("is down")
    assert cost(transport) < 0.001
    postgresql.restore()
    postgresql.hold()
    assert cost(transport) < 0.001
    transport.close()

    through(postgresql, monkeypatch, port=free_port())
    assert cost(transport) < 0.001


@on_postgresql
@pytest.mark.parametrize("pooled", [False, True])
def test_a_listener_that_hears_nothing_says_so(
    transport: Postgres,
    postgresql: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
    pooled: bool,
) -> None:
    """A transaction pooler throws away what the server says between two statements of a client."""
    monkeypatch.setattr(postgres, "SELF_TEST", 0.5 if pooled else PATIENCE)
    if pooled:
        postgresql.answers = without_notifications
    through(postgresql, monkeypatch)
    with Listening(transport, 1 if pooled else STARTS) as listening:
        if pooled:
            logged.waits_for("Listening for hints over postgres hears nothing (database 'default')")
            [pid] = backends(f"LISTEN {CHANNEL}")
            terminate(pid)
            listening.hears()  # connected again, and warned once is enough

    assert len(logged.lines) == pooled


@on_postgresql
@pytest.mark.usefixtures("keeps")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_process_announces_and_its_parent_goes_on(transport: Postgres) -> None:
    with Listening(transport, STARTS) as listening:
        wait_until(lambda: len(backends(f"NOTIFY {CHANNEL}")) == 1)
        before = backends(f"NOTIFY {CHANNEL}")
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(int(PATIENCE))
                transports.announce("default")
                transport.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        listening.hears()
        transport.announce()
        listening.hears()
        wait_until(lambda: backends(f"NOTIFY {CHANNEL}") == before)


@on_postgresql
def test_the_projects_own_options_are_kept(transport: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"application_name": "shop", "connect_timeout": 3, "pool": True, "isolation_level": 3}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    parameters = transport._parameters()

    assert parameters["dbname"] == connection.settings_dict["NAME"]
    assert parameters["application_name"] == "shop"
    assert parameters["connect_timeout"] == 3
    assert parameters["autocommit"] is True
    assert {"pool", "isolation_level", "cursor_factory", "context"}.isdisjoint(parameters)


@contextmanager
def direct_sender(transport: Postgres) -> Iterator[None]:
    """Have the sender connected already, so that only what comes next goes through a proxy."""
    kept = mail.outbox
    del mail.outbox
    transport.announce()
    wait_until(lambda: len(backends(f"NOTIFY {CHANNEL}")) == 1)
    try:
        yield
    finally:
        transport.close()
        mail.outbox = kept


def without_notifications() -> Callable[[bytes], bytes]:
    """Return what lets every message of the server pass but notifications."""
    waiting = b""

    def passes(data: bytes) -> bytes:
        nonlocal waiting
        waiting += data
        passed = b""
        while len(waiting) >= 5:
            kind, size = struct.unpack("!cI", waiting[:5])
            message, rest = waiting[: size + 1], waiting[size + 1 :]
            if len(message) <= size:
                break
            passed += b"" if kind == b"A" else message
            waiting = rest
        return passed

    return passes


def wait_until(holds: Callable[[], Any]) -> None:
    """Ask the server until it is so: there is nothing to wait on."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
