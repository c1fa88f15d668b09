"""A stream of events: the far end of one subscription, and the body of a response with no end of its own.

Whoever serves the response takes its parts one by one, and what he has taken counts as read. He may leave at
any moment, and be noticed in three ways: the task that takes the parts is cancelled, the generator is thrown
away, or the response is closed, which happens in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connections

from ..conf import settings
from ..protocol.errors import PositionLost
from ..protocol.held import held_of
from ..protocol.rendered import Overflow
from ..protocol.streams import Stream
from .draining import DRAINING, return_after, sockets_of_loop
from .hub import hub_of_loop
from .looks import DENIALS, TooLarge, admit, pks_of, status_of
from .members import Member
from .places import places
from .pool import pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from ..protocol.changes import Position
    from ..protocol.held import Seal
    from ..protocol.rendered import Rendered
    from .hub import Hub
    from .looks import Spec
    from .views import Caller

__all__ = ["EventStream"]

logger = logging.getLogger("drf_concord")

RETRY = 2_000
"""How long a client is to wait after a cut before it comes back, in milliseconds."""
SILENCE = 15.0
"""After how many seconds without an event a comment keeps proxies from closing the stream."""


class EventStream:
    """What one client is sent, from now until one of the two leaves.

    Args:
        caller: who asks.
        spec: what for.
        seal: signs the positions that the client keeps.
        last: the id of the last event that it took in, or None.
    """

    sequenced = True

    def __init__(self, caller: Caller, spec: Spec, seal: Seal, last: str | None) -> None:
        self.caller = caller
        self.tasks: set[asyncio.Task[None]] = set()
        self._spec = spec
        self._seal = seal
        self._last = last
        self._flow = Stream(seal)
        self._member: Member | None = Member(self, caller, spec)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hub: Hub | None = None
        self._taking: asyncio.Task[Any] | None = None
        self._wake = asyncio.Event()
        self._gone = asyncio.Event()
        self._sent = self._refreshed = 0.0

    # The body of a response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts()

    def close(self) -> None:
        """End, from whatever thread: Django closes a response when it is done with it."""
        places.leave(self)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leave)

    async def _parts(self) -> AsyncIterator[bytes]:
        loop = self._loop = asyncio.get_running_loop()
        self._taking = asyncio.current_task()
        self._sent = self._refreshed = loop.time()
        hub, sockets = hub_of_loop(), sockets_of_loop()
        self._hub = hub
        try:
            # the thread in which the view ran is this response's until it ends: it needs no connection
            await sync_to_async(_let_go, thread_sensitive=True)()
            hub.listeners.add(self)
            sockets.open.add(self)
            if sockets.draining:
                self._flow.leave(DRAINING, int(return_after() * 1000))
            else:
                self.spawn(self._follow(hub))
            yield f"retry: {RETRY}\n\n".encode()
            while not self._flow.over:
                part = self._flow.take()
                if part is None:
                    self._wake.clear()
                    await self._wake.wait()
                    part = "" if loop.time() - self._sent < SILENCE else ":\n\n"
                if part:
                    self._sent = loop.time()
                    yield part.encode()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Leave nothing behind; a second time does no harm."""
        self._gone.set()
        places.leave(self)
        self._out()
        if self._hub is not None:
            self._hub.listeners.discard(self)
        sockets_of_loop().open.discard(self)
        for task in list(self.tasks):
            task.cancel()

    def _out(self) -> None:
        """Follow no more."""
        member, self._member = self._member, None
        if member is not None and self._hub is not None:
            self._hub.leave(member)

    # The subscription

    async def _follow(self, hub: Hub) -> None:
        member = self._member
        assert member is not None  # noqa: S101
        try:
            since, have = await self._resumed(hub, member)
            await hub.follow(member, snapshot=True, since=since, have=have)
        except TooLarge:
            self._finish(400)
        except DENIALS as refusal:
            self._finish(status_of(refusal))
        except Exception:
            logger.exception("A stream of %s failed.", self._spec.view.__name__)
            self._finish(500)
        else:
            if self._member is not member:
                hub.leave(member)  # it ended while it was being looked up

    async def _resumed(self, hub: Hub, member: Member) -> tuple[Position | None, list[str] | None]:
        """Return where the client stopped, and what it held there; nothing where it has to begin anew."""
        if self._last is None:
            return None, None
        try:
            since, digest = self._seal.open(self._last)
            await hub.start()
            await pool.run(partial(admit, self._spec, member))
            # first what is visible: what is created after that is then known as a change
            visible, _ = await pool.run(partial(pks_of, self._spec, member))
            await hub.catch_up()
            missed = (await hub.missed(since)).by_key(self._spec)
            have = await pool.run(partial(held_of, self._seal, digest, visible, missed))
        except PositionLost as lost:
            self.reset(str(lost.members["reason"]))
            return None, None
        if have is None:
            self.reset("unknown")
            return None, None
        self._flow.holds(have)
        return since, have

    def subscribed(self, how: str, position: Position) -> None:
        """Nothing from this position on is missed."""
        self._flow.subscribed(how, position, settings.RETENTION)
        self._wake.set()

    def snapshot(self, items: list[Rendered]) -> None:
        """These are the objects to begin with."""
        self._flow.snapshot(items)
        self._wake.set()

    def deliver(self, changes: list[Rendered], *, more: bool) -> None:
        """These objects changed; a client that does not read is let go, and resumes when it does."""
        try:
            self._flow.deliver(changes, more=more)
        except Overflow:
            self._flow.drop()
            self._out()
        self._wake.set()

    def reset(self, code: str) -> None:
        """What the client has is void; a snapshot follows."""
        self._flow.reset(code)
        self._wake.set()

    def end(self, status: int, message: str) -> None:
        """There will be no more."""
        self._finish(status)

    def _finish(self, status: int) -> None:
        self._out()
        self._flow.end(status)
        self._wake.set()

    # What the hub asks

    def members(self) -> list[Member]:
        """Return the one subscription, while it stands."""
        return [] if self._member is None else [self._member]

    def mark(self, position: Position) -> None:
        """Everything up to this position was delivered."""
        self._flow.mark(position)
        self._wake.set()

    def beat(self) -> None:
        """A second has passed: say something now and then, and read the account again when it is time."""
        now = asyncio.get_running_loop().time()
        if now - self._sent >= SILENCE:
            self._wake.set()
        if now - self._refreshed > settings.AUTH_REFRESH and self._hub is not None:
            self._refreshed = now
            self.spawn(self._hub.refresh(self))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the stream, until it ends, and outside of the request that asked for it."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # When the process is about to stop

    async def finish(self, until: float) -> None:
        """There is nothing that was asked and is not answered yet."""

    async def leave(self, after: float, until: float) -> None:
        """Say goodbye, and end what does not read."""
        self._out()
        self._flow.leave(DRAINING, int(after * 1000))
        self._wake.set()
        try:
            async with asyncio.timeout_at(until):
                await self._gone.wait()
        except TimeoutError:
            if self._taking is not None:
                self._taking.cancel()


def _let_go() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
