"""A primary and a standby of PostgreSQL that belong to one test: own folder, own sockets, no port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.services import server_programs

__all__ = ["Cluster", "cluster"]

PATIENCE = 60
SETTINGS = """
listen_addresses = ''
fsync = off
full_page_writes = off
autovacuum = off
shared_buffers = 16MB
max_connections = 20
max_worker_processes = 1
max_parallel_workers = 0
"""


class Server:
    """One of the two, in a folder that holds its socket and its data."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.folder = cluster.folder / name
        self.data = self.folder / "data"
        cluster.run("mkdir", self.folder)

    @property
    def settings(self) -> dict[str, str]:
        """What Django has to know, besides the name of a database."""
        return {"HOST": str(self.folder), "PORT": "5432", "USER": "postgres", "PASSWORD": ""}

    def start(self) -> None:
        """Start it, and wait until it can be asked."""
        # its output goes to a file: a pipe would stay open for as long as it runs
        options = f"-c unix_socket_directories='{self.folder}' -c port=5432"
        log = self.folder / "log"
        try:
            self._control("start", "--log", log, "--options", options)
        except subprocess.CalledProcessError as error:
            error.add_note(log.read_text() if log.exists() else "It wrote no log.")
            raise

    def promote(self) -> None:
        """Make a primary of a standby, and wait until it is one."""
        self._control("promote")

    def stop(self) -> None:
        """Stop it at once, if it runs."""
        if (self.data / "postmaster.pid").exists():
            self._control("stop", "--mode", "immediate")

    def _control(self, action: str, *options: object) -> None:
        self.cluster.run("pg_ctl", action, "--wait", "--silent", "--pgdata", self.data, *options)


class Cluster:
    """A primary, and a standby that follows it."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder = folder
        self._programs = programs
        self._identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        if user:
            shutil.chown(folder, user, user)
        self.primary, self.standby = Server(self, "primary"), Server(self, "standby")

    def run(self, program: str, *arguments: object) -> None:
        """Run a program as the user who may."""
        path = self._programs / program
        subprocess.run(
            [path if path.exists() else program, *map(str, arguments)],
            cwd=self.folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
            **self._identity,
        )

    def start(self) -> None:
        """Make both and start them."""
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self.run("initdb", "--pgdata", self.primary.data, "--wal-segsize=1", *options)
        with (self.primary.data / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        self.primary.start()
        source = ["--host", self.primary.folder, "--port", "5432", "--username", "postgres"]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        self.run("pg_basebackup", "--pgdata", self.standby.data, *source, *options)
        self.standby.start()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a primary and a standby; afterwards nothing of them is left.

    Raises:
        LookupError: the programs are not here, which `services("standby")` says before.
    """
    programs, user = server_programs()
    with ExitStack() as stack:
        # a short path, as the name of a socket has a limit
        folder = Path(tempfile.mkdtemp(prefix="drf-concord-standby-"))
        stack.callback(shutil.rmtree, folder)
        found = Cluster(folder, programs, user)
        for server in (found.primary, found.standby):
            stack.callback(server.stop)
        found.start()
        yield found
