"""What can be done with the objects at one address: which requests it takes, and which tag each carries."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from ..protocol.errors import MalformedPrecondition
from ..protocol.etags import parse_tag
from . import operators
from .errors import ClientError, NotFoundError
from .requests import Answer, Operation, Request, child, exchange, repeated
from .values import Item, Pk

__all__ = ["LAST_SEEN", "IfMatch", "Memory", "Operations", "Seen", "lock_list"]

REMEMBERED = 1024
"""How many objects a client remembers with their tags; those longest out of use are forgotten first."""
PAGES = 1000
"""How many pages of a list are read at the most."""


class Seen(Enum):
    """The default of `if_match`."""

    LAST = "the tag last seen"


LAST_SEEN: Final = Seen.LAST
IfMatch = str | Seen | None


class Memory:
    """The objects that were read, by address; shared by the threads of a client."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, url: str) -> Item | None:
        """Return what was last seen there."""
        with self._guard:
            if url in self._items:
                self._items.move_to_end(url)
            return self._items.get(url)

    def put(self, url: str, item: Item) -> None:
        """Remember an object."""
        with self._guard:
            self._items[url] = item
            self._items.move_to_end(url)
            if len(self._items) > self._size:
                self._items.popitem(last=False)

    def forget(self, url: str) -> None:
        """Forget what was seen there."""
        with self._guard:
            self._items.pop(url, None)


