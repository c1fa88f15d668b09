"""The decorator of actions."""

from __future__ import annotations

from ...websocket.decorators import action

__all__ = ["action"]
