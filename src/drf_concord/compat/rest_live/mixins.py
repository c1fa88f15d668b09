"""The mixin of views that can be followed."""

from __future__ import annotations

from ...live import RealtimeMixin

__all__ = ["RealtimeMixin"]
