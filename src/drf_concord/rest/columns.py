"""From tags and fields to columns: what changed since a state, and what a request touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import changes
from ..protocol.etags import version_of

if TYPE_CHECKING:
    from django.db import models
    from rest_framework.serializers import BaseSerializer

    from ..protocol.etags import EntityTag
    from ..protocol.preconditions import Preconditions

__all__ = [
    "base_of",
    "changed_columns",
    "column_named",
    "column_of",
    "fields_of",
    "submitted_fields",
]


def base_of(conditions: Preconditions) -> EntityTag | None:
    """Return the newest state the client says it knows."""
    given = conditions.if_match.tags if conditions.if_match is not None else ()
    return max(given, key=lambda tag: version_of(tag) or 0, default=None)


def changed_columns(obj: models.Model, base: int | None, version: int, using: str) -> frozenset[str] | None:
    """Return what changed between two versions of an object; None when the log does not cover the way."""
    if base is None or base >= version:
        return None
    return changes.changed_since(type(obj), obj.pk, base, version, using=using)


def fields_of(serializer: BaseSerializer[Any]) -> dict[str, Any]:
    """Return the fields of a serializer by name; none of one that has no fields."""
    return getattr(serializer, "fields", {})


def submitted_fields(view: Any, obj: models.Model) -> dict[str, Any]:
    """Return the fields that the request's body names, those of the serializer that would read it.

    A name that is no field stands for None.
    """
    data = view.request.data
    names = list(data) if hasattr(data, "keys") else []
    known = fields_of(view.get_serializer(obj)) if names else {}
    return {name: known.get(name) for name in names}


def column_of(field: Any, model: type[models.Model]) -> str | None:
    """Return the name under which the log has what a serializer field shows; None for what is computed."""
    return column_named(field.source.split(".")[0], model) if field is not None else None


def column_named(name: str, model: type[models.Model]) -> str | None:
    """Return the name under which the log has an attribute of a model; None where it has none.

    That is the column, and for many-to-many and reverse relations the name of the relation.
    """
    for column in model._meta.concrete_fields:
        if name in {column.name, column.attname}:
            return column.column
    related: set[Any] = {*model._meta.many_to_many, *model._meta.related_objects}
    names = {f.get_accessor_name() if f.auto_created else f.name for f in related}
    return name if name in names else None
