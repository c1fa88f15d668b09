"""What a client hands out: objects with their tags, and changes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Change", "Item", "Pk"]

Pk = str | int


class Item(Mapping[str, Any]):
    """An object as it was read: a mapping of its fields that knows the tag which writes it back.

    Attributes:
        pk: its key; None where an answer did not name it.
        etag: of this state; None where the server told none.
        version: the order of its states; None where that is not known.
    """

    __slots__ = ("_data", "etag", "pk", "version")

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        pk: Pk | None = None,
        etag: str | None = None,
        version: int | None = None,
    ) -> None:
        self._data = dict(data)
        self.pk = pk
        self.etag = etag
        self.version = version

    def __getitem__(self, name: str) -> Any:
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Item({self._data!r}, etag={self.etag!r})"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a live collection.

    Attributes:
        action: `CREATED`, `UPDATED` or `DELETED`; `LOCKED`, `UNLOCKED`, `BROKEN` or `EXPIRED` for news of
            a lock; `RESET` when too much happened to tell one by one: look at all the items.
        pk: of the object; None for `RESET`.
        item: the object as it is now; None when it is gone, and for news of a lock.
        reason: of a `DELETED`: `deleted`, or `left` when it may still be there but is not to be seen here.
        lock: of news of a lock: what `GET .../lock/` would say.
    """

    action: str
    pk: Pk | None = None
    item: Item | None = None
    reason: str | None = None
    lock: Mapping[str, Any] | None = None
