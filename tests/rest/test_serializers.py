"""The tag of an object in its own body."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework import serializers

from drf_concord.protocol.etags import parse_tag, version_of
from drf_concord.rest.serializers import ETagField
from tests.app.models import Bare, Folder, Item, Restaurant

pytestmark = pytest.mark.django_db


class ItemSerializer(serializers.ModelSerializer):
    tag = ETagField()

    class Meta:
        model = Item
        fields = ["id", "tag", "text"]


class FolderSerializer(serializers.ModelSerializer):
    items = ItemSerializer(many=True)

    class Meta:
        model = Folder
        fields = ["id", "items"]


def test_lists_carry_a_tag_per_row_that_guards_a_write(api: Any) -> None:
    Item.objects.bulk_create(Item(text=str(n)) for n in range(3))
    for row in api.get("/tagged/").json():
        changed = api.patch(f"/tagged/{row['id']}/", {"text": "x"}, headers={"If-Match": row["etag"]})
        assert changed.status_code == 200
        assert changed.json()["etag"].partition("-")[0] == changed["ETag"].partition("-")[0]
        refused = api.patch(f"/tagged/{row['id']}/", {"text": "y"}, headers={"If-Match": row["etag"]})
        assert refused.status_code == 412


def test_the_version_is_in_it() -> None:
    item = Item.objects.create(text="one")
    tag = parse_tag(ItemSerializer(item).data["tag"])
    assert version_of(tag) == item.version
    assert not tag.weak


def test_nested_and_inherited() -> None:
    folder = Folder.objects.create()
    item = Item.objects.create(folder=folder)
    (row,) = FolderSerializer(folder).data["items"]
    assert version_of(parse_tag(row["tag"])) == item.version
    restaurant = Restaurant.objects.create(name="r")
    assert version_of(parse_tag(ETagField().to_representation(restaurant) or "")) == restaurant.version


def test_a_model_without_a_version_has_none() -> None:
    assert ETagField().to_representation(Bare.objects.create()) is None


def test_it_is_never_written() -> None:
    item = Item.objects.create(text="one")
    serializer = ItemSerializer(item, data={"tag": '"x"', "text": "two"})
    assert serializer.is_valid()
    assert serializer.validated_data == {"text": "two"}
    assert ETagField(required=False).read_only
