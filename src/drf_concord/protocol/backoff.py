"""How long to wait before trying again, so that many who lost the same server do not come back at once.

Full jitter: the wait is drawn evenly from nothing up to a bound that doubles with each failure. It spreads
the load as wide as it can be spread, where a fixed part in the wait would bring everybody back in waves.
"""

from __future__ import annotations

from typing import Final

__all__ = ["delay", "spread"]

_DOUBLINGS: Final = 64
"""More than any cap needs; without a bound a long outage would end in a number too large for a float."""


def delay(attempt: int, jitter: float, *, base: float = 0.5, cap: float = 30.0) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Args:
        attempt: how many attempts have failed in a row before this one; 0 after the first failure.
        jitter: a random number in [0, 1), another one each time.
        base: the bound of the first wait, in seconds.
        cap: the bound that no wait exceeds, in seconds.
    """
    return jitter * min(cap, base * 2.0 ** min(attempt, _DOUBLINGS))


def spread(
    place: int, among: int, jitter: float, *, each: float = 0.01, least: float = 1.0, most: float = 60.0
) -> float:
    """Return after how many seconds one of many who are sent away together may come back.

    Everybody has a slot of their own: drawn by lot, some moments would get several times their share.

    Args:
        place: of this one, from 0.
        among: how many there are.
        jitter: a random number in [0, 1), another one each time: other servers may stop at the same time.
        each: how long a slot is, in seconds.
        least: the time in which all come back is no shorter than this.
        most: and no longer than this.
    """
    return (place + jitter) / among * min(most, max(least, among * each))
