"""The groups of a Channels layer that one socket is in."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from ..protocol.backoff import delay

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUPS", "Groups"]

logger = logging.getLogger("drf_concord")

GROUPS = 100
"""How many groups one socket may be in."""
PATIENCE = 1.0
"""How long leaving a group may take when the socket has ended, in seconds: the membership expires anyway."""


class Groups:
    """Listens to the layer from the first group on, for a socket that is in one.

    Args:
        take: is handed each message.
        alias: of the layer in ``CHANNEL_LAYERS``.
    """

    def __init__(self, take: Callable[[dict[str, Any]], None], alias: str) -> None:
        self.names: set[str] = set()
        self.channel: str | None = None
        self._take = take
        self._alias = alias
        self._listening: asyncio.Task[None] | None = None

    @property
    def layer(self) -> Any:
        """The layer, or None where the project has none."""
        try:
            from channels.layers import get_channel_layer
        except ImportError:
            return None
        return get_channel_layer(self._alias)

    async def add(self, name: str) -> None:
        """Join a group.

        Raises:
            ImproperlyConfigured: there is no layer, or the socket is in too many groups.
        """
        layer = self.layer
        if layer is None:
            raise ImproperlyConfigured("Groups need a Channels layer: name one in CHANNEL_LAYERS.")
        if name in self.names:
            return
        if len(self.names) >= GROUPS:
            raise ImproperlyConfigured(f"A socket may be in {GROUPS} groups of the Channels layer.")
        channel = await self.open()
        await layer.group_add(name, channel)
        self.names.add(name)

    async def open(self) -> str:
        """Listen to the layer, and return the name of the socket in it."""
        if self.channel is None:
            layer = self.layer
            self.channel = await layer.new_channel()
            self._listening = asyncio.create_task(self._listen(layer, self.channel))
        return self.channel

    async def remove(self, name: str) -> None:
        """Leave a group; one that it is not in is none to leave."""
        if name in self.names:
            self.names.discard(name)
            await self.layer.group_discard(name, self.channel)

    async def leave(self) -> None:
        """Leave all groups, and listen no more."""
        if self._listening is None:
            return
        self._listening.cancel()
        names, self.names = self.names, set()
        with suppress(Exception):
            async with asyncio.timeout(PATIENCE):
                for name in names:
                    await self.layer.group_discard(name, self.channel)

    async def _listen(self, layer: Any, channel: str) -> None:
        failures = 0
        while True:
            try:
                if failures:  # the layer may have forgotten
                    for name in tuple(self.names):
                        await layer.group_add(name, channel)
                message = await layer.receive(channel)
                failures = 0
                self._take(message)
            except Exception as error:
                if not failures:
                    logger.info("The Channels layer fails (%s): messages of groups may be lost.", error)
                await asyncio.sleep(delay(failures, random.random()))  # noqa: S311
                failures += 1
