"""What observers have in common: a handler, the groups of its followers, and what they are told."""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any, cast

from .followings import Following, Notice, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .consumers import AsyncAPIConsumer

__all__ = ["ALL", "BaseObserver", "call"]

ALL = ""
"""The group of an observer that has no group functions."""


class BaseObserver:
    """A handler of a consumer, the groups of its followers, and what they are told.

    On an instance of the consumer it is bound to it: ``await self.handler.subscribe()``.
    """

    def __init__(self, handler: Callable[..., Any]) -> None:
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"{handler.__qualname__}() has to be async, as what it sends is.")
        functools.update_wrapper(cast("Any", self), handler)
        self.handler = handler
        self._of_signal: Callable[..., Iterable[Any]] | None = None
        self._of_consumer: Callable[..., Iterable[Any]] | None = None
        self._serializer: Callable[..., Any] | None = None
        self._tables: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Table] = (
            weakref.WeakKeyDictionary()
        )

    def __get__(self, consumer: AsyncAPIConsumer | None, owner: type | None = None) -> Any:
        return self if consumer is None else Bound(self, consumer)

    # What a consumer's class declares

    def groups(self, function: Callable[..., Iterable[Any]]) -> BaseObserver:
        """Declare one function for both sides: it yields the groups of an instance, and of a subscription."""
        self._of_signal = self._of_consumer = function
        return self

    def groups_for_signal(self, function: Callable[..., Iterable[Any]]) -> BaseObserver:
        """Declare the function that yields the groups which are told of an instance."""
        self._of_signal = function
        return self

    def groups_for_consumer(self, function: Callable[..., Iterable[Any]]) -> BaseObserver:
        """Declare the function that yields the groups which a call of ``subscribe()`` follows."""
        self._of_consumer = function
        return self

    def serializer(self, function: Callable[..., Any]) -> BaseObserver:
        """Declare the function that makes the message of an instance and an action."""
        self._serializer = function
        return self

    # What a consumer does

    async def subscribe(
        self, consumer: AsyncAPIConsumer, *args: Any, request_id: Any = None, **kwargs: Any
    ) -> list[str]:
        """Let a consumer follow the groups for these arguments, from now on; returns the groups."""
        groups = self._groups_of(consumer, args, kwargs)
        since = await self._begin()
        self.table().add(consumer, groups, request_id, since)
        return groups

    async def unsubscribe(
        self, consumer: AsyncAPIConsumer, *args: Any, request_id: Any = None, **kwargs: Any
    ) -> list[str]:
        """Let a consumer follow the groups for these arguments no more, or all without arguments.

        Args:
            consumer: who follows.
            *args: as for ``subscribe()``.
            request_id: only what this request began; None for whatever began it.
            **kwargs: as for ``subscribe()``.

        Returns:
            The groups that it followed so.
        """
        named = self._groups_of(consumer, args, kwargs) if args or kwargs else None
        return self.table().remove(consumer, named, request_id)

    def _groups_of(self, consumer: AsyncAPIConsumer, args: Any, kwargs: dict[str, Any]) -> list[str]:
        if self._of_consumer is None:
            return [ALL]
        if "consumer" in inspect.signature(self._of_consumer).parameters:
            kwargs = {"consumer": consumer, **kwargs}
        return [str(group) for group in self._of_consumer(self, *args, **kwargs) or ()]

    async def _begin(self) -> int:
        """Get ready, and return the hub's tick up to which changes are no news."""
        raise NotImplementedError

    def table(self) -> Table:
        """Return who follows on this event loop."""
        loop = asyncio.get_running_loop()
        found = self._tables.get(loop)
        if found is None:
            found = self._tables[loop] = self._table()
        return found

    def _table(self) -> Table:
        return Table(self._call)

    async def _call(self, consumer: AsyncAPIConsumer, notice: Notice, told: list[Following]) -> None:
        message = dict(notice.message) if isinstance(notice.message, dict) else notice.message
        given = {
            "observer": self,
            "message_type": self.handler.__name__.replace("_", "."),
            "subscribing_request_ids": [f.request_id for f in told if f.request_id is not None],
            "group": notice.group,
            "action": notice.action,
        }
        await call(self.handler, consumer, message, **given)


class Bound:
    """An observer on an instance of its consumer."""

    def __init__(self, observer: BaseObserver, consumer: AsyncAPIConsumer) -> None:
        self._observer = observer
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._observer, name)
        return functools.partial(found, self._consumer) if name in {"subscribe", "unsubscribe"} else found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler, as the method that it is."""
        return self._observer.handler(self._consumer, *args, **kwargs)


def call(function: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """Call a function of a project with those of the named arguments that it takes."""
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        given = {name: value for name, value in given.items() if name in names}
    return function(*args, **given)
