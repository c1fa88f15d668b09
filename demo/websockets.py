"""The websockets of the demo."""

from __future__ import annotations

from typing import Any

from django.urls import path

from demo.documents.views import DocumentViewSet
from demo.machines.views import InstanceViewSet
from demo.people.consumers import UserConsumer
from demo.todolist.views import ListViewSet, TaskViewSet
from drf_concord.websocket import RealtimeRouter

__all__ = ["router", "urlpatterns"]

router = RealtimeRouter()
router.register_all([ListViewSet, TaskViewSet, DocumentViewSet, InstanceViewSet])

urlpatterns: list[Any] = [
    path("ws/", router.consumer),
    path("ws/subscribe/", router.consumer, name="subscriptions"),
    path("ws/users/", UserConsumer.as_asgi()),
]
