"""Addresses of what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from ..sockets.urls import urlpatterns as sockets
from . import views

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

WAYS = {
    "plain": views.PlainViewSet,
    "atomic": views.AtomicViewSet,
    "extensions": views.ExtensionsViewSet,
    "guarded": views.GuardedViewSet,
    "plain-narrow": views.PlainNarrowViewSet,
    "guarded-narrow": views.NarrowViewSet,
}
LISTS: dict[str, Any] = {name: view.as_view({"get": "list", "post": "create"}) for name, view in WAYS.items()}
DETAILS: dict[str, Any] = {
    name: view.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"})
    for name, view in WAYS.items()
}


# Two patterns for all: with a router, the view that was registered last would be found last.
@csrf_exempt
def some(request: HttpRequest, way: str) -> HttpResponseBase:
    """Answer at the address of a list."""
    return LISTS[way](request)  # type: ignore[no-any-return]


@csrf_exempt
def one(request: HttpRequest, way: str, pk: str) -> HttpResponseBase:
    """Answer at the address of an object."""
    return DETAILS[way](request, pk=pk)  # type: ignore[no-any-return]


urlpatterns = [*sockets, path("<slug:way>/", some), path("<slug:way>/<pk>/", one)]
