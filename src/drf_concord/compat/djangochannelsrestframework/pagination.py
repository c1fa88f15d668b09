"""Pages of a list."""

from __future__ import annotations

from typing import Any

from ...websocket import pagination
from .settings import api_settings

__all__ = ["WebsocketLimitOffsetPagination"]


class _PageSize:
    """The size of the settings, read late; a class may put its own in this place."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return api_settings.PAGE_SIZE


class WebsocketLimitOffsetPagination(pagination.WebsocketLimitOffsetPagination):
    """``limit`` and ``offset`` as members of the frame."""

    default_limit: Any = _PageSize()
