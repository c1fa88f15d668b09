"""What a refusal says beside its code: the current state, what changed, who holds the lock.

All of it is what a GET by the same caller would show; who may not GET learns nothing from a failed
precondition either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from rest_framework.renderers import JSONRenderer

from .. import changes, locks
from ..conf import settings
from ..fields import version_field
from ..protocol.errors import AlreadyExists, ObjectLocked, PreconditionRequired, VersionMismatch
from ..protocol.etags import version_of
from . import tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rest_framework.serializers import BaseSerializer

    from .. import rows
    from ..protocol.errors import ConcordError
    from ..protocol.preconditions import Preconditions

__all__ = ["explain", "submitted_fields"]


def explain(
    view: Any, error: ConcordError, obj: models.Model, entry: rows.Entry, conditions: Preconditions
) -> None:
    """Add to a refusal what the caller of the view may know.

    Raises:
        Http404, PermissionDenied: the caller may not GET the object, so the refusal is that.
    """
    if isinstance(error, ObjectLocked):
        error.members.update(lock_members(entry))
    elif isinstance(error, VersionMismatch | AlreadyExists | PreconditionRequired):
        _explain_state(view, error, obj, entry, conditions)


def lock_members(entry: rows.Entry) -> dict[str, object]:
    """Return what a caller who may change the object learns about the lock that stops it."""
    told = locks.describe(
        entry.lock, entry.now, viewer=entry.actor.holder, disclose=settings.DISCLOSURE != "nobody"
    )
    return {
        "mode": told["mode"],
        "scope": told["scope"],
        "reason": told["reason"],
        "since": told["acquired_at"],
        "expires_at": told["expires_at"],
        "mine": told["mine"],
        "holder": told["holder"],
    }


def _explain_state(
    view: Any, error: ConcordError, obj: models.Model, entry: rows.Entry, conditions: Preconditions
) -> None:
    with view.reading():
        seen = view.get_object()
        serializer = view.get_serializer(seen)
        data = serializer.data
        variant = tags.flat_variant(view, view.request) or tags.digest(JSONRenderer().render(data))
        current = tags.current_of(view, seen, variant)
    error.members["current_etag"] = str(current.tag)
    if isinstance(error, PreconditionRequired):
        return
    yours = _base(conditions)
    if yours is not None:
        error.members["your_etag"] = str(yours)
    base, field = version_of(yours) if yours is not None else None, version_field(type(seen))
    if field is not None:
        error.members |= _what_changed(view, serializer, seen, base, getattr(seen, field.attname), entry)
    if view.conflict_current:
        error.members["current"] = data


def _base(conditions: Preconditions) -> Any:
    """Return the newest state the client says it knows."""
    given = conditions.if_match.tags if conditions.if_match is not None else ()
    return max(given, key=lambda tag: version_of(tag) or 0, default=None)


def _what_changed(
    view: Any,
    serializer: BaseSerializer[Any],
    obj: models.Model,
    base: int | None,
    version: int,
    entry: rows.Entry,
) -> dict[str, object]:
    members: dict[str, object] = {"modified_at": locks.iso(version)}
    if base is None or base >= version:
        return members
    columns = changes.changed_since(type(obj), obj.pk, base, version, using=entry.using)
    if columns is None:
        return members  # the log does not cover the way: omitted, not guessed
    changed = sorted(fields_of(serializer, type(obj), columns))
    conflicting = [name for name in changed if name in submitted_fields(view)]
    return {**members, "changed_fields": changed, "conflicting_fields": conflicting}


def submitted_fields(view: Any) -> set[str]:
    """Return the names of the fields in the request's body; none when it could not be read."""
    data = view.request.data
    return set(data) if hasattr(data, "keys") else set()


def fields_of(serializer: BaseSerializer[Any], model: type[models.Model], columns: Iterable[str]) -> set[str]:
    """Return the readable serializer fields that show these columns; a hidden column appears as nothing."""
    wanted = set(columns)
    names = {f.column for f in model._meta.concrete_fields if f.column in wanted}
    found = set()
    for name, field in getattr(serializer, "fields", {}).items():
        source = field.source.split(".")[0]
        column = next(
            (f.column for f in model._meta.concrete_fields if source in {f.name, f.attname}), source
        )
        if not field.write_only and (column in names or source in wanted):
            found.add(name)
    return found
