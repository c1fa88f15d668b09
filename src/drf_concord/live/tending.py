"""Pruning beside the hub: now and then, in the pool's threads, and never in the way of a reading."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from .. import pruning
from .pool import pool

__all__ = ["sweep", "tend"]

EVERY = 60.0
"""How often a hub prunes on average, in seconds."""
PAUSE = 0.1
"""How long it lets others write before it goes on, in seconds."""


async def tend(using: str) -> None:
    """Prune the log of a database now and then, until cancelled; writers of this process need not."""
    with pruning.tended(using):
        while True:
            # by half more or less: processes that were started together do not prune together
            await asyncio.sleep(EVERY * (0.5 + random.random()))  # noqa: S311
            await sweep(using)


async def sweep(using: str) -> None:
    """Delete what there is to delete, a part at a time; a thread of the pool is free in between."""
    more = True
    while more:
        more = await pool.run(partial(pruning.prune_quietly, using))
        await asyncio.sleep(PAUSE)
