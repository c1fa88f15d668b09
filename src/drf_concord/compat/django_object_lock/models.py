"""The model that says itself when it is locked."""

from __future__ import annotations

from ...models import LockableModel

__all__ = ["LockableModel"]
