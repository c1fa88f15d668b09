"""Addresses of what is called over HTTP."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from . import views

router = SimpleRouter()
router.register("live", views.LiveViewSet, basename="live")

urlpatterns = router.urls
