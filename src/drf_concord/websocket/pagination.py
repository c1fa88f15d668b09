"""Pages of a list, asked for in the frame."""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.response import Response
from rest_framework.settings import api_settings

from ..conf import settings

__all__ = ["WebsocketLimitOffsetPagination"]

PAGE_SIZE = 25
"""How many objects a page has where neither the frame nor ``PAGE_SIZE`` of REST framework says."""


class WebsocketLimitOffsetPagination(LimitOffsetPagination):
    """``limit`` and ``offset`` as members of the frame; the answer is ``{count, results, limit, offset}``."""

    default_limit: Any = None

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any]:
        """Return a page.

        Raises:
            ValidationError: a member is no whole number from 0 on, or the limit is 0.
        """
        asked = getattr(view, "frame", {})
        default = self.default_limit or api_settings.PAGE_SIZE or PAGE_SIZE
        self.limit = min(_whole(asked, "limit", default, least=1), self.max_limit or settings.MAX_LIST)
        self.offset = _whole(asked, "offset", 0, least=0)
        self.count = self.get_count(queryset)
        self.request = request
        return list(queryset[self.offset : self.offset + self.limit])

    def get_paginated_response(self, data: Any) -> Response:
        """Return the answer with a page."""
        return Response({"count": self.count, "results": data, "limit": self.limit, "offset": self.offset})


def _whole(frame: Any, name: str, default: int, *, least: int) -> int:
    value = frame.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise exceptions.ValidationError({name: [f"Has to be a whole number from {least} on."]})
    return value
