"""HTTP clients that keep their connections, in the same loop as those of websockets."""

from __future__ import annotations

import json
import re
import select
import socket

from .fleet import Client, Fleet

__all__ = ["HttpFleet"]

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class HttpClient(Client):
    """One connection that is kept."""

    __slots__ = ()

    def send(self, text: str) -> None:
        """Send a request."""
        self.data = b""
        self.socket.sendall(text.encode())


class HttpFleet(Fleet):
    """Connections to the view of ours over HTTP."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(port, "/live/")
        for number in range(count):
            client = HttpClient(number, session=False, keep=True)
            client.socket.connect(("127.0.0.1", port))
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.socket.setblocking(False)
            self.clients[client.socket.fileno()] = client
            self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    def question(self, action: str, pk: int, text: str) -> str:
        """Return the request of an action."""
        method, body = ("GET", "") if action == "retrieve" else ("PATCH", json.dumps({"text": text}))
        return (
            f"{method} /live/{pk}/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: application/json\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )

    def complete(self, client: Client, chunk: bytes) -> bool:
        """Tell whether the whole answer is there."""
        head, found, body = client.data.partition(b"\r\n\r\n")
        if not found:
            return False
        assert head.startswith(b"HTTP/1.1 200"), head[:200]
        length = LENGTH.search(head)
        return body.endswith(b"0\r\n\r\n") if length is None else len(body) >= int(length[1])
