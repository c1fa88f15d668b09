"""A list that is asked for its changes from time to time."""

from __future__ import annotations

import random
from itertools import count
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, models, transaction
from django.test import override_settings
from django.urls import include, path
from rest_framework.decorators import action
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.test import APIClient

from drf_concord import changes as log
from drf_concord.live.invalidation import invalidate
from drf_concord.live.looks import pks_in
from drf_concord.models import Change
from drf_concord.protocol import held
from drf_concord.rest import following, viewsets
from drf_concord.websocket.dispatch import methods_of
from tests.app.models import Bare, Item, Keyed, Texted
from tests.app.views import ContentViewSet, ItemSerializer, KeyedViewSet, TextedViewSet

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
]


class Two(PageNumberPagination):
    page_size = 2


class Items(viewsets.ModelViewSet):
    """Open rows and one's own, of a number where one is named; in pages."""

    serializer_class = ItemSerializer
    pagination_class = Two

    def get_queryset(self) -> Any:
        rows = Item.objects.filter(models.Q(owner=None) | models.Q(owner_id=self.request.user.pk))
        return rows.order_by("pk")

    def filter_queryset(self, queryset: Any) -> Any:
        wanted = self.request.query_params.get("count")
        return super().filter_queryset(queryset if wanted is None else queryset.filter(count=wanted))


class Strict(Items):
    """Filters by whatever the query names."""

    def filter_queryset(self, queryset: Any) -> Any:
        given = self.request.query_params.dict()
        given.pop("page", None)
        return queryset.filter(**given)


class Closed(Items):
    def get_permissions(self) -> Any:
        """Asks what is done, as projects do."""
        return [IsAuthenticated()] if self.action == "list" else []


class OwnAction(Items):
    @action(detail=False, url_path="changes")
    def mine(self, request: Any) -> Response:
        return Response({"own": True})


class OwnName(Items):
    @action(detail=False)
    def changes(self, request: Any) -> Response:
        return Response({"own": True})


class OwnRoute(Items):
    @action(detail=False, url_name="changes")
    def news(self, request: Any) -> Response:
        return Response({"own": True})


class OwnOfThisName(Items):
    """Has had an action of this name for long, for those who administrate."""

    def get_permissions(self) -> Any:
        return [IsAdminUser()] if self.action == "list_changes" else []

    @action(detail=False)
    def list_changes(self, request: Any) -> Response:
        return Response({"own": True})


class Off(Items):
    changes_over_http = False


class TextedSaid(TextedViewSet):
    changes_over_http = True


class Numbered(TextedViewSet):
    lookup_value_regex = "[0-9]+"


router = DefaultRouter()
for name, view in {
    "items": Items,
    "closed": Closed,
    "strict": Strict,
    "own": OwnAction,
    "named": OwnName,
    "routed": OwnRoute,
    "of-this-name": OwnOfThisName,
    "off": Off,
    "keyed": KeyedViewSet,
    "texted": TextedViewSet,
    "said": TextedSaid,
    "numbered": Numbered,
    "bare": ContentViewSet,
}.items():
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls))]


@pytest.fixture
def ada() -> Any:
    return get_user_model().objects.create_user("ada")


class Poller:
    """A client that keeps a copy by polling."""

    def __init__(self, query: str = "", user: Any = None, address: str = "/items/") -> None:
        self.client = APIClient()
        if user is not None:
            self.client.force_authenticate(user)
        self.address, self.query = address, query
        self.objects: dict[Any, Any] = {}
        self.since = ""
        self.fresh = 0
        self.named: set[Any] = set()

    def ask(self, **params: str) -> Any:
        return self.client.get(f"{self.address}changes/?{'&'.join([self.query, urlencode(params)])}")

    def poll(self) -> Poller:
        answer = self.ask(since=self.since) if self.since else self.ask()
        if answer.status_code == 410:
            self.since = ""
            return self.poll()
        assert answer.status_code == 200, answer.content
        body = answer.json()
        self.since = body["since"]
        if "items" in body:
            self.fresh += 1
            self.objects = {}
        for change in body.get("items", body.get("changes")):
            self.named.add(change["pk"])
            if change.get("action") == "DELETED":
                self.objects.pop(change["pk"])  # a copy has what it is told to drop
            else:
                self.objects[change["pk"]] = change["instance"]
        return self

    def shown(self) -> dict[Any, Any]:
        """Return what a GET shows, all pages of it."""
        found, page = {}, f"{self.address}?{self.query}"
        while page:
            body = self.client.get(page).json()
            found |= {each["id"]: each for each in body["results"]}
            page = body["next"]
        return found


