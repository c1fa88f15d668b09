"""Reading the log for both doors: who is told what, and when."""

from __future__ import annotations

from .invalidation import invalidate
from .mixins import RealtimeMixin

__all__ = ["RealtimeMixin", "invalidate"]
