"""Consumers over a model."""

from __future__ import annotations

from ...websocket.generics import GenericAsyncAPIConsumer as ConcordGenericConsumer
from .consumers import AsyncAPIConsumer

__all__ = ["GenericAsyncAPIConsumer"]


class GenericAsyncAPIConsumer(AsyncAPIConsumer, ConcordGenericConsumer):
    """A consumer with a queryset and a serializer."""
