"""Instances over HTTP."""

from __future__ import annotations

from rest_framework import serializers

from demo.machines.models import Instance
from drf_concord.live import RealtimeMixin
from drf_concord.rest import viewsets
from drf_concord.rest.locks import StatesLockMixin

__all__ = ["InstanceSerializer", "InstanceViewSet"]


class InstanceSerializer(serializers.ModelSerializer):
    """An instance."""

    class Meta:
        model = Instance
        fields = ["id", "uuid", "name", "state"]


class InstanceViewSet(RealtimeMixin, StatesLockMixin, viewsets.ModelViewSet):
    """Instances, looked up by their uuid; administrators lock them at ``states/lock``."""

    queryset = Instance.objects.all()
    serializer_class = InstanceSerializer
    lookup_field = "uuid"
    state_field = "state"
