"""What a router is mounted as; and the router, where other releases had it."""

from __future__ import annotations

from .routers import RealtimeRouter, SubscriptionConsumer

__all__ = ["RealtimeRouter", "SubscriptionConsumer"]
