"""The machine room of the demo: operators lock an instance over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.process import Demo

ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "/api/instances/8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a11"


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_instance_is_locked_for_maintenance(demo: Demo, slash: str) -> None:
    lock, unlock = f"{INSTANCE}/states/lock{slash}", f"{INSTANCE}/states/unlock{slash}"
    with demo.client("guido") as guido, demo.client("admin") as admin:
        before = guido.get(INSTANCE).json()["state"]
        assert guido.put(lock, json={"lock": None}).status_code == 403
        locked = admin.put(lock, json={"lock": None})
        assert (locked.status_code, locked.content) == (202, b"")
        assert guido.get(INSTANCE).json()["state"] == "locked"
        assert admin.delete(f"{INSTANCE}/").status_code == 409
        assert admin.put(lock, json={"lock": None}).status_code == 409
        assert admin.put(unlock, json={"unlock": None}).status_code == 202
        assert guido.get(INSTANCE).json()["state"] == before
        assert admin.put(unlock).status_code == 409


def test_an_administrator_unlocks_it_from_the_command_line(demo: Demo) -> None:
    with demo.client("admin") as admin:
        before = admin.get(INSTANCE).json()["state"]
        assert admin.put(f"{INSTANCE}/states/lock", json={"lock": None}).status_code == 202
        assert admin.delete(f"{INSTANCE}/").status_code == 409
        address = demo.address(f"{INSTANCE}/")
        done = subprocess.run(
            [sys.executable, "-m", "drf_concord.client", "unlock", address, "--user", "admin"],
            env={**os.environ, "CONCORD_PASSWORD": "admin", "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (0, "unlocked\n"), done.stderr
        assert admin.get(INSTANCE).json()["state"] == before
        assert admin.put(f"{INSTANCE}/states/unlock").status_code == 409
