"""What a refusal says: the state of now, what changed, and nothing a GET would not show."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.urls import include, path
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.models import Change
from drf_concord.protocol.etags import encode_version, parse_tag, version_of
from drf_concord.rest import viewsets
from drf_concord.rest.serializers import ETagField
from drf_concord.triggers import VENDORS
from tests.app.models import Bare, Event, Folder, Item, Place, Restaurant, Tag
from tests.app.urls import urlpatterns as app_patterns

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("both_ways")]


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "count", "notes"]


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer


class QuietView(ItemView):
    conflict_current = False


class NamingView(ItemView):
    conflict_actor = True

    def check_object_permissions(self, request: Any, obj: Any) -> None:
        if request.method not in SAFE_METHODS and obj.notes == "nobody may change me":
            raise PermissionDenied


class RenamedSerializer(serializers.ModelSerializer):
    """Names of its own, a write-only field, two fields of one column, and computed ones."""

    etag = ETagField()
    title = serializers.CharField(source="text")
    heading = serializers.CharField(source="text", read_only=True)
    hidden = serializers.CharField(write_only=True, required=False)
    folder_id = serializers.PrimaryKeyRelatedField(
        source="folder", queryset=Folder.objects.all(), write_only=True, required=False
    )
    folder = serializers.StringRelatedField()
    folder_name = serializers.CharField(source="folder.name", read_only=True)
    shout = serializers.SerializerMethodField()

    class Meta:
        model = Item
        fields = [
            "id", "etag", "title", "heading", "hidden", "folder_id", "folder", "folder_name", "shout", "tags"
        ]  # fmt: skip

    def get_shout(self, item: Item) -> str:
        return item.text.upper()


class RenamedView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = RenamedSerializer


class PersonalSerializer(ItemSerializer):
    """Shows the notes to staff only."""

    def get_fields(self) -> Any:
        fields = super().get_fields()
        if not self.context["request"].user.is_staff:
            fields.pop("notes")
        return fields


class PersonalView(ItemView):
    serializer_class = PersonalSerializer


class TwoSerializersView(ItemView):
    """Reads with one serializer and writes with another."""

    class Writing(serializers.ModelSerializer):
        new_text = serializers.CharField(source="text")

        class Meta:
            model = Item
            fields = ["new_text"]

    def get_serializer_class(self) -> Any:
        return ItemSerializer if self.action == "retrieve" else self.Writing


class FolderView(viewsets.ModelViewSet):
    queryset = Folder.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        items = ItemSerializer(many=True, read_only=True)

        class Meta:
            model = Folder
            fields = ["id", "name", "items"]


class RestaurantView(viewsets.ModelViewSet):
    queryset = Restaurant.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Restaurant
            fields = ["id", "name", "stars"]


class EventView(viewsets.ModelViewSet):
    queryset = Event.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Event
            fields = ["id", "title", "saved_at"]


router = SimpleRouter()
for name, view in {
    "item": ItemView, "quiet": QuietView, "naming": NamingView, "renamed": RenamedView,
    "personal": PersonalView, "folder": FolderView, "two": TwoSerializersView,
    "restaurant": RestaurantView, "event": EventView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls)), *app_patterns]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one", folder=Folder.objects.create(name="f"))


def refused(api: APIClient, address: str, data: Any, base: str, method: str = "patch", **headers: str) -> Any:
    """The 412 to a write with an old tag, and that its tag is good at once."""
    given = {"If-Match": base, **{k.replace("_", "-"): v for k, v in headers.items()}}
    response = getattr(api, method)(address, data, format="json", headers=given)
    assert response.status_code == 412, response.content
    return response


def tag_of(api: APIClient, address: str) -> str:
    return api.get(address)["ETag"]


# --------------------------------------------------------------------------------------- the body


def test_the_body_of_a_412(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.filter(pk=item.pk).update(text="theirs")
    Item.objects.filter(pk=item.pk).update(notes="theirs", hidden="theirs")
    item.refresh_from_db()

    response = refused(api, address, {"text": "mine", "count": 2}, base)
    body = response.json()
    seen = api.get(address)
    modified = dt.datetime.fromisoformat(body.pop("modified_at"))
    assert round(modified.timestamp() * 1_000_000) == item.version
    assert body == {
        "detail": body["detail"],
        "code": "version_mismatch",
        "current_etag": seen["ETag"],
        "your_etag": base,
        "changed_fields": ["notes", "text"],
        "conflicting_fields": ["text"],
        "current": seen.json(),
    }
    assert response["ETag"] == seen["ETag"]

    again = api.patch(address, {"text": "mine"}, headers={"If-Match": body["current_etag"]})
    assert again.status_code == 200
    assert again.json()["notes"] == "theirs"


def test_a_412_names_who_wrote_last_where_the_view_says_so(api: APIClient, item: Item) -> None:
    ada, guido = (get_user_model().objects.create(username=name) for name in ("ada", "guido"))
    address = f"/naming/{item.pk}/"
    base = tag_of(api, address)
    api.force_authenticate(ada)
    assert api.patch(address, {"text": "hers"}).status_code == 200
    api.force_authenticate(guido)
    quiet = refused(api, f"/item/{item.pk}/", {"text": "his"}, base).json()
    assert "modified_by" not in quiet
    assert refused(api, address, {"text": "his"}, base).json().get("modified_by") == (
        "ada" if connection.vendor in VENDORS else None
    )

    # who does not say who he is, and who may only read, is not told
    api.force_authenticate(None)
    assert "modified_by" not in refused(api, address, {"text": "?"}, base).json()
    Item.objects.filter(pk=item.pk).update(notes="nobody may change me")
    api.force_authenticate(guido)
    read = api.get(address, headers={"If-Match": base})
    assert (read.status_code, "modified_by" in read.json()) == (412, False)

    # what bypassed the API has no name
    Item.objects.filter(pk=item.pk).update(notes="")
    assert refused(api, address, {"text": "his"}, base).json()["modified_by"] is None


@pytest.mark.parametrize("name", ["items", "tagged", "slugged", "places", "restaurants", "keyed", "content"])
def test_the_current_etag_is_the_one_of_a_get(api: APIClient, name: str) -> None:
    field = {"slugged": "title", "places": "name", "restaurants": "name"}.get(name, "text")
    body = api.post(f"/{name}/", {field: "one", "tags": []}, format="json").json()
    address = f"/{name}/{body.get('id') or body.get('place_ptr')}/"
    base = tag_of(api, address)
    api.patch(address, {field: "two"}, format="json")

    for method in ("put", "patch", "delete"):
        response = refused(api, address, {**body, field: "x"}, base, method)
        assert response.json()["current_etag"] == tag_of(api, address) != base
        assert response.json()["current"] == api.get(address).json()


def test_a_view_may_keep_the_current_state_to_itself(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/quiet/{item.pk}/")
    Item.objects.update(notes="theirs")
    body = refused(api, f"/quiet/{item.pk}/", {"text": "x"}, base).json()
    assert "current" not in body
    assert body["changed_fields"] == ["notes"]
    assert body["conflicting_fields"] == []


def test_the_query_of_the_write_does_not_change_what_is_shown(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/item/{item.pk}/")
    Item.objects.update(notes="theirs")
    body = refused(api, f"/item/{item.pk}/?fields=text", {"text": "x"}, base).json()
    assert body["current"] == api.get(f"/item/{item.pk}/").json()


def test_your_etag_is_the_newest_that_was_named(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    old = tag_of(api, address)
    Item.objects.update(notes="a")
    newer = tag_of(api, address)
    Item.objects.update(count=9)

    body = refused(api, address, {"count": 1}, f'"x", {old}, W/{newer}').json()
    assert body["your_etag"] == f"W/{newer}"
    assert body["changed_fields"] == ["count"]


@pytest.mark.parametrize("foreign", ['"x"', '"x-y"', 'W/"abc"', '"0-0"'])
def test_a_tag_the_log_cannot_follow_has_no_changed_fields(api: APIClient, item: Item, foreign: str) -> None:
    body = refused(api, f"/item/{item.pk}/", {"text": "x"}, foreign).json()
    assert body["your_etag"] == foreign
    assert not {"changed_fields", "conflicting_fields"} & set(body)
    assert {"current", "current_etag", "modified_at"} <= set(body)


def test_a_tag_of_the_future_has_no_changed_fields(api: APIClient, item: Item) -> None:
    ahead = f'"{encode_version(item.version + 10**9)}-0"'
    body = refused(api, f"/item/{item.pk}/", {"text": "x"}, ahead).json()
    assert "changed_fields" not in body


def test_a_gap_in_the_log_is_not_guessed_over(api: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(text="a")
    Item.objects.update(notes="b")
    assert refused(api, address, {}, base).json()["changed_fields"] == ["notes", "text"]

    gone = Change.objects.filter(model="app.Item", op="U").order_by("id").first()
    assert gone is not None
    gone.delete()
    assert "changed_fields" not in refused(api, address, {}, base).json()


def test_a_precondition_by_date_has_no_base(api: APIClient, item: Item) -> None:
    since = {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}
    body = api.patch(f"/item/{item.pk}/", {"text": "x"}, headers=since).json()
    assert body["code"] == "version_mismatch"
    assert not {"your_etag", "changed_fields"} & set(body)
    assert body["current_etag"] == tag_of(api, f"/item/{item.pk}/")


def test_a_428_names_the_tag_and_nothing_else(api: APIClient, item: Item) -> None:
    body = api.patch(f"/required/{item.pk}/", {"text": "x"}).json()
    assert set(body) == {"detail", "code", "current_etag"}


def test_a_model_without_versions(api: APIClient) -> None:
    bare = Bare.objects.create(text="a")
    base = tag_of(api, f"/content/{bare.pk}/")
    Bare.objects.update(text="b")
    body = refused(api, f"/content/{bare.pk}/", {"text": "c"}, base).json()
    assert set(body) == {"detail", "code", "current_etag", "your_etag", "current"}


# ------------------------------------------------------------------------------- names of fields


def test_names_are_those_of_the_serializer(api: APIClient, item: Item) -> None:
    address = f"/renamed/{item.pk}/"
    base = tag_of(api, address)
    Item.objects.update(text="theirs", hidden="theirs", notes="theirs")

    body = refused(api, address, {"title": "mine", "hidden": "mine"}, base).json()
    assert body["changed_fields"] == ["heading", "title"]
    assert body["conflicting_fields"] == ["heading", "title"]
    assert "hidden" not in str(body)
    assert "notes" not in str(body)
    assert body["current"]["etag"].partition("-")[0] == body["current_etag"].partition("-")[0]


def test_a_hidden_column_appears_as_nothing(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/renamed/{item.pk}/")
    Item.objects.update(hidden="theirs")
    body = refused(api, f"/renamed/{item.pk}/", {"title": "mine", "hidden": "mine"}, base).json()
    assert body["changed_fields"] == body["conflicting_fields"] == []


def test_a_field_that_writes_what_another_shows_conflicts_with_it(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/renamed/{item.pk}/")
    other = Folder.objects.create(name="g")
    Item.objects.update(folder=other)
    body = refused(api, f"/renamed/{item.pk}/", {"folder_id": item.folder_id}, base).json()
    assert body["changed_fields"] == ["folder", "folder_name"]
    assert body["conflicting_fields"] == ["folder", "folder_name"]


def test_a_view_that_reads_and_writes_with_different_serializers(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/two/{item.pk}/")
    Item.objects.update(text="theirs", notes="theirs")
    body = refused(api, f"/two/{item.pk}/", {"new_text": "mine"}, base).json()
    assert body["changed_fields"] == ["notes", "text"]
    assert body["conflicting_fields"] == ["text"]
    assert body["current"]["notes"] == "theirs"
    assert body["current_etag"] == tag_of(api, f"/two/{item.pk}/")


def test_a_many_to_many_goes_by_its_name(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/renamed/{item.pk}/")
    item.tags.add(Tag.objects.create(name="red"))
    body = refused(api, f"/renamed/{item.pk}/", {"tags": []}, base).json()
    assert body["changed_fields"] == body["conflicting_fields"] == ["tags"]


def test_rows_that_a_parent_shows_go_by_the_name_of_the_relation(api: APIClient, item: Item) -> None:
    address = f"/folder/{item.folder_id}/"
    base = tag_of(api, address)
    Item.objects.update(text="theirs")
    body = refused(api, address, {"name": "mine"}, base).json()
    assert body["changed_fields"] == ["items"]
    assert body["current"]["items"][0]["text"] == "theirs"


def test_columns_of_an_inheriting_model(api: APIClient) -> None:
    restaurant = Restaurant.objects.create(name="r", stars=1)
    address = f"/restaurant/{restaurant.pk}/"
    base = tag_of(api, address)
    Restaurant.objects.update(stars=2)
    assert refused(api, address, {"stars": 3}, base).json()["conflicting_fields"] == ["stars"]
    Place.objects.update(name="p")
    body = refused(api, address, {"stars": 3}, base).json()
    assert body["changed_fields"] == ["name", "stars"]
    assert body["conflicting_fields"] == ["stars"]


def test_columns_that_a_save_changes_by_itself(api: APIClient) -> None:
    event = Event.objects.create(title="a")
    base = tag_of(api, f"/event/{event.pk}/")
    event.title = "b"
    event.save()
    body = refused(api, f"/event/{event.pk}/", {}, base).json()
    assert body["changed_fields"] == ["saved_at", "title"]


def test_fields_of_the_caller(api: APIClient, as_boss: APIClient, item: Item) -> None:
    address = f"/personal/{item.pk}/"
    base, theirs = tag_of(api, address), tag_of(as_boss, address)
    assert version_of(parse_tag(base)) == version_of(parse_tag(theirs))
    Item.objects.update(notes="for staff")

    body = refused(api, address, {"notes": "x"}, base).json()
    assert body["changed_fields"] == []
    assert "for staff" not in str(body)
    body = refused(as_boss, address, {"notes": "x"}, base).json()
    assert body["changed_fields"] == ["notes"]
    assert body["current"]["notes"] == "for staff"


def test_a_base_that_was_raw_sql(api: APIClient, item: Item) -> None:
    base = tag_of(api, f"/item/{item.pk}/")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE app_item SET notes = 'raw', hidden = %s", [make_password("x")])
    assert refused(api, f"/item/{item.pk}/", {"notes": "x"}, base).json()["conflicting_fields"] == ["notes"]
