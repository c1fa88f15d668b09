"""From tags and fields to columns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import models
from rest_framework import serializers

from drf_concord.protocol.preconditions import Preconditions
from drf_concord.rest import columns
from drf_concord.rest.serializers import ETagField
from tests.app.models import Folder, Item, Restaurant


class ItemSerializer(serializers.ModelSerializer):
    etag = ETagField()
    title = serializers.CharField(source="text")
    folder_id = serializers.PrimaryKeyRelatedField(source="folder", queryset=Folder.objects.all())
    folder_name = serializers.CharField(source="folder.name", read_only=True)
    shout = serializers.SerializerMethodField()

    class Meta:
        model = Item
        fields = ["id", "etag", "title", "folder_id", "folder", "folder_name", "shout", "tags", "__str__"]

    def get_shout(self, item: Item) -> str:
        return item.text.upper()


def test_what_column_a_field_shows() -> None:
    fields = columns.fields_of(ItemSerializer())
    assert {name: columns.column_of(field, Item) for name, field in fields.items()} == {
        "id": "id",
        "etag": None,
        "title": "text",
        "folder_id": "folder_id",
        "folder": "folder_id",
        "folder_name": "folder_id",
        "shout": None,
        "tags": "tags",
        "__str__": None,
    }
    assert columns.column_of(None, Item) is None


@pytest.mark.parametrize(
    ("model", "name", "column"),
    [
        (Item, "text", "text"),
        (Item, "folder", "folder_id"),
        (Item, "folder_id", "folder_id"),
        (Item, "tags", "tags"),
        (Folder, "items", "items"),
        (Folder, "item", None),
        (Restaurant, "name", "name"),
        (Restaurant, "stars", "stars"),
        (Item, "pk", None),
        (Item, "", None),
    ],
)
def test_the_column_of_an_attribute(model: type[models.Model], name: str, column: str | None) -> None:
    assert columns.column_named(name, model) == column


def conditions(if_match: str | None) -> Preconditions:
    return Preconditions.parse({"If-Match": if_match}.get)


@pytest.mark.parametrize(
    ("if_match", "base"),
    [
        (None, None),
        ("*", None),
        ('"x"', '"x"'),
        ('"1-0", W/"3-0", "2-0"', 'W/"3-0"'),
        ('"x", "1-0"', '"1-0"'),
    ],
)
def test_the_newest_state_that_is_named(if_match: str | None, base: str | None) -> None:
    found = columns.base_of(conditions(if_match))
    assert (None if found is None else str(found)) == base


@pytest.mark.parametrize("base", [None, 5, 6])
def test_nothing_is_looked_up_for_a_state_that_is_not_older(base: int | None) -> None:
    # without a database, so a query would fail
    assert columns.changed_columns(Item(pk=1), base, 5, "default") is None


@pytest.mark.parametrize(
    ("data", "names"), [({"title": 1, "x": 2}, {"title", "x"}), ({}, set()), ([1], set()), ("text", set())]
)
def test_what_a_body_names(data: Any, names: set[str]) -> None:
    view = SimpleNamespace(request=SimpleNamespace(data=data), get_serializer=lambda _: ItemSerializer())
    found = columns.submitted_fields(view, Item())
    assert set(found) == names
    assert found.get("x") is None
    assert ("title" in found) is (found.get("title") is not None)


def test_a_serializer_without_fields_has_none() -> None:
    assert columns.fields_of(serializers.BaseSerializer()) == {}
