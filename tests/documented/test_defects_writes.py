"""Defects of former systems, each in its own scenario: locks that were passed, and writes that were lost."""

from __future__ import annotations

from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.urls import include, path
from rest_framework import mixins, viewsets
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import ObjectLocked
from drf_concord.live import RealtimeMixin
from drf_concord.rest import mixins as concord
from drf_concord.rest import viewsets as ours
from drf_concord.testing import async_test
from drf_concord.websocket import GenericAsyncAPIConsumer, RealtimeRouter
from drf_concord.websocket.mixins import (
    DeleteModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from tests.app.models import Item
from tests.app.views import serializer_for
from tests.kinds.models import Contract, Report
from tests.websocket.cases import SocketCase, database

ITEM = "app.Item"


class Items(
    RealtimeMixin,
    mixins.RetrieveModelMixin,
    concord.LockableUpdateModelMixin,
    concord.LockableDestroyModelMixin,
    viewsets.GenericViewSet,
):
    """REST framework's own viewset, with a rule that is the view's alone."""

    queryset = Item.objects.all()
    serializer_class = serializer_for(Item, ["id", "text", "count"])

    def is_instance_locked(self, obj: Item) -> bool:
        return obj.count > 0


class Contracts(RealtimeMixin, ours.ModelViewSet):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["id", "text", "state"])
    precondition_required = True


class PlainReports(viewsets.ModelViewSet):
    """Nothing of ours but the model."""

    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title"])


class ContractConsumer(
    RetrieveModelMixin, PatchModelMixin, UpdateModelMixin, DeleteModelMixin, GenericAsyncAPIConsumer
):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["id", "text", "state"])


http = SimpleRouter()
for name, view in {"items": Items, "contracts": Contracts, "reports": PlainReports}.items():
    http.register(name, view)
urlpatterns = [path("", include(http.urls))]
router = RealtimeRouter()
router.register_all([Items, Contracts])


class Locked(SocketCase):
    """D-8: who was refused by one door went in by another."""

    application = AuthMiddlewareStack(
        URLRouter([path("ws/", router.consumer), path("contracts/", ContractConsumer.as_asgi())])
    )

    async def refused(self, frame: Any, socket: Any = None) -> None:
        reply = await self.ask(frame, socket)
        assert (reply["response_status"], reply["data"]) == (409, None), frame
        assert reply["errors"][0]["code"] == "object_locked"

    @async_test
    async def test_the_rule_of_a_view_holds_by_both_doors(self) -> None:
        await database(Item.objects.create)(pk=1, text="a", count=1)
        with self.settings(ROOT_URLCONF=__name__):
            over_http = await database(APIClient().patch)("/items/1/", {"text": "b"}, format="json")
        assert over_http.status_code == 409
        await self.refused({"action": "patch", "model": ITEM, "pk": 1, "data": {"text": "b"}})
        await self.refused({"action": "patch", "model": ITEM, "pk": 1, "data": {"text": "b", "count": 0}})
        await self.refused({"action": "delete", "model": ITEM, "pk": 1})
        assert (await database(Item.objects.get)()).text == "a"

    @async_test
    async def test_a_model_that_locks_itself_is_refused_and_the_socket_lives(self) -> None:
        await database(Contract.objects.create)(pk=1, text="a", state="signed")
        socket = await self.open(self.user, "/contracts/")
        for frame in (
            {"action": "patch", "data": {"text": "b"}},
            {"action": "patch", "data": {"text": "b", "state": "draft"}},
            {"action": "update", "data": {"text": "b", "state": "draft"}},
            {"action": "delete"},
        ):
            await self.refused({**frame, "pk": 1}, socket)
        reply = await self.ask({"action": "retrieve", "pk": 1}, socket)
        assert reply["data"] == {"id": 1, "text": "a", "state": "signed"}


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_plain_view_answers_a_locked_model_with_a_conflict(method: str) -> None:
    """D-8: the model's refusal was an error of the server."""
    report = Report.objects.create(title="a", sealed=True)
    client = APIClient(raise_request_exception=False)
    answer = getattr(client, method)(f"/reports/{report.pk}/", {"title": "b"}, format="json")
    assert answer.status_code == 409
    assert Report.objects.get().title == "a"


@pytest.mark.django_db
def test_memory_does_not_open_what_was_locked_meanwhile() -> None:
    """D-2: an object that was loaded before the lock was saved over it, and the lock was gone."""
    report = Report.objects.create(title="a")
    early, reloaded = Report.objects.get(), Report.objects.get()
    other = Report.objects.get()
    other.set_locked(True)
    other.save()
    early.title = "b"
    with pytest.raises(ObjectLocked):
        early.save()
    reloaded.refresh_from_db()
    reloaded.title = "b"
    with pytest.raises(ObjectLocked):
        reloaded.save()
    report.refresh_from_db()
    assert (report.title, report.sealed) == ("a", True)
    report.set_locked(False)
    report.title = "c"
    report.save()
    assert (Report.objects.get().title, Report.objects.get().sealed) == ("c", False)


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_stale_write_is_told_so_whatever_wrote_in_between() -> None:
    """D-26: refusals were errors of the server; without a version, at deletes, after `update()` were none."""
    contract = Contract.objects.create(text="a")
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(get_user_model().objects.create_user("ada"))
    address = f"/contracts/{contract.pk}/"
    tag = client.get(address)["ETag"]
    Contract.objects.update(text="b")
    for method in (client.put, client.patch, client.delete):
        stale = method(address, {"text": "mine"}, format="json", headers={"If-Match": tag})
        assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch")
        assert method(address, {"text": "mine"}, format="json").status_code == 428
    assert Contract.objects.get().text == "b"
    tag = client.get(address)["ETag"]
    assert client.delete(address, headers={"If-Match": tag}).status_code == 204