def test_all_of_it_and_then_what_has_changed() -> None:
    for pk in range(1, 4):
        Item.objects.create(pk=pk, text="a")
    api = APIClient()
    body = api.get("/items/changes/")
    assert body["Cache-Control"] == "no-store, private"
    assert set(body.json()) == {"since", "items"}
    first = body.json()["items"][0]
    assert (first["pk"], first["instance"]["text"]) == (1, "a")
    assert first["etag"].split("-")[0] == api.get("/items/1/")["ETag"].split("-")[0]
    Item.objects.filter(pk=1).update(text="b")
    Item.objects.filter(pk=2).delete()
    answer = api.get("/items/changes/", {"since": body.json()["since"]}).json()
    assert set(answer) == {"since", "changes"}
    told = {
        c["pk"]: (c["action"], c.get("reason"), c.get("instance", {}).get("text")) for c in answer["changes"]
    }
    assert told == {1: ("UPDATED", None, "b"), 2: ("DELETED", "deleted", None)}
    again = api.get("/items/changes/", {"since": answer["since"]}).json()
    assert again["changes"] == []


def test_after_random_changes_a_copy_is_what_a_get_shows(ada: Any) -> None:
    chance = random.Random(20)
    for pk in range(1, 12):
        Item.objects.create(pk=pk, count=pk % 2, owner=ada if pk % 3 == 0 else None)
    pollers = [Poller(), Poller(user=ada), Poller("count=1"), Poller("count=1", ada)]
    for poller in pollers:
        poller.poll()
    secret: set[int] = {pk for pk in range(1, 12) if pk % 3 == 0}
    for step in range(12):
        for _ in range(chance.randrange(1, 6)):
            pk = chance.randrange(1, 16)
            rows = Item.objects.filter(pk=pk)
            match chance.randrange(5):
                case 0:
                    rows.delete()
                case 1:
                    rows.update(count=1 - models.F("count"))
                case 2 if pk % 3:
                    rows.update(owner=None if chance.random() < 0.5 else ada)
                case 3:
                    rows.update(text=f"{step}")
                case _:
                    if not rows.exists():
                        Item.objects.create(pk=pk, count=1, owner=ada if pk % 3 == 0 else None)
        for poller in chance.sample(pollers, 3):
            poller.poll()
            assert poller.objects == poller.shown()
    # the log told all of it: nobody had to begin anew
    assert [poller.fresh for poller in pollers] == [1, 1, 1, 1]
    secret |= {12, 15}
    assert not secret & (pollers[0].named | pollers[2].named)


def test_a_bulk_update_of_more_rows_than_can_be_uncertain(monkeypatch: pytest.MonkeyPatch, ada: Any) -> None:
    monkeypatch.setattr(held, "UNCERTAIN", 5)
    Item.objects.bulk_create(Item(pk=pk, owner=ada if pk % 2 else None) for pk in range(1, 21))
    poller = Poller().poll()
    Item.objects.update(text="b")
    Item.objects.bulk_create(Item(pk=pk) for pk in range(30, 33))
    assert poller.poll().objects == poller.shown()
    assert poller.fresh == 1
    assert len(poller.named) == 13


def test_what_is_rolled_back_is_not_told() -> None:
    Item.objects.create(pk=1, text="a")
    poller = Poller().poll()
    with transaction.atomic():
        Item.objects.filter(pk=1).update(text="b")
        Item.objects.create(pk=2)
        transaction.set_rollback(True)
    answer = poller.ask(since=poller.since).json()
    assert answer["changes"] == []


CACHE = "django.middleware.cache"


