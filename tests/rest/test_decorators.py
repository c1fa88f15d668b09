"""Own actions that pass the gate."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import include, path
from rest_framework import generics, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import rows
from drf_concord.rest import mixins, viewsets
from drf_concord.rest.decorators import guarded
from tests.app.models import Item
from tests.app.urls import urlpatterns as app_patterns

from .conftest import AtTheGate

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "notes"]


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    @action(detail=True, methods=["post", "put"])
    @guarded
    def add(self, request: Any, pk: Any = None, word: str = "") -> Response:
        """Add a word."""
        item = self.get_object()
        assert self.get_object() is item
        item.notes += request.data.get("word", "x")
        item.save()
        if item.notes.endswith("!"):
            raise ValidationError("too loud")
        return Response({"notes": item.notes})

    @action(detail=True, methods=["post"])
    @guarded
    def elsewhere(self, request: Any, pk: Any = None) -> Response:
        Item.objects.filter(pk=pk).update(notes="elsewhere")
        return Response({"done": True})

    @action(detail=True, methods=["post"])
    @guarded
    def wipe(self, request: Any, pk: Any = None) -> Response:
        Item.objects.filter(pk=pk).delete()
        return Response(status=204)

    @action(detail=True, methods=["post"])
    @guarded
    def refuse(self, request: Any, pk: Any = None) -> Response:
        return Response({"no": True}, status=422)

    @action(detail=True, methods=["get"])
    @guarded
    def look(self, request: Any, pk: Any = None) -> Response:
        return Response({"entered": bool(rows._entries.get())})


class PublishView(mixins.GuardedMixin, generics.GenericAPIView):
    """A generic view with a guarded method."""

    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    @guarded
    def post(self, request: Any, pk: Any = None) -> Response:
        item = self.get_object()
        item.notes = "published"
        item.save()
        return Response({"done": True})


router = SimpleRouter()
router.register("item", ItemView, basename="item")
urlpatterns = [
    path("publish/<int:pk>/", PublishView.as_view()),
    path("", include(router.urls)),
    *app_patterns,
]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one")


def post(api: APIClient, item: Item, name: str = "add", word: str = "x", **headers: str) -> Any:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return api.post(f"/item/{item.pk}/{name}/", {"word": word}, format="json", headers=given)


def tag_of(api: APIClient, item: Item) -> str:
    return api.get(f"/item/{item.pk}/")["ETag"]


def test_an_action_works_on_the_locked_row(api: APIClient, item: Item, at_the_gate: AtTheGate) -> None:
    at_the_gate(lambda: Item.objects.update(text="theirs", notes="a"))
    assert post(api, item, word="b").json() == {"notes": "ab"}
    item.refresh_from_db()
    assert item.text == "theirs"
    assert api.get(f"/item/{item.pk}/look/").json() == {"entered": True}


def test_a_stale_tag_is_refused(api: APIClient, item: Item, at_the_gate: AtTheGate) -> None:
    tag = tag_of(api, item)
    at_the_gate(lambda: Item.objects.update(text="theirs"))
    for _ in range(2):  # at the gate, and then at the door
        refused = post(api, item, If_Match=tag)
        assert refused.status_code == 412
        assert refused.json()["changed_fields"] == ["text"]
    assert post(api, item, If_Match="unquoted").status_code == 400
    assert post(api, item, If_Match=refused["ETag"]).status_code == 200


def test_the_answer_has_a_tag_for_the_next_write(api: APIClient, item: Item) -> None:
    for name in ("add", "elsewhere"):
        response = post(api, item, name)
        seen = tag_of(api, item)
        assert response["ETag"].partition("-")[0] == seen.partition("-")[0]
        # its body is not what a GET returns, so the tag never makes a 304 of that
        unread = api.get(f"/item/{item.pk}/", headers={"If-None-Match": response["ETag"]})
        assert unread.status_code == 200
        assert post(api, item, If_Match=response["ETag"]).status_code == 200


def test_an_action_that_deletes_or_fails_has_none(api: APIClient, item: Item) -> None:
    refused = post(api, item, "refuse")
    assert refused.status_code == 422
    assert "ETag" not in refused
    gone = post(api, item, "wipe")
    assert gone.status_code == 204
    assert "ETag" not in gone
    assert post(api, item).status_code == 404


def test_an_action_is_one_transaction(api: APIClient, item: Item) -> None:
    before = tag_of(api, item)
    assert post(api, item, word="hey!").status_code == 400
    assert tag_of(api, item) == before


def test_locks_are_asked_for_the_name_of_the_action(api: APIClient, as_guido: APIClient, item: Item) -> None:
    as_guido.post(f"/item/{item.pk}/lock/", {"scope": ["add"]}, format="json")
    assert post(api, item).status_code == 409
    assert post(api, item, "elsewhere").status_code == 200
    assert api.patch(f"/item/{item.pk}/").status_code == 200
    assert post(as_guido, item).status_code == 200


def test_a_condition_may_be_required(api: APIClient, item: Item) -> None:
    response = api.post(f"/required/{item.pk}/publish/")
    assert response.status_code == 428
    tag = api.get(f"/required/{item.pk}/")["ETag"]
    done = api.post(f"/required/{item.pk}/publish/", headers={"If-Match": tag})
    assert done.status_code == 200


def test_a_method_of_a_generic_view(api: APIClient, item: Item) -> None:
    address = f"/publish/{item.pk}/"
    tag = tag_of(api, item)
    assert api.post(address, headers={"If-Match": tag}).json() == {"done": True}
    assert api.post(address, headers={"If-Match": tag}).status_code == 412
    assert api.post("/publish/9999/").status_code == 404


def test_what_it_is_called_is_kept() -> None:
    assert ItemView.add.__name__ == "add"
    assert ItemView.add.__doc__ == "Add a word."
    assert {a.__name__ for a in ItemView.get_extra_actions()} >= {"add", "wipe"}


def test_an_action_of_a_list_has_no_object_to_guard(rf: Any, item: Item) -> None:
    class ListView(ItemView):
        @action(detail=False, methods=["post"])
        @guarded
        def tidy(self, request: Any) -> Response:
            return Response({"text": self.get_object().text})

    class MineView(ListView):
        def get_object(self) -> Item:
            return self._locked or item

    call = {"actions": {"post": "tidy"}, "detail": False}
    with pytest.raises(ImproperlyConfigured, match=r"@action\(detail=True\) over ListView\.tidy"):
        ListView.as_view(**call)(rf.post("/"))
    assert MineView.as_view(**call)(rf.post("/")).data == {"text": item.text}
