"""Views that are followed as the documents say, what they have seen, and a case with a socket on them."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.auth import get_user_model
from django.test import TransactionTestCase
from django.urls import path
from rest_framework import generics, permissions, serializers
from rest_framework.viewsets import ModelViewSet

from drf_concord.live import RealtimeMixin
from drf_concord.testing import APICommunicator, get_headers_for_user
from drf_concord.websocket import RealtimeRouter
from tests.app.models import Item, Note, Slugged, Texted
from tests.kinds.models import Managed
from tests.websocket.cases import database

__all__ = ["ItemSerializer", "ItemViewSet", "LiveCase", "application", "router"]


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "folder"]


class ItemViewSet(ModelViewSet, RealtimeMixin):
    """REST framework's own viewset; the mixin stands last, and the serializer names the model."""

    serializer_class = ItemSerializer
    group_by_fields = ["pk", "folder_id"]
    seen: list[dict[str, Any]] = []

    def filter_queryset(self, queryset: Any) -> Any:
        user, session = self.request.user, self.request.session
        self.seen.append(
            {
                "action": self.action,
                "kwargs": self.kwargs,
                "user": user.username,
                "session": session.session_key,
                "language": self.request.headers.get("x-language"),
            }
        )
        return super().filter_queryset(queryset).exclude(text="hidden")


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class NoteView(RealtimeMixin, generics.ListAPIView):
    """A generic view, the mixin first, a queryset and no ``group_by_fields``."""

    queryset = Note.objects.all()
    serializer_class = NoteSerializer
    permission_classes = [permissions.IsAuthenticated]


class ManagedSerializer(serializers.ModelSerializer):
    class Meta:
        model = Managed
        fields = ["id", "text"]


class ManagedView(generics.ListAPIView, RealtimeMixin):
    """Has neither ``get_queryset`` nor ``queryset``."""

    serializer_class = ManagedSerializer


class ByTitle(RealtimeMixin, ModelViewSet):
    """Is looked up by another field, and has the serializer from a method."""

    queryset = Slugged.objects.none()
    lookup_field = "slug"
    group_by_fields = ["pk", "title"]

    def get_queryset(self) -> Any:
        return Slugged.objects.all()

    def get_serializer_class(self) -> Any:
        meta = type("Meta", (), {"model": Slugged, "fields": ["id", "title"]})
        return type("SluggedSerializer", (serializers.ModelSerializer,), {"Meta": meta})


class TextedSerializer(serializers.ModelSerializer):
    class Meta:
        model = Texted
        fields = ["code", "text"]

    def to_representation(self, instance: Any) -> Any:
        if instance.text == "bad":
            raise RuntimeError("the serializer's own business")
        return super().to_representation(instance)


class TextedView(RealtimeMixin, generics.ListAPIView):
    """Shows those whose text the route names, where it names one; fails at some."""

    serializer_class = TextedSerializer
    group_by_fields = ["pk", "text"]

    def get_queryset(self) -> Any:
        found = Texted.objects.all()
        return found.filter(text=self.kwargs["text"]) if "text" in self.kwargs else found


router = RealtimeRouter()
members = RealtimeRouter(public=False)
websocket_urlpatterns: list[Any] = [
    path("ws/subscribe/", router.consumer, name="subscriptions"),
    path("ws/consumer/", router.as_consumer()),
    path("ws/members/", members.consumer),
]
application = AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
validated = AllowedHostsOriginValidator(application)
# after `consumer` was read
router.register(ItemViewSet)
router.register_all([NoteView, ManagedView, ByTitle, TextedView])
members.register(NoteView)


class LiveCase(TransactionTestCase):
    """Guido is connected, as a browser in which he has logged in."""

    reset_sequences = True

    async def asyncSetUp(self) -> None:
        ItemViewSet.seen.clear()
        self.user = await database(get_user_model().objects.create_user)("guido")
        headers = [*await get_headers_for_user(self.user), (b"x-language", b"nl")]
        self.socket = APICommunicator(application, "/ws/subscribe/", headers)
        connected, _ = await self.socket.connect()
        assert connected

    async def asyncTearDown(self) -> None:
        await self.socket.disconnect()

    async def begin(self, **frame: Any) -> None:
        """Subscribe; there is no reply to one that succeeds."""
        await self.socket.send_json_to(frame)
        assert await self.socket.receive_nothing()

    async def asked(self, frame: Any) -> Any:
        await self.socket.send_json_to(frame)
        return await self.socket.receive_json_from()

    async def frames(self) -> list[Any]:
        """Everything there is to receive."""
        found = []
        while not await self.socket.receive_nothing():
            found.append(await self.socket.receive_json_from())
        return found

    async def news(self) -> list[tuple[Any, ...]]:
        """Of everything that is pushed: whose it is, what happened, to which object."""
        return [(f["request_id"], f["action"], f["instance"]["id"]) for f in await self.frames()]
