"""Addresses of what is measured."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from ..sockets.urls import urlpatterns as sockets
from . import views

router = SimpleRouter()
router.register("plain", views.PlainViewSet, basename="plain")
router.register("atomic", views.AtomicViewSet, basename="atomic")
router.register("extensions", views.ExtensionsViewSet, basename="extensions")
router.register("guarded", views.GuardedViewSet, basename="guarded")

urlpatterns = [*router.urls, *sockets]
