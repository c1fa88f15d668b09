"""Which tables are captured, and what is known of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import override_settings

from drf_concord.triggers import postgresql
from drf_concord.triggers.plan import (
    Column,
    Table,
    Touch,
    account_labels,
    captured_models,
    known_names,
    moved_by_others,
    plan,
    present,
)
from tests.app.models import Bare, Folder, Item, Place, Restaurant, Slugged, Tag
from tests.kinds.models import Badge, Branch, Garden, Orchard, Review, Root, Yard
from tests.triggers.lab import ALIAS, Lab


def tables(using: str = "default") -> dict[str, Table]:
    return {table.name: table for table in plan(connections[using])}


def test_what_is_captured() -> None:
    labels = [model._meta.label for model in captured_models()]
    assert labels == sorted(labels)
    assert {"app.Item", "app.Restaurant", "app.Watched", "concord.Lock", *account_labels()} <= set(labels)
    assert not {"app.Bare", "app.Tag", "kinds.Yard", "concord.Change", "sessions.Session"} & set(labels)
    with override_settings(CONCORD={"CAPTURE": ["app.Bare"]}):
        assert Bare in captured_models()
    with override_settings(CONCORD={"CAPTURE": ["app.Nothing"]}), pytest.raises(LookupError):
        captured_models()


def test_accounts_are_users_groups_permissions_and_what_ties_them() -> None:
    assert account_labels() == {
        "auth.User",
        "auth.Group",
        "auth.Permission",
        "auth.User_groups",
        "auth.User_user_permissions",
        "auth.Group_permissions",
    }


def test_a_table_as_the_code_has_it() -> None:
    found = tables()["app_item"]
    assert (found.label, found.pk.name, found.version, found.recorded) == ("app.Item", "id", "version", True)
    names = [column.name for column in found.columns]
    assert names == ["text", "count", "notes", "hidden", "folder_id", "owner_id"]
    assert [column.name for column in found.routes] == ["folder_id", "owner_id"]
    assert found.touches == (Touch("folder_id", "app_folder", "id", "version", "items"),)
    through = tables()["app_item_tags"]
    assert not through.recorded
    assert through.touches == (Touch("item_id", "app_item", "id", "version", "tags"),)


def test_the_tables_of_an_inheriting_model_move_the_one_with_the_version() -> None:
    found = tables()
    assert not found["app_restaurant"].recorded
    assert found["app_restaurant"].touches == (Touch("place_ptr_id", "app_place", "id", "version", None),)
    for name in ("kinds_garden", "kinds_orchard"):
        assert {(t.target, t.via) for t in found[name].touches} == {("kinds_area", None)}


def test_a_table_that_is_captured_for_two_reasons(lab: Lab) -> None:
    """A many-to-many table with a version of its own, and a field that touches on a parent's table."""
    lab.write(
        """
class Tag(models.Model):
    name = models.CharField(max_length=9)

class Home(Versioned):
    tags = models.ManyToManyField(Tag, through="Tagging")

class Tagging(Versioned):
    home = models.ForeignKey(Home, on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE)

class Plant(Versioned):
    home = models.ForeignKey(Home, null=True, related_name="plants", on_delete=models.CASCADE)

class Tree(Plant):
    touches = ["home"]
    height = models.IntegerField(default=0)

class Bush(Plant):
    touches = ["shed"]
    shed = models.ForeignKey(Home, null=True, related_name="bushes", on_delete=models.CASCADE)
"""
    )
    found = tables(ALIAS)
    assert found["shop_tagging"].recorded
    assert found["shop_tagging"].touches == (Touch("home_id", "shop_home", "id", "version", "tags"),)
    assert found["shop_plant"].touches == (Touch("home_id", "shop_home", "id", "version", "plants"),)
    assert found["shop_plant"].recorded
    assert {(t.target, t.via) for t in found["shop_bush"].touches} == {
        ("shop_plant", None),
        ("shop_home", "bushes"),
    }
    assert found["shop_bush"].bounds


