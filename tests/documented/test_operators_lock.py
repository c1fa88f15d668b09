"""The operators' maintenance lock, as it is called from a shell."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import include, path
from rest_framework import authentication, serializers
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.rest import viewsets
from drf_concord.rest.locks import StatesLockMixin
from tests.kinds.models import Machine

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class MachineSerializer(serializers.ModelSerializer):
    class Meta:
        model = Machine
        fields = ["uuid", "name", "state"]


class MachineViewSet(StatesLockMixin, viewsets.ModelViewSet):
    queryset = Machine.objects.all()
    serializer_class = MachineSerializer
    lookup_field = "uuid"
    state_field = "state"
    authentication_classes = [authentication.BasicAuthentication]


router = SimpleRouter()
router.register("machines", MachineViewSet)
urlpatterns = [path("api/", include(router.urls))]


def as_(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_a_machine_is_serviced(django_user_model: Any) -> None:
    admin = as_(django_user_model.objects.create_superuser("admin", password="admin"))
    ada = as_(django_user_model.objects.create_user("ada", password="ada"))
    machine = Machine.objects.create(name="press", state="active")
    address = f"/api/machines/{machine.uuid}"

    assert ada.put(f"{address}/states/lock", {"lock": None}, format="json").status_code == 403
    locked = admin.put(f"{address}/states/lock", {"lock": None}, format="json")
    assert (locked.status_code, locked.content) == (202, b"")
    shown = ada.get(f"{address}/")
    assert shown.json()["state"] == "locked"
    for client in (admin, ada):
        assert client.delete(f"{address}/").status_code == 409
    assert admin.put(f"{address}/states/lock", {"lock": None}, format="json").status_code == 409
    assert ada.patch(f"{address}/", {"name": "new press"}, format="json").status_code == 200
    assert admin.put(f"{address}/states/unlock", {"lock": None}, format="json").status_code == 400
    assert admin.put(f"{address}/states/unlock", {"unlock": None}, format="json").status_code == 202
    assert ada.get(f"{address}/").json()["state"] == "active"
    assert admin.put(f"{address}/states/unlock").status_code == 409
    assert admin.put("/api/machines/00000000-0000-0000-0000-000000000000/states/lock").status_code == 404
    assert admin.delete(f"{address}/").status_code == 204
