"""Merging a PATCH made for an older state with what was changed since, where the two do not touch.

If-Match is false then, and RFC 9110 section 13.1.1 forbids to go on. So this is done only on views that
allow it, and only for a client that asks for it (``Prefer: merge=disjoint``, RFC 7240).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import ValidationError
from rest_framework.fields import SkipField
from rest_framework.serializers import BaseSerializer

from ..fields import version_field
from ..protocol.etags import EntityTag, encode_version, version_of
from ..protocol.preconditions import Current, Preconditions, Verdict, evaluate
from . import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model
    from rest_framework.request import Request

__all__ = ["PREFERENCE", "allowed", "mergeable", "onto", "wanted"]

PREFERENCE = "merge=disjoint"


def allowed(view: Any) -> bool:
    """Return whether this view merges what this request does."""
    return bool(view.merge == "disjoint" and view.request.method == "PATCH")


def wanted(view: Any, conditions: Preconditions) -> bool:
    """Return whether a request is to be merged if its tag is old."""
    named = conditions.if_match is not None and not conditions.if_match.any
    if not named or conditions.if_none_match is not None or not allowed(view):
        return False
    return _asked(view.request)


def _asked(request: Request) -> bool:
    preferences = request.META.get("HTTP_PREFER", "").replace(" ", "").replace('"', "").lower().split(",")
    return any(preference.split(";")[0] == PREFERENCE for preference in preferences)


def onto(view: Any, obj: Model, current: Current, conditions: Preconditions, using: str) -> Current | None:
    """Return the state the client knows as the current one, if its change can be merged with the others.

    Args:
        view: the view, with the request.
        obj: the object, on its locked row.
        current: the tag of that state.
        conditions: of the request, whose If-Match names the state the client knows.
        using: the alias of the log.
    """
    if evaluate("PATCH", conditions, current) is not Verdict.MISMATCH:
        return None
    field, tag = version_field(type(obj)), columns.base_of(conditions)
    base = version_of(tag) if tag is not None else None
    if field is None or base is None:
        return None
    changed = columns.changed_columns(obj, base, getattr(obj, field.attname), using)
    if changed is None or not mergeable(view, obj, changed):
        return None
    write = encode_version(base)
    return Current(tag=EntityTag(f"{write}-0"), write=write, variant="0")


def mergeable(view: Any, obj: Model, changed: frozenset[str]) -> bool:
    """Return whether a PATCH touches no changed column, and the object is valid with both changes."""
    if type(view.request.data) is not dict:
        return False  # a form cannot say what it leaves out
    touched = _touched(view, obj)
    return touched is not None and touched.isdisjoint(changed) and _valid_as_a_whole(view, obj)


def _touched(view: Any, obj: Model) -> set[str] | None:
    """Return the columns of the submitted fields and of their groups; None when that cannot be said."""
    model, touched = type(obj), set[str]()
    for field in columns.submitted_fields(view, obj).values():
        if field is not None and field.read_only:
            continue
        column = columns.column_of(field, model)
        if column is None or "." in field.source or isinstance(field, BaseSerializer):
            return None  # what it writes to is known to nobody here
        touched.add(column)
    fields = columns.fields_of(view.get_serializer(obj))
    for group in view.field_groups:
        named = {name: fields[name].source if name in fields else name for name in group}
        together: set[Any] = {columns.column_named(n, model) for n in named.values()} - {None}
        if not touched.isdisjoint(together):
            touched |= together
    return touched


def _valid_as_a_whole(view: Any, obj: Model) -> bool:
    data = view.request.data
    part = view.get_serializer(obj, data=data, partial=True)
    if not part.is_valid():
        return True  # what is wrong with it alone is said as ever, with 400
    # Only checked and not saved: to write back what was only read could change it, as by stripping blanks.
    whole = view.get_serializer(obj, data={**dict(_others(part, obj)), **data}, partial=True)
    return bool(whole.is_valid())


def _others(serializer: Any, obj: Model) -> Iterator[tuple[str, Any]]:
    """Yield what the object has in the fields that were not submitted, as a client would send it."""
    for name, field in columns.fields_of(serializer).items():
        if field.read_only or field.write_only or isinstance(field, BaseSerializer):
            continue
        try:
            value = field.get_attribute(obj)
            value = None if value is None else field.to_representation(value)
            field.run_validation(value)
        except (ValidationError, SkipField):
            continue  # a file, for one, is not sent as it is shown
        yield name, value
