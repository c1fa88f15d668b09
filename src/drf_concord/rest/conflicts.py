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
from . import columns, merge, tags

if TYPE_CHECKING:
    from rest_framework.serializers import BaseSerializer

    from .. import rows
    from ..protocol.errors import ConcordError
    from ..protocol.preconditions import Preconditions

__all__ = ["discloses", "explain", "lock_members"]


def explain(
    view: Any, error: ConcordError, obj: models.Model, entry: rows.Entry, conditions: Preconditions
) -> None:
    """Add to a refusal what the caller of the view may know.

    Raises:
        Http404, PermissionDenied: the caller may not GET the object, so the refusal is that.
    """
    with view.reading():
        seen = view.get_object()
    if isinstance(error, ObjectLocked):
        if not entry.lock.live(entry.now):
            return  # a rule of the project's holds it, which says no more
        error.members.update(lock_members(entry, disclose=discloses(view, obj)))
    elif isinstance(error, VersionMismatch | AlreadyExists | PreconditionRequired):
        _explain_state(view, error, obj, seen, entry, conditions)


def discloses(view: Any, obj: models.Model) -> bool:
    """Return whether the caller of the view may learn who holds an object's lock."""
    if settings.DISCLOSURE == "editors":
        return bool(view.actor().holder is not None and view.may_change(obj))
    return bool(settings.DISCLOSURE == "everyone")


def lock_members(entry: rows.Entry, *, disclose: bool) -> dict[str, object]:
    """Return what somebody is told about the lock that stops him."""
    told = locks.describe(entry.lock, entry.now, viewer=entry.actor.holder, disclose=disclose)
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
    view: Any,
    error: ConcordError,
    obj: models.Model,
    seen: models.Model,
    entry: rows.Entry,
    conditions: Preconditions,
) -> None:
    with view.reading():
        serializer = view.get_serializer(seen)
        data = serializer.data
        variant = tags.flat_variant(view, view.request) or tags.digest(JSONRenderer().render(data))
        current = tags.current_of(view, seen, variant)
    error.members["current_etag"] = str(current.tag)
    if isinstance(error, PreconditionRequired):
        return
    yours = columns.base_of(conditions)
    if yours is not None:
        error.members["your_etag"] = str(yours)
    field = version_field(type(seen))
    if field is not None:
        version = getattr(seen, field.attname)
        error.members["modified_at"] = locks.iso(version)
        if view.conflict_actor and view.actor().holder is not None and view.may_change(obj):
            actor = changes.writer_of(type(seen), seen.pk, version, using=entry.using)
            error.members["modified_by"] = locks.holder_name(actor)
        base = version_of(yours) if yours is not None else None
        changed = columns.changed_columns(seen, base, version, entry.using)
        if changed is not None:
            error.members |= _what_changed(view, serializer, seen, changed)
    if view.conflict_current:
        error.members["current"] = data


def _what_changed(
    view: Any, serializer: BaseSerializer[Any], seen: models.Model, changed: frozenset[str]
) -> dict[str, object]:
    # Only readable fields are named: a column that no field shows appears as nothing.
    model, fields = type(seen), columns.fields_of(serializer)
    shown = {name: columns.column_of(f, model) for name, f in fields.items() if not f.write_only}
    names = sorted(name for name, column in shown.items() if column in changed)
    touched = {columns.column_of(field, model) for field in columns.submitted_fields(view, seen).values()}
    found: dict[str, object] = {
        "changed_fields": names,
        "conflicting_fields": [name for name in names if shown[name] in touched],
    }
    if merge.allowed(view):
        found["mergeable"] = merge.mergeable(view, seen, changed)
    return found
