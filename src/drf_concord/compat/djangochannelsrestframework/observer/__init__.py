"""Observers of models and signals."""

from __future__ import annotations

from ....websocket import observers
from . import model_observer as _module  # noqa: F401 - or its import would hide the decorator later

__all__ = ["model_observer", "observer"]

model_observer = observers.model_observer
observer = observers.observer
