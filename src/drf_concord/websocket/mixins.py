"""The actions of a consumer over a model."""

from __future__ import annotations

from typing import Any

from django.db import router
from rest_framework import exceptions

from .. import locks, writes
from .decorators import action
from .generics import GenericAsyncAPIConsumer

__all__ = [
    "CreateModelMixin",
    "DeleteModelMixin",
    "ListModelMixin",
    "PatchModelMixin",
    "RetrieveModelMixin",
    "UpdateModelMixin",
]


class ListModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "list"}`` is answered with all objects, 200."""

    @action()
    def list(self, **kwargs: Any) -> tuple[Any, int]:
        """List the objects."""
        queryset = self.filter_queryset(self.get_queryset(**kwargs), **kwargs)
        return self.get_serializer(queryset, many=True, action_kwargs=kwargs).data, 200


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
        user = self._seen(kwargs).user

        def perform() -> Any:
            serializer = self.get_serializer(data=_object(data), action_kwargs=kwargs)
            serializer.is_valid(raise_exception=True)
            self.perform_create(serializer, **kwargs)
            writes.settle(serializer.instance, using=using)
            return serializer.data

        actor = locks.actor_for(user if user.is_authenticated else None)
        return writes.create(actor, model=model, using=using, perform=perform), 201

    def perform_create(self, serializer: Any, /, **kwargs: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()


class UpdateModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "update", "pk": 2, "data": {}}``: the whole object is validated, 200."""

    @action()
    def update(self, data: Any = None, **kwargs: Any) -> tuple[Any, int]:
        """Replace an object."""
        return _save(self, data, kwargs, partial=False, save=self.perform_update), 200

    def perform_update(self, serializer: Any, /, **kwargs: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()


class PatchModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "patch", "pk": 2, "data": {}}`` changes what is given, 200."""

    @action()
    def patch(self, data: Any = None, **kwargs: Any) -> tuple[Any, int]:
        """Change an object in part."""
        return _save(self, data, kwargs, partial=True, save=self.perform_patch), 200

    def perform_patch(self, serializer: Any, /, **kwargs: Any) -> None:
        """Save; a hook."""
        serializer.save()


class DeleteModelMixin(GenericAsyncAPIConsumer):
    """``{"action": "delete", "pk": 4}`` is answered 204."""

    @action()
    def delete(self, **kwargs: Any) -> tuple[None, int]:
        """Delete an object."""
        self.guard("destroy", lambda obj: self.perform_delete(obj, **kwargs), kwargs)
        return None, 204

    def perform_delete(self, obj: Any, /, **kwargs: Any) -> None:
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
