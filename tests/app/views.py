"""Views of every kind the package meets."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, QuerySet
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.response import Response

from drf_concord.rest import viewsets
from drf_concord.rest.decorators import guarded
from drf_concord.rest.serializers import ETagField

from . import models


def serializer_for(model: type, fields: list[str] | str = "__all__", **extra: Any) -> Any:
    meta = type("Meta", (), {"model": model, "fields": fields})
    return type(f"{model.__name__}Serializer", (serializers.ModelSerializer,), {"Meta": meta, **extra})


class ItemSerializer(serializers.ModelSerializer):
    """Flat: every field is a column of the row."""

    class Meta:
        model = models.Item
        fields = ["id", "text", "count", "notes", "folder"]


class TaggedItemSerializer(serializers.ModelSerializer):
    """Not flat: it has a many-to-many and a computed field."""

    etag = ETagField()
    folder_name = serializers.CharField(source="folder.name", read_only=True)

    class Meta:
        model = models.Item
        fields = ["id", "etag", "text", "count", "tags", "folder_name"]


class FolderSerializer(serializers.ModelSerializer):
    items = ItemSerializer(many=True, read_only=True)

    class Meta:
        model = models.Folder
        fields = ["id", "name", "items"]


class IsOwnerOrOpen(BasePermission):
    """Objects with an owner are his alone."""

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.owner_id is None or obj.owner_id == request.user.pk


class ItemViewSet(viewsets.ModelViewSet):
    queryset = models.Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    permission_classes = [IsOwnerOrOpen]

    @action(detail=True, methods=["post"])
    @guarded
    def publish(self, request: Any, pk: Any = None) -> Response:
        item = self.get_object()
        item.notes = "published"
        item.save()
        return Response(self.get_serializer(item).data)

    @action(detail=True, methods=["post"])
    @guarded
    def archive(self, request: Any, pk: Any = None) -> Response:
        self.get_object().delete()
        return Response(status=204)


class TaggedItemViewSet(viewsets.ModelViewSet):
    queryset = models.Item.objects.order_by("pk")
    serializer_class = TaggedItemSerializer


class RequiredItemViewSet(ItemViewSet):
    precondition_required = True


class MineViewSet(viewsets.ModelViewSet):
    """Shows a user his own items only."""

    serializer_class = ItemSerializer

    def get_queryset(self) -> QuerySet[models.Item]:
        return models.Item.objects.filter(owner_id=self.request.user.pk)


class OddQueryViewSet(viewsets.ModelViewSet):
    """DISTINCT, GROUP BY and a nullable join: what databases refuse to lock."""

    class Serializer(serializers.ModelSerializer):
        tagged = serializers.IntegerField(read_only=True)

        class Meta:
            model = models.Item
            fields = ["id", "text", "tagged"]

    serializer_class = Serializer

    def get_queryset(self) -> QuerySet[models.Item]:
        items = models.Item.objects.select_related("folder").annotate(tagged=Count("tags"))
        return items.distinct()


class ContentViewSet(viewsets.ModelViewSet):
    """A model without a version: the tag is a digest of what the caller sees."""

    queryset = models.Bare.objects.order_by("pk")
    serializer_class = serializer_for(models.Bare)


class CallableViewSet(ContentViewSet):
    """A tag from a function."""

    def etag_from(view: Any, obj: Any) -> str:
        return f"text-{obj.text}"


class KeepingViewSet(viewsets.ModelViewSet):
    """Keeps the object it fetched, as many projects do."""

    queryset = models.Item.objects.all()
    serializer_class = ItemSerializer

    def get_object(self) -> Any:
        if not hasattr(self, "_kept"):
            self._kept = super().get_object()
        return self._kept


class FolderViewSet(viewsets.ModelViewSet):
    queryset = models.Folder.objects.prefetch_related("items").order_by("pk")
    serializer_class = FolderSerializer


class SluggedViewSet(viewsets.ModelViewSet):
    queryset = models.Slugged.objects.order_by("pk")
    serializer_class = serializer_for(models.Slugged)


class NoteViewSet(viewsets.ModelViewSet):
    queryset = models.Note.objects.order_by("pk")
    serializer_class = serializer_for(models.Note)


class PlaceViewSet(viewsets.ModelViewSet):
    queryset = models.Place.objects.order_by("pk")
    serializer_class = serializer_for(models.Place)


class RestaurantViewSet(viewsets.ModelViewSet):
    queryset = models.Restaurant.objects.order_by("pk")
    serializer_class = serializer_for(models.Restaurant)


class KeyedViewSet(viewsets.ModelViewSet):
    queryset = models.Keyed.objects.order_by("pk")
    serializer_class = serializer_for(models.Keyed)


class TextedViewSet(viewsets.ModelViewSet):
    queryset = models.Texted.objects.order_by("pk")
    serializer_class = serializer_for(models.Texted)
    lookup_field = "code"


class PairViewSet(viewsets.ModelViewSet):
    queryset = models.Pair.objects.order_by("pk")
    serializer_class = serializer_for(models.Pair)
