"""What a writer pays for a hint."""

from __future__ import annotations

import time

from drf_concord.transports import Transport

__all__ = ["cost"]


def cost(transport: Transport, times: int = 500) -> float:
    """Return how long one announcement takes on the average, in seconds."""
    transport.announce()
    begin = time.perf_counter()
    for _ in range(times):
        transport.announce()
    return (time.perf_counter() - begin) / times
