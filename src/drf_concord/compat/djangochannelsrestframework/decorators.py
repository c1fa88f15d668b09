"""The decorator of actions, and that of coroutines which an action does not wait for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ...websocket.decorators import action

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["action", "detached"]


def detached(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Let calls of an asynchronous method go on beside the caller, and end with the socket at the latest."""

    @functools.wraps(method)
    async def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        self.detach(method(self, *args, **kwargs), method.__name__)

    return begin
