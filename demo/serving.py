"""Serve an ASGI application from one or more processes, and stop at once.

uvicorn serves; the parent starts the workers, replaces one that was killed, and ends them all on
Ctrl-C. The sockets belong to the parent, so a connection made while no worker is ready waits.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

__all__ = ["serve"]

ROOT = Path(__file__).resolve().parent.parent
GRACE = 0.5  # seconds that a worker has to say goodbye
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
AWAITED = STOPPING | {signal.SIGCHLD}


def serve(
    application: str,
    sockets: list[socket.socket],
    workers: int,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a signal to stop arrives.

    Args:
        application: where the ASGI application is, as "module:name".
        sockets: bound sockets.
        workers: number of processes.
        ready: called when a signal is sure to end this; before, one may be lost in an import.

    Returns:
        The exit status: 0 after a signal, 1 when a worker ended by itself.
    """
    # Every signal is a byte in a pipe, whichever thread it reaches: a thread that prepared the data may
    # still be there, and a signal that went to it would never end a sigwait() here.
    arrived, arrive = os.pipe()
    os.set_blocking(arrive, False)
    signal.set_wakeup_fd(arrive)  # before the handlers, which do nothing: what they got would be lost
    for number in AWAITED:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)  # a caller may have kept them back until here
    ready()
    # a worker reads the other end: it closes when this process is gone, however that came about
    alive, held = os.pipe()
    running = [_start(application, sockets, alive) for _ in range(workers)]
    status = 0
    try:
        while status == 0 and STOPPING.isdisjoint(os.read(arrived, 64)):
            for index, worker in enumerate(running):
                code = worker.poll()
                if code is None:
                    continue
                if code >= 0:
                    status = 1  # the next one would end in the same way
                    break
                running[index] = _start(application, sockets, alive)
    finally:
        _stop(running)
        os.close(held)
        os.close(alive)
    return status


def _start(application: str, sockets: list[socket.socket], alive: int) -> subprocess.Popen[bytes]:
    files = [alive, *(sock.fileno() for sock in sockets)]
    # -P: a package named demo in the working directory is none of ours
    command = [sys.executable, "-P", "-m", "demo.serving", application, *map(str, files)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Workers inherit the mask: a Ctrl-C, which reaches every process of the terminal, is for the parent
    # and interrupts no one half-way.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    try:
        return subprocess.Popen(command, pass_fds=files, env={**os.environ, "PYTHONPATH": path})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for worker in running:
        worker.terminate()
    end = time.monotonic() + GRACE
    for worker in running:
        try:
            worker.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            # an open connection, or a request that waits for the database
            worker.kill()
            worker.wait()


def work(application: str, alive: int, sockets: list[socket.socket]) -> None:
    """Be a worker: serve until SIGTERM, or until the parent is gone."""
    import uvicorn

    config = uvicorn.Config(
        application,
        ws="websockets-sansio" if find_spec("websockets") else "auto",
        # compression would cost a websocket more than it saves on one machine
        ws_per_message_deflate=False,
        # nobody forwards requests to the demo, so no header may claim so
        proxy_headers=False,
        log_level="warning",
        access_log=False,
    )
    threading.Thread(target=_end_with_parent, args=[alive], daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    uvicorn.Server(config).run(sockets)


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    work(
        sys.argv[1],
        int(sys.argv[2]),
        [socket.socket(fileno=int(number)) for number in sys.argv[3:]],
    )
