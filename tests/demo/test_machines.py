"""The machine room of the demo: operators lock an instance over real HTTP."""

from __future__ import annotations

import pytest

from tests.demo.process import Demo

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
