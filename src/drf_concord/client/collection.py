"""The objects of one subscription, put together from what the server sends: no IO, no clock.

It shows whole transactions only, and never an older state of an object than one it has shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .frames import Changed, Row
from .values import Change, Item, Pk

__all__ = ["Collection"]

GRAVES = 10_000
"""Of how many objects that are gone the last version is remembered."""
LOCK_NEWS = frozenset({"LOCKED", "UNLOCKED", "BROKEN", "EXPIRED"})


class Collection:
    """What is there, by primary key, in the order in which it was told.

    Attributes:
        items: the objects.
        loaded: whether a whole snapshot was there once.
    """

    def __init__(self) -> None:
        self.items: dict[Pk, Item] = {}
        self.loaded = False
        self._graves: OrderedDict[Pk, int] = OrderedDict()
        self._page: list[Row] | None = None
        self._waiting: list[Changed] = []

    @property
    def whole(self) -> bool:
        """Whether nothing is under way: no page of a snapshot is due, and no part of a transaction."""
        return self.loaded and self._page is None and not self._waiting

    def interrupted(self) -> None:
        """Drop what did not come to its end: the connection is gone, and it will be told again."""
        self._page = None
        self._waiting = []

    def begin(self) -> None:
        """Expect a snapshot; what is there stays to be seen until that is whole."""
        self.interrupted()
        self._page = []

    def load(self, rows: Iterable[Row], *, more: bool) -> list[Change]:
        """Take in a page of a snapshot.

        Returns:
            After the last page, how what is there differs from what was there before.
        """
        page = [*(self._page or ()), *rows]
        if more:
            self._page = page
            return []
        self._page = None
        before, self.items = self.items, {row.pk: _item(row) for row in page}
        self.loaded = True
        self._graves.clear()  # the snapshot is the truth now, also where it is of a restored database
        told = [Change("DELETED", pk, reason="left") for pk in before if pk not in self.items]
        for pk, item in self.items.items():
            if pk not in before:
                told.append(Change("CREATED", pk, item))
            elif _differ(before[pk], item):
                told.append(Change("UPDATED", pk, item))
        late, self._waiting = self._waiting, []
        return told + self._apply(late)

    def change(self, changes: Iterable[Changed], *, more: bool) -> list[Change]:
        """Take in changes, or a part of those of a transaction.

        Returns:
            At the end of the transaction, what it changed here.
        """
        self._waiting += changes
        if more or self._page is not None:
            return []
        whole, self._waiting = self._waiting, []
        return self._apply(whole)

    def _apply(self, changes: list[Changed]) -> list[Change]:
        return [told for change in changes if (told := self._one(change)) is not None]

    def _one(self, change: Changed) -> Change | None:
        pk = change.pk
        if change.action in LOCK_NEWS:
            return Change(change.action, pk, lock=change.lock)
        known = self.items.get(pk)
        if change.version is not None and change.version < self._newest(pk):
            return None
        if change.action == "DELETED":
            self._bury(pk, change.version)
            if known is None:
                return None
            del self.items[pk]
            return Change("DELETED", pk, reason=change.reason)
        if change.action not in {"CREATED", "UPDATED"} or change.instance is None:
            return None
        self._graves.pop(pk, None)
        item = self.items[pk] = Item(change.instance, pk=pk, etag=change.etag, version=change.version)
        if known is None:
            return Change("CREATED", pk, item)
        # after a cut some things are told twice
        return Change("UPDATED", pk, item) if _differ(known, item) else None

    def _newest(self, pk: Pk) -> int:
        known = self.items.get(pk)
        version = self._graves.get(pk) if known is None else known.version
        return -1 if version is None else version

    def _bury(self, pk: Pk, version: int | None) -> None:
        newest = max(self._newest(pk), -1 if version is None else version)
        self._graves[pk] = newest
        self._graves.move_to_end(pk)
        if len(self._graves) > GRAVES:
            self._graves.popitem(last=False)


def _item(row: Row) -> Item:
    return Item(row.instance, pk=row.pk, etag=row.etag, version=row.version)


def _differ(one: Item, other: Item) -> bool:
    return one != other or one.etag != other.etag or one.version != other.version
