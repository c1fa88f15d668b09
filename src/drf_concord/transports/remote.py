"""The thread that tells other processes: started by the first hint, with a connection of its own."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from .base import Outage, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["RemoteTransport"]

logger = logging.getLogger("drf_concord")

TIMEOUT: Final = 10.0
"""How long a server has for an answer before the connection counts as lost, in seconds."""

IDLE: Final = 30.0
"""How long the thread keeps a connection that nobody uses, in seconds."""

PAUSE: Final = 0.01
"""The shortest time between two hints of a process, in seconds: a busy writer keeps its processor."""

CLOSE_TIMEOUT: Final = 1.0
"""How long `close` waits for the last hint to be sent, in seconds."""


class _Sender:
    """One run of the thread, and what it is asked to do."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.pending = False
        self.stopping = False
        self.thread: threading.Thread | None = None

    def wait(self, seconds: float | None) -> bool:
        """Wait until there is something to do; return whether there is a hint to send."""
        with self.changed:
            self.changed.wait_for(lambda: self.pending or self.stopping, seconds)
            return self.pending

    def pause(self, seconds: float) -> None:
        """Wait, but not for one who is asked to stop."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopping, seconds)


class RemoteTransport(Transport):
    """A transport that reaches other processes over a connection."""

    _sender: _Sender

    def __init__(self, using: str = "default") -> None:
        super().__init__(using)
        self.forked()

    @abstractmethod
    def sending(self) -> AbstractContextManager[Callable[[], None]]:
        """Connect, give what sends one hint, and close; called in the thread, as is what it gives."""

    def idle(self) -> float:
        """Return how long a connection that nobody uses is kept, in seconds."""
        return IDLE

    def announce(self) -> None:
        """Leave word for the thread, which sends one hint for all that were announced meanwhile."""
        sender = self._sender
        if sender.pending:
            return  # the thread has yet to take it up, and will then send for this one too
        with sender.changed:
            sender.pending = True
            if sender.thread is None:
                self._start(sender)
            else:
                sender.changed.notify()

    def close(self) -> None:
        """Send what is still to be sent and end the thread, within a second; the next hint starts another."""
        sender, self._sender = self._sender, _Sender()
        with sender.changed:
            sender.stopping = True
            sender.changed.notify()
        if sender.thread is not None:
            sender.thread.join(CLOSE_TIMEOUT)

    def forked(self) -> None:
        """Forget the thread: it is the parent's, and so is the connection that only it knows."""
        self._sender = _Sender()

    def _start(self, sender: _Sender) -> None:
        name = f"concord-{self.name}-{self.using}"
        thread = threading.Thread(target=self._run, args=[sender], name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is going down, or may not have threads
            sender.pending = False
            logger.debug("No thread for hints over %s: %s", self.name, error)
        else:
            sender.thread = thread

    def _run(self, sender: _Sender) -> None:
        outage = Outage(f"Sending hints over {self.name}")
        while sender.wait(None):
            try:
                self._send(sender, outage)
            except Exception as error:
                sender.pending = True  # still to be sent; until it is, nobody needs to ask again
                wait = outage.failed(error)
                if sender.stopping:
                    return
                sender.pause(wait)

    def _send(self, sender: _Sender, outage: Outage) -> None:
        with self.sending() as send:
            outage.connected()
            while sender.wait(self.idle()):
                # taken up before it is sent: what is announced from here on is another one
                sender.pending = False
                send()
                outage.over()
                sender.pause(PAUSE)
