"""Which tests run on which database, and what happens when a service is not there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from django.db import connection
from django.test import TransactionTestCase

from tests.concurrency.threads import empty
from tests.services import REDIS, SERVICES, missing
from tests.settings import CONCORD, TEST_DB

DATABASES = ("sqlite", "postgresql", "mariadb")
PATIENCE = 30.0  # seconds
REQUIRED = os.environ.get("CONCORD_REQUIRE_SERVICES") == "1"

# a shared machine makes single examples slow, which says nothing about the code
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Stop at once, in one line, when services are required and one does not answer."""
    # what runs in the background may have been started without it, and tests press Ctrl-C
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in SERVICES if REQUIRED else ():
        line = missing(name)
        if line is not None:
            pytest.exit(line, returncode=1)


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {TEST_DB}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = _reason_to_skip(item)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _reason_to_skip(item: pytest.Item) -> str | None:
    named = [name for name in DATABASES if item.get_closest_marker(name)]
    if named and TEST_DB not in named:
        return f"runs only on {', '.join(named)}"
    needed = [TEST_DB]
    for marker in item.iter_markers("services"):
        needed.extend(marker.args or ["redis"])
    return next((line for line in map(missing, needed) if line is not None), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """A file leaves the settings as they were: what it does not, another file's tests would meet."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        from drf_concord.conf import settings

        assert CONCORD["CAPTURE"] == settings.CAPTURE, f"{item.path.name} leaves {settings.CAPTURE}"
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once for each service that did not answer what to start."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped}
    for reason in sorted(reason for reason in reasons if "is not reachable" in reason):
        terminalreporter.write_line(reason, yellow=True)


AS_A_PROJECT = ("tests.compat.", "tests.documented.")
"""Where tests are those of a project, whose cases flush the database."""


@pytest.fixture(scope="session", autouse=True)
def swift_flush() -> Iterator[None]:
    """Empty the tables by DELETE after tests that commit, which takes a fiftieth of a flush."""
    flush = TransactionTestCase._fixture_teardown

    def after(case: TransactionTestCase) -> None:
        flush(case) if type(case).__module__.startswith(AS_A_PROJECT) else empty()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", after)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Before PostgreSQL's database is dropped, wait until the server has ended what was closed."""
    yield
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            _wait_until_alone()
            connection.close()


def _wait_until_alone() -> None:
    """A server notices on its own time that a client is gone; a session that stays is a test's mistake."""
    end = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT application_name, state, query FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            others = cursor.fetchall()
            if not others:
                return
            assert time.monotonic() < end, f"a test left connections open: {others}"
            time.sleep(0.02)


@pytest.fixture(scope="session", autouse=True)
def no_write_prunes() -> Iterator[None]:
    """One write in a thousand would; a test that counts statements is not to be the one that meets it."""
    from drf_concord.pruning import tended

    with tended("default"):
        yield


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The address of the Redis of the tests; skips where none answers."""
    line = missing("redis")
    if line is not None:
        pytest.skip(line)
    return f"redis://{REDIS.host}:{REDIS.port}/0"
