"""Documents over HTTP."""

from __future__ import annotations

from rest_framework import serializers

from demo.documents.models import Document
from drf_concord.live import RealtimeMixin
from drf_concord.rest import viewsets

__all__ = ["DocumentSerializer", "DocumentViewSet"]


class DocumentSerializer(serializers.ModelSerializer):
    """A document."""

    class Meta:
        model = Document
        fields = ["id", "text"]


class DocumentViewSet(RealtimeMixin, viewsets.ModelViewSet):
    """Documents."""

    queryset = Document.objects.all()
    serializer_class = DocumentSerializer
    conflict_actor = True
