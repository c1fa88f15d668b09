"""The socket by which a benchmark tells the server what to do."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connection

from . import commits, views

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Control"]

PAGE = 4096


class Control:
    """An ASGI application: one JSON object in, one out."""

    def __init__(self, send_raw: Callable[[int, float | None], Awaitable[float]]) -> None:
        self._send_raw = send_raw
        self._profile: cProfile.Profile | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do what is asked, one thing after the other."""
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            asked = json.loads(event["text"])
            answer = await getattr(self, asked.pop("do"))(**asked)
            await send({"type": "websocket.send", "text": json.dumps(answer)})

    async def raw(self, count: int, rate: float | None = None) -> float:
        """Send to the raw sockets."""
        return await self._send_raw(count, rate)

    async def burst(self, model: str, keys: list[int], first: int) -> dict[str, float]:
        """Save some rows, each in a transaction of its own; returns when it began and ended."""
        return await sync_to_async(_burst, thread_sensitive=False)(model, keys, first)

    async def commits(self) -> list[tuple[int, float]]:
        """Return when the writes over HTTP were committed."""
        return commits.noted()

    async def asked(self) -> int:
        """Return how often the private view was asked for its queryset since the last time."""
        count, views.PrivateViewSet.asked = views.PrivateViewSet.asked, 0
        return count

    async def memory(self) -> int:
        """Return the resident size of this process, in bytes."""
        await asyncio.sleep(0.3)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE  # noqa: ASYNC240

    async def profile(self, path: str | None = None) -> None:
        """Begin to profile the event loop, or write down what was found."""
        if self._profile is None:
            self._profile = cProfile.Profile()
            self._profile.enable()
        else:
            self._profile.disable()
            self._profile.dump_stats(str(path))
            self._profile = None


def _burst(model: str, keys: list[int], first: int) -> dict[str, float]:
    known = {row.pk: row for row in apps.get_model("sockets", model).objects.filter(pk__in=keys)}
    begin = time.monotonic()
    for number, key in enumerate(keys, first):
        known[key].text = commits.text_of(number)
        known[key].save()
    end = time.monotonic()
    connection.close()
    return {"begin": begin, "end": end}
