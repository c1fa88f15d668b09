"""Measure: `make bench`, or `.venv-bench/bin/python benchmarks/run.py [--only TOPIC] [--database NAME]`.

It prints a table and writes build/bench.json. A benchmark measures: a bar that is missed is shown, and is
no failure. On a busy machine the quartiles tell how far the figures can be trusted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# the package is `benchmarks`, so its parent belongs on the path, and this folder does not
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

from benchmarks import report, session  # noqa: E402
from benchmarks.databases import VENDORS, Database, Missing  # noqa: E402
from benchmarks.measure import Row  # noqa: E402

RESULTS = ROOT / "build" / "bench.json"
PACKAGES = (
    "drf-concord",
    "Django",
    "djangorestframework",
    "drf-extensions",
    "psycopg",
    "channels",
    "uvicorn",
    "websockets",
    "djangochannelsrestframework",
    "django-rest-live",
)


def main(arguments: list[str]) -> int:
    """Run the chosen topics on the chosen databases, and report."""
    options = _parse(arguments)
    os.chdir(ROOT)
    about = _about()
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    print(f"{about['processors']} processors, load {about['load']:.1f} at the beginning\n", flush=True)
    begin, found, tables = time.monotonic(), {}, []
    for name in options.database:
        try:
            with VENDORS[name]() as database:
                rows = _measure(database, options.only, options.scale)
        except Missing as missing:
            tables.append(f"SKIPPED: {missing}\n")
            continue
        found[name] = rows
        tables.append(report.table(database.title, rows))
    print("", *tables, sep="\n")
    report.save(RESULTS, about, found)
    print(f"{time.monotonic() - begin:.0f} s; all figures are in {RESULTS.relative_to(ROOT)}")
    return 0


def _measure(database: Database, topics: list[str], scale: float) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(session.run, database, topics, scale).result()


def _about() -> dict[str, Any]:
    versions = {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", choices=session.TOPICS, default=list(session.TOPICS), metavar="TOPIC"
    )
    parser.add_argument("--database", nargs="+", choices=VENDORS, default=list(VENDORS), metavar="NAME")
    parser.add_argument("--scale", type=float, default=1.0, help="of the time that is given to each topic")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, SQLite only")
    options = parser.parse_args(arguments)
    if options.quick:
        options.scale, options.database = options.scale / 4, ["sqlite"]
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
