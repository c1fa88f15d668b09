"""The mixins of the HTTP door: what DRF's do, with every write passing the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError as InvalidValue
from django.db import DataError, router
from django.db.models import Model
from rest_framework import status
from rest_framework.exceptions import UnsupportedMediaType, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings

from .. import writes
from ..protocol.errors import AlreadyExists, Conflict, VersionMismatch
from ..protocol.preconditions import Verdict, evaluate
from . import responses, tags
from .feed import FeedMixin
from .guards import ConditionalMixin, GuardedMixin
from .lockable import (
    LockableDestroyModelMixin,
    LockableMixin,
    LockableUpdateModelMixin,
    lock_action,
    unlock_action,
)
from .merge import PREFERENCE

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

__all__ = [
    "ConditionalMixin",
    "CreateModelMixin",
    "DestroyModelMixin",
    "GuardedMixin",
    "ListModelMixin",
    "LockableDestroyModelMixin",
    "LockableMixin",
    "LockableUpdateModelMixin",
    "RetrieveModelMixin",
    "UpdateModelMixin",
    "lock_action",
    "unlock_action",
]


def _model_of(serializer: Any) -> Any:
    meta = getattr(getattr(serializer, "child", serializer), "Meta", None)
    return getattr(meta, "model", None)


class CreateModelMixin(GuardedMixin):
    """Create an object; ``If-None-Match: *`` only where there is none of its key."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Validate and save a new object, in one transaction that says who did it."""
        unreadable = self._read_body()
        if isinstance(unreadable, UnsupportedMediaType):
            raise unreadable
        conditions = self.preconditions()
        if evaluate("POST", conditions, None) is Verdict.MISMATCH:
            raise VersionMismatch("There is no object yet for If-Match to match. Leave the header out.")
        if unreadable is not None:
            raise unreadable
        model = _model_of(self.get_serializer(data=request.data)) or self.get_queryset().model
        using = router.db_for_write(model)
        created: list[Any] = []

        def perform() -> Response:
            serializer = self.get_serializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            self.perform_create(serializer)
            made = serializer.instance
            for obj in made if isinstance(made, list) else [made]:
                if isinstance(obj, Model):
                    writes.settle(obj, using=using)
            created.append(made)
            headers = self.get_success_headers(serializer.data)
            return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)

        try:
            response: Response = writes.create(self.actor(), model=model, using=using, perform=perform)
        except (ValidationError, Conflict):
            absent = conditions.if_none_match is not None and conditions.if_none_match.any
            if absent and self._exists(request.data):
                raise AlreadyExists from None
            raise
        return self.tagged(response, created[-1])

    def _exists(self, data: Any) -> bool:
        """Return whether the caller can see an object under the key that was sent."""
        queryset = self.filter_queryset(self.get_queryset())
        name = self.lookup_field
        if name == "pk":
            name = queryset.model._meta.pk.name
        value = data.get(name) if hasattr(data, "get") else None
        try:
            return value is not None and bool(queryset.filter(**{name: value}).exists())
        except (TypeError, ValueError, InvalidValue, DataError):
            return False

    def perform_create(self, serializer: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Return the ``Location`` where the representation names it."""
        try:
            return {"Location": str(data[api_settings.URL_FIELD_NAME])}
        except (TypeError, KeyError):
            return {}


class RetrieveModelMixin(GuardedMixin):
    """Show an object with its tag; 304 before it is serialized where the row tells everything."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer 200, 304 or, to an ``If-Match`` that does not match, 412."""
        obj = self.get_object()
        conditions = self.preconditions()
        source = tags.source_of(self, obj)
        variant = tags.flat_variant(self, request)
        if variant is not None or source.whole:
            current = source.current(variant or "")
            verdict = evaluate(request.method or "", conditions, current)
            if verdict is Verdict.NOT_MODIFIED:
                return responses.not_modified(request, current.tag, source.shown)
            if verdict is Verdict.MISMATCH:
                raise VersionMismatch(current_etag=str(current.tag))
        response = Response(self.get_serializer(obj).data)
        responses.stamp(response, request, source, variant, conditions)
        return response


class ListModelMixin(FeedMixin, GuardedMixin):
    """List objects with a weak tag of the page, 304 where the client has that page, and news of them."""

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer a page, or all."""
        queryset = self.filter_queryset(self.get_queryset())
        page = self.paginate_queryset(queryset)
        conditions = self.preconditions()
        if page is not None:
            response = self.get_paginated_response(self.get_serializer(page, many=True).data)
        else:
            response = Response(self.get_serializer(queryset, many=True).data)
        responses.stamp_list(response, request, conditions)
        return response


class UpdateModelMixin(GuardedMixin):
    """Update an object whole or in part, on the row as it is when it is locked."""

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer 200 with the object and its new tag."""
        partial = kwargs.pop("partial", False)
        saved: list[Any] = []

        def perform(obj: Any) -> Response:
            before = obj.__dict__.get("version")
            serializer = self.get_serializer(obj, data=request.data, partial=partial)
            serializer.is_valid(raise_exception=True)
            self.perform_update(serializer)
            if getattr(obj, "_prefetched_objects_cache", None):
                obj._prefetched_objects_cache = {}
            saved.append(serializer.instance)
            writes.settle(serializer.instance, using=obj._state.db, before=before)
            if self._merged:
                headers = {"Preference-Applied": PREFERENCE}
                return Response({**serializer.data, "merged": True}, headers=headers)
            return Response(serializer.data)

        response = self.guard("update", perform)
        if request.method == "PUT":
            # The body is the new representation, so it may carry validators (RFC 9110 sections 8.7, 9.3.4).
            response["Content-Location"] = request.get_full_path()
        return self.tagged(response, saved[-1], represents=not self._merged)

    def perform_update(self, serializer: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Update in part."""
        kwargs["partial"] = True
        return self.update(request, *args, **kwargs)


class DestroyModelMixin(GuardedMixin):
    """Delete an object that is as the caller thinks it is."""

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer 204."""

        def perform(obj: Any) -> Response:
            self.perform_destroy(obj)
            return Response(status=status.HTTP_204_NO_CONTENT)

        return self.guard("destroy", perform)

    def perform_destroy(self, instance: Model) -> None:
        """Delete; a hook as in DRF."""
        instance.delete()
