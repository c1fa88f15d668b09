"""The client for programs with an event loop, and the way to what is live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import httpx

from .addresses import Site
from .errors import ClientError
from .holds import Hold, Scope
from .live import Live
from .operations import LAST_SEEN, IfMatch, Memory, Operations, lock_list
from .requests import Answer, Operation, Pause, Request
from .values import Item, Pk
from .wire import answered, certificates, found, options, unanswered

__all__ = ["AsyncClient", "AsyncLock", "AsyncResource"]

T = TypeVar("T")


class AsyncClient:
    """A connection to an API; use it in an `async with` statement, or `close()` it.

    Args:
        base_url: of the API, such as `https://example.org/api/`.
        auth: user name and password.
        token: for `Authorization: Token ...`; one with a scheme before it is sent as it is.
        timeout: how long to wait for the server, in seconds.
        transport: what carries requests, in place of the network.
    """

    def __init__(
        self,
        base_url: str,
        *,
        auth: tuple[str, str] | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._site = Site(base_url, auth, token)
        self._memory = Memory()
        # redirects are followed by `requests`, which knows where credentials may go
        self._http = httpx.AsyncClient(
            headers=self._site.headers,
            timeout=timeout,
            transport=transport,
            verify=certificates(),
            follow_redirects=False,
        )

    def resource(
        self, path: str, model: str | None = None, *, lookup: str | None = None, slash: bool = True
    ) -> AsyncResource:
        """Return the objects at an address; the arguments are those of `Client.resource`."""
        operations = Operations(self._site.address(path), lookup=lookup, memory=self._memory, slash=slash)
        return AsyncResource(self, operations, model)

    def connect(self, url: str | None = None) -> Live:
        """Return a live connection, for an `async with` statement.

        Args:
            url: of the websocket; `/ws/` of the same host when left out.
        """
        return Live(self._site.socket(url), self._site.headers)

    async def locks(self, *, mine: bool = True, model: str | None = None) -> list[Mapping[str, Any]]:
        """Return the live locks: one's own, or with `mine=False` everybody's for who may view them."""
        return await self.run(lock_list(self._site.address("locks/"), mine=mine, model=model))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def run(self, operation: Operation[T]) -> T:
        """Carry an operation out."""
        try:
            step = next(operation)
            while True:
                try:
                    answer = await self._do(step)
                except ClientError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _do(self, step: Request | Pause) -> Answer | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            response = await self._http.request(**options(step))
        except httpx.RequestError as error:
            raise unanswered(step, error) from error
        return answered(response)


class AsyncResource:
    """The objects at one address of an API; the methods are those of `Resource`."""

    def __init__(self, client: AsyncClient, operations: Operations, model: str | None) -> None:
        self.model = model
        self._client = client
        self.operations = operations

    async def get(self, pk: Pk | Item) -> Item:
        """Read an object; one that did not change is not sent again."""
        return await self._client.run(self.operations.get(pk))

    async def list(self, **query: Any) -> list[Item]:
        """Read the list, all pages of it, with a query such as `list=14`."""
        return await self._client.run(self.operations.list(query))

    async def create(self, data: Mapping[str, Any]) -> Item:
        """Create an object."""
        return await self._client.run(self.operations.create(data))

    async def patch(
        self, target: Pk | Item, data: Mapping[str, Any], *, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Change some fields, if the object is as it was last seen."""
        return found(await self._client.run(self.operations.write("PATCH", target, data, if_match)))

    async def update(
        self, target: Pk | Item, data: Mapping[str, Any], *, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Replace all fields, if the object is as it was last seen."""
        return found(await self._client.run(self.operations.write("PUT", target, data, if_match)))

    async def delete(self, target: Pk | Item, *, if_match: IfMatch = LAST_SEEN) -> None:
        """Delete the object, if it is as it was last seen."""
        await self._client.run(self.operations.write("DELETE", target, None, if_match))

    def lock(
        self,
        pk: Pk | Item,
        *,
        ttl: float | None = 30.0,
        reason: str = "",
        mode: str = "hold",
        scope: Scope | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> AsyncLock:
        """Return a lock to be taken by an `async with` statement, which renews it and gives it back.

        The arguments are those of `Resource.lock`; `on_lost` is called in the event loop.
        """
        hold = AsyncLock(self.operations, pk, ttl=ttl, reason=reason, mode=mode, scope=scope)
        hold.attach(self._client, on_lost)
        return hold

    async def lock_state(self, pk: Pk | Item) -> Mapping[str, Any]:
        """Return who has the lock of an object, since when and until when."""
        return await self._client.run(self.operations.lock_state(pk))

    async def unlock(self, pk: Pk | Item, token: str | None = None) -> None:
        """End a lock of one's own, whoever took it."""
        await self._client.run(self.operations.release(pk, token))

    async def break_lock(
        self, pk: Pk | Item, *, reason: str | None = None, period: float | None = None
    ) -> Mapping[str, Any]:
        """End somebody else's lock, now or after `period` seconds."""
        return await self._client.run(self.operations.break_lock(pk, reason=reason, period=period))

    async def operators_lock(self, pk: Pk | Item) -> None:
        """Lock an object for maintenance, until `operators_unlock()`; of a server's `StatesLockMixin`.

        Raises:
            LockedError: it is locked already.
        """
        await self._client.run(self.operations.operators_change(pk, "lock"))

    async def operators_unlock(self, pk: Pk | Item) -> None:
        """End the maintenance of an object, whoever began it."""
        await self._client.run(self.operations.operators_change(pk, "unlock"))


class AsyncLock(Hold):
    """A lock in an `async with` statement; what is written through it carries its token.

    Attributes:
        lost: set when the lock is lost; writes through it raise `LockLostError` from then on.
    """

    def attach(self, client: AsyncClient, on_lost: Callable[[], object] | None) -> None:
        """Say whose requests it makes, and who wants to know when it is lost."""
        self.lost = asyncio.Event()
        self._client = client
        self._on_lost = on_lost
        self._keeper: asyncio.Task[None] | None = None

    async def get(self) -> Item:
        """Read the object."""
        return await self._client.run(self._operations.get(self.pk))

    async def patch(
        self, data: Mapping[str, Any], *, target: Item | None = None, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Change some fields of the object."""
        return found(await self._client.run(self.writing("PATCH", data, if_match, target)))

    async def update(
        self, data: Mapping[str, Any], *, target: Item | None = None, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Replace all fields of the object."""
        return found(await self._client.run(self.writing("PUT", data, if_match, target)))

    async def delete(self, *, target: Item | None = None, if_match: IfMatch = LAST_SEEN) -> None:
        """Delete the object, and its lock with it."""
        await self._client.run(self.writing("DELETE", None, if_match, target))

    async def take(self, *, keep: bool = True) -> None:
        """Take the lock, and renew it in time unless `keep` is false.

        Raises:
            LockedError: somebody has it.
        """
        self.lost.clear()
        wait = await self._client.run(self.taking())
        if keep and wait is not None:
            self._keeper = asyncio.create_task(self._keep(wait))

    async def release(self) -> None:
        """Give the lock back."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        await self._client.run(self.releasing())

    async def __aenter__(self) -> AsyncLock:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.release()
        except ClientError:
            if error is None:
                raise

    async def _keep(self, wait: float | None) -> None:
        while wait is not None:
            await asyncio.sleep(wait)
            try:
                # an answer that takes longer than the lock lasts is none
                async with asyncio.timeout(self.left()):
                    wait = await self._client.run(self.renewing())
            except TimeoutError:
                wait = self.lose(None)

    def told(self) -> None:
        self.lost.set()
        if self._on_lost is not None:
            self._on_lost()
