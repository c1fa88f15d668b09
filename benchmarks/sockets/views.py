"""The same rows behind our view, an observer of one peer and a view of the other."""

from __future__ import annotations

import time
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from djangochannelsrestframework.decorators import action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import PatchModelMixin, RetrieveModelMixin
from djangochannelsrestframework.observer import model_observer
from djangochannelsrestframework.permissions import AllowAny
from rest_framework import serializers
from rest_framework import viewsets as drf
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action as rest_action
from rest_framework.response import Response

from drf_concord.live import RealtimeMixin
from drf_concord.rest import viewsets

from . import commits, shim
from .models import Live, Observed, Ranked

shim.install()

from rest_live.mixins import RealtimeMixin as RankedMixin  # noqa: E402

__all__ = ["LiveViewSet", "ObservedConsumer", "PrivateRankedViewSet", "PrivateViewSet", "RankedViewSet"]

FIELDS = ["id", "text", "board", "owner"]
OPEN = 2
"""The board whose rows everybody may see in the private views."""


class LiveSerializer(serializers.ModelSerializer):
    """A row of ours."""

    class Meta:
        model = Live
        fields = FIELDS


class ObservedSerializer(serializers.ModelSerializer):
    """A row of djangochannelsrestframework."""

    class Meta:
        model = Observed
        fields = FIELDS


class RankedSerializer(serializers.ModelSerializer):
    """A row of django-rest-live."""

    class Meta:
        model = Ranked
        fields = FIELDS


def mine(view: Any, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Return what the caller may see: own rows, and those of the open board."""
    return queryset.filter(Q(owner=view.request.user.pk) | Q(board_id=OPEN))


class LiveViewSet(viewsets.ModelViewSet, RealtimeMixin):
    """Ours."""

    queryset = Live.objects.order_by("pk")
    serializer_class = LiveSerializer
    group_by_fields = ["pk", "board_id"]

    @rest_action(detail=False)
    def slow(self, request: Any) -> Response:
        """Take half a second, on PostgreSQL in the database."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.5)")
        else:
            time.sleep(0.5)
        return Response({})

    def perform_update(self, serializer: Any) -> None:
        """Update, and note when the transaction was committed."""
        super().perform_update(serializer)
        text = serializer.instance.text
        transaction.on_commit(lambda: commits.note(text))


class PrivateViewSet(LiveViewSet):
    """Ours, where everybody sees something else."""

    authentication_classes = [SessionAuthentication]
    group_by_fields = ["pk", "owner", "board_id"]
    asked = 0

    def get_queryset(self) -> QuerySet[Live]:
        """Return the caller's rows, and count that somebody asked."""
        PrivateViewSet.asked += 1
        return mine(self, super().get_queryset())


class RankedViewSet(drf.ModelViewSet, RankedMixin):
    """As django-rest-live wants it."""

    queryset = Ranked.objects.order_by("pk")
    serializer_class = RankedSerializer


class PrivateRankedViewSet(RankedViewSet):
    """The same, where everybody sees something else."""

    authentication_classes = [SessionAuthentication]

    def get_queryset(self) -> QuerySet[Ranked]:
        """Return the caller's rows."""
        return mine(self, super().get_queryset())


class ObservedConsumer(RetrieveModelMixin, PatchModelMixin, GenericAsyncAPIConsumer):
    """As the documentation of djangochannelsrestframework shows it."""

    queryset = Observed.objects.order_by("pk")
    serializer_class = ObservedSerializer
    permission_classes = [AllowAny]

    @model_observer(Observed, serializer_class=ObservedSerializer)
    async def changed(
        self, message: Any, action: str = "", subscribing_request_ids: Any = (), **kwargs: Any
    ) -> None:
        """Tell the client."""
        for request_id in subscribing_request_ids:
            await self.reply(data=message, action=action, request_id=request_id)

    @action()
    async def subscribe(self, request_id: Any, **kwargs: Any) -> None:
        """Let the client follow every row."""
        await self.changed.subscribe(request_id=request_id)
