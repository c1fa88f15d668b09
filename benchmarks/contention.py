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

__all__ = ["contend"]

PROCESSES, THREADS = 2, 4
START = 0.2  # seconds in which every process gets ready


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
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_prepare) as pool:
        list(pool.map(_ready, [1.0] * PROCESSES))
        for view, conditional in ways:
            _set_count(view, pk)
            start = time.time() + START
            args = (view, pk, conditional, start, start + seconds)
            futures = [pool.submit(_process, *args) for _ in range(PROCESSES)]
            counts = sum((future.result() for future in futures), Counter())
            counts["lost"] = counts["acknowledged"] - _count(view, pk)
            found[view, conditional] = counts
    return found


def _prepare() -> None:
    import django

    django.setup()


def _ready(seconds: float) -> None:
    # long enough that every process takes one of these
    time.sleep(seconds)


def _process(view: str, pk: int, conditional: bool, start: float, end: float) -> Counter[str]:
    counts: list[Counter[str]] = []

    def work() -> None:
        counts.append(_count_up(view, pk, conditional=conditional, start=start, end=end))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts, Counter())


def _count_up(view: str, pk: int, *, conditional: bool, start: float, end: float) -> Counter[str]:
    from django.db import connection

    from .calls import call

    counts: Counter[str] = Counter()
    path = f"/{view}/{pk}/"
    time.sleep(max(0.0, start - time.time()))
    while time.time() < end:
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


def _rows(view: str):
    from .app.models import Guarded, Plain

    return (Guarded if view == "guarded" else Plain)._base_manager.all()
