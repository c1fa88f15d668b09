"""The server of the live part: everything that is compared in one ASGI application, each under a path.

Run as a process of its own with the number of a socket that is bound.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import django
import uvicorn

from ..databases import pooled

pooled()
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import AnonymousUser, User  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402

from drf_concord.websocket import RealtimeRouter  # noqa: E402

from . import commits, views  # noqa: E402
from .control import Control  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["serve"]

RAW: set[Any] = set()
FRAME = (
    '{"type":"broadcast","request_id":1337,"model":"sockets.Live","action":"UPDATED","instance":'
    '{"id":100,"text":"%s","board":1,"owner":null}}'
)


async def raw(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Accept a socket that gets nothing but what the loop sends it."""
    await receive()
    await send({"type": "websocket.accept"})
    RAW.add(send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    RAW.discard(send)


async def send_raw(count: int, rate: float | None = None) -> float:
    """Send some frames to every raw socket: the limit of the server.

    Args:
        count: how many frames each socket gets.
        rate: how many times a second they go out; None for as fast as can be.

    Returns:
        When it began.
    """
    begin = time.monotonic()
    for number in range(count):
        text = commits.text_of(number)
        if rate is not None:
            await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
            commits.note(text)
        message = {"type": "websocket.send", "text": FRAME % text}
        for send in list(RAW):
            await send(message)
        await asyncio.sleep(0)
    return begin


class Identified:
    """Puts the user that the query string names into the scope, alike for all that are compared."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Find the user, then go on."""
        pk = parse_qs(scope["query_string"].decode()).get("user", [None])[0]
        user = AnonymousUser() if pk is None else await sync_to_async(User.objects.get)(pk=pk)
        await self.application({**scope, "user": user}, receive, send)


def application() -> Any:
    """Return the ASGI application."""
    http = get_asgi_application()
    public, private = RealtimeRouter(), RealtimeRouter()
    public.register(views.LiveViewSet)
    private.register(views.PrivateViewSet)
    from rest_live.routers import RealtimeRouter as RankedRouter

    ranked, private_ranked = RankedRouter(), RankedRouter(uid="private")
    ranked.register(views.RankedViewSet)
    private_ranked.register(views.PrivateRankedViewSet)
    sockets = {
        "/raw/": raw,
        "/control/": Control(send_raw),
        "/live/": public.consumer,
        "/private/": Identified(private.consumer),
        "/observed/": views.ObservedConsumer.as_asgi(),
        "/ranked/": ranked.as_consumer().as_asgi(),
        "/private-ranked/": Identified(private_ranked.as_consumer().as_asgi()),
    }

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await http(scope, receive, send)
        elif scope["type"] == "websocket":
            await sockets[scope["path"]](scope, receive, send)

    return serve


def serve(listening: socket.socket) -> None:
    """Serve until the process is ended."""
    config = uvicorn.Config(
        application(),
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # nobody's measure, and an idle client need not answer it
        proxy_headers=False,
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    gc.collect()
    gc.freeze()  # what is there from the beginning is nobody's garbage
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    # django-rest-live prints a line for every subscription
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    serve(socket.socket(fileno=int(sys.argv[1])))
