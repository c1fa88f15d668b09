"""The viewsets: a drop-in for those of Django REST Framework."""

from __future__ import annotations

import pytest
from rest_framework import viewsets as drf
from rest_framework.routers import DefaultRouter, SimpleRouter
from rest_framework.test import APIClient

from drf_concord.rest import viewsets
from drf_concord.rest.locks import LOCK_ACTIONS
from tests.app.models import Item
from tests.app.views import ItemSerializer, ItemViewSet

pytestmark = pytest.mark.django_db

NAMES = ("GenericViewSet", "ModelViewSet", "ReadOnlyModelViewSet", "ViewSet", "ViewSetMixin")


class ReadOnly(viewsets.ReadOnlyModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer


class Generic(viewsets.GenericViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_drf(name: str) -> None:
    ours, theirs = getattr(viewsets, name), getattr(drf, name)
    assert issubclass(ours, theirs) or name in {"ModelViewSet", "ReadOnlyModelViewSet"}
    assert {n for n in dir(theirs) if not n.startswith("_")} <= set(dir(ours))
    assert name in viewsets.__all__


def test_what_can_be_written_can_be_locked() -> None:
    for view, locked in ((ItemViewSet, True), (Generic, True), (ReadOnly, False)):
        names = {a.__name__ for a in view.get_extra_actions()}
        assert bool(names & LOCK_ACTIONS) is locked


def test_the_routes() -> None:
    router = SimpleRouter()
    router.register("items", ItemViewSet)
    routes = {str(url.pattern): url.name for url in router.urls}
    assert routes["^items/(?P<pk>[^/.]+)/lock/$"] == "item-lock"
    assert routes["^items/(?P<pk>[^/.]+)/lock/break/$"] == "item-lock-break"
    router = DefaultRouter()
    router.register("readonly", ReadOnly)
    assert not [url for url in router.urls if "lock" in str(url.pattern)]


def test_a_read_only_view(api: APIClient, rf: object) -> None:
    item = Item.objects.create(text="one")
    assert api.get(f"/items/{item.pk}/").status_code == 200
    for method in ("post", "put", "patch", "delete"):
        assert not hasattr(ReadOnly, {"post": "create", "delete": "destroy"}.get(method, "update"))
