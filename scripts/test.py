"""Run the stages of `make test` in order, and stop where one fails.

Usage: python scripts/test.py [STAGE ...]

Stages that keep one processor busy run side by side, each printed when it has ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DJANGO61 = ROOT / ".venv-django61"
PYTEST = ["-m", "pytest", "-q"]
# what is the same whatever the database is: once is enough
NO_DATABASE = ("tests/client", "tests/js", "tests/packaging", "tests/protocol")
# What stands on the rest: with each Django and on each database, which takes two runs of four. The floors
# below, which speak to Django's backends themselves, are tested in all four.
FACES = tuple(
    f"tests/{name}"
    for name in ("admin", "compat", "concurrency", "demo", "documented", "live", "rest", "websocket")
)
# Tests wait for other processes now and then: one worker more than there are processors. A file stays with
# one worker, so that what its tests share is made once, in the order of collection: by the number of tests,
# the few that take long would come last.
WORKERS = min(os.cpu_count() or 1, 4) + 1
PARALLEL = [*PYTEST, "-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]

STAGES = {
    "format": "the formatting",
    "lint": "the style rules",
    "contracts": "the floors: who may import whom",
    "types": "the types",
    "docs": "the documentation site, where a warning is an error",
    "mariadb": "the tests for MariaDB",
    "environment": "an environment with Django 6.1",
    "protocol": "the rules, every branch of them",
    "sqlite": "all tests on SQLite",
    "postgresql": "the tests on PostgreSQL",
    "browser": "the pages in a real browser, and what is made from the JavaScript client",
    "django61": "the tests with Django 6.1, on SQLite and PostgreSQL",
}
ROUNDS = [
    ["format"],
    ["lint"],
    ["contracts"],
    ["types", "docs", "mariadb", "environment", "protocol"],
    ["sqlite"],
    ["postgresql"],
    ["browser"],
    ["django61"],
]


def main(names: list[str]) -> int:
    unknown = set(names) - STAGES.keys()
    if unknown:
        print(f"unknown stage: {', '.join(sorted(unknown))}; there are: {', '.join(STAGES)}")
        return 2
    # what Python compiled serves all the processes of the stages that follow
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.monotonic()
    for stages in [[name] for name in names] or ROUNDS:
        failed = _alone(stages[0]) if len(stages) == 1 else _side_by_side(stages)
        for name in failed:
            print(f"\n==== {name} FAILED; again with: make test STAGE={name}", flush=True)
        if failed:
            return 1
    if not names:
        print(f"\n==== all passed in {time.monotonic() - begin:.0f} s", flush=True)
    return 0


def _alone(name: str) -> list[str]:
    """Run a stage; returns it if it failed."""
    begin = time.monotonic()
    print(f"\n==== {name}: {STAGES[name]}", flush=True)
    passed = _run(name)
    print(f"==== {name} {'passed' if passed else 'failed'} in {time.monotonic() - begin:.0f} s", flush=True)
    return [] if passed else [name]


def _side_by_side(names: list[str]) -> list[str]:
    """Run stages at once, each in a process of its own; returns those that failed."""
    with ThreadPoolExecutor(len(names)) as pool:
        command = [sys.executable, __file__]
        ends = {
            pool.submit(
                subprocess.run, [*command, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ): name
            for name in names
        }
        failed = []
        for end in as_completed(ends):
            sys.stdout.buffer.write(end.result().stdout)
            sys.stdout.flush()
            if end.result().returncode:
                failed.append(ends[end])
    return failed


def _run(stage: str) -> bool:
    python = sys.executable
    match stage:
        case "format":
            return _call(BIN / "ruff", "format", "--check", ".")
        case "lint":
            return _call(BIN / "ruff", "check", ".")
        case "types":
            return _call(python, "-m", "mypy")
        case "contracts":
            return _call(BIN / "lint-imports", "--no-logo")
        case "docs":
            return _call("make", "--no-print-directory", "docs")
        case "protocol":
            coverage = ["--cov=drf_concord.protocol", "--cov-branch", "--cov-fail-under=100"]
            return _call(python, *PYTEST, *coverage, "tests/protocol")
        case "sqlite":
            return _all(python, stage, but=("tests/protocol",))  # which has a stage of its own
        case "postgresql":
            return _all(python, stage, but=FACES if _newer_python() else ())
        case "mariadb":
            return _call(python, *PYTEST, "-m", "mariadb", database=stage)
        case "browser":
            return _call(python, *PARALLEL, "-m", "browser")
        case "environment":
            return _environment()
        case _:
            return _django61()


def _environment() -> bool:
    base = _newer_python()
    if base is None:
        print("SKIPPED: Django 6.1 needs Python 3.12 or newer, and there is none here that runs")
        return True
    requirements = "requirements/test-django61.txt"
    return _call("sh", "scripts/environment.sh", DJANGO61.name, requirements, PYTHON=base)


def _django61() -> bool:
    if not _environment():
        return False
    if _newer_python() is None:
        return True
    python = DJANGO61 / "bin" / "python"
    return _all(python, "sqlite", but=("tests/js", *FACES)) and _all(python, "postgresql")


def _all(python: str | Path, database: str, but: tuple[str, ...] = ()) -> bool:
    """Run the tests for a database: most of them side by side, those that have to be alone afterwards."""
    once = NO_DATABASE if database != "sqlite" else ()
    left_out = [f"--ignore={folder}" for folder in (*once, *but)]
    if not _call(python, *PARALLEL, "-m", "not alone and not browser", *left_out, database=database):
        return False
    return database != "postgresql" or _call(python, *PYTEST, "-m", "alone", database=database)


@cache
def _newer_python() -> str | None:
    """The first interpreter that runs, is 3.12 or newer, and can do what the tests need."""
    question = "import ensurepip, sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 12))"
    for candidate in _candidates():
        answer = subprocess.run([candidate, "-c", question], capture_output=True, check=False)
        if answer.returncode == 0:
            return candidate
    return None


def _candidates() -> Iterator[str]:
    versions = ("3.13", "3.12", "3.14")
    for version in versions:
        found = shutil.which(f"python{version}")
        if found:
            yield found
    # version managers keep their interpreters side by side
    for version in versions:
        for path in sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/python")):
            yield str(path)
    yield os.path.realpath(sys.executable)


def _call(*command: str | Path, database: str = "sqlite", **environment: str) -> bool:
    environment["CONCORD_TEST_DB"] = database
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
