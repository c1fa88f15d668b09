"""How many streams there may be: of one caller, and of all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..conf import settings
from ..protocol.errors import TooManyStreams

if TYPE_CHECKING:
    from .streams import EventStream

__all__ = ["PER_CALLER", "Places", "places"]

PER_CALLER = 100
"""How many streams one caller may have open in one process."""
AGAIN = 10.0
"""When to try again, in seconds."""


class Places:
    """The open streams of this process, by who has them; one that was thrown away counts no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, WeakSet[Any]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def take(self, who: str, stream: EventStream) -> None:
        """Count a stream in, before its response begins.

        Args:
            who: the caller, as text.
            stream: what he gets.

        Raises:
            TooManyStreams: there are too many of this caller, or of all.
        """
        with self._lock:
            self._open = {name: streams for name, streams in self._open.items() if streams}
            if len(self) >= settings.STREAMS:
                full = "This server has all the streams it can serve; ask for changes/ instead, or try later."
                raise TooManyStreams(full, retry_after=AGAIN)
            own = self._open.setdefault(who, WeakSet())
            if len(own) >= PER_CALLER:
                raise TooManyStreams(retry_after=AGAIN)
            own.add(stream)

    def leave(self, stream: EventStream) -> None:
        """Count a stream out."""
        with self._lock:
            for streams in self._open.values():
                streams.discard(stream)


places = Places()
