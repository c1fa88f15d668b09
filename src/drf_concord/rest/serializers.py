"""Serializer fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from ..fields import version_field
from ..protocol.etags import version_tag

if TYPE_CHECKING:
    from django.db.models import Model

__all__ = ["ETagField"]


class ETagField(serializers.Field):  # type: ignore[type-arg]
    """The entity tag of an object in its own body, for ``If-Match``: lists carry one per row this way."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["source"] = "*"
        kwargs["read_only"] = True
        super().__init__(**kwargs)

    def to_representation(self, value: Model) -> str | None:
        """Return the tag; None for a model without a version column."""
        field = version_field(type(value))
        if field is None:
            return None
        return str(version_tag(getattr(value, field.attname), "0"))
