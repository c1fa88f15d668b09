"""Consumers over a model."""

from __future__ import annotations

from .consumers import GenericAsyncAPIConsumer

__all__ = ["GenericAsyncAPIConsumer"]