def test_a_cache_of_the_project_keeps_it_for_nobody(settings: Any) -> None:
    cached = [f"{CACHE}.UpdateCacheMiddleware", *settings.MIDDLEWARE, f"{CACHE}.FetchFromCacheMiddleware"]
    settings.MIDDLEWARE = cached
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    Item.objects.create(pk=1, text="a")
    poller = Poller().poll()
    assert poller.ask(since=poller.since).json()["changes"] == []
    Item.objects.filter(pk=1).update(text="b")
    answer = poller.ask(since=poller.since)
    assert [change["pk"] for change in answer.json()["changes"]] == [1]
    assert {"Accept", "Authorization", "Cookie"} <= set(answer["Vary"].split(", "))


@pytest.mark.parametrize("last", [1, 2])
def test_somebody_writes_meanwhile(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    Item.objects.bulk_create(Item(pk=pk) for pk in range(1, 4))
    poller = Poller().poll()
    keys, reading, read = count(10), iter([1, 2]), log.read_after

    def looked(*args: Any) -> Any:
        found = pks_in(*args)
        write() if next(reading) == last else None
        return found

    def written(*args: Any, **kwargs: Any) -> Any:
        found = read(*args, **kwargs)
        write()
        return found

    def write() -> None:
        Item.objects.create(pk=next(keys), text="new")
        Item.objects.order_by("pk")[0].delete()

    with monkeypatch.context() as patch:
        patch.setattr(following, "pks_in", looked)
        patch.setattr(log, "read_after", written)
        poller.poll()
    assert poller.poll().objects == poller.shown()
    assert poller.fresh == 1


def test_a_model_that_is_to_be_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Item.objects.create(pk=1, text="a")
    poller = Poller().poll()
    shown = ItemSerializer.to_representation
    monkeypatch.setattr(
        ItemSerializer, "to_representation", lambda self, obj: {**shown(self, obj), "text": "elsewhere"}
    )
    invalidate(model=Item)
    assert poller.poll().objects == poller.shown()
    assert poller.objects[1]["text"] == "elsewhere"
    assert poller.fresh == 1


def test_a_key_that_is_no_number() -> None:
    rows = [Keyed.objects.create(text="a") for _ in range(3)]
    api = APIClient()
    since = api.get("/keyed/changes/").json()["since"]
    rows[0].delete()
    (change,) = api.get("/keyed/changes/", {"since": since}).json()["changes"]
    assert (change["action"], change["pk"]) == ("DELETED", change["pk"])
    assert change["reason"] == "deleted"


@pytest.mark.parametrize("since", ["", "nonsense", "\x00", "a" * 5_000, "\u20ac", "e30.e30.e30"])
def test_a_position_that_is_none(since: str) -> None:
    answer = APIClient().get("/items/changes/", {"since": since})
    assert answer.status_code == 410
    assert (answer.json()["code"], answer.json()["reason"]) == ("position_lost", "epoch")
    assert "without since" in answer.json()["detail"]


def test_a_position_of_somebody_else_or_of_another_list(ada: Any) -> None:
    Item.objects.create(pk=1)
    since = Poller().poll().since
    assert Poller(user=ada).ask(since=since).status_code == 410
    assert Poller("count=0").ask(since=since).status_code == 410
    assert Poller(address="/closed/", user=ada).ask(since=since).status_code == 410
    assert Poller().ask(since=since).status_code == 200


def test_the_filters_are_not_asked_for_a_position() -> None:
    Item.objects.create(pk=1, count=1)
    poller = Poller("count=1", address="/strict/").poll()
    Item.objects.create(pk=2, count=1)
    assert poller.poll().objects == poller.shown()
    assert poller.fresh == 1


def test_a_position_that_the_log_does_not_reach() -> None:
    Item.objects.create(pk=1)
    poller = Poller().poll()
    Item.objects.create(pk=2)
    log.prune("default", now=2**61)
    Item.objects.create(pk=3)
    log.prune("default", now=2**62)
    answer = poller.ask(since=poller.since)
    assert (answer.status_code, answer.json()["reason"]) == (410, "expired")
    assert poller.poll().objects == poller.shown()


def test_a_position_of_which_nobody_knows_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    Item.objects.create(pk=1)
    Item.objects.create(pk=2)
    poller = Poller().poll()
    rows = Item.objects.filter(pk=1)
    monkeypatch.setattr(Items, "get_queryset", lambda view: rows.all())
    answer = poller.ask(since=poller.since)
    assert (answer.status_code, answer.json()["reason"]) == (410, "unknown")


def test_permissions_are_those_of_the_list(ada: Any) -> None:
    assert APIClient().get("/closed/").status_code == 403
    assert APIClient().get("/closed/changes/").status_code == 403
    assert Poller(user=ada, address="/closed/").ask().status_code == 200


def test_no_more_than_can_be_followed() -> None:
    Item.objects.bulk_create(Item(pk=pk, count=pk) for pk in range(3))
    since = Poller().poll().since
    with override_settings(CONCORD={"MAX_LIST": 2}):
        for params in ({}, {"since": since}):
            answer = APIClient().get("/items/changes/", params)
            assert (answer.status_code, answer.json()["code"]) == (400, "too_large")
        assert APIClient().get("/items/changes/?count=1").status_code == 200


def test_where_nothing_is_recorded() -> None:
    Bare.objects.create(text="a")
    answer = APIClient().get("/bare/changes/")
    assert (answer.status_code, answer.json()["code"]) == (501, "not_recorded")


def test_a_database_without_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "VENDORS", {})
    answer = APIClient().get("/items/changes/")
    assert (answer.status_code, answer.json()["code"]) == (501, "not_recorded")


