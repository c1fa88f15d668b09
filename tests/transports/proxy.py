"""A small TCP proxy between a test and a service: it can be cut, hold everything back, or read along."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

__all__ = ["Proxy", "free_port"]


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """Forwards connections to `127.0.0.1:port` of its own to a service.

    Attributes:
        port: where it listens.
        connected: how many connections it has accepted so far.
        answers: makes, for each connection, what passes on the service's bytes; all of them by default.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = free_port()
        self.connected = 0
        self.answers: Callable[[], Callable[[bytes], bytes]] = lambda: lambda data: data
        self._open = threading.Event()
        self._server: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self.restore()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def restore(self) -> None:
        """Accept connections, again on the same port."""
        server = socket.create_server(("127.0.0.1", self.port))
        self._server = server
        self._open.set()
        self._start(self._accept, server)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
        self._open.set()
        for each in tuple(self._sockets):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Let nothing through any more, and tell nobody."""
        self._open.clear()

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            self.connected += 1
            try:
                far = socket.create_connection(self.target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._sockets |= {near, far}
            ends = threading.Barrier(2, action=lambda near=near, far=far: self._end(near, far))
            self._start(self._pump, near, far, lambda data: data, ends)
            self._start(self._pump, far, near, self.answers(), ends)

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        passes: Callable[[bytes], bytes],
        ends: threading.Barrier,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(passes(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(threading.BrokenBarrierError):
            ends.wait(5)

    def _end(self, *pair: socket.socket) -> None:
        for each in pair:
            self._sockets.discard(each)
            each.close()
