"""A second writer in a thread with a connection of its own, and ways to see where it stands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

from django.db import connection, connections, transaction

from drf_concord import rows, writes
from drf_concord.protocol.etags import EntityTag, encode_version, parse_tag_list
from drf_concord.protocol.preconditions import Current, Preconditions

__all__ = ["PATIENCE", "Call", "empty", "gate", "if_match", "others_wait", "tag_of", "until"]

PATIENCE = 20.0  # seconds: how long anything may take before a test gives up
R = TypeVar("R")

KEPT = {"django_migrations", "django_content_type", "auth_permission", "concord_log"}
SWITCHES = {
    "sqlite": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
    "postgresql": ("SET session_replication_role = replica", "SET session_replication_role = DEFAULT"),
    "mysql": ("SET foreign_key_checks = 0", "SET foreign_key_checks = 1"),
}


def empty() -> None:
    """Empty the tables by DELETE; the log goes on."""
    tables = _tables()
    off, on = SWITCHES[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables))
        full = [table for table, rows in zip(tables, cursor.fetchone(), strict=True) if rows]
        if not full:
            return
        cursor.execute(off)
        with transaction.atomic():
            for table in full:
                cursor.execute(f"DELETE FROM {table}")
            # elsewhere than on PostgreSQL the deletes themselves are recorded
            cursor.execute("DELETE FROM concord_change")
        cursor.execute(on)


@cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True)
    return [connection.ops.quote_name(name) for name in names if name not in KEPT]


class Call(Generic[R]):
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> R:
        """Wait for the end; return what the function returned, or raise what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the other writer still waits"
        if self._error is not None:
            raise self._error
        result: R = self._result
        return result


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what only a question can tell, such as a statement that waits in the database."""
    end = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"did not come: {what}"
        # MariaDB tells news of its transactions only to who has not asked for a tenth of a second
        pause.wait(0.15 if connection.vendor == "mysql" else 0.005)


def others_wait(count: int = 1) -> None:
    """Wait until that many statements of other connections wait for a row lock; not to be seen on SQLite."""
    questions = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
        " ON id = trx_mysql_thread_id WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'",
    }
    if connection.vendor in questions:
        until(lambda: _count(questions[connection.vendor]) >= count, "a writer that waits")


def _count(question: str) -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees one state of it
        cursor.execute(question)
        found: int = cursor.fetchone()[0]
    return found


def tag_of(obj: Any) -> str:
    """Return an object's tag as the version alone makes it."""
    return f'"{encode_version(obj.version)}"'


def if_match(tag: str) -> Preconditions:
    return Preconditions(if_match=parse_tag_list(tag, name="If-Match"))


def _current(obj: Any, _: int) -> Current:
    write = encode_version(obj.version) if hasattr(obj, "version") else "none"
    return Current(tag=EntityTag(write), write=write, variant=None)


def gate(
    obj: Any,
    perform: Callable[[Any], R],
    *,
    operation: str = "update",
    actor: rows.Actor = rows.NOBODY,
    conditions: Preconditions = writes.UNCONDITIONAL,
    fetch: Callable[[], Any] | None = None,
    first: Any = None,
) -> R:
    """Pass one write to an object through the gate, as a door would."""
    model: Any = type(obj)
    pk = obj.pk
    return writes.write(
        writes.Intent(operation=operation, method="PATCH", actor=actor, preconditions=conditions),
        model=model,
        pk=pk,
        using="default",
        fetch=fetch or (lambda: model._base_manager.get(pk=pk)),
        current=_current,
        perform=perform,
        first=writes.parents(obj) if first is None else first,
    )
