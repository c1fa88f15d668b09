"""A pagination class that is named in the settings."""

from __future__ import annotations

from drf_concord.compat.djangochannelsrestframework.pagination import WebsocketLimitOffsetPagination

__all__ = ["Two"]


class Two(WebsocketLimitOffsetPagination):
    """Two objects a page."""

    default_limit = 2
