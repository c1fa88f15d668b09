"""Addresses of the test project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import views

router = SimpleRouter()
for name, view in {
    "items": views.ItemViewSet,
    "tagged": views.TaggedItemViewSet,
    "required": views.RequiredItemViewSet,
    "mine": views.MineViewSet,
    "odd": views.OddQueryViewSet,
    "content": views.ContentViewSet,
    "callable": views.CallableViewSet,
    "keeping": views.KeepingViewSet,
    "folders": views.FolderViewSet,
    "slugged": views.SluggedViewSet,
    "notes": views.NoteViewSet,
    "places": views.PlaceViewSet,
    "restaurants": views.RestaurantViewSet,
    "keyed": views.KeyedViewSet,
    "texted": views.TextedViewSet,
    "pairs": views.PairViewSet,
}.items():
    router.register(name, view, basename=name)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("drf_concord.urls")),
    path("", include(router.urls)),
]
