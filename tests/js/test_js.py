"""The JavaScript client: its own tests, beside a running demo, and what is made from its source."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.demo.process import Demo
from tests.js.packages import CLIENT, ROOT, installed

pytestmark = pytest.mark.timeout(300)


def test_django_serves_the_same_file() -> None:
    served = ROOT / "src/drf_concord/static/drf_concord/concord.js"
    assert served.read_bytes() == (CLIENT / "concord.js").read_bytes(), "copy clients/js/concord.js there"


def test_the_package_has_the_version_of_the_python_one_and_names_no_host() -> None:
    import drf_concord

    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == drf_concord.__version__
    assert package.get("dependencies", {}) == {}
    lock = (CLIENT / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "http" not in lock


@pytest.mark.browser
@pytest.mark.services("node")
def test_the_types_are_those_of_the_source(tmp_path: Path) -> None:
    tsc = installed("typescript") / "bin" / "tsc"
    command = ["node", str(tsc), "--project", "tsconfig.json", "--outDir", str(tmp_path)]
    made = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
    fresh = (tmp_path / "concord.d.ts").read_text()
    assert fresh == (CLIENT / "concord.d.ts").read_text(), "run `npm run types` in clients/js"


@pytest.mark.services("node")
def test_its_own_tests_pass(demo: Demo) -> None:
    with demo.client("ada") as api:
        api.get("/api/")  # the workers have started
    run = subprocess.run(
        ["node", "--experimental-websocket", "--test", "--test-reporter=tap", "test/"],
        cwd=CLIENT,
        env={**os.environ, "CONCORD_DEMO": demo.address().rstrip("/")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    counts = dict(line[2:].rsplit(" ", 1) for line in run.stdout.splitlines() if line.startswith("# "))
    assert counts["fail"] == counts["skipped"] == counts["cancelled"] == "0"
    assert int(counts["pass"]) > 50
