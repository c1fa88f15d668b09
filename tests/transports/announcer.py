"""Another process of the same project, which announces and ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["announce_elsewhere"]

ROOT = Path(__file__).resolve().parents[2]


def announce_elsewhere(hints: list[str], **settings: Any) -> None:
    """Announce in a new process; returns when it has ended."""
    from django.db import connection

    settings |= {"CONCORD": {"HINTS": hints}, "NAME": str(connection.settings_dict["NAME"])}
    command = [sys.executable, "-m", "tests.transports.announcer", json.dumps(settings)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def main(given: dict[str, Any]) -> None:
    import django

    from tests import settings

    settings.DATABASES["default"]["NAME"] = given.pop("NAME")
    for name, value in given.items():
        setattr(settings, name, value)
    django.setup()

    from drf_concord import transports

    transports.announce("default")
    for transport in transports.transports():
        transport.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
