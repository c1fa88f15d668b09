"""Viewsets: a drop-in for ``rest_framework.viewsets``, with every write guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import viewsets as drf
from rest_framework.viewsets import ViewSet, ViewSetMixin

from .locks import LockResourceMixin
from .mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)

if TYPE_CHECKING:
    _View = drf.GenericViewSet[Any]
else:
    _View = drf.GenericViewSet

__all__ = ["GenericViewSet", "ModelViewSet", "ReadOnlyModelViewSet", "ViewSet", "ViewSetMixin"]


class GenericViewSet(LockResourceMixin, _View):
    """A generic viewset with the gate and the lock sub-resource, and no other actions."""


class ReadOnlyModelViewSet(RetrieveModelMixin, ListModelMixin, _View):
    """A viewset that lists and retrieves, with tags and 304."""


class ModelViewSet(
    CreateModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    GenericViewSet,
):
    """A viewset with ETag, If-Match, 304, 412, 428 and locks on every object."""
