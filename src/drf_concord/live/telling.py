"""From what an object is now, and what the log says of it, to what subscribers are told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ..protocol.changes import Change, Op
from ..protocol.session import Rendered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .looks import Shown, Spec

__all__ = ["Trace", "ahead", "events", "gone", "lost", "render", "told", "told_as", "trace"]

Trace = tuple[str, int | None]
"""What is remembered of an object that is shown: what names it when it is gone, and a hash of its body."""


def trace(shown: Shown) -> Trace:
    """Return what is remembered of an object."""
    return shown.gone, hash(shown.instance)


def render(shown: Shown, action: str, change: Change | None) -> Rendered:
    """Return an object as subscribers are told of it; without a version column the change's id orders."""
    version = shown.version if shown.version is not None else change.id if change is not None else None
    return Rendered(action, shown.pk, shown.instance, shown.etag, version)


def told(spec: Spec, now: Shown, changes: Sequence[Change], *, known: bool) -> list[Rendered]:
    """Return what is told of an object that is there: its state, or each change that led to it."""
    if spec.events and changes:
        return list(events(now, changes, known=known))
    return [render(now, "UPDATED" if known else "CREATED", changes[-1] if changes else None)]


def lost(spec: Spec, named: str, changes: Sequence[Change], *, pk: str | None = None) -> Rendered:
    """Return what is told of an object that is gone; how it came to that nobody may see any more."""
    last = changes[-1] if changes else None
    rendered = gone(named, last, pk=pk)
    rendered.event = last.id if spec.events and last is not None else None
    return rendered


def events(now: Shown, changes: Sequence[Change], *, known: bool) -> Iterator[Rendered]:
    """Yield each change of an object that is there.

    The log has no values: each carries the object as it is now, and the tag of that where it is the version
    that this change led to.

    Args:
        now: the object.
        changes: of it, in the order of the log.
        known: whether its subscribers know it already.
    """
    for change in changes:
        if change.op is Op.DELETE:  # and created again under the same key
            if known:
                yield replace(gone(now.gone, change), event=change.id)
            known = False
            continue
        version = _version(change)
        etag = now.etag if version == now.version else None
        action = "UPDATED" if known else "CREATED"
        yield Rendered(action, now.pk, now.instance, etag, version, event=change.id)
        known = True


def gone(named: str, change: Change | None, *, pk: str | None = None) -> Rendered:
    """Return what is told of an object that is not there, or not to be seen, any more.

    Args:
        named: what names it, as JSON.
        change: the last one of it, as far as that is known.
        pk: its key as JSON, where that is at hand.
    """
    deleted = change is not None and change.op is Op.DELETE
    version = None if change is None else _version(change)
    if pk is None:
        pk = json.dumps(json.loads(named)["pk"])
    return Rendered("DELETED", pk, named, None, version, "deleted" if deleted else "left")


def told_as(change: Rendered, action: str) -> Rendered:
    """Return a change for somebody to whom it is another action."""
    return replace(change, action=action, _plain="", _session="")


def ahead(shown: Shown | None, change: Change) -> bool:
    """Tell whether an object was read after a later change than the one that is delivered here."""
    if shown is None or shown.version is None or change.version is None:
        return False
    return shown.version > change.version


def _version(change: Change) -> int:
    return change.version if change.version is not None else change.id
