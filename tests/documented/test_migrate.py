"""The page about moving over: its names can be imported, and the requests in its tables are answered so."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.urls import include, path
from rest_framework import authentication, generics, serializers
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.rest import viewsets
from drf_concord.rest.decorators import optimistic_concurrency_control
from drf_concord.rest.locks import StatesLockMixin
from tests.app.models import Bare
from tests.kinds.models import Machine

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"
PAGES = [HOWTO / "migrate.md", *sorted(HOWTO.glob("from-*.md"))]
NAMES = sorted(
    {name for page in PAGES for name in re.findall(r"`(drf_concord(?:\.\w+)+)`", page.read_text())}
)


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


class BareSerializer(serializers.ModelSerializer):
    class Meta:
        model = Bare
        fields = ["id", "text"]


@optimistic_concurrency_control(lambda view: f"v{len(view.get_object().text)}")
class LetterView(generics.RetrieveUpdateDestroyAPIView):
    queryset = Bare.objects.all()
    serializer_class = BareSerializer


router = SimpleRouter()
router.register("v1/instances", MachineViewSet)
urlpatterns = [path("", include(router.urls)), path("letters/<int:pk>/", LetterView.as_view())]


def as_(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_every_former_system_has_its_page_or_its_table() -> None:
    text = PAGES[0].read_text()
    systems = text.split("| coming from |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(systems) == 5
    assert [row for row in systems if "](" not in row] == []
    for page in PAGES[1:]:
        assert f"]({page.name})" in text
    assert text.count("| before | now |") == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_new_names_are_there(name: str) -> None:
    module, _, last = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        assert hasattr(import_module(module), last)


def test_the_class_decorator() -> None:
    letter, client = Bare.objects.create(text="Dear"), APIClient()
    address = f"/letters/{letter.pk}/"
    tag = client.get(address)["ETag"]
    assert tag == '"v4"'
    for method in ("put", "patch", "delete"):
        assert getattr(client, method)(address, {"text": "x"}).status_code == 412
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert client.put(address, {"text": "Dear all"}, headers={"If-Match": "v4"}).status_code == 200
    assert client.patch(address, {"text": "x"}, headers={"If-Match": tag}).status_code == 412
    assert client.delete(address, headers={"If-Match": '"v8"'}).status_code == 204


def test_the_operators_lock_api(django_user_model: Any) -> None:
    one, other = (
        as_(django_user_model.objects.create_superuser(name, password=name)) for name in ("one", "other")
    )
    machine = Machine.objects.create(name="press", state="stopped")
    address = f"/v1/instances/{machine.uuid}"
    for body in ({"target": True}, {"target": False}):
        for name in ("lock", "unlock"):
            assert one.put(f"{address}/states/{name}", body, format="json").status_code == 400

    assert one.put(f"{address}/states/lock", {"lock": None}, format="json").status_code == 202
    assert other.get(f"{address}/").json()["state"] == "locked"
    assert other.get(f"{address}/lock/").json()["holder"] == "one"
    refused = other.put(f"{address}/states/lock", {"lock": None}, format="json").json()
    assert (refused["code"], "detail" in refused) == ("object_already_locked", True)
    assert other.patch(f"{address}/", {"name": "lathe"}, format="json").status_code == 200
    deleted = one.delete(f"{address}/")
    assert (deleted.status_code, deleted.json()["code"]) == (409, "object_locked")

    assert other.put(f"{address}/states/unlock", {"unlock": None}, format="json").status_code == 202
    assert one.get(f"{address}/").json()["state"] == "stopped"
    refused = one.put(f"{address}/states/unlock").json()
    assert refused["code"] == "object_not_locked"
