"""The actions of a consumer over a model."""

from __future__ import annotations

from typing import Any

from ...websocket import mixins
from ...websocket.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from .pagination import WebsocketLimitOffsetPagination
from .settings import api_settings

__all__ = [
    "CreateModelMixin",
    "DeleteModelMixin",
    "ListModelMixin",
    "PaginatedModelListMixin",
    "PatchModelMixin",
    "RetrieveModelMixin",
    "StreamedPaginatedListMixin",
    "UpdateModelMixin",
]


class _Pagination:
    """The class of the settings, read late; a consumer may put its own in this place."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return api_settings.DEFAULT_PAGINATION_CLASS or WebsocketLimitOffsetPagination


class PaginatedModelListMixin(mixins.PaginatedModelListMixin):
    """``{"action": "list", "limit": 10, "offset": 20}`` is answered with a page of objects."""

    pagination_class: Any = _Pagination()


class StreamedPaginatedListMixin(mixins.StreamedPaginatedListMixin, PaginatedModelListMixin):
    """``{"action": "list"}`` is answered with page after page."""
