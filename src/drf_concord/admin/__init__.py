"""The Django admin held to the locks of objects."""

from __future__ import annotations

from .guards import GuardedAdminMixin
from .lockable import LockableAdminMixin

__all__ = ["GuardedAdminMixin", "LockableAdminMixin"]
