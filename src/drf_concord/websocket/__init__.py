"""The websocket door: the same views, the same gate, and what changes pushed."""

from __future__ import annotations

from .consumers import AsyncAPIConsumer
from .decorators import action
from .draining import drain, lifespan
from .generics import GenericAsyncAPIConsumer
from .instances import ObserverModelInstanceMixin
from .observers import Action, model_observer, observer
from .router import RealtimeRouter
from .viewed import view_as_consumer

__all__ = [
    "Action",
    "AsyncAPIConsumer",
    "GenericAsyncAPIConsumer",
    "ObserverModelInstanceMixin",
    "RealtimeRouter",
    "action",
    "drain",
    "lifespan",
    "model_observer",
    "observer",
    "view_as_consumer",
]
