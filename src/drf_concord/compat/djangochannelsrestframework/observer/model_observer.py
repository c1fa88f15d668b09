"""The observer of a model, and what it tells of."""

from __future__ import annotations

from ....websocket.observers import Action, ModelObserver

__all__ = ["Action", "ModelObserver", "UnsupportedWarning"]


class UnsupportedWarning(Warning):
    """Nothing here warns so; for the filters of projects."""
