"""The addresses of the test project, and beside them views that guard nothing or the wrong way."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework import serializers, viewsets
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from drf_concord.protocol.etags import encode_version, parse_tag_list
from tests.app.models import Item


class Serializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "count", "notes"]


class PlainViewSet(viewsets.ModelViewSet):
    """REST framework as it comes."""

    queryset = Item.objects.order_by("pk")
    serializer_class = Serializer


class NaiveViewSet(PlainViewSet):
    """Compares the tag and then saves, as one writes it without thinking of others."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code == 200:
            response["ETag"] = f'"{encode_version(Item.objects.get(pk=self.kwargs["pk"]).version)}-0"'
        return response

    def update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        tags = parse_tag_list(request.headers["If-Match"], name="If-Match").tags
        if encode_version(self.get_object().version) != tags[0].opaque.split("-")[0]:
            return Response(status=412)
        return super().update(request, *args, **kwargs)


router = SimpleRouter()
router.register("plain", PlainViewSet, basename="plain")
router.register("naive", NaiveViewSet, basename="naive")

urlpatterns = [path("", include(router.urls)), path("", include("tests.app.urls"))]
