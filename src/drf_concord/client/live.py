"""The live connection: moves frames between a websocket and the session, and comes back when it is cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ..protocol.backoff import delay
from ..protocol.session import SUBPROTOCOL
from .errors import ClientError, ConnectionFailed, ForbiddenError, UnauthorizedError
from .following import LiveCollection
from .frames import BadFrame
from .requests import site
from .session import Outgoing, Session, State, Subscription
from .values import Pk

__all__ = ["Live"]

OPENING = 20.0
"""How long it may take until a server says welcome, in seconds."""
STABLE = 5.0
"""A socket that lasted this long was no failed attempt, in seconds."""
MAX_MESSAGE = 64 * 1024 * 1024
"""The longest frame that is taken, in bytes."""
TOO_MANY = 4429
TROUBLE = (OSError, WebSocketException, BadFrame)

encode = msgspec.json.encode


class Live:
    """A live connection; use it in an `async with` statement.

    Entering it raises `ConnectionFailed`, `UnauthorizedError` or `ForbiddenError` where the server cannot be
    reached or lets nobody in. Later it comes back by itself, as often as it takes.

    Args:
        url: of the websocket.
        headers: of the handshake.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._session = Session()
        self._socket: ClientConnection | None = None
        self._collections: dict[Subscription, LiveCollection] = {}
        self._runner: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._error: ClientError | None = None

    @property
    def connected(self) -> bool:
        """Whether the server is there at this moment; while it is not, nothing that is shown is new."""
        return self._socket is not None and self._session.welcome is not None

    def subscribe(
        self,
        model: Any,
        *,
        group_by: str | None = None,
        value: Pk | None = None,
        query: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> LiveCollection:
        """Follow a list, or those of its objects whose field `group_by` has a value.

        Args:
            model: a label such as `todolist.Task`, or a resource that knows its model.
            group_by: one of the view's `group_by_fields`; `pk` follows one object.
            value: of that field.
            query: query parameters, as those of a GET.
            arguments: keyword arguments of the view.
        """
        label = model if isinstance(model, str) else model.model
        if label is None:
            raise ValueError("Say which model to follow: resource(path, model='app.Model').")
        members = {
            "model": label,
            "group_by": group_by,
            "value": value,
            "query": query,
            "arguments": arguments,
        }
        request = {name: given for name, given in members.items() if given is not None}
        if self._error is not None:
            raise self._error
        subscription, frames = self._session.subscribe(request)
        collection = self._collections[subscription] = LiveCollection(subscription, self.leave)
        self._send(frames)
        return collection

    def leave(self, collection: LiveCollection) -> None:
        """Follow a collection no longer."""
        subscription = collection.subscription
        if self._collections.pop(subscription, None) is not None:
            self._send(self._session.unsubscribe(subscription))
            collection.wake()

    async def __aenter__(self) -> Live:
        opened = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(opened))
        try:
            await opened
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave, and end every subscription."""
        for subscription, collection in self._collections.items():
            self._session.unsubscribe(subscription)  # the server learns it from the end of the socket
            collection.wake()
        self._collections.clear()
        tasks = [*self._sending, *([self._runner] if self._runner is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._runner = None
        if self._error is None:
            self._error = ConnectionFailed("This connection is closed.", code="closed")

    async def _run(self, opened: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            began = loop.time()
            problem: Exception = ConnectionFailed("The server closed the connection.")
            try:
                await self._one_socket(opened)
            except ClientError as error:
                self._fail(error, opened)
                return
            except TROUBLE as error:
                problem = error
            except Exception as error:  # a mistake of ours must leave nobody waiting
                self._fail(ClientError(f"The connection failed: {error!r}.", code="failed"), opened)
                raise
            if not opened.done():
                detail = f"{site(self._url)} does not answer ({type(problem).__name__}: {problem})."
                self._fail(ConnectionFailed(detail, code="connection_failed"), opened)
                return
            attempt = 0 if loop.time() - began > STABLE else attempt
            wait = delay(attempt, random.random())  # noqa: S311
            attempt += 1
            if self._session.bye is not None:
                wait = max(wait, self._session.bye.after_ms / 1000)
            await pause(wait)

    def _fail(self, error: ClientError, opened: asyncio.Future[None]) -> None:
        self._error = error
        self._session.fail(error)
        if not opened.done():
            opened.set_exception(error)
        self._wake()

    async def _one_socket(self, opened: asyncio.Future[None]) -> None:
        """Serve one socket to its end.

        Raises:
            ClientError: there is no use in coming back.
        """
        self._session.opened()
        try:
            socket = await _Connect(
                self._url,
                additional_headers=dict(self._headers),
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                open_timeout=OPENING,
                close_timeout=1.0,
                ping_interval=None,  # the protocol has its own
                max_size=MAX_MESSAGE,
            )
        except InvalidStatus as refused:
            status = refused.response.status_code
            kind = {401: UnauthorizedError, 403: ForbiddenError}.get(status)
            if kind is None:
                raise
            raise kind(f"{site(self._url)} does not let this user in.", status=status) from None
        self._socket = socket
        try:
            if socket.subprotocol != SUBPROTOCOL:
                raise ClientError(f"{site(self._url)} does not speak {SUBPROTOCOL}.", code="protocol")
            await self._read(socket, opened)
        except ConnectionClosed:
            _final(socket.close_code, self._session)
            raise
        finally:
            self._socket = None
            await socket.close()

    async def _read(self, socket: ClientConnection, opened: asyncio.Future[None]) -> None:
        wait, asked = OPENING, False
        while True:
            try:
                async with asyncio.timeout(wait):
                    text = await socket.recv(decode=False)  # the window counts bytes
            except TimeoutError:
                welcome = self._session.welcome
                if asked or welcome is None:
                    raise
                wait, asked = heartbeat(welcome.pong), True
                await self._say(socket, [{"action": "ping"}])
                continue
            frames = self._session.receive(_decoded(text), len(text))
            welcome = self._session.welcome
            if welcome is not None:
                wait, asked = heartbeat(welcome.ping), False
                if not opened.done():
                    opened.set_result(None)
            self._ask_again_later()
            self._wake()
            await self._say(socket, frames)

    async def _say(self, socket: ClientConnection, frames: list[Outgoing]) -> None:
        for frame in frames:
            async with asyncio.timeout(OPENING):
                await socket.send(encode(frame).decode())

    def _send(self, frames: list[Outgoing]) -> None:
        if self._socket is None or not frames:
            return
        socket = self._socket

        async def send() -> None:
            with contextlib.suppress(*TROUBLE):
                await self._say(socket, frames)

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _ask_again_later(self) -> None:
        loop = asyncio.get_running_loop()
        for subscription in self._session.again:
            wait = delay(subscription.attempts - 1, random.random())  # noqa: S311
            loop.call_later(wait, self._ask_again, subscription)
        self._session.again = []

    def _ask_again(self, subscription: Subscription) -> None:
        self._send(self._session.resubscribe(subscription))
        self._wake()

    def _wake(self) -> None:
        for subscription, collection in list(self._collections.items()):
            collection.wake()
            if subscription.state is State.ENDED:
                del self._collections[subscription]


pause = asyncio.sleep
"""How the time until the next attempt passes."""


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirect: the credentials are for this address."""
        return exc


def heartbeat(seconds: float) -> float:
    """Return how long to wait for a sign of life, whatever the server says, in seconds."""
    return max(1.0, seconds)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadFrame("The server sent something that is not JSON.") from None


def _final(code: int | None, session: Session) -> None:
    """Raise where the server says that coming back is of no use."""
    if code == 4401:
        raise UnauthorizedError("The server wants a login, or another one.", status=401)
    if code == 4403:
        raise ForbiddenError("The server does not let this user in.", status=403)
    final = code is not None and 4400 <= code <= 4499 and code != TOO_MANY
    if final or (session.bye is not None and not session.bye.reconnect):
        raise ClientError(f"The server ended the connection for good ({code}).", code="closed")
