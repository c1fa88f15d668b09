"""Following single objects."""

from __future__ import annotations

from ....websocket.instances import ObserverModelInstanceMixin
from ..decorators import action

__all__ = ["ObserverConsumerMixin", "ObserverModelInstanceMixin", "action"]


class ObserverConsumerMixin:
    """Observers need nothing of a consumer; for classes that name it among their bases."""
