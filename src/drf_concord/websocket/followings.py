"""Who observes what on this event loop: groups, the consumers in them, and for which of their requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rest_framework import exceptions

from ..protocol.session import MAX_SUBSCRIPTIONS
from .doing import at, doing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .consumers import AsyncAPIConsumer

__all__ = ["Following", "Notice", "Table"]

GROUPS = 100
"""How many groups one subscription may name."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the followers of a group are told.

    Attributes:
        group: as the group functions name it.
        action: what happened.
        message: what handlers get.
        obj: the object that object permissions are asked about, or None.
        moment: the change of a row that it is about, where it is about one.
    """

    group: str
    action: Any
    message: Any
    obj: Any = None
    moment: Any = None


@dataclass(eq=False, slots=True)
class Following:
    """One request of a consumer that follows a group.

    Attributes:
        request_id: of the request; None when it had none.
        action: by which the consumer began to follow: the permissions for it are asked at every delivery.
        arguments: the members of that frame.
        since: the hub's tick then: what was read of the log before is no news.
        shown: of a single object: whether the client has it.
    """

    request_id: Any
    action: str
    arguments: Any
    since: int
    shown: bool = True


class Table:
    """The followers of one observer, on one event loop.

    Args:
        call: calls the observer's handler.
    """

    def __init__(self, call: Callable[[AsyncAPIConsumer, Notice, list[Following]], Awaitable[None]]) -> None:
        self.call = call
        self._groups: dict[str, dict[AsyncAPIConsumer, dict[str, Following]]] = {}

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def groups(self) -> list[str]:
        """Return the groups that somebody follows."""
        return list(self._groups)

    def add(self, consumer: AsyncAPIConsumer, groups: Iterable[str], request_id: Any, since: int) -> None:
        """Let a consumer follow some groups.

        Raises:
            ValidationError: it follows too much.
        """
        now, key, named = doing(consumer), _key(request_id), list(groups)
        known = consumer._followed.get(self, {})
        total = sum(len(keys) for keys in consumer._followed.values()) + (key not in known)
        if total > MAX_SUBSCRIPTIONS or len(known.get(key, ())) + len(named) > GROUPS:
            limits = f"{MAX_SUBSCRIPTIONS} subscriptions of {GROUPS} groups each"
            raise exceptions.ValidationError([f"A socket may have {limits}."])
        consumer._followed.setdefault(self, {}).setdefault(key, set()).update(named)
        for group in named:
            # a handler may follow something too, which is by no action
            following = Following(request_id, now.action or "connect", now.arguments, since)
            self._groups.setdefault(group, {}).setdefault(consumer, {}).setdefault(key, following)

    def remove(self, consumer: AsyncAPIConsumer, groups: Iterable[str] | None, request_id: Any) -> list[str]:
        """Let a consumer follow some groups no more.

        Args:
            consumer: who follows.
            groups: None for all.
            request_id: only what this request began; None for whatever began it.

        Returns:
            The groups that it followed so.
        """
        known = consumer._followed.get(self, {})
        return self._remove(consumer, groups, list(known) if request_id is None else [_key(request_id)])

    def end(self, consumer: AsyncAPIConsumer, following: Following) -> None:
        """End what one request began, with whatever groups."""
        self._remove(consumer, None, [_key(following.request_id)])

    def _remove(
        self, consumer: AsyncAPIConsumer, groups: Iterable[str] | None, keys: Iterable[str]
    ) -> list[str]:
        known = consumer._followed.get(self, {})
        named = None if groups is None else set(groups)
        left: dict[str, None] = {}
        for key in keys:
            for group in sorted(known.get(key, ())):
                if named is None or group in named:
                    known[key].discard(group)
                    left[group] = None
                    self._drop(group, consumer, key)
            if not known.get(key, True):
                del known[key]
        if not known:
            consumer._followed.pop(self, None)
        if not self._groups:
            self.idle()
        return list(left)

    def _drop(self, group: str, consumer: AsyncAPIConsumer, key: str) -> None:
        consumers = self._groups[group]
        del consumers[consumer][key]
        if not consumers[consumer]:
            del consumers[consumer]
        if not consumers:
            del self._groups[group]

    def idle(self) -> None:
        """Nobody follows any more; a hook."""

    def tell(self, notices: Iterable[Notice], tick: int) -> None:
        """Tell the followers, each in its own time and in this order."""
        for notice in notices:
            for consumer in list(self._groups.get(notice.group, ())):
                consumer._inbox.put(_Delivery(self, consumer, notice, tick).work)

    def tell_all(self, status: int, message: str) -> None:
        """Tell every follower that there will be no more, and why."""
        for group in self.groups():
            for consumer in list(self._groups.get(group, ())):
                consumer._inbox.put(_End(self, consumer, status, message).work)

    def followings(self, consumer: AsyncAPIConsumer, group: str) -> dict[str, Following]:
        """Return by which requests a consumer follows a group now."""
        return self._groups.get(group, {}).get(consumer, {})


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A notice on its way to one consumer."""

    table: Table
    consumer: AsyncAPIConsumer
    notice: Notice
    tick: int

    async def work(self) -> None:
        consumer, notice = self.consumer, self.notice
        concerned = {
            key: following
            for key, following in self.table.followings(consumer, notice.group).items()
            if following.since < self.tick
        }
        if not concerned:
            return
        may = {key: f for key, f in concerned.items() if await self._may(key, f)}
        # it may have been ended while that was asked
        left = self.table.followings(consumer, notice.group)
        told = [following for key, following in may.items() if left.get(key) is following]
        if not told:
            return
        with at(consumer, told[0].action, told[0].arguments):
            try:
                await self.table.call(consumer, notice, told)
            except Exception as error:
                for request_id in [f.request_id for f in told]:
                    await consumer.handle_exception(error, action=str(notice.action), request_id=request_id)

    async def _may(self, key: str, following: Following) -> bool:
        """Ask the permissions again; who lost them is told so, and follows no more."""
        consumer, group = self.consumer, self.notice.group
        try:
            if await consumer.may_be_told(self.tick, following):
                obj = self.notice.obj
                return obj is None or await consumer.may_be_told_of(obj, following)
        except Exception as error:
            action, request_id = str(self.notice.action), following.request_id
            await consumer.handle_exception(error, action=action, request_id=request_id)
            return False
        if key in self.table.followings(consumer, group):
            self.table.end(consumer, following)
            refusal = exceptions.PermissionDenied()
            await consumer.handle_exception(refusal, action=following.action, request_id=following.request_id)
        return False


@dataclass(frozen=True, slots=True)
class _End:
    """The news that there will be no more."""

    table: Table
    consumer: AsyncAPIConsumer
    status: int
    message: str

    async def work(self) -> None:
        ended = {
            key: following
            for group in self.table.groups()
            for key, following in self.table.followings(self.consumer, group).items()
        }
        self.table.remove(self.consumer, None, None)
        for following in ended.values():
            await self.consumer.reply(
                following.action,
                errors=[self.message],
                status=self.status,
                request_id=following.request_id,
            )


def _key(request_id: Any) -> str:
    return json.dumps(request_id, sort_keys=True, default=str)
