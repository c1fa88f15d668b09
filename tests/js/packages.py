"""What the JavaScript client is developed with, from its lock file."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["CLIENT", "ROOT", "installed"]

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENT = ROOT / "clients" / "js"


def installed(name: str) -> Path:
    """Return the folder of a package; all of them are installed where one is missing."""
    modules = CLIENT / "node_modules"
    stamp = modules / ".package-lock.json"
    with (CLIENT / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # the tests run in several processes, and npm begins by removing all
        if not stamp.exists() or stamp.stat().st_mtime < (CLIENT / "package-lock.json").stat().st_mtime:
            npm = shutil.which("npm")
            assert npm, "npm is missing: apt-get install npm"
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=CLIENT, check=True, capture_output=True, timeout=300)
            os.utime(stamp)
    return modules / name