def test_a_log_that_was_put_back(ada: Any) -> None:
    Item.objects.create(pk=1)
    poller = Poller().poll()
    Change._base_manager.update(nonce=models.F("nonce") + 1)  # the same ids, of other changes
    answer = poller.ask(since=poller.since)
    assert (answer.status_code, answer.json()["reason"]) == (410, "epoch")


def test_an_own_action_at_the_address_wins() -> None:
    for address in ("/own/changes/", "/named/changes/"):
        assert APIClient().get(address).json() == {"own": True}
    for view in (OwnAction, OwnName, OwnRoute):
        assert "list_changes" not in {a.__name__ for a in view.get_extra_actions()}
    assert "list_changes" in {a.__name__ for a in Items.get_extra_actions()}


def test_an_own_action_of_the_same_name_is_asked_for_by_its_own(ada: Any) -> None:
    assert APIClient().get("/of-this-name/list_changes/").status_code == 403
    ada.is_staff = True
    assert Poller(user=ada).client.get("/of-this-name/list_changes/").json() == {"own": True}
    assert APIClient().get("/of-this-name/changes/").status_code == 404


def test_a_websocket_has_its_own_way() -> None:
    assert "list_changes" not in methods_of(Items)
    assert "list_changes" in methods_of(OwnOfThisName)
    assert "list" in methods_of(Items)


def test_a_view_can_do_without() -> None:
    assert APIClient().get("/off/changes/").status_code == 404
    assert APIClient().get("/off/").status_code == 200


def test_an_object_that_has_the_address_stays_where_it_is() -> None:
    Texted.objects.create(code="changes", text="mine")
    assert APIClient().get("/texted/changes/").json()["text"] == "mine"
    assert set(APIClient().get("/said/changes/").json()) == {"since", "items"}
    assert set(APIClient().get("/numbered/changes/").json()) == {"since", "items"}


class Odd(models.CharField):
    def to_python(self, value: Any) -> Any:
        raise TypeError("I take no text.")


def test_views_of_any_kind_get_their_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Computed(Items):
        queryset = property(lambda view: Item.objects.all())

    class Listed(Items):
        queryset: Any = []
        serializer_class: Any = None

    class Keyless(TextedViewSet):
        lookup_field = "text"

    monkeypatch.setattr(Texted._meta.get_field("text"), "to_python", Odd().to_python)
    names = [{a.__name__ for a in view.get_extra_actions()} for view in (Computed, Listed, Keyless)]
    assert ["list_changes" in each for each in names] == [True, False, False]


def test_other_methods_and_formats() -> None:
    assert APIClient().post("/items/changes/").status_code == 405
    assert APIClient().get("/items/changes.json").status_code == 200
    assert b"since" in APIClient().get("/items/changes/", headers={"accept": "text/html"}).content


def test_it_reads_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    filtered = Items.filter_queryset

    def noticing(view: Any, queryset: Any) -> Any:
        seen.append(view._alias)
        return filtered(view, queryset)

    monkeypatch.setattr(Items, "filter_queryset", noticing)
    APIClient().get("/items/changes/")
    assert set(seen) == {connection.alias}
