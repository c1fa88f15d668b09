"""The same view several times: plain, in a transaction, with the peer's check, and with ours."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework import viewsets as drf
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_extensions.etag.mixins import APIETAGMixin

from drf_concord.rest import viewsets

from .models import Guarded, Plain

__all__ = [
    "AtomicViewSet",
    "ExtensionsViewSet",
    "GuardedViewSet",
    "NarrowViewSet",
    "PlainNarrowViewSet",
    "PlainViewSet",
]

FIELDS = ["id", "text", "count", "done", "notes", "folder"]


class PlainSerializer(serializers.ModelSerializer):
    """A plain row."""

    class Meta:
        model = Plain
        fields = FIELDS


class GuardedSerializer(serializers.ModelSerializer):
    """A guarded row, which shows the same fields."""

    class Meta:
        model = Guarded
        fields = FIELDS


class Defaults:
    """What REST framework has by default, and the settings of the benchmarks take away."""

    authentication_classes = (SessionAuthentication, BasicAuthentication)
    permission_classes = (AllowAny,)


class PlainViewSet(Defaults, drf.ModelViewSet):
    """REST framework as it comes."""

    queryset = Plain.objects.order_by("pk")
    serializer_class = PlainSerializer


class AtomicViewSet(PlainViewSet):
    """REST framework with the update in a transaction."""

    @transaction.atomic
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Update as REST framework does."""
        return super().update(request, *args, **kwargs)


class ExtensionsViewSet(APIETAGMixin, PlainViewSet):
    """REST framework with the conditional requests of drf-extensions."""


class GuardedViewSet(Defaults, viewsets.ModelViewSet):
    """Ours."""

    queryset = Guarded.objects.order_by("pk")
    serializer_class = GuardedSerializer


class NarrowViewSet(GuardedViewSet):
    """Ours, where the project says with each request which rows it shows."""

    def get_queryset(self) -> Any:
        """Return the rows in a folder, which all are."""
        return super().get_queryset().filter(folder__gt=0)


class PlainNarrowViewSet(PlainViewSet):
    """REST framework's, where the project says with each request which rows it shows."""

    def get_queryset(self) -> Any:
        """Return the rows in a folder, which all are."""
        return super().get_queryset().filter(folder__gt=0)