class Operations:
    """The operations of one resource.

    Args:
        url: of the list.
        lookup: the field by which objects are addressed; `id` or `pk` when left out.
        memory: of what was seen.
        slash: whether addresses of objects end with one.
    """

    def __init__(self, url: str, *, lookup: str | None, memory: Memory, slash: bool = True) -> None:
        self.url = url
        self.slash = slash
        self._names = ("id", "pk") if lookup is None else (lookup,)
        self._lookup = lookup
        self._memory = memory

    def key(self, target: Pk | Item) -> Pk:
        """Return what stands in the address of an object."""
        if not isinstance(target, Item):
            return target
        found = target.get(self._lookup, target.pk) if self._lookup is not None else target.pk
        if found is None:
            raise ValueError("This object has no key here; name the field of its address with lookup=.")
        key: Pk = found
        return key

    def address(self, target: Pk | Item) -> str:
        """Return the address of an object."""
        return child(self.url, self.key(target), slash=self.slash)

    # Reading

    def get(self, pk: Pk | Item) -> Operation[Item]:
        """Read an object; one that did not change comes out of the memory."""
        url, key = self.address(pk), self.key(pk)
        known = self._memory.get(url)
        headers = {} if known is None or known.etag is None else {"If-None-Match": known.etag}
        try:
            answer = yield from exchange(Request("GET", url, headers, pk=key))
        except NotFoundError:
            self._memory.forget(url)
            raise
        if answer.status == 304 and known is not None:
            return known
        return self._remember(url, self._item(answer, key))

    def list(self, query: Mapping[str, Any]) -> Operation[list[Item]]:
        """Read a list, all pages of it."""
        url = self.url + (f"?{urlencode(query, doseq=True)}" if query else "")
        found: list[Item] = []
        for _ in range(PAGES):
            body = (yield from exchange(Request("GET", url))).body()
            page = body if isinstance(body, list) else _member(body, "results")
            if not isinstance(page, list):
                raise ClientError(f"There is no list at {self.url}.", body=body)
            found += [self._row(row) for row in page]
            following = _member(body, "next")
            if not isinstance(following, str):
                return found
            # behind a proxy a server may not know its own name, so only the rest of the address counts
            parts = urlsplit(following)
            url = urljoin(self.url, f"{parts.path}?{parts.query}")
        raise ClientError(f"The list at {self.url} has more than {PAGES} pages. Narrow it.")

    # Writing

    def create(self, data: Mapping[str, Any]) -> Operation[Item]:
        """Create an object."""
        answer = yield from exchange(Request("POST", self.url, data=data))
        body = _mapping(answer)
        item = self._item(answer, self._named(body))
        return item if item.pk is None else self._remember(self.address(item), item)

    def write(
        self,
        method: str,
        target: Pk | Item,
        data: Mapping[str, Any] | None,
        if_match: IfMatch,
        token: str | None = None,
    ) -> Operation[Item | None]:
        """Change, replace or delete an object, if it is in the state that `if_match` names.

        Args:
            method: PATCH, PUT or DELETE.
            target: the object, or its key.
            data: the fields.
            if_match: a tag; None for whatever is there; by default that of the object, or of what was last
                seen under this key.
            token: of a lock that is held.
        """
        url, key = self.address(target), self.key(target)
        headers = {} if token is None else {"Lock-Token": token}
        tag = self._tag(url, target) if isinstance(if_match, Seen) else if_match
        if tag is not None:
            headers["If-Match"] = tag
        try:
            answer = yield from exchange(Request(method, url, headers, data, pk=key))
        except NotFoundError:
            self._memory.forget(url)
            raise
        if method == "DELETE":
            self._memory.forget(url)
            return None
        return self._remember(url, self._item(answer, key))

    def _tag(self, url: str, target: Pk | Item) -> str | None:
        if isinstance(target, Item):
            if target.etag is None:
                raise ValueError(
                    "This object came without a tag, so a change of it could undo those of others: get() it"
                    " first, or say if_match=None to write whatever is there."
                )
            return target.etag
        known = self._memory.get(url)
        return None if known is None else known.etag

    # Locks

    def lock_state(self, pk: Pk | Item) -> Operation[Mapping[str, Any]]:
        """Tell who has the lock of an object."""
        answer = yield from exchange(Request("GET", self._lock(pk)))
        return _mapping(answer)

    def take(self, pk: Pk | Item, claim: Mapping[str, Any]) -> Operation[tuple[str, Mapping[str, Any]]]:
        """Take a lock; `claim` has an `id`, so that asking again gets the same one.

        Returns:
            The token, and the lock.
        """
        answer = yield from repeated(Request("POST", self._lock(pk), data=claim))
        return answer.headers.get("lock-token", ""), _mapping(answer)

    def renew(self, pk: Pk | Item, token: str, ttl: float, timeout: float) -> Operation[Mapping[str, Any]]:
        """Let a hold last for `ttl` seconds from now."""
        url, headers = self._lock(pk), {"Lock-Token": token}
        answer = yield from exchange(Request("PATCH", url, headers, {"ttl": ttl}, timeout=timeout))
        return _mapping(answer)

    def release(self, pk: Pk | Item, token: str | None) -> Operation[None]:
        """End a lock."""
        headers = {} if token is None else {"Lock-Token": token}
        yield from repeated(Request("DELETE", self._lock(pk), headers))

    def break_lock(
        self, pk: Pk | Item, *, reason: str | None, period: float | None
    ) -> Operation[Mapping[str, Any]]:
        """End somebody else's lock."""
        said = {"reason": reason, "period": period}
        data = {name: value for name, value in said.items() if value is not None}
        url = child(self._lock(pk), "break", slash=self.slash)
        return _mapping((yield from exchange(Request("POST", url, data=data))))

    def operators_change(self, pk: Pk | Item, member: str) -> Operation[None]:
        """Lock or unlock an object for maintenance; `member` says which."""
        yield from operators.change(self.address(pk), member, slash=self.slash)

    def operators_offered(self, pk: Pk | Item) -> Operation[bool]:
        """Tell whether the server offers the operators' lock for an object."""
        return (yield from operators.offered(self.address(pk), slash=self.slash))

    def _lock(self, pk: Pk | Item) -> str:
        return child(self.address(pk), "lock", slash=self.slash)

    # What answers hold

    def _item(self, answer: Answer, pk: Pk | None) -> Item:
        return Item(_mapping(answer), pk=pk, etag=answer.headers.get("etag"))

    def _row(self, row: Any) -> Item:
        if not isinstance(row, Mapping):
            raise ClientError(f"The list at {self.url} has members that are no objects.", body=row)
        return Item(row, pk=self._named(row), etag=_own_tag(row))

    def _named(self, body: Mapping[str, Any]) -> Pk | None:
        return next((body[name] for name in self._names if name in body), None)

    def _remember(self, url: str, item: Item) -> Item:
        self._memory.put(url, item)
        return item


def lock_list(url: str, *, mine: bool, model: str | None) -> Operation[list[Mapping[str, Any]]]:
    """Read the live locks."""
    query = {"mine": "1"} if mine else {}
    if model is not None:
        query["model"] = model
    answer = yield from exchange(Request("GET", url + (f"?{urlencode(query)}" if query else "")))
    body = answer.body()
    if not isinstance(body, list):
        raise ClientError(f"There is no list of locks at {url}.", body=body)
    return body


def _mapping(answer: Answer) -> Mapping[str, Any]:
    body = answer.body()
    if not isinstance(body, Mapping):
        raise ClientError("The server answered something that is no JSON object.", status=answer.status)
    return body


def _member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, Mapping) else None


def _own_tag(row: Mapping[str, Any]) -> str | None:
    """Return the tag that a row carries in a field `etag`, as an `ETagField` of that name does."""
    try:
        text = row.get("etag")
        return str(parse_tag(text)) if isinstance(text, str) else None
    except MalformedPrecondition:
        return None
