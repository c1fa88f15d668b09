"""Hints over any Channels layer: the project's own way between its processes, channels-redis as a rule."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from .base import Outage
from .remote import TIMEOUT, RemoteTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GROUP", "ChannelLayer"]

logger = logging.getLogger("drf_concord")

GROUP: Final = "drf_concord.hints"
"""The group of all listeners. One for all aliases: two projects may call the same database differently."""

MESSAGE: Final = {"type": "drf_concord.hint"}

REFRESH: Final = 60.0
"""How often a listener joins the group again, in seconds: a membership ends by itself (after a day by
default, whatever is said about it), and with the memory of a Redis that is started anew."""

LEAVE_TIMEOUT: Final = 1.0
"""How long a listener that is cancelled may take to leave the group, in seconds."""


class ChannelLayer(RemoteTransport):
    """Wakes up every process that shares the default channel layer."""

    name: ClassVar[str] = "channel_layer"

    def available(self) -> bool:
        """Return whether there is a default layer that reaches other processes."""
        layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
        return _reaches_others(layers.get("default", {}).get("BACKEND"))

    @contextmanager
    def sending(self) -> Iterator[Callable[[], None]]:
        """Give what sends to the group, on an event loop of this thread."""
        layer = _layer()
        with asyncio.Runner() as runner:

            async def send() -> None:
                async with asyncio.timeout(TIMEOUT):
                    await layer.group_send(GROUP, MESSAGE)

            yield lambda: runner.run(send())

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` for every message to the group, and whenever the group was joined."""
        outage = Outage(f"Listening for hints over {self.name}")
        layer: Any = None
        channel: str | None = None
        try:
            while True:
                try:
                    # kept over outages: each new layer hangs itself into the closing of the event loop
                    layer = layer or _layer()
                    channel = channel or await _within(TIMEOUT, layer.new_channel())
                    await self._hear(layer, channel, wake, outage)
                except Exception as error:
                    await asyncio.sleep(outage.failed(error))
        finally:
            await _leave(layer, channel)

    async def _hear(self, layer: Any, channel: str, wake: Callable[[], None], outage: Outage) -> None:
        await _within(TIMEOUT, layer.group_add(GROUP, channel))
        outage.connected()
        wake()
        while True:
            receiving = asyncio.ensure_future(layer.receive(channel))
            receiving.add_done_callback(_look)
            try:
                # not cancelled for the refresh: a layer takes that for the end of the channel
                while not (await asyncio.wait([receiving], timeout=REFRESH))[0]:
                    await _within(TIMEOUT, layer.group_add(GROUP, channel))
                    outage.over()
                receiving.result()
            finally:
                receiving.cancel()
                await asyncio.wait([receiving], timeout=LEAVE_TIMEOUT)
            outage.over()
            wake()


def _layer() -> Any:
    """Return a layer of our own: one that is shared can be listened to from one event loop only."""
    from channels.layers import channel_layers

    return channel_layers.make_backend("default")


def _look(done: asyncio.Future[Any]) -> None:
    """Look at how it ended: asyncio complains of errors that nobody looked at."""
    if not done.cancelled():
        done.exception()


async def _within(seconds: float, answer: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await answer


async def _leave(layer: Any, channel: str | None) -> None:
    if channel is None:
        return
    with suppress(Exception):  # it is over anyway; the membership ends by itself
        await _within(LEAVE_TIMEOUT, layer.group_discard(GROUP, channel))
    with suppress(Exception):  # only channels-redis has this; others close with the event loop
        await _within(LEAVE_TIMEOUT, layer.close_pools())


@cache
def _reaches_others(backend: str | None) -> bool:
    if not backend:
        return False
    try:
        from channels.layers import InMemoryChannelLayer

        return not issubclass(import_string(backend), InMemoryChannelLayer)
    except Exception as error:
        logger.warning("No hints over the channel layer %s: %s", backend, error)
        return False
