"""What a view and an admin say of locks."""

from __future__ import annotations

from ...locks import LockableMixin

__all__ = ["LockableMixin"]
