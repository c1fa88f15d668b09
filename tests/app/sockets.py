"""The websockets of the test project."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated

from drf_concord.live import RealtimeMixin
from drf_concord.websocket import RealtimeRouter
from drf_concord.websocket.generics import GenericAsyncAPIConsumer
from drf_concord.websocket.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)

from . import models, views


class LiveItems(views.ItemViewSet, RealtimeMixin):
    """The mixin stands last."""

    group_by_fields = ["pk", "folder_id"]


class LiveMine(RealtimeMixin, views.MineViewSet):
    """Shows a user his own items; the queryset names the model."""

    queryset = models.Item.objects.none()
    group_by_fields = ["pk", "folder_id"]


class LiveKeyed(RealtimeMixin, views.KeyedViewSet):
    """Has keys that are no numbers."""


class LiveNotes(RealtimeMixin, views.NoteViewSet):
    """For who is logged in."""

    permission_classes = [IsAuthenticated]


class Staff(BasePermission):
    """Asks the user's row."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.user.is_staff)


class LivePairs(RealtimeMixin, views.PairViewSet):
    """For staff."""

    permission_classes = [Staff]


class FailingSerializer(serializers.ModelSerializer):
    """Raises when it is to show something bad."""

    shown = serializers.SerializerMethodField()

    class Meta:
        model = models.Texted
        fields = ["code", "shown"]

    def get_shown(self, obj: models.Texted) -> str:
        if obj.text == "bad":
            raise RuntimeError("secret of the server")
        return obj.text


class LiveTexted(RealtimeMixin, views.TextedViewSet):
    """Fails at some objects."""

    serializer_class = FailingSerializer


router = RealtimeRouter()
router.register_all([LiveItems, LiveKeyed, LiveNotes, LivePairs, LiveTexted])
mine = RealtimeRouter()
mine.register(LiveMine)
closed = RealtimeRouter(public=False)
closed.register(LiveItems)


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = get_user_model()
        fields = ["id", "username", "email"]
        extra_kwargs = {"email": {"required": True}}


class NotesConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    PatchModelMixin,
    UpdateModelMixin,
    CreateModelMixin,
    DeleteModelMixin,
    GenericAsyncAPIConsumer,
):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = views.serializer_for(models.Note, ["id", "text"])


class OwnItemsConsumer(RetrieveModelMixin, PatchModelMixin, GenericAsyncAPIConsumer):
    queryset = models.Item.objects.all()
    serializer_class = views.ItemSerializer
    permission_classes = [views.IsOwnerOrOpen]


application = AuthMiddlewareStack(
    URLRouter(
        [
            path("ws/", router.consumer),
            path("mine/", mine.as_consumer()),
            path("closed/", closed.consumer),
            path("notes/", NotesConsumer.as_asgi()),
            path("own/", OwnItemsConsumer()),
        ]
    )
)
