"""Starting and ending the server's process."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.db import connection

from .fleet import Controls, Fleet
from .models import Board, Live, Observed, Ranked
from .views import OPEN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OPEN_ROW", "OWN_ROW", "ROWS", "USERS", "Server", "server"]

ROWS = 100
USERS = 500
OWN_ROW, OPEN_ROW = 1000, 2000
"""What the keys of rows that have an owner begin after, and those that everybody may see begin at."""


class Server:
    """A server that runs.

    Attributes:
        port: it listens to, on the loopback.
        controls: its control socket.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.controls = _connected(port)

    def fleet(self, path: str, count: int, *, session: bool = False) -> Fleet:
        """Return some clients of a path, in which ``{user}`` is each one's."""
        fleet = Fleet(self.port, path, session=session)
        fleet.connect(count, lambda number: path.format(user=number + 1))
        return fleet


@contextmanager
def server() -> Iterator[Server]:
    """Serve in a process of its own, with the database of this one."""
    _fill()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(4096)
    command = [sys.executable, "-m", "benchmarks.sockets.server", str(listening.fileno())]
    process = subprocess.Popen(
        command, pass_fds=[listening.fileno()], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    try:
        port = listening.getsockname()[1]
        listening.close()
        running = Server(port)
        yield running
        running.controls.close()
    finally:
        process.kill()
        process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connected(port: int) -> Controls:
    end = time.monotonic() + 30
    while True:
        try:
            return Controls(port)
        except ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _fill() -> None:
    """Make the rows, once: those of one board, one for each user, and some that are open to all."""
    if Board.objects.exists():
        return
    Board.objects.bulk_create([Board(pk=pk, name=f"board {pk}") for pk in (1, OPEN, 3)])
    User.objects.bulk_create([User(pk=pk, username=f"user {pk}") for pk in range(1, USERS + 1)])
    for model in (Live, Observed, Ranked):
        rows = [model(pk=pk, text="row", board_id=1) for pk in range(1, ROWS + 1)]
        rows += [model(pk=OWN_ROW + pk, text="own", board_id=3, owner=pk) for pk in range(1, USERS + 1)]
        rows += [model(pk=OPEN_ROW + number, text="open", board_id=OPEN) for number in range(20)]
        model._base_manager.bulk_create(rows)
    connection.close()
