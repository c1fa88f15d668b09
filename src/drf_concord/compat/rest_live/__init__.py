"""The paths of django-rest-live."""

from __future__ import annotations

__all__ = ["CREATED", "DELETED", "UPDATED"]

CREATED = "CREATED"
UPDATED = "UPDATED"
DELETED = "DELETED"
