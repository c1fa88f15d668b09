"""Following single objects."""

from __future__ import annotations

from ....websocket.instances import ObserverModelInstanceMixin

__all__ = ["ObserverModelInstanceMixin"]