def test_what_cannot_be_followed_is_left_out(lab: Lab) -> None:
    shop = lab.write(
        """
class One(models.Model):
    one_id = models.BigAutoField(primary_key=True)

class Two(Versioned):
    two_id = models.BigAutoField(primary_key=True)
    code = models.CharField(max_length=9, unique=True)

class Three(Two):
    serial = models.CharField(max_length=9, unique=True)

class Both(One, Two):
    text = models.CharField(max_length=9)

class Third(Both):
    more = models.CharField(max_length=9)

class Child(Versioned):
    touches = ["by_key", "by_code", "by_serial", "both"]
    by_key = models.ForeignKey(Three, related_name="+", on_delete=models.CASCADE)
    by_code = models.ForeignKey(Two, to_field="code", related_name="+", on_delete=models.CASCADE)
    by_serial = models.ForeignKey(Three, to_field="serial", related_name="+", on_delete=models.CASCADE)
    both = models.ForeignKey(Both, related_name="+", on_delete=models.CASCADE)

class Composite(Versioned):
    pk = models.CompositePrimaryKey("one", "two")
    one = models.IntegerField()
    two = models.IntegerField()
"""
    )
    found = tables(ALIAS)
    assert found["shop_both"].touches == (Touch("two_ptr_id", "shop_two", "two_id", "version", None),)
    assert found["shop_third"].touches == ()  # its keys are those of the first base
    assert "shop_one" not in found
    assert "shop_composite" not in found
    assert found["shop_child"].touches == (
        Touch("by_key_id", "shop_two", "two_id", "version", "by_key"),
        Touch("by_code_id", "shop_two", "code", "version", "by_code"),
    )
    assert known_names(shop.Third) is None
    assert known_names(shop.Both) is None
    assert known_names(shop.Two) is not None


TABLE = Table(
    "app.Item",
    "item",
    Column("id"),
    "version",
    (Column("a"), Column("b")),
    (Column("b"),),
    (Touch("b", "folder", "id", "version", "items"),),
)
FOLDER = {"id": "bigint", "version": "bigint"}
ITEM = FOLDER | {"a": "text", "b": "bigint"}


def test_only_what_is_in_the_database_is_named() -> None:
    whole = present(TABLE, {"item": ITEM, "folder": FOLDER})
    assert whole is not None
    assert whole.columns == (Column("a", "text"), Column("b", "bigint"))
    assert whole.touches == TABLE.touches

    def without(table: str, column: str) -> Any:
        there: dict[str, dict[str, str]] = {"item": dict(ITEM), "folder": dict(FOLDER)}
        del there[table][column]
        return present(TABLE, there)

    assert without("item", "a").columns == (Column("b", "bigint"),)
    assert (without("item", "b").routes, without("item", "b").touches) == ((), ())
    assert without("item", "id") is without("item", "version") is None
    assert without("folder", "id").touches == without("folder", "version").touches == ()
    assert present(TABLE, {"item": ITEM}).touches == ()  # type: ignore[union-attr]
    assert present(TABLE, {}) is None
    assert present(replace(TABLE, recorded=False), {"item": ITEM, "folder": FOLDER}) is not None
    assert present(replace(TABLE, recorded=False), {"item": ITEM}) is None
    assert present(replace(TABLE, recorded=False, bounds=True), {"item": ITEM}) is not None


def test_what_an_earlier_release_kept_beside_its_functions_is_read() -> None:
    kept = json.loads(postgresql._about(TABLE))
    del kept["bounds"]
    assert postgresql._described(json.dumps(kept)).bounds is False


def test_a_name_stays_when_a_table_is_renamed() -> None:
    found = tables()
    assert len({table.digest for table in found.values()}) == len(found)


def test_rows_that_statements_on_other_tables_move() -> None:
    assert all(moved_by_others(model) for model in (Folder, Item, Place, Restaurant, Orchard, Root))
    assert not any(moved_by_others(model) for model in (Slugged, Badge))


def test_the_names_by_which_a_change_can_go() -> None:
    assert known_names(Folder) == {"id", "version", "name", "items"}
    assert (known_names(Item) or set()) >= {"text", "folder_id", "tags"}
    assert known_names(Restaurant) == known_names(Place)
    assert (known_names(Place) or set()) >= {"name", "stars"}
    assert known_names(Yard) == known_names(Garden)
    assert (known_names(Orchard) or set()) >= {"name", "trees", "fruit"}
    assert (known_names(Branch) or set()) >= {"root_id", "leaves"}
    for model in (Bare, Tag, User, Review):
        assert known_names(model) is None


def test_nothing_is_kept_of_apps_that_are_not_installed(lab: Lab) -> None:
    assert account_labels() == frozenset()
    assert [table.name for table in plan(connections[ALIAS])] == ["concord_lock"]
