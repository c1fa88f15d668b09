"""Consumers whose actions are methods, and views as consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...websocket.consumers import AsyncAPIConsumer as ConcordConsumer
from ...websocket.generics import GenericAsyncAPIConsumer as ConcordGenericConsumer
from ...websocket.viewed import DjangoViewAsConsumer, view_as_consumer
from .settings import api_settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

__all__ = [
    "APIConsumerMetaclass",
    "AsyncAPIConsumer",
    "DjangoViewAsConsumer",
    "GenericAsyncAPIConsumer",
    "view_as_consumer",
]


class AsyncAPIConsumer(ConcordConsumer):
    """A websocket whose actions are methods, with the settings and hooks of before."""

    channel_from_start = True

    def get_permissions(self, action: str, **kwargs: Any) -> Any:
        """Return the permissions that are asked about an action."""
        classes = api_settings.DEFAULT_PERMISSION_CLASSES
        if self.permission_classes is None and classes is not None:
            return [permission() for permission in classes]
        return super().get_permissions(action, **kwargs)

    async def connect(self) -> None:
        """Accept the socket, by way of ``websocket_connect()``."""
        await self.websocket_connect({"type": "websocket.connect"})

    async def disconnect(self, code: int | None) -> None:
        """Clean up, by way of ``websocket_disconnect()``."""
        await self.websocket_disconnect({"type": "websocket.disconnect", "code": code})

    async def websocket_connect(self, message: Any) -> None:
        """Accept the socket; a hook."""
        await super().connect()

    async def websocket_disconnect(self, message: Any) -> None:
        """Clean up when the socket has ended; a hook."""
        await super().disconnect(message["code"])

    async def send(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send a text as a frame.

        Raises:
            ValueError: there is none; frames are texts.
        """
        if text_data is None:
            raise ValueError("Give send() a text_data: frames of these consumers are texts.")
        self.socket.push(text_data)

    def detach(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Let something go on beside the requests of this socket."""
        task = super().detach(work, name)
        task.add_done_callback(self.handle_detached_task_completion)
        return task

    def handle_detached_task_completion(self, task: asyncio.Task[None]) -> None:
        """Look at a detached action that has ended; a hook. What it raised is answered and logged already."""


APIConsumerMetaclass = type(AsyncAPIConsumer)
"""For classes of a project that name it as their metaclass; there is nothing to it any more."""


class GenericAsyncAPIConsumer(AsyncAPIConsumer, ConcordGenericConsumer):
    """A consumer with a queryset and a serializer."""
