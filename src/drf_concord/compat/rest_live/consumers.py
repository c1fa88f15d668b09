"""The router, where other releases had it."""

from __future__ import annotations

from .routers import RealtimeRouter

__all__ = ["RealtimeRouter"]
