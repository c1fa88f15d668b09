"""The actions of a consumer over a model."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from django.db import router
from rest_framework import exceptions

from .. import locks, writes
from ..live.pool import pool
from .decorators import action
from .doing import at
from .generics import GenericAsyncAPIConsumer
from .pagination import WebsocketLimitOffsetPagination
from .replies import without

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

PATIENCE = 60.0
"""How long a stream waits for a socket to take a page, in seconds; the socket's own limit comes then."""


class ListModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "list"}`` is answered with all objects, 200."""

    @action()
    def list(self, **kwargs: Any) -> tuple[Any, int]:
        """List the objects."""
        queryset = self.filter_queryset(self.get_queryset(**kwargs), **kwargs)
        page = self.paginate_queryset(queryset, **kwargs)
        if page is None:
            return self.get_serializer(queryset, many=True, action_kwargs=kwargs).data, 200
        data = self.get_serializer(page, many=True, action_kwargs=kwargs).data
        return self.get_paginated_response(data), 200


class PaginatedModelListMixin(ListModelMixin):
    """``{"action": "list", "limit": 10, "offset": 20}`` is answered with a page of objects, 200.

    ``pagination_class`` may be one of DRF's, whose query parameters stand in ``query``.
    """

    pagination_class: Any = WebsocketLimitOffsetPagination


class StreamedPaginatedListMixin(PaginatedModelListMixin):
    """``{"action": "list"}`` is answered with page after page, each a reply to it, 200, until all are sent.

    ``{"action": "list_cancel"}`` stops what is being sent, 204. The next page waits until the socket has
    taken the last one.
    """

    sleep_time_between_pages: float = 0

    @action(detached=True)
    async def list(self, request_id: Any = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Send the objects, page after page."""
        limit, offset, count = kwargs.pop("limit", None), kwargs.pop("offset", None), None
        while count is None or offset < count:
            if count is not None:
                await self.refresh_caller()
                with at(self, "list", kwargs):  # a request of its own: the first one knows its user
                    await self.check_permissions("list", **without(kwargs, "action"))
            frame = {**kwargs, "limit": limit, "offset": offset}
            page = await pool.run(partial(self._page, {k: v for k, v in frame.items() if v is not None}))
            await self.reply("list", data=page, request_id=request_id)
            count, limit = page["count"], page["limit"]
            offset = page["offset"] + limit
            await self.socket.outlet.flushed(PATIENCE)
            await asyncio.sleep(self.sleep_time_between_pages)

    def _page(self, kwargs: dict[str, Any]) -> Any:
        with at(self, "list", kwargs) as now:
            now.request = self.request_for("list", kwargs)
            return super().list(**kwargs)[0]

    @action()
    async def list_cancel(self, **kwargs: Any) -> tuple[None, int]:
        """Stop sending pages."""
        for task in self.detached_of("list"):
            task.cancel()
        return None, 204


class RetrieveModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "retrieve", "pk": 2}`` is answered with the object, 200."""

    @action()
    def retrieve(self, **kwargs: Any) -> tuple[Any, int]:
        """Show an object."""
        return self.get_serializer(self.get_object(**kwargs), action_kwargs=kwargs).data, 200


class CreateModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "create", "data": {}}`` is answered with the new object, 201."""

    @action()
    def create(self, data: Any = None, **kwargs: Any) -> tuple[Any, int]:
        """Create an object."""
        model = self.get_queryset(**kwargs).model
        using = router.db_for_write(model)
        user = self.request.user

        def perform() -> Any:
            serializer = self.get_serializer(data=_object(data), action_kwargs=kwargs)
            serializer.is_valid(raise_exception=True)
            self.perform_create(serializer, **kwargs)
            writes.settle(serializer.instance, using=using)
            return serializer.data

        actor = locks.actor_for(user if user.is_authenticated else None)
        return writes.create(actor, model=model, using=using, perform=perform), 201

    def perform_create(self, serializer: Any, **kwargs: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()


class UpdateModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "update", "pk": 2, "data": {}}``: the whole object is validated, 200."""

    @action()
    def update(self, data: Any = None, **kwargs: Any) -> tuple[Any, int]:
        """Replace an object."""
        return _save(self, data, kwargs, partial=False, save=self.perform_update), 200

    def perform_update(self, serializer: Any, **kwargs: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()


class PatchModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "patch", "pk": 2, "data": {}}`` changes what is given, 200."""

    @action()
    def patch(self, data: Any = None, **kwargs: Any) -> tuple[Any, int]:
        """Change an object in part."""
        return _save(self, data, kwargs, partial=True, save=self.perform_patch), 200

    def perform_patch(self, serializer: Any, **kwargs: Any) -> None:
        """Save; a hook."""
        serializer.save()


class DeleteModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "delete", "pk": 4}`` is answered 204."""

    @action()
    def delete(self, **kwargs: Any) -> tuple[None, int]:
        """Delete an object."""
        self.guard("destroy", lambda obj: self.perform_delete(obj, **kwargs), kwargs)
        return None, 204

    def perform_delete(self, obj: Any, **kwargs: Any) -> None:
        """Delete; a hook."""
        obj.delete()


def _save(
    consumer: GenericAsyncAPIConsumer, data: Any, kwargs: dict[str, Any], *, partial: bool, save: Any
) -> Any:
    def perform(obj: Any) -> Any:
        before = obj.__dict__.get("version")
        serializer = consumer.get_serializer(obj, data=_object(data), partial=partial, action_kwargs=kwargs)
        serializer.is_valid(raise_exception=True)
        save(serializer, **kwargs)
        if getattr(obj, "_prefetched_objects_cache", None):
            obj._prefetched_objects_cache = {}
        writes.settle(serializer.instance, using=obj._state.db, before=before)
        return serializer.data

    return consumer.guard("update", perform, kwargs)


def _object(data: Any) -> Any:
    if not isinstance(data, dict):
        raise exceptions.ValidationError({"data": ["The member data is an object."]})
    return data
