"""The websocket door: the same views, the same gate, and what changes pushed."""

from __future__ import annotations

from .draining import drain, lifespan
from .router import RealtimeRouter

__all__ = ["RealtimeRouter", "drain", "lifespan"]
