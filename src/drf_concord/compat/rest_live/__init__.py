"""The paths of django-rest-live."""

from __future__ import annotations

__all__ = ["CREATED", "DEFAULT_GROUP_BY_FIELD", "DELETED", "UPDATED", "get_group_name"]

CREATED = "CREATED"
UPDATED = "UPDATED"
DELETED = "DELETED"
DEFAULT_GROUP_BY_FIELD = "pk"


def get_group_name(model_label: str) -> str:
    """Return the name that a model's group had; nothing is sent to it."""
    return f"RESOURCE-{model_label}"
