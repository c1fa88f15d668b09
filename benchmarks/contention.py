"""Lost writes: two processes of four threads count one row up, and what was acknowledged is compared."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.synchronize import Barrier
    from typing import Any

    from django.db.models import QuerySet

__all__ = ["contend"]

PROCESSES, THREADS = 2, 4
PATIENCE = 120  # seconds that processes wait for each other

_together: Barrier


def contend(
    ways: Iterable[tuple[str, bool]], *, pk: int, seconds: float
) -> dict[tuple[str, bool], Counter[str]]:
    """Count up one row from all sides, one way after the other.

    Args:
        ways: (name of the view, whether the PATCH carries the tag of the GET before it).
        pk: the row, whose count is set to zero first.
        seconds: for each way.

    Returns:
        For each way the number of writes that were ``acknowledged``, ``refused``, ``failed`` and ``lost``.
    """
    found = {}
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, initializer=_prepare, initargs=(together,)) as pool:
        for view, conditional in ways:
            _set_count(view, pk)
            futures = [pool.submit(_process, view, pk, conditional, seconds) for _ in range(PROCESSES)]
            counts = sum((future.result() for future in futures), Counter())
            counts["lost"] = counts["acknowledged"] - _count(view, pk)
            found[view, conditional] = counts
    return found


def _prepare(together: Barrier) -> None:
    import django

    global _together
    _together = together
    django.setup()


def _process(view: str, pk: int, conditional: bool, seconds: float) -> Counter[str]:
    _together.wait(PATIENCE)
    counts: list[Counter[str]] = []
    end = time.monotonic() + seconds

    def work() -> None:
        counts.append(_count_up(view, pk, conditional=conditional, end=end))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts, Counter())


def _count_up(view: str, pk: int, *, conditional: bool, end: float) -> Counter[str]:
    from django.db import connection

    from .calls import call

    counts: Counter[str] = Counter()
    path = f"/{view}/{pk}/"
    while time.monotonic() < end:
        seen = call("GET", path)
        if seen.status != 200:
            counts["failed"] += 1
            continue
        headers = {"HTTP_IF_MATCH": seen.headers["ETag"]} if conditional else {}
        answer = call("PATCH", path, {"count": seen.json()["count"] + 1}, **headers)
        counts[_kind(answer.status)] += 1
    connection.close()
    return counts


def _kind(status: int) -> str:
    if status == 200:
        return "acknowledged"
    return "refused" if status < 500 else "failed"


def _set_count(view: str, pk: int) -> None:
    _rows(view).filter(pk=pk).update(count=0)


def _count(view: str, pk: int) -> int:
    return int(_rows(view).values_list("count", flat=True).get(pk=pk))


def _rows(view: str) -> QuerySet[Any]:
    from .app.models import Guarded, Plain

    return (Guarded if view == "guarded" else Plain)._base_manager.all()
