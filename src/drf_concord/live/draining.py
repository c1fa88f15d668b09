"""Sending every client of a process away before it stops, so that they come back one after the other.

ASGI has no event for this: a server has closed its websockets before it says ``lifespan.shutdown`` (uvicorn
with 1012, within a tenth of a second after the signal), and waits for responses that are open. So whoever
knows of the stop calls ``drain()`` first: ``lifespan`` does when a signal arrives, which it takes before the
server does.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..protocol.backoff import spread
from .hub import hub_of_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import FrameType

__all__ = ["DRAINING", "TIMEOUT", "Sockets", "drain", "lifespan", "return_after", "sockets_of_loop"]

DRAINING = 4503
"""The code of who is sent away, and may come back."""
TIMEOUT = 5.0
"""How long sockets have to answer what they were asked and to say goodbye, in seconds."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Leaver(Protocol):
    """A socket, or a stream, that can be sent away."""

    async def finish(self, until: float) -> None:
        """Take nothing in any more, and send what is due for what was taken in."""

    async def leave(self, after: float, until: float) -> None:
        """Say goodbye and close."""


@dataclass(slots=True, eq=False)
class Sockets:
    """The sockets and streams of one event loop.

    Attributes:
        draining: whether the process is about to stop; sockets that open now are sent away at once.
    """

    open: set[Leaver] = field(default_factory=set)
    draining: bool = False


_sockets: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Sockets] = weakref.WeakKeyDictionary()


def sockets_of_loop() -> Sockets:
    """Return the sockets of the running event loop."""
    return _sockets.setdefault(asyncio.get_running_loop(), Sockets())


def return_after(place: int = 0, among: int = 1) -> float:
    """Return after how many seconds a client may come back: each at another moment."""
    return spread(place, among, random.random())  # noqa: S311


async def drain(within: float = TIMEOUT) -> int:
    """Send every socket of this event loop away; the process is about to stop, and takes no new ones.

    What was asked is answered, as far as that many seconds allow. Sockets in session mode then get ``bye``
    and are closed with 4503, the others are closed with 1012.

    Returns:
        How many sockets there were.
    """
    until = asyncio.get_running_loop().time() + within
    sockets = sockets_of_loop()
    sockets.draining = True
    leaving = list(sockets.open)
    random.shuffle(leaving)  # those who came in together do not go home together
    await asyncio.gather(*(socket.finish(until) for socket in leaving))
    hub = hub_of_loop()
    if hub.started:
        hub.beat()  # the last mark: a client resumes from it
    places = range(len(leaving))
    await asyncio.gather(
        *(leaving[place].leave(return_after(place, len(leaving)), until) for place in places)
    )
    return len(leaving)


async def lifespan(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """Drain before the server stops: an ASGI application for the scope ``lifespan``.

    SIGTERM and SIGINT reach the server once the sockets are gone, a second one at once.
    """
    if scope["type"] != "lifespan":
        raise ValueError(f"This application serves the lifespan, not {scope['type']}.")
    await receive()
    give_back = _take_signals()
    try:
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await drain()
    finally:
        give_back()
    await send({"type": "lifespan.shutdown.complete"})


def _take_signals() -> Callable[[], None]:
    """Put draining before what the server does at a signal; returns what undoes it."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # only there signals can be taken, and a server elsewhere gets none
    loop = asyncio.get_running_loop()
    servers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    begun: set[asyncio.Task[int]] = set()
    passed: set[int] = set()

    def pass_on(number: int) -> None:
        if number not in passed:
            passed.add(number)
            servers[number](number, None)

    def begin(number: int) -> None:
        task = loop.create_task(drain())
        begun.add(task)
        task.add_done_callback(lambda _: pass_on(number))

    def handle(number: int, frame: FrameType | None) -> None:
        if sent:
            passed.add(number)
            servers[number](number, frame)
        else:
            sent.append(number)
            loop.call_soon_threadsafe(begin, number)

    sent: list[int] = []
    for number in SIGNALS:
        known = signal.getsignal(number)
        if callable(known):
            servers[number] = known
            signal.signal(number, handle)

    def give_back() -> None:
        for number, known in servers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, known)

    return give_back
