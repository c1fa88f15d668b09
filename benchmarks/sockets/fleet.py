"""Many websocket clients in one loop: they count what arrives, and so are not the limit."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from .commits import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Client", "Fleet", "TimedOut", "frame"]

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
SUBPROTOCOL = "Sec-WebSocket-Protocol: concord.v1\r\n"
ACKNOWLEDGE = 524_288  # bytes: half the window
SEQ = re.compile(rb'"seq":(\d+)')
POSITION = re.compile(rb'"epoch":"([^"]*)","position":"([^"]*)"')


class TimedOut(Exception):
    """What was awaited did not arrive."""


def frame(text: str) -> bytes:
    """Return a client's text frame; a mask of zeros is one, too."""
    data = text.encode()
    if len(data) < 126:
        return struct.pack("!BB4x", 0x81, 0x80 | len(data)) + data
    return struct.pack("!BBH4x", 0x81, 0x80 | 126, len(data)) + data


class Client:
    """One socket.

    Attributes:
        number: of the client in its fleet.
        count: how many marks have come.
    """

    __slots__ = (
        "_last",
        "_unacknowledged",
        "count",
        "data",
        "keep",
        "number",
        "position",
        "session",
        "socket",
    )

    def __init__(self, number: int, *, session: bool, keep: bool) -> None:
        self.socket = socket.socket()
        self.number = number
        self.session = session
        self.keep = keep
        self.count = 0
        self.data = b""
        self.position: tuple[str, str] | None = None
        self._last = b""
        self._unacknowledged = 0

    def send(self, text: str) -> None:
        """Send a frame."""
        self.socket.sendall(frame(text))

    def take(self, chunk: bytes) -> int:
        """Count the marks of what has arrived."""
        seen = self._last + chunk
        found = seen.count(MARK)
        self._last = seen[-1:] if not seen.endswith(MARK) else b""
        self.count += found
        if self.keep:
            self.data += chunk
        if self.session:
            self._converse(chunk)
        return found

    def _converse(self, chunk: bytes) -> None:
        if b'{"type":"ping"}' in chunk:
            self.send('{"action":"pong"}')
        if b'"position"' in chunk:
            for epoch, position in POSITION.findall(chunk):
                self.position = epoch.decode(), position.decode()
        self._unacknowledged += len(chunk)
        if self._unacknowledged > ACKNOWLEDGE and (numbers := SEQ.findall(chunk)):
            self.send(f'{{"action":"ack","seq":{int(numbers[-1])}}}')
            self._unacknowledged = 0


class Fleet:
    """Clients of one path."""

    def __init__(self, port: int, path: str, *, session: bool = False, keep: bool = False) -> None:
        self.port = port
        self.path = path
        self.session = session
        self.keep = keep
        self.clients: dict[int, Client] = {}
        self.count = 0
        self._epoll = select.epoll()

    def connect(self, count: int, path_of: Callable[[int], str] | None = None) -> None:
        """Open some sockets, all handshakes under way together."""
        opened = []
        for number in range(len(self.clients), len(self.clients) + count):
            client = Client(number, session=self.session, keep=self.keep)
            client.socket.connect(("127.0.0.1", self.port))
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            path = self.path if path_of is None else path_of(number)
            more = SUBPROTOCOL if self.session else ""
            client.socket.sendall(HANDSHAKE.format(path=path, port=self.port, more=more).encode())
            opened.append(client)
        for client in opened:
            client.socket.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head:
                got = client.socket.recv(1)
                if not got:
                    raise ConnectionError(f"The server refused {self.path}: {head[:100]!r}")
                head += got
            if b" 101 " not in head:
                raise ConnectionError(f"The server refused {self.path}: {head[:100]!r}")
            client.socket.setblocking(False)
            self.clients[client.socket.fileno()] = client
            self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    def send(self, text_of: Callable[[Client], str]) -> None:
        """Send a frame from each client."""
        for client in self.clients.values():
            client.send(text_of(client))

    def read(self, timeout: float, took: Callable[[Client, bytes], None] | None = None) -> int:
        """Read what is there; returns how many marks were in it."""
        found = 0
        for number, _ in self._epoll.poll(timeout, 4096):
            client = self.clients[number]
            try:
                chunk = client.socket.recv(262_144)
            except (BlockingIOError, ConnectionResetError):
                continue
            if not chunk:
                self._epoll.unregister(number)
                continue
            found += client.take(chunk)
            if took is not None:
                took(client, chunk)
        self.count += found
        return found

    def complete(self, client: Client, chunk: bytes) -> bool:
        """Tell whether the answer to a call is there; it is short enough to come at once."""
        assert b'"response_status":200' in chunk.replace(b" ", b""), chunk[:300]
        return True

    def wait(self, marks: int, *, timeout: float = 30, rest: float = 0.0) -> float:
        """Read until so many marks have come; returns when the last one did.

        Args:
            marks: to come from now on.
            timeout: in seconds.
            rest: how long to sleep between readings, so that many frames cost one call, in seconds.

        Raises:
            TimedOut: they did not come.
        """
        missing, end = marks, time.monotonic() + timeout
        while missing > 0:
            missing -= self.read(1.0)
            if rest and missing > 0:
                time.sleep(rest)
            if time.monotonic() > end:
                raise TimedOut(f"{missing} of {marks} frames did not arrive at {self.path}.")
        return time.monotonic()

    def until(self, ready: Callable[[Client], bool], *, timeout: float = 30) -> float:
        """Read until every client is ready; returns when the last one was."""
        waiting, end = set(self.clients.values()), time.monotonic() + timeout
        while waiting:
            self.read(0.2)
            waiting = {client for client in waiting if not ready(client)}
            if time.monotonic() > end:
                raise TimedOut(f"{len(waiting)} clients of {self.path} were not ready.")
        return time.monotonic()

    def quiet(self, seconds: float = 0.3) -> None:
        """Read until nothing has come for some time."""
        while self._epoll.poll(seconds, 1):
            self.read(0)

    def close(self, clients: Iterable[Client] = ()) -> None:
        """Cut the sockets, without a word."""
        for client in list(clients) or list(self.clients.values()):
            self.clients.pop(client.socket.fileno(), None)
            client.socket.close()


class Controls:
    """The control socket: asks the server and waits for its answer."""

    def __init__(self, port: int) -> None:
        self._fleet = Fleet(port, "/control/", keep=True)
        self._fleet.connect(1)
        (self._client,) = self._fleet.clients.values()

    def ask(self, do: str, **arguments: Any) -> None:
        """Ask for something, and do not wait."""
        self._client.data = b""
        self._client.send(json.dumps({"do": do, **arguments}))

    def answer(self, timeout: float = 120) -> Any:
        """Return the answer."""
        end = time.monotonic() + timeout
        while True:
            data = self._client.data
            start = 2 if len(data) > 1 and data[1] < 126 else 4 if len(data) > 1 and data[1] == 126 else 10
            if len(data) >= start:
                size = data[1] if start == 2 else int.from_bytes(data[2:start])
                if len(data) >= start + size:
                    return json.loads(data[start : start + size])
            self._fleet.read(0.5)
            if time.monotonic() > end:
                raise TimedOut("The server does not answer.")

    def tell(self, do: str, **arguments: Any) -> Any:
        """Ask for something and return the answer."""
        self.ask(do, **arguments)
        return self.answer()

    def close(self) -> None:
        """Close the control socket."""
        self._fleet.close()
