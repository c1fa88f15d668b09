"""The client for programs without an event loop."""

from __future__ import annotations

import threading
import time
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
from .watch import Watch
from .wire import answered, certificates, found, options, unanswered

__all__ = ["Client", "Lock", "Resource"]

T = TypeVar("T")


class Client:
    """A connection to an API; use it in a `with` statement, or `close()` it.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._site = Site(base_url, auth, token)
        self._memory = Memory()
        # redirects are followed by `requests`, which knows where credentials may go
        self._http = httpx.Client(
            headers=self._site.headers,
            timeout=timeout,
            transport=transport,
            verify=certificates(),
            follow_redirects=False,
        )

    def resource(
        self, path: str, model: str | None = None, *, lookup: str | None = None, slash: bool = True
    ) -> Resource:
        """Return the objects at an address.

        Args:
            path: of the list, from the API's address on.
            model: the label of the model, such as `todolist.Task`: needed to follow it.
            lookup: the field by which objects are addressed, where that is not the primary key.
            slash: whether addresses of objects end with a slash.
        """
        operations = Operations(self._site.address(path), lookup=lookup, memory=self._memory, slash=slash)
        return Resource(self, operations, model)

    def watch(
        self,
        model: str | Resource,
        *,
        group_by: str | None = None,
        value: Pk | None = None,
        query: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> Watch:
        """Return a live collection, for a `with` statement.

        Args:
            model: a label such as `todolist.Task`, or a resource that knows its model.
            group_by: one of the view's `group_by_fields`; `pk` follows one object.
            value: of that field.
            query: query parameters, as those of a GET.
            url: of the websocket; `/ws/` of the same host when left out.
        """
        members = {"group_by": group_by, "value": value, "query": query}
        return Watch(Live(self._site.socket(url), self._site.headers), model, members)

    def locks(self, *, mine: bool = True, model: str | None = None) -> list[Mapping[str, Any]]:
        """Return the live locks: one's own, or with `mine=False` everybody's for who may view them."""
        return self.run(lock_list(self._site.address("locks/"), mine=mine, model=model))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, operation: Operation[T]) -> T:
        """Carry an operation out."""
        try:
            step = next(operation)
            while True:
                try:
                    answer = self._do(step)
                except ClientError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value

    def _do(self, step: Request | Pause) -> Answer | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            response = self._http.request(**options(step))
        except httpx.RequestError as error:
            raise unanswered(step, error) from error
        return answered(response)


class Resource:
    """The objects at one address of an API."""

    def __init__(self, client: Client, operations: Operations, model: str | None) -> None:
        self.model = model
        self._client = client
        self.operations = operations

    def get(self, pk: Pk | Item) -> Item:
        """Read an object; one that did not change is not sent again."""
        return self._client.run(self.operations.get(pk))

    def list(self, **query: Any) -> list[Item]:
        """Read the list, all pages of it, with a query such as `list=14`."""
        return self._client.run(self.operations.list(query))

    def create(self, data: Mapping[str, Any]) -> Item:
        """Create an object."""
        return self._client.run(self.operations.create(data))

    def patch(self, target: Pk | Item, data: Mapping[str, Any], *, if_match: IfMatch = LAST_SEEN) -> Item:
        """Change some fields, if the object is as it was last seen; see `Operations.write`."""
        return found(self._client.run(self.operations.write("PATCH", target, data, if_match)))

    def update(self, target: Pk | Item, data: Mapping[str, Any], *, if_match: IfMatch = LAST_SEEN) -> Item:
        """Replace all fields, if the object is as it was last seen."""
        return found(self._client.run(self.operations.write("PUT", target, data, if_match)))

    def delete(self, target: Pk | Item, *, if_match: IfMatch = LAST_SEEN) -> None:
        """Delete the object, if it is as it was last seen."""
        self._client.run(self.operations.write("DELETE", target, None, if_match))

    def lock(
        self,
        pk: Pk | Item,
        *,
        ttl: float | None = 30.0,
        reason: str = "",
        mode: str = "hold",
        scope: Scope | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> Lock:
        """Return a lock to be taken by a `with` statement, which renews it and gives it back.

        Args:
            pk: of the object.
            ttl: how long it outlives this program, in seconds.
            reason: for others to read.
            mode: `hold`: only the holder may write; `freeze`: nobody may, until it is given back.
            scope: what is locked: `write`, `delete` or a list of operations.
            on_lost: called once, in another thread, when the lock is lost.
        """
        hold = Lock(self.operations, pk, ttl=ttl, reason=reason, mode=mode, scope=scope)
        hold.attach(self._client, on_lost)
        return hold

    def lock_state(self, pk: Pk | Item) -> Mapping[str, Any]:
        """Return who has the lock of an object, since when and until when."""
        return self._client.run(self.operations.lock_state(pk))

    def unlock(self, pk: Pk | Item, token: str | None = None) -> None:
        """End a lock of one's own, whoever took it."""
        self._client.run(self.operations.release(pk, token))

    def break_lock(
        self, pk: Pk | Item, *, reason: str | None = None, period: float | None = None
    ) -> Mapping[str, Any]:
        """End somebody else's lock, now or after `period` seconds."""
        return self._client.run(self.operations.break_lock(pk, reason=reason, period=period))

    def operators_lock(self, pk: Pk | Item) -> None:
        """Lock an object for maintenance, until `operators_unlock()`; of a server's `StatesLockMixin`.

        Raises:
            LockedError: it is locked already.
        """
        self._client.run(self.operations.operators_change(pk, "lock"))

    def operators_unlock(self, pk: Pk | Item) -> None:
        """End the maintenance of an object, whoever began it."""
        self._client.run(self.operations.operators_change(pk, "unlock"))


class Lock(Hold):
    """A lock in a `with` statement; what is written through it carries its token.

    Attributes:
        lost: set when the lock is lost; writes through it raise `LockLostError` from then on.
    """

    def attach(self, client: Client, on_lost: Callable[[], object] | None) -> None:
        """Say whose requests it makes, and who wants to know when it is lost."""
        self.lost = threading.Event()
        self._client = client
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None

    def get(self) -> Item:
        """Read the object."""
        return self._client.run(self._operations.get(self.pk))

    def patch(
        self, data: Mapping[str, Any], *, target: Item | None = None, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Change some fields of the object."""
        return found(self._client.run(self.writing("PATCH", data, if_match, target)))

    def update(
        self, data: Mapping[str, Any], *, target: Item | None = None, if_match: IfMatch = LAST_SEEN
    ) -> Item:
        """Replace all fields of the object."""
        return found(self._client.run(self.writing("PUT", data, if_match, target)))

    def delete(self, *, target: Item | None = None, if_match: IfMatch = LAST_SEEN) -> None:
        """Delete the object, and its lock with it."""
        self._client.run(self.writing("DELETE", None, if_match, target))

    def take(self, *, keep: bool = True) -> None:
        """Take the lock, and renew it in time unless `keep` is false.

        Raises:
            LockedError: somebody has it.
        """
        self.lost.clear()
        self._stop.clear()
        wait = self._client.run(self.taking())
        if keep and wait is not None:
            self._keeper = threading.Thread(target=self._keep, args=[wait], daemon=True)
            self._keeper.start()

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()
        self._keeper = None
        self._client.run(self.releasing())

    def __enter__(self) -> Lock:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except ClientError:
            if error is None:
                raise

    def _keep(self, wait: float | None) -> None:
        while wait is not None and not self._stop.wait(wait):
            wait = self._client.run(self.renewing())

    def told(self) -> None:
        self.lost.set()
        if self._on_lost is not None:
            self._on_lost()
