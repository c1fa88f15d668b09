"""The addresses of the test project, and beside them views that guard nothing or the wrong way."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework import generics, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from drf_concord.protocol.etags import encode_version, parse_tag_list
from drf_concord.rest import mixins as concord
from drf_concord.rest.decorators import optimistic_concurrency_control
from tests.app.models import Bare, Item
from tests.kinds.models import Clause, Contract


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


class Actions:
    @action(methods=["PUT"], detail=True)
    def lock(self: Any, request: Any, pk: Any = None) -> Response:
        return concord.lock_action(self, request, pk)

    @action(methods=["PUT"], detail=True)
    def unlock(self: Any, request: Any, pk: Any = None) -> Response:
        return concord.unlock_action(self, request, pk)


class ContractSerializer(serializers.ModelSerializer):
    class Meta:
        model = Contract
        fields = ["id", "text"]


class ContractViewSet(
    Actions, concord.LockableUpdateModelMixin, concord.LockableDestroyModelMixin, viewsets.ModelViewSet
):
    """REST framework's own, with locks by the model's rule."""

    queryset = Contract.objects.order_by("pk")
    serializer_class = ContractSerializer


class ClauseSerializer(serializers.ModelSerializer):
    class Meta:
        model = Clause
        fields = ["id", "text"]


class ClauseViewSet(concord.LockableUpdateModelMixin, viewsets.ModelViewSet):
    """Locked with their contracts."""

    queryset = Clause.objects.order_by("pk")
    serializer_class = ClauseSerializer


class BareSerializer(serializers.ModelSerializer):
    class Meta:
        model = Bare
        fields = ["id", "text"]


@optimistic_concurrency_control(lambda view: view.get_object().text)
class ControlledView(generics.RetrieveAPIView, generics.UpdateAPIView):
    queryset = Bare.objects.order_by("pk")
    serializer_class = BareSerializer


router = SimpleRouter()
router.register("contracts", ContractViewSet, basename="contract")
router.register("clauses", ClauseViewSet, basename="clause")
router.register("plain", PlainViewSet, basename="plain")
router.register("naive", NaiveViewSet, basename="naive")

urlpatterns = [
    path("controlled/<int:pk>/", ControlledView.as_view()),
    path("", include(router.urls)),
    path("", include("tests.app.urls")),
]
