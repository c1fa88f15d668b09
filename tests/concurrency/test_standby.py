"""A real failover: a primary, the standby that follows it, and who comes with a position to which of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker

from drf_concord import changes
from drf_concord.protocol.changes import Position
from drf_concord.protocol.errors import PositionLost
from tests.concurrency.cluster import Cluster, cluster
from tests.concurrency.threads import until
from tests.triggers.lab import ALIAS, Lab, laboratory

pytestmark = [pytest.mark.postgresql, pytest.mark.services("standby")]

STANDBY = "standby"
MODELS = """
class Book(Versioned):
    title = models.CharField(max_length=40)
"""


@pytest.fixture
def servers(django_db_blocker: DjangoDbBlocker) -> Iterator[Cluster]:
    with django_db_blocker.unblock(), cluster() as started:
        yield started


@pytest.fixture
def lab(servers: Cluster, tmp_path: Path) -> Iterator[Lab]:
    """A laboratory on the primary, and the same database on the standby as a second alias."""
    with laboratory(tmp_path, "postgres", **servers.primary.settings) as found:
        settings = connections[ALIAS].settings_dict
        connections.databases[STANDBY] = settings | servers.standby.settings
        try:
            found.write(MODELS)
            found.generate()
            found.migrate()
            yield found
        finally:
            connections[STANDBY].close()
            del connections[STANDBY], connections.databases[STANDBY]


def ask(alias: str, sql: str, *params: Any) -> Any:
    """Return the first value of the first row; of a statement that returns none, None."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.fetchone()[0] if cursor.description else None


def book(alias: str, title: str) -> None:
    ask(alias, "INSERT INTO shop_book (title, version) VALUES (%s, 1)", title)


def standby_has_all() -> None:
    written = ask(ALIAS, "SELECT pg_current_wal_lsn()::text")
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    until(lambda: ask(STANDBY, replayed, written), "the standby has what the primary wrote")


def cut_off() -> None:
    """Let the standby hear of nothing that the primary writes from now on."""
    ask(STANDBY, "ALTER SYSTEM SET primary_conninfo = ''")
    ask(STANDBY, "SELECT pg_reload_conf()")
    until(lambda: ask(ALIAS, "SELECT count(*) FROM pg_stat_replication") == 0, "nobody follows the primary")


def lost(function: Callable[..., object], position: Position) -> str:
    with pytest.raises(PositionLost) as caught:
        function(position, using=STANDBY)
    return str(caught.value.members["reason"])


def titles(position: Position, alias: str) -> list[str]:
    _, found = changes.read_after(position, using=alias)
    return [ask(alias, "SELECT title FROM shop_book WHERE id = %s", change.pk) for change in found]


def test_a_standby_is_refused_and_a_promoted_one_is_another_log(lab: Lab, servers: Cluster) -> None:
    book(ALIAS, "before")
    shared = changes.position(ALIAS)
    book(ALIAS, "replicated")
    standby_has_all()
    assert ask(STANDBY, "SELECT count(*) FROM concord_change") == 2

    for read in (
        lambda: changes.position(STANDBY),
        lambda: changes.check_position(shared, using=STANDBY),
        lambda: changes.read_after(shared, using=STANDBY),
    ):
        with pytest.raises(RuntimeError, match="only be read on the primary, and this is a standby"):
            read()

    cut_off()
    book(ALIAS, "lost")
    ahead = changes.position(ALIAS)
    changes.check_position(ahead, using=ALIAS)
    servers.standby.promote()
    book(STANDBY, "after")

    # its last change is there with its nonce, and the epoch was replicated: the timeline alone tells
    assert ask(STANDBY, "SELECT nonce FROM concord_change WHERE id = %s", shared.last_id) == shared.last_nonce
    assert ask(STANDBY, "SELECT epoch FROM concord_log") == shared.epoch
    for position in (shared, ahead):
        assert lost(changes.check_position, position) == "epoch"
        assert lost(changes.read_after, position) == "epoch"

    fresh = changes.position(STANDBY)
    changes.check_position(fresh, using=STANDBY)
    book(STANDBY, "new")
    assert titles(fresh, STANDBY) == ["new"]
    # and on the old primary, as long as it goes on, they are as good as before
    assert titles(shared, ALIAS) == ["replicated", "lost"]
