"""The websocket application: plain ASGI, one coroutine per socket that moves frames and starts work."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from ..conf import settings
from ..live import views
from ..live.hub import hub_of_loop
from ..live.pool import pool
from ..protocol.session import SUBPROTOCOL, Command, Follow, Leave, Perform, Session, encode
from . import dialect, origins
from .dispatch import METHODS, answer
from .socket import FORBIDDEN, SLOW, UNAUTHENTICATED, Socket
from .subscriptions import Subscription, follow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping

    from ..live.hub import Hub
    from ..live.members import Member
    from ..protocol.changes import Position
    from .router import RealtimeRouter

__all__ = ["Application", "Connection"]

logger = logging.getLogger("drf_concord")

PING, PONG = 25.0, 8.0
"""After how many seconds of silence a session is asked whether it is there, and how long it has to answer."""


class Application:
    """An ASGI application that offers a router's views over websockets."""

    def __init__(self, router: RealtimeRouter) -> None:
        self.router = router

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve one socket from its handshake to its end."""
        if scope["type"] != "websocket":
            raise ValueError(f"This application serves websockets, not {scope['type']}.")
        if (await receive())["type"] != "websocket.connect":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await send({"type": "websocket.close", "code": refusal})
            return
        sequenced = SUBPROTOCOL in scope.get("subprotocols", ())
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if sequenced else None})
        await Connection(self.router, scope, send, sequenced=sequenced).serve(receive)

    def _refusal(self, scope: MutableMapping[str, Any]) -> int | None:
        if not origins.allowed(scope):
            return FORBIDDEN
        if not self.router.public and not getattr(scope.get("user"), "is_authenticated", False):
            if "user" not in scope:
                logger.error(
                    "Nobody can log in at %s: put AuthMiddlewareStack, or what else sets the user, round the"
                    " router, or let it be public=True.",
                    scope.get("path"),
                )
            return UNAUTHENTICATED
        return None


class Connection:
    """A socket on which a router's views are called and followed."""

    def __init__(
        self,
        router: RealtimeRouter,
        scope: MutableMapping[str, Any],
        send: Callable[[Any], Awaitable[None]],
        *,
        sequenced: bool,
    ) -> None:
        self.router = router
        self.caller = views.Caller(scope)
        self.session = Session(sequenced=sequenced)
        self.socket = Socket(send, self.session.bye if sequenced else None)
        self.hub: Hub = hub_of_loop()
        self.subscriptions: dict[bytes, Subscription] = {}
        self._refreshed = self.socket.heard
        self._asked: float | None = None
        self._marked: Position | None = None

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The work under way."""
        return self.socket.tasks

    async def serve(self, receive: Callable[[], Awaitable[Any]]) -> None:
        """Take in frames until the socket ends."""
        self.hub.listeners.add(self)
        try:
            if self.session.sequenced:
                await self.hub.start()
                epoch = self.hub.position.epoch
                self.push(self.session.welcome(secrets.token_hex(8), epoch, PING, PONG))
            await self.socket.serve(receive, self._take)
        finally:
            self.hub.listeners.discard(self)
            for subscription in self.subscriptions.values():
                subscription.leave()
            self.subscriptions.clear()
            self.socket.end()

    async def _take(self, text: str | bytes) -> None:
        if not self.session.sequenced and (later := dialect.members_of(text)) is not None:
            work = dialect.take(self, later)
            if work is not None:
                await self.socket.start(work)
            return
        commands, frames = self.session.receive(text)
        for frame in frames:
            self.push(frame)
        for command in commands:
            await self._do(command)

    async def _do(self, command: Command) -> None:
        if isinstance(command, Leave):
            self.leave(command.key)
        elif isinstance(command, Follow):
            await self.socket.start(follow(self, command))
        else:
            pk = command.call.pk
            about = None if pk is None else (command.call.model, str(pk))
            await self.socket.start(self._perform(command), about)

    def leave(self, key: bytes) -> None:
        """End a subscription, as its client wants."""
        subscription = self.subscriptions.pop(key, None)
        if subscription is not None:
            subscription.leave()

    async def _perform(self, command: Perform) -> None:
        call = command.call
        reply = partial(self.session.reply, call.action, command.request_id)
        view = self.router.view(call.model) if call.model is not None else None
        if view is None:
            known = call.model is not None or call.action in METHODS
            message = "There is no such model here." if known else f'Method "{call.action}" not allowed.'
            self.push(reply(404 if known else 405, errors=encode([message])))
            return
        try:
            found = await pool.run(partial(answer, view, call, self.caller))
        except Exception:
            logger.exception("The action %s of %s failed.", call.action, view.__name__)
            self.push(reply(500, errors=encode(["The server failed; read again before you repeat this."])))
            return
        self.push(reply(found.status, data=found.data, errors=found.errors, etag=found.etag, code=found.code))

    # What the hub asks

    def members(self) -> list[Member]:
        """Return the members of this socket's subscriptions."""
        return [s.member for s in self.subscriptions.values() if s.member is not None]

    def mark(self, position: Position) -> None:
        """Say that everything up to a position was delivered, unless something waits for this client."""
        settled = self.session.idle and not self._joining()
        if self.session.sequenced and settled and position != self._marked:
            self._marked = position
            self.push(self.session.mark(position.epoch, position.encode()))

    def _joining(self) -> bool:
        """Tell whether a subscription was asked for that does not stand yet: it may miss what others have."""
        if len(self.session.subscriptions) > len(self.subscriptions):
            return True
        return any(s.member is None or s.member.cohort is None for s in self.subscriptions.values())

    def beat(self) -> None:
        """Ask a silent session whether it is there, and read the account again when it is time."""
        now = asyncio.get_running_loop().time()
        if self.session.sequenced:
            if self._asked is not None and self.socket.heard > self._asked:
                self._asked = None
            if self._asked is not None and now - self._asked > PONG:
                self.close(SLOW)
            elif self._asked is None and now - self.socket.heard > PING:
                self._asked = now
                self.push('{"type":"ping"}')
        if now - self._refreshed > settings.AUTH_REFRESH:
            self._refreshed = now
            self.spawn(self.hub.refresh(self))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the socket, until it ends."""
        return self.socket.spawn(work)

    def push(self, text: str) -> None:
        """Send a frame."""
        self.socket.push(text)

    def close(self, code: int) -> None:
        """Close the socket, with advice in session mode."""
        after = random.randrange(200, 3000)  # noqa: S311
        self.socket.close(code, self.session.bye(code, after) if self.session.sequenced else None)
