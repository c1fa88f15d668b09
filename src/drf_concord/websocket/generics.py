"""Consumers over a model, used like a ``GenericAPIView``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.settings import api_settings

from .. import locks, writes
from ..fields import version_field
from ..protocol.errors import AlreadyExists, ObjectLocked, VersionMismatch
from ..protocol.etags import EntityTag, encode_version
from ..protocol.preconditions import Current, Preconditions
from .consumers import AsyncAPIConsumer
from .permissions import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import rows

__all__ = ["GenericAsyncAPIConsumer"]


class GenericAsyncAPIConsumer(AsyncAPIConsumer):
    """A consumer with a queryset and a serializer; combine it with the mixins of ``websocket.mixins``."""

    queryset: Any = None
    serializer_class: Any = None
    lookup_field: str = "pk"
    lookup_url_kwarg: str | None = None
    filter_backends: Any = api_settings.DEFAULT_FILTER_BACKENDS
    pagination_class: Any = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """What a view's route would have found in an address: the key of the object."""
        lookup = self.lookup_url_kwarg or self.lookup_field
        return {k: v for k, v in self._now.arguments.items() if k == lookup}

    def get_queryset(self, **kwargs: Any) -> QuerySet[Any]:
        """Return the objects of this consumer.

        Args:
            **kwargs: the members of the frame, and ``action``.
        """
        if self.queryset is None:
            raise TypeError(f"{type(self).__name__} needs a queryset, or a get_queryset() of its own.")
        found: QuerySet[Any] = self.queryset.all()
        return found

    def filter_queryset(self, queryset: QuerySet[Any], **kwargs: Any) -> QuerySet[Any]:
        """Pass a queryset through the filter backends."""
        for backend in self.filter_backends:
            queryset = backend().filter_queryset(self.request, queryset, self)
        return queryset

    def paginate_queryset(self, queryset: Any, **kwargs: Any) -> Any:
        """Return the page of a queryset that a frame asks for, or None where there are no pages."""
        if self.paginator is None:
            return None
        if isinstance(queryset, QuerySet) and not queryset.ordered:
            queryset = queryset.order_by("pk")  # or pages could overlap
        return self.paginator.paginate_queryset(queryset, self.request, view=self)

    def get_paginated_response(self, data: Any) -> Any:
        """Return what is answered with a page."""
        return self.paginator.get_paginated_response(data).data

    @property
    def paginator(self) -> Any:
        """What makes pages for the request in hand; None where there are none."""
        now = self._now
        if now.paginator is None and self.pagination_class is not None:
            now.paginator = self.pagination_class()
        return now.paginator

    def get_object(self, **kwargs: Any) -> Any:
        """Return the object a frame is about; runs in a thread.

        Raises:
            Http404: there is none. PermissionDenied: object permissions say no.
        """
        lookup = self.lookup_url_kwarg or self.lookup_field
        if lookup not in kwargs:
            raise exceptions.ValidationError({lookup: [f"The member {lookup} is missing."]})
        queryset = self.filter_queryset(self.get_queryset(**kwargs), **kwargs)
        if self._now.using is not None:
            queryset = queryset.using(self._now.using)
        try:
            obj = get_object_or_404(queryset, **{self.lookup_field: kwargs[lookup]})
        except (TypeError, ValueError, OverflowError) as error:
            raise exceptions.NotFound from error
        self.check_object_permissions(obj, **kwargs)
        return obj

    def get_serializer_class(self, **kwargs: Any) -> Any:
        """Return the serializer's class."""
        if self.serializer_class is None:
            raise TypeError(f"{type(self).__name__} needs a serializer_class.")
        return self.serializer_class

    def get_serializer(self, *args: Any, action_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Return a serializer for an action with these members."""
        action_kwargs = action_kwargs or {}
        kwargs["context"] = self.get_serializer_context(**action_kwargs)
        return self.get_serializer_class(**action_kwargs)(*args, **kwargs)

    def get_serializer_context(self, **kwargs: Any) -> dict[str, Any]:
        """Return what serializers know of the socket."""
        return {"scope": self.scope, "consumer": self, "request": self.request, "view": self}

    def guard(self, operation: str, perform: Callable[[Any], Any], kwargs: dict[str, Any]) -> Any:
        """Do one write to the object of a frame through the gate.

        Args:
            operation: what locks are asked for.
            perform: validates and saves the object whose row is locked.
            kwargs: the members of the frame; ``if_match`` and ``lock_token`` are heeded.
        """
        seen = self.get_object(**kwargs)
        using = router.db_for_write(type(seen), instance=seen)
        user = self.request.user
        token = _text(kwargs, "lock_token")
        headers = {"If-Match": _text(kwargs, "if_match"), "If-None-Match": _text(kwargs, "if_none_match")}
        intent = writes.Intent(
            operation=operation,
            method=METHODS.get(self.action, "POST"),
            actor=locks.actor_for(user if user.is_authenticated else None, token),
            preconditions=Preconditions.parse(headers.get),
        )

        def fetch() -> Any:
            self._now.using = using
            return self.get_object(**kwargs)

        def refused(error: Any, obj: Any, entry: rows.Entry) -> None:
            if isinstance(error, ObjectLocked):
                error.members.update(
                    locks.describe(entry.lock, entry.now, viewer=intent.actor.holder, disclose=True)
                )
            elif isinstance(error, VersionMismatch | AlreadyExists):
                error.members["current_etag"] = str(_current(obj).tag)
                error.members["current"] = self.get_serializer(obj, action_kwargs=kwargs).data

        try:
            return writes.write(
                intent,
                model=type(seen),
                pk=seen.pk,
                using=using,
                fetch=fetch,
                current=lambda obj, _: _current(obj),
                perform=perform,
                refused=refused,
                first=writes.parents(seen),
            )
        finally:
            self._now.using = None


def _text(kwargs: dict[str, Any], name: str) -> str | None:
    value = kwargs.get(name)
    if value is not None and not isinstance(value, str):
        raise exceptions.ValidationError({name: ["Has to be a text."]})
    return value


def _current(obj: Any) -> Current:
    field = version_field(type(obj))
    if field is None:
        # Nothing to compare with: an If-Match is never met, which is safe.
        return Current(tag=EntityTag("unversioned"), write="unversioned", variant=None)
    version = getattr(obj, field.attname)
    write = encode_version(version)
    return Current(tag=EntityTag(f"{write}-0"), write=write, variant="0", modified=-(-version // 1_000_000))
