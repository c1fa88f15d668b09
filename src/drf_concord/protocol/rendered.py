"""Objects as subscribers of both doors are told of them: their text, their pages, the latest of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

__all__ = ["MAX_PENDING", "PAGE", "Overflow", "Rendered", "changes_text", "items_text", "keep", "size"]

MAX_PENDING = 4_194_304
"""How many bytes of latest states are kept for a client that does not read, before it is sent away."""
PAGE = 200
"""How many objects one page of a snapshot carries."""

encode = msgspec.json.encode


class Overflow(Exception):
    """The client does not read, and what is kept for it has reached its limit."""


@dataclass(slots=True)
class Rendered:
    """One object as a subscriber is told of it, encoded once for all.

    Attributes:
        action: CREATED, UPDATED or DELETED; of a lock LOCKED, UNLOCKED, BROKEN or EXPIRED.
        pk: as JSON.
        instance: the representation as JSON; for DELETED what names the object.
        etag: the tag that writes the object back, or None.
        version: the order of its states.
        reason: for DELETED: ``deleted`` or ``left``.
        lock: the lock as JSON, when this is news of it and not of the object.
        event: of a subscription that wants them all, the id of the change: no later one replaces this.
    """

    action: str
    pk: str
    instance: str
    etag: str | None = None
    version: int | None = None
    reason: str | None = None
    lock: str | None = None
    event: int | None = None
    _plain: str = field(default="", repr=False)
    _session: str = field(default="", repr=False)

    def plain(self, model: str) -> str:
        """Return the end of the plain frame, from after the request_id."""
        if not self._plain:
            self._plain = f',"model":"{model}","action":"{self.action}","instance":{self.instance}}}'
        return self._plain

    @property
    def key(self) -> str:
        """What a later one replaces: news of the object, or of its lock."""
        if self.event is not None:
            return f"{self.event} {self.pk}"
        return self.pk if self.lock is None else f"lock {self.pk}"

    def session(self) -> str:
        """Return the change as one member of a session-mode frame."""
        if not self._session:
            etag = "null" if self.etag is None else encode(self.etag).decode()
            version = "null" if self.version is None else str(self.version)
            body = f'"reason":"{self.reason}"' if self.reason is not None else f'"instance":{self.instance}'
            if self.lock is not None:
                body = f'"lock":{self.lock}'
            self._session = (
                f'{{"action":"{self.action}","pk":{self.pk},"etag":{etag},"version":{version},{body}}}'
            )
        return self._session


def size(text: str) -> int:
    """Return how many bytes a text has, as UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def keep(kept: dict[str, Rendered], changes: Iterable[Rendered]) -> int:
    """Keep the latest of each object for a client that has no room now.

    Args:
        kept: what is kept already, by `Rendered.key`; changed in place.
        changes: what comes.

    Returns:
        By how many bytes there is more now.
    """
    more = 0
    for change in changes:
        before = kept.pop(change.key, None)
        if before is not None:
            more -= size(before.session())
            if (before.action, change.action) == ("CREATED", "UPDATED"):
                change = replace(change, action="CREATED", _plain="", _session="")
        kept[change.key] = change
        more += size(change.session())
    return more


def items_text(items: Iterable[Rendered], *, more: bool) -> str:
    """Return the members of a page of a snapshot, as JSON without the braces."""
    listed = ",".join(
        f'{{"pk":{i.pk},"etag":{encode(i.etag).decode()},"version":{encode(i.version).decode()},'
        f'"instance":{i.instance}}}'
        for i in items
    )
    return f'"items":[{listed}],"more":{_truth(more)}'


def changes_text(changes: Iterable[Rendered], *, more: bool) -> str:
    """Return the members that tell some changes, as JSON without the braces."""
    listed = ",".join([change.session() for change in changes])
    return f'"changes":[{listed}],"more":{_truth(more)}'


def _truth(value: bool) -> str:
    return "true" if value else "false"
