"""Merging a PATCH for an older state where it touches nothing that changed since."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings
from django.urls import include, path
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.models import Change
from drf_concord.rest import viewsets
from drf_concord.rest.decorators import guarded
from tests.app.models import Bare, Event, Folder, Item, Tag
from tests.app.urls import urlpatterns as app_patterns

from .conftest import AtTheGate, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class ItemSerializer(serializers.ModelSerializer):
    shout = serializers.SerializerMethodField()
    hidden = serializers.CharField(write_only=True, required=False)

    class Meta:
        model = Item
        fields = ["id", "text", "count", "notes", "tags", "folder", "hidden", "shout"]

    def get_shout(self, item: Item) -> str:
        return item.text.upper()


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    merge = "disjoint"
    field_groups = [("text", "count"), ("folder", "hidden", "unknown")]

    @action(detail=True, methods=["patch"])
    @guarded
    def mark(self, request: Any, pk: Any = None) -> Response:
        return Response({"marked": True})


class PlainView(ItemView):
    merge = None


class WritableSerializer(serializers.ModelSerializer):
    """Writes to what no column of the row tells."""

    folder_name = serializers.CharField(source="folder.name")
    both = serializers.DictField(source="*", required=False, write_only=True)

    class Meta:
        model = Item
        fields = ["id", "notes", "count", "folder_name", "both"]

    def update(self, item: Item, validated_data: Any) -> Item:
        assert item.folder is not None
        if "folder" in validated_data:
            item.folder.name = validated_data.pop("folder")["name"]
            item.folder.save()
        return super().update(item, validated_data)


class WritableView(ItemView):
    serializer_class = WritableSerializer


class SpanSerializer(serializers.ModelSerializer):
    """A start that is never after the end."""

    class Meta:
        model = Event
        fields = ["id", "title", "start", "end", "paper"]

    def validate(self, attrs: Any) -> Any:
        start = attrs.get("start")
        end = attrs.get("end")
        if start and end and start > end:
            raise serializers.ValidationError("ends before it starts")
        return attrs


class SpanView(viewsets.ModelViewSet):
    queryset = Event.objects.order_by("pk")
    serializer_class = SpanSerializer
    merge = "disjoint"


class BareView(viewsets.ModelViewSet):
    queryset = Bare.objects.order_by("pk")
    merge = "disjoint"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Bare
            fields = ["id", "text"]


router = SimpleRouter()
for name, view in {
    "item": ItemView, "plain": PlainView, "writable": WritableView, "span": SpanView, "bare": BareView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls)), *app_patterns]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one", notes=" kept ", folder=Folder.objects.create(name="f"))


def tag_of(api: APIClient, address: str) -> str:
    return api.get(address)["ETag"]


def patch(
    api: APIClient, address: str, data: Any, base: str, prefer: str = "merge=disjoint", **headers: str
) -> Any:
    given = {"If-Match": base, "Prefer": prefer, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return api.patch(address, data, format="json", headers=given)


def merged(response: Any) -> bool:
    """Whether it was, which its body and its headers say alike."""
    if response.status_code == 200:
        applied = "Preference-Applied" in response
        assert applied is response.json().get("merged", False)
        return applied
    assert response.status_code == 412
    assert response.json()["code"] == "version_mismatch"
    assert "merged" not in response.json()
    assert "Preference-Applied" not in response
    return False


def test_two_changes_that_do_not_touch(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    assert not merged(patch(api, address, {"notes": "theirs"}, base))

    response = patch(api, address, {"text": "mine"}, base)
    assert merged(response)
    assert response["Preference-Applied"] == "merge=disjoint"
    seen = api.get(address)
    assert response.json() == {**seen.json(), "merged": True}
    assert (seen.json()["text"], seen.json()["notes"]) == ("mine", "theirs")
    # the tag is good for the next write, and is not that of a body a GET returns
    assert response["ETag"].partition("-")[0] == seen["ETag"].partition("-")[0]
    assert api.get(address, headers={"If-None-Match": response["ETag"]}).status_code == 200
    assert not merged(patch(api, address, {"count": 2}, response["ETag"]))


def test_two_changes_of_one_field(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    refused = patch(api, address, {"notes": "mine", "text": "mine"}, base)
    assert not merged(refused)
    assert refused.json()["mergeable"] is False
    assert refused.json()["conflicting_fields"] == ["notes"]
    item.refresh_from_db()
    assert (item.notes, item.text) == ("theirs", "one")


@pytest.mark.rfc("9110", "13.1.1", "without the client's consent nothing is done when If-Match is false")
@pytest.mark.parametrize(
    ("prefer", "consents"),
    [
        ("merge=disjoint", True),
        ('respond-async, Merge = "disjoint"; x=1', True),
        ("merge", False),
        ("merge=all", False),
        ("x-merge=disjoint", False),
        ("", False),
    ],
)
@pytest.mark.rfc("7240", "2", "a preference is one of a list, with parameters")
def test_the_client_has_to_ask(api: APIClient, item: Item, prefer: str, consents: bool) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    response = patch(api, address, {"text": "mine"}, base, prefer)
    assert merged(response) is consents
    if not consents:
        assert response.json()["mergeable"] is True
        item.refresh_from_db()
        assert item.text == "one"


def test_the_view_has_to_allow_it(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/plain/{item.pk}/")
    Item.objects.update(notes="theirs")
    refused = patch(api, f"/plain/{item.pk}/", {"text": "mine"}, base)
    assert not merged(refused)
    assert "mergeable" not in refused.json()


@pytest.mark.parametrize("method", ["put", "delete"])
def test_only_a_patch_is_merged(api: APIClient, item: Item, method: str) -> None:
    address = f"/item/{item.pk}/"
    base, body = tag_of(api, address), api.get(address).json()
    Item.objects.update(notes="theirs")
    headers = {"If-Match": base, "Prefer": "merge=disjoint"}
    refused = getattr(api, method)(address, body, format="json", headers=headers)
    assert not merged(refused)
    assert "mergeable" not in refused.json()
    marked = api.patch(f"{address}mark/", {}, format="json", headers=headers)
    assert marked.status_code == 412


def test_fields_that_hang_together_count_as_one(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(count=5)
    assert not merged(patch(api, address, {"text": "mine"}, base))
    assert merged(patch(api, address, {"notes": "mine"}, base))
    base = tag_of(api, address)
    Item.objects.update(hidden="theirs")
    assert not merged(patch(api, address, {"folder": None}, base))
    assert merged(patch(api, address, {"count": 1}, base))


def test_a_column_that_nobody_shows_conflicts_too(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(hidden="theirs")
    refused = patch(api, address, {"hidden": "mine"}, base)
    assert not merged(refused)
    assert "hidden" not in refused.content.decode()
    item.refresh_from_db()
    assert item.hidden == "theirs"


def test_a_many_to_many_is_one_field(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
    item.tags.add(red)
    assert not merged(patch(api, address, {"tags": [blue.pk]}, base))
    assert merged(patch(api, address, {"notes": "mine"}, base))
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    response = patch(api, address, {"tags": [blue.pk]}, base)
    assert merged(response)
    assert (response.json()["tags"], response.json()["notes"]) == ([blue.pk], "theirs")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("writable", {"folder_name": "g"}),
        ("writable", {"both": {"count": 3}}),
        ("item", {"nothing": 1}),
        ("item", {"notes": "mine", "nothing": 1}),
    ],
)
def test_what_has_no_column_conflicts(api: APIClient, item: Item, name: str, data: Any) -> None:
    address = f"/{name}/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(text="theirs")
    assert not merged(patch(api, address, data, base))


def test_what_cannot_be_written_is_no_conflict(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    response = patch(api, address, {"count": 3, "shout": "x", "id": 7}, base)
    assert merged(response)
    assert (response.json()["id"], response.json()["count"]) == (item.pk, 3)


def test_what_was_not_sent_stays_to_the_letter(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/item/{item.pk}/")
    Item.objects.update(folder=None)
    assert merged(patch(api, f"/item/{item.pk}/", {"text": "mine"}, base))
    item.refresh_from_db()
    assert item.notes == " kept "  # a serializer strips blanks, so it was not written back


def test_the_whole_has_to_be_valid(api: APIClient) -> None:
    event = Event.objects.create(start=DAY, end=DAY + dt.timedelta(days=9), paper="a.txt")
    address = f"/span/{event.pk}/"
    base = tag_of(api, address)
    assert patch(api, address, {"end": "2026-01-02T00:00:00Z"}, base).status_code == 200

    refused = patch(api, address, {"start": "2026-01-05T00:00:00Z"}, base)
    assert not merged(refused)
    assert refused.json()["mergeable"] is False
    assert refused.json()["conflicting_fields"] == []
    event.refresh_from_db()
    assert event.start == DAY
    assert merged(patch(api, address, {"start": "2026-01-01T12:00:00Z", "title": "t"}, base))
    assert event.paper == "a.txt"


def test_what_is_wrong_by_itself_is_400(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    wrong = patch(api, address, {"count": "x"}, base)
    assert wrong.status_code == 400
    assert set(wrong.json()) == {"count"}
    for data in ([1], "text"):
        assert patch(api, address, data, base).status_code == 412
    headers = {"If-Match": base, "Prefer": "merge=disjoint"}
    assert api.patch(address, {"text": "mine"}, headers=headers).status_code == 412  # a form
    broken = api.generic("PATCH", address, "{", "application/json", headers=headers)
    assert broken.status_code == 412


def test_a_gap_in_the_log(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    Change.objects.all().delete()
    refused = patch(api, address, {"text": "mine"}, base)
    assert not merged(refused)
    assert "mergeable" not in refused.json()


@pytest.mark.parametrize("base", ['"x"', '"0-0"', '"zzzzzzzzzz-0"'])
def test_a_tag_nobody_gave_out(api: APIClient, item: Item, base: str) -> None:
    assert not merged(patch(api, f"/item/{item.pk}/", {"text": "mine"}, base))


def test_other_conditions_are_no_consent(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    assert not merged(patch(api, address, {"text": "mine"}, base, If_None_Match='"x-1"'))
    dated = {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT", "Prefer": "merge=disjoint"}
    assert api.patch(address, {"text": "mine"}, format="json", headers=dated).status_code == 412
    assert not merged(patch(api, address, {"text": "mine"}, "*"))


def test_a_model_without_a_version(api: APIClient) -> None:
    bare = Bare.objects.create(text="a")
    base = tag_of(api, f"/bare/{bare.pk}/")
    Bare.objects.update(text="b")
    refused = patch(api, f"/bare/{bare.pk}/", {}, base)
    assert not merged(refused)


def test_a_lock_comes_first(api: APIClient, as_guido: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(notes="theirs")
    as_guido.post(f"{address}lock/")
    assert patch(api, address, {"text": "mine"}, base).status_code == 409
    assert merged(patch(as_guido, address, {"text": "mine"}, base))


def test_what_is_written_at_the_gate_counts(api: APIClient, item: Item, at_the_gate: AtTheGate) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    at_the_gate(lambda: Item.objects.update(notes="theirs"))
    assert merged(patch(api, address, {"text": "mine"}, base))
    base = tag_of(api, address)
    at_the_gate(lambda: Item.objects.update(text="theirs"))
    assert not merged(patch(api, address, {"text": "mine"}, base))


@pytest.mark.django_db(transaction=True)
@override_settings(CONCORD={"LOCK_TIMEOUT": 20})
def test_two_who_write_different_fields_all_the_time_lose_nothing() -> None:
    item = Item.objects.create()
    wrong: list[Any] = []
    start = threading.Barrier(2)

    def write(name: str) -> None:
        api = client_of(None)
        try:
            start.wait()
            base = tag_of(api, f"/item/{item.pk}/")
            for n in range(1, 9):
                value = n if name == "count" else str(n)
                response = patch(api, f"/item/{item.pk}/", {name: value}, base)
                if response.status_code != 200:
                    wrong.append(response.json())
                    return
                base = response["ETag"]
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=[name]) for name in ("count", "notes")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    item.refresh_from_db()
    assert (item.count, item.notes) == (8, "8")
