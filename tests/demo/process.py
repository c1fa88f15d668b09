"""A demo that runs in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import httpx

from drf_concord.client.wire import certificates

__all__ = ["ROOT", "Demo", "run"]

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = ROOT / "demo" / "run.py"
# Longer than any start or stop takes on a busy machine; what is measured is only that it ends.
PATIENCE = 60


def environment(**variables: str) -> dict[str, str]:
    """Return the environment for the demo; what the test run itself has set there is left out."""
    ours = {"PORT", "WORKERS", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
    return {key: value for key, value in os.environ.items() if key not in ours} | variables


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, str(RUN)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Demo:
    """A running demo on a free port.

    Args:
        database_url: where its data is.
        workers: number of processes that serve.
    """

    def __init__(self, database_url: str, workers: int = 1) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            [sys.executable, str(RUN)],
            env=environment(PORT="0", WORKERS=str(workers), DATABASE_URL=database_url),
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            # a process group, as a terminal gives it, so that Ctrl-C reaches all of it
            start_new_session=True,
        )
        self.said = self._read()

    def _read(self) -> str:
        # the port is open before the addresses are printed: after that there is no need to wait
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                return "".join(lines)
        self.process.wait(PATIENCE)
        complaints = self.complaints()
        self.close()
        raise AssertionError(f"the demo did not start: {complaints}")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.said)
        assert found is not None
        return int(found[1])

    def client(self, name: str | None = None) -> httpx.Client:
        """Return a client: Guido's, Ada's, or that of somebody who has not logged in."""
        auth = (name, name) if name else None
        # the first answer may have to wait until the workers have started
        address, verify = self.address(), certificates()
        return httpx.Client(base_url=address, auth=auth, timeout=PATIENCE, verify=verify)

    def address(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Return the whole address of a path."""
        return f"http://{host}:{self.port}{path}"

    def complaints(self) -> str:
        """Return what it wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read()

    def interrupt(self, within: float = PATIENCE) -> int:
        """Press Ctrl-C and return the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(within)

    def __enter__(self) -> Demo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
