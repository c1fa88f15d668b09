"""Between the request and the gate: conditions, what the door saw, and what the gate finds."""

from __future__ import annotations

import copy
import random
import string
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import connections
from django.http import Http404
from django.test import override_settings
from django.urls import include, path
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotAuthenticated
from rest_framework.generics import GenericAPIView
from rest_framework.parsers import JSONParser
from rest_framework.permissions import (
    AllowAny,
    BasePermission,
    DjangoModelPermissions,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate

from drf_concord import rows
from drf_concord.protocol.errors import ConcordError
from drf_concord.protocol.etags import encode_version
from drf_concord.rest import conflicts, guards, viewsets
from drf_concord.rest.decorators import guarded
from tests.app.models import Item, Note, Slugged, Texted
from tests.app.urls import urlpatterns as app_patterns

from .conftest import AtTheGate

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("both_ways")]


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "notes"]


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer


class OpenView(ItemView):
    """Shows what is not hidden."""

    def get_queryset(self) -> Any:
        return Item.objects.filter(hidden="")


class Owned(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.owner_id is None or obj.owner_id == request.user.pk


class OwnedView(ItemView):
    permission_classes = [Owned]


class KeptView(OwnedView):
    """Keeps the object it fetched."""

    def get_object(self) -> Any:
        if not hasattr(self, "_kept"):
            self._kept = super().get_object()
        return self._kept


class FirstView(ItemView):
    """Finds its object without a key in the address."""

    def get_object(self) -> Any:
        queryset = self.filter_queryset(Item.objects.filter(text__startswith="own"))
        found = queryset.first()
        self.check_object_permissions(self.request, found)
        return found


class SlugView(viewsets.ModelViewSet):
    """Looks up by a column that moves."""

    queryset = Slugged.objects.order_by("pk")
    lookup_field = "slug"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Slugged
            fields = ["id", "title", "slug"]


class UnfilteredView(ItemView):
    def filter_queryset(self, queryset: Any) -> Any:
        return queryset.using("default")


class NestingView(ItemView):
    @action(detail=True, methods=["post"])
    @guarded
    def twice(self, request: Any, pk: Any = None) -> Response:
        outer = self.get_object()
        outer.notes = "outer"
        outer.save()
        inner = self.partial_update(request, pk=pk)
        assert self.get_object() is outer
        return inner


class RequiringView(ItemView):
    precondition_required = True


class LenientView(ItemView):
    precondition_required = False


class Voted(ItemView):
    """Who may do these may not GET: not at all, or not this object."""

    queryset = Item.objects.filter(hidden="")
    permission_classes = [AllowAny]

    def _done(self) -> Response:
        return Response({"done": self.get_object().pk})

    @action(detail=True, methods=["post"], queryset=Item.objects.all())
    @guarded
    def vote(self, request: Any, pk: Any = None) -> Response:
        return self._done()


class Closed(Voted):
    queryset = Item.objects.all()
    permission_classes = [IsAdminUser]

    @action(detail=True, methods=["post"], permission_classes=[AllowAny])
    @guarded
    def vote(self, request: Any, pk: Any = None) -> Response:
        return self._done()


class WriteOnlyDatabase:
    """Reads from a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model is Item else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


router = SimpleRouter()
for name, view in {
    "item": ItemView, "open": OpenView, "owned": OwnedView, "kept": KeptView, "slug": SlugView,
    "unfiltered": UnfilteredView, "nesting": NestingView, "requiring": RequiringView,
    "lenient": LenientView, "voted": Voted, "closed": Closed,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [
    path("own/", FirstView.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"})),
    path("", include(router.urls)),
    *app_patterns,
]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one")


def tag_of(api: APIClient, address: str) -> str:
    response = api.get(address)
    assert response.status_code == 200
    return response["ETag"]


def patch(api: APIClient, address: str, data: Any, if_match: str | None = None) -> Any:
    headers = {} if if_match is None else {"If-Match": if_match}
    return api.patch(address, data, format="json", headers=headers)


# ------------------------------------------------------------------------------------------ If-Match


@pytest.mark.rfc("9110", "13.1.1", "If-Match is true when any listed tag matches, and for *")
@pytest.mark.parametrize(
    "template", ["{}", '"x", {}', '{} , "y"', ",{},", "*", "W/{}", '"a,b", {}', '"1-0","a\\b",{}']
)
def test_what_matches_writes(api: APIClient, item: Item, template: str) -> None:
    tag = tag_of(api, f"/item/{item.pk}/")
    response = patch(api, f"/item/{item.pk}/", {"text": "two"}, template.format(tag))
    assert response.status_code == 200
    assert response["ETag"] != tag


def test_the_tag_of_any_representation_guards_a_write(api: APIClient, item: Item) -> None:
    half = f'"{encode_version(item.version)}-'
    assert patch(api, f"/item/{item.pk}/", {"text": "two"}, f'{half}0"').status_code == 200
    item.refresh_from_db()
    half = f'"{encode_version(item.version)}-'
    assert api.delete(f"/tagged/{item.pk}/", headers={"If-Match": f'{half}abc"'}).status_code == 204


@pytest.mark.rfc("9110", "13.1.1", "the method is not performed when If-Match is false")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_does_not_match_writes_nothing(api: APIClient, item: Item, method: str) -> None:
    address = f"/item/{item.pk}/"
    old = tag_of(api, address)
    Item.objects.update(notes="n")
    new = tag_of(api, address)

    write = encode_version(item.version)
    for wrong in (old, f"W/{old}", '"x"', '"-"', '""', f'"{write}"', f'"{write.upper()}-0"', f'"0{write}-0"'):
        body = b'{"text": "two"}'
        response = api.generic(method, address, body, "application/json", headers={"If-Match": wrong})
        assert response.status_code == 412, wrong
        assert response["ETag"] == new
    assert tag_of(api, address) == new


TOO_LONG = '"' + "x" * 8200 + '"'
MALFORMED = [
    "abc", "", " ", ",", '"open', 'open"', '"a" "b"', '"a";"b"', '"a b"', "W/abc", 'w/"a"', "W/", '*, "a"',
    '"a", *', "**", "* *", "'a'", '"a"x', ", ".join(f'"{n}"' for n in range(65)), TOO_LONG,
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.rfc("9110", "13.1.1", "what cannot be read is refused: nothing is written")
def test_a_malformed_condition_writes_nothing(api: APIClient, item: Item, header: str, value: str) -> None:
    address = f"/item/{item.pk}/"
    tag = tag_of(api, address)
    for method in ("PUT", "PATCH", "DELETE"):
        body = b'{"text": "two"}'
        response = api.generic(method, address, body, "application/json", headers={header: value})
        assert response.status_code == 400
        assert response.json()["code"] == "malformed_precondition"
        assert response.json()["header"] == header
    created = api.post("/item/", {"text": "new"}, headers={header: value})
    assert created.status_code == 400
    assert tag_of(api, address) == tag
    assert Item.objects.count() == 1


def test_sixty_four_tags_are_not_too_many(api: APIClient, item: Item) -> None:
    tags = ", ".join([*(f'"{n}"' for n in range(63)), tag_of(api, f"/item/{item.pk}/")])
    assert patch(api, f"/item/{item.pk}/", {"text": "two"}, tags).status_code == 200


def generated(chance: random.Random, write: str) -> str:
    """A value that does not match: a near miss, several of them, or noise."""
    digits = string.digits + string.ascii_lowercase
    shape = chance.randrange(9)
    if shape == 0:
        at = chance.randrange(len(write))
        other = chance.choice([d for d in digits if d != write[at]])
        return f'"{write[:at]}{other}{write[at + 1 :]}-0"'
    if shape == 1:
        return f'"{write[:-1]}-0", W/"{write}0-0", "0{write}-0"'
    if shape == 2:
        return f'"{write}"' + chance.choice(["", ",", ', "x"'])
    if shape == 3:
        return chance.choice([f"{write}-0", f'"{write}-0', f'{write}-0"', f"'{write}-0'", f'w/"{write}-0"'])
    if shape == 4:
        return f'"{write.upper()}-0"' if write.upper() != write else '"x-0"'
    if shape == 5:
        return f'"{write}-{chance.choice(["", "A", "-", "0-", "Z0", "_"])}"'
    if shape == 6:
        return chance.choice(["*, ", ", *", "**", "* ,"]) + f'"{write}-0"'
    if shape == 7:
        return f'"{"".join(chance.choices(digits, k=len(write)))[::-1]}x-{chance.choice(digits)}"'
    noise = chance.choices('"*,W/ -\t' + digits, k=chance.randrange(1, 24))
    return "".join(noise)


def test_ten_thousand_generated_values_write_nothing(
    api: APIClient, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, values = random.Random(9110), set[str]()
    write = encode_version(item.version)
    while len(values) < 10_000:
        value = generated(chance, write)
        if value.strip(" \t") != "*":
            values.add(value)

    for value in sorted(values)[::100]:  # the whole way
        assert patch(api, f"/item/{item.pk}/", {"text": "two"}, value).status_code in {400, 412}, value

    # all of them without routing, rendering and queries: each through the view, on one locked row
    monkeypatch.setattr(conflicts, "explain", lambda *_: None)
    monkeypatch.setattr(guards.GuardedMixin, "_refuse_early", lambda *_: None)
    view: Any = ItemView(action_map={"patch": "partial_update"}, kwargs={"pk": item.pk}, action="update")
    view.get_object = lambda: copy.copy(item)
    with rows.enter(Item, item.pk, using="default") as entry:
        monkeypatch.setattr(rows, "enter", lambda *_, **__: nullcontext(entry))
        for value in values:
            view.request = Request(APIRequestFactory().patch("/", headers={"If-Match": value}))
            with pytest.raises(ConcordError) as refusal:
                view.guard("update", pytest.fail)
            assert refusal.value.status in {400, 412}, value
    item.refresh_from_db()
    assert item.text == "one"


# --------------------------------------------------------------------------------------------- 428


@pytest.mark.rfc("6585", "3", "428 asks for a condition, and is not stored")
def test_a_view_may_require_a_condition(api: APIClient, item: Item) -> None:
    address = f"/requiring/{item.pk}/"
    tag = tag_of(api, address)
    for method in ("PUT", "PATCH", "DELETE"):
        response = api.generic(method, address, b'{"text": "two"}', "application/json")
        assert response.status_code == 428
        assert response.json()["code"] == "precondition_required"
        assert "If-Match" in response.json()["detail"]
        assert response["Cache-Control"] == "no-store"
        assert response["ETag"] == response.json()["current_etag"] == tag
    assert tag_of(api, address) == tag
    assert patch(api, address, {"text": "two"}, "*").status_code == 200
    assert api.post("/requiring/", {"text": "new"}).status_code == 201
    dated = api.patch(address, headers={"If-Unmodified-Since": "Sun, 06 Nov 2094 08:49:37 GMT"})
    assert dated.status_code == 200
    undated = api.patch(address, headers={"If-Unmodified-Since": "tomorrow"})
    assert undated.status_code == 428


def test_a_setting_requires_it_of_all_views_but_those_that_say_no(api: APIClient, item: Item) -> None:
    with override_settings(CONCORD={"REQUIRE_PRECONDITION": True}):
        assert patch(api, f"/item/{item.pk}/", {}).status_code == 428
        assert patch(api, f"/lenient/{item.pk}/", {}).status_code == 200
    assert patch(api, f"/item/{item.pk}/", {}).status_code == 200


def test_required_is_asked_on_the_locked_row_too(
    api: APIClient, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards.GuardedMixin, "_refuse_early", lambda *_: None)
    assert patch(api, f"/requiring/{item.pk}/", {"text": "two"}).status_code == 428


# --------------------------------------------------------------------- between the door and the gate


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_row_that_leaves_the_queryset_is_404(
    api: APIClient, item: Item, at_the_gate: AtTheGate, method: str
) -> None:
    for conditional in (False, True):
        Item.objects.update(hidden="")
        headers = {"If-Match": tag_of(api, f"/open/{item.pk}/")} if conditional else {}
        at_the_gate(lambda: Item.objects.update(hidden="now"))
        response = api.generic(
            method, f"/open/{item.pk}/", b'{"text": "two"}', "application/json", headers=headers
        )
        assert response.status_code == 404
        assert "ETag" not in response
        item.refresh_from_db()
        assert item.text == "one"


@pytest.mark.parametrize("name", ["owned", "kept"])
def test_an_object_permission_that_is_lost_is_403(
    as_guido: APIClient, item: Item, ada: Any, at_the_gate: AtTheGate, name: str
) -> None:
    for conditional in (False, True):
        Item.objects.update(owner=None)
        headers = {"If-Match": tag_of(as_guido, f"/{name}/{item.pk}/")} if conditional else {}
        at_the_gate(lambda: Item.objects.update(owner=ada))
        response = as_guido.patch(f"/{name}/{item.pk}/", {"text": "two"}, headers=headers)
        assert response.status_code == 403
        assert "ETag" not in response
        item.refresh_from_db()
        assert item.text == "one"


def test_a_view_that_keeps_its_object_writes_on_the_state_of_now(
    api: APIClient, item: Item, at_the_gate: AtTheGate
) -> None:
    tag = tag_of(api, f"/kept/{item.pk}/")
    at_the_gate(lambda: Item.objects.update(notes="theirs"))
    assert patch(api, f"/kept/{item.pk}/", {"text": "two"}).json()["notes"] == "theirs"
    assert patch(api, f"/kept/{item.pk}/", {"text": "two"}, tag).status_code == 412
    at_the_gate(lambda: Item.objects.all().delete())
    assert patch(api, f"/kept/{item.pk}/", {"text": "two"}).status_code == 404


def test_a_view_that_finds_its_object_in_its_own_way(api: APIClient, at_the_gate: AtTheGate) -> None:
    own = Item.objects.create(text="own 1")
    Item.objects.create(text="other")
    tag = tag_of(api, "/own/")
    at_the_gate(lambda: Item.objects.filter(pk=own.pk).update(notes="theirs"))
    assert patch(api, "/own/", {"text": "own 2"}).json() == {"id": own.pk, "text": "own 2", "notes": "theirs"}
    assert patch(api, "/own/", {"text": "own 3"}, tag).status_code == 412
    assert api.delete("/own/", headers={"If-Match": tag_of(api, "/own/")}).status_code == 204
    assert Item.objects.get().text == "other"


def test_an_address_that_leads_to_another_row(api: APIClient, at_the_gate: AtTheGate) -> None:
    one = Slugged.objects.create(title="a")

    def swap() -> None:
        Slugged.objects.filter(pk=one.pk).update(slug="b")
        Slugged.objects.create(title="a")

    at_the_gate(swap)
    response = patch(api, "/slug/a/", {"title": "c"})
    assert response.status_code == 200
    one.refresh_from_db()
    assert one.title == "a"
    assert response.json()["id"] != one.pk


def test_an_address_that_leads_elsewhere_each_time(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Slugged.objects.create(title="a")
    real = rows.enter

    def enter(*args: Any, **kwargs: Any) -> Any:
        Slugged.objects.filter(slug="a").delete()
        Slugged.objects.create(title="a")
        return real(*args, **kwargs)

    monkeypatch.setattr(rows, "enter", enter)
    response = patch(api, "/slug/a/", {"title": "c"})
    assert response.status_code == 503
    assert Slugged.objects.get().title == "a"


def test_what_is_stale_already_is_refused_without_waiting_for_the_row(
    api: APIClient, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: Any, wait: bool, **__: Any) -> Any:
        assert not wait
        raise rows.NotFree

    monkeypatch.setattr(rows, "enter", taken)
    assert patch(api, f"/item/{item.pk}/", {"text": "two"}, '"x-1"').status_code == 412


def test_the_body_is_read_before_the_row_is_locked(
    api: APIClient, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bool] = []

    real = JSONParser.parse

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(bool(rows._entries.get()))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(JSONParser, "parse", parse)
    assert patch(api, f"/item/{item.pk}/", {"text": "two"}).status_code == 200
    assert api.post("/item/", {"text": "two"}, format="json").status_code == 201
    assert read == [False, False]


def test_an_action_may_pass_the_gate_once_more(api: APIClient, item: Item) -> None:
    response = api.post(f"/nesting/{item.pk}/twice/", {"text": "inner"}, format="json")
    assert response.status_code == 200, response.content
    item.refresh_from_db()
    assert (item.text, item.notes) == ("inner", "outer")


def test_a_failing_write_leaves_nothing(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note.objects.create(text="one")

    def fail(self: Any, serializer: Any) -> None:
        serializer.save()
        raise APIException("after all")

    monkeypatch.setattr(guards.GuardedMixin, "perform_update", fail, raising=False)
    monkeypatch.setattr("tests.app.views.NoteViewSet.perform_update", fail, raising=False)
    assert patch(api, f"/notes/{note.pk}/", {"text": "two"}).status_code == 500
    note.refresh_from_db()
    assert note.text == "one"


# ------------------------------------------------------------------------------- several databases


@pytest.fixture
def lagging(tmp_path: Any, settings: Any, item: Item) -> Any:
    """A second database that knows an older state of the item, and that is read from."""
    settings.DATABASE_ROUTERS = ["tests.rest.test_guards.WriteOnlyDatabase"]
    databases = connections.settings
    databases["replica"] = {**databases["default"], "ENGINE": "django.db.backends.sqlite3"}
    databases["replica"] |= {"NAME": str(tmp_path / "replica.sqlite3"), "OPTIONS": {}, "TEST": {}}
    databases["replica"]["ATOMIC_REQUESTS"] = False
    replica = connections["replica"]
    replica.connect()  # past the test case, which allows only what the settings knew
    columns = {f.column: f.value_from_object(item) for f in Item._meta.concrete_fields}
    with replica.cursor() as cursor:
        cursor.execute(f"CREATE TABLE app_item ({', '.join(columns)})")
        cursor.execute(
            f"INSERT INTO app_item VALUES ({', '.join('%s' for _ in columns)})", [*columns.values()]
        )
    yield item
    replica.close()
    del databases["replica"]
    del connections["replica"]


@pytest.mark.django_db(databases=["default"])
def test_a_replica_that_lags_behind_decides_nothing(api: APIClient, lagging: Item) -> None:
    address = f"/item/{lagging.pk}/"
    Item.objects.using("default").update(notes="newer")
    changed = patch(api, address, {"text": "two"})
    assert changed.status_code == 200
    assert changed.json() == {"id": lagging.pk, "text": "two", "notes": "newer"}

    again = patch(api, address, {"text": "three"}, changed["ETag"])
    assert again.status_code == 200
    stale = patch(api, address, {"text": "four"}, tag_of(api, address))
    assert stale.status_code == 412
    assert stale["ETag"] == again["ETag"]
    assert stale.json()["current"]["text"] == "three"
    assert stale.json()["changed_fields"] == ["notes", "text"]


@pytest.mark.django_db(databases=["default"])
def test_a_view_that_reads_elsewhere_inside_the_gate_is_told_so(
    api: APIClient, lagging: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnfilteredView, "filter_queryset", lambda self, queryset: queryset)
    loud = APIClient()
    with pytest.raises(ImproperlyConfigured, match="filter_queryset"):
        loud.patch(f"/unfiltered/{lagging.pk}/", {"text": "two"})


# ------------------------------------------------------------------------------------ permissions


def test_may_read_and_may_change_ask_as_those_requests(item: Item) -> None:
    asked: list[tuple[str, str]] = []

    class Asking(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            asked.append((request.method, view.action))
            return True

    view: Any = ItemView()
    view.permission_classes = [Asking]
    view.request, view.action = Request(APIRequestFactory().post("/")), "publish"
    assert view.may_read(item)
    assert view.may_change(item)
    assert asked == [("GET", "retrieve"), ("PATCH", "partial_update")]
    assert (view.request.method, view.action) == ("POST", "publish")


@pytest.mark.parametrize("denial", [APIException, PermissionDenied, Http404, NotAuthenticated])
def test_a_permission_may_deny_in_its_own_way(api: APIClient, item: Item, denial: Any) -> None:
    class Denying(BasePermission):
        def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
            if request.method == "GET":
                raise denial
            return True

    view: Any = ItemView.as_view({"patch": "partial_update"}, permission_classes=[Denying])
    response = view(APIRequestFactory().patch("/", {"text": "two"}, format="json"), pk=item.pk)
    assert response.status_code == 200
    assert "ETag" not in response


class ByAction(ItemView):
    def get_permissions(self) -> Any:
        return [AllowAny() if self.action == "partial_update" else IsAdminUser()]


class ByMethod(ItemView):
    def check_permissions(self, request: Any) -> None:
        if request.method == "GET":
            self.permission_denied(request)


class ByMethodAndObject(ItemView):
    def check_object_permissions(self, request: Any, obj: Any) -> None:
        if request.method == "GET":
            self.permission_denied(request)


class Elders(GenericAPIView):
    def check_object_permissions(self, request: Any, obj: Any) -> None:
        if request.method == "GET":
            self.permission_denied(request)


class ByThoseBehind(viewsets.ModelViewSet, Elders):
    queryset = ItemView.queryset
    serializer_class = ItemView.serializer_class


@pytest.mark.parametrize("view", [ByAction, ByMethod, ByMethodAndObject, ByThoseBehind])
def test_a_view_that_lets_write_whom_it_does_not_let_read(item: Item, view: Any) -> None:
    patch = view.as_view({"patch": "partial_update"}, permission_classes=[AllowAny])
    response = patch(APIRequestFactory().patch("/", {"text": "two"}, format="json"), pk=item.pk)
    assert response.status_code == 200
    assert "ETag" not in response


def test_a_route_that_lets_write_whom_it_does_not_let_read(item: Item) -> None:
    def only_writers(request: Any) -> None:
        if request.method == "GET":
            raise PermissionDenied

    patch: Any = ItemView.as_view({"patch": "partial_update"}, check_permissions=only_writers)
    response = patch(APIRequestFactory().patch("/", {"text": "two"}, format="json"), pk=item.pk)
    assert response.status_code == 200
    assert "ETag" not in response


def test_a_permission_that_was_told_to_ask_for_more(
    item: Item, monkeypatch: pytest.MonkeyPatch, django_user_model: Any
) -> None:
    monkeypatch.setitem(DjangoModelPermissions.perms_map, "GET", ["%(app_label)s.view_%(model_name)s"])
    guards._writers_read.cache_clear()
    writer = django_user_model.objects.create(username="ada")
    writer.user_permissions.add(Permission.objects.get(codename="change_item"))
    patch: Any = ItemView.as_view({"patch": "partial_update"}, permission_classes=[DjangoModelPermissions])
    request = APIRequestFactory().patch("/", {"text": "two"}, format="json")
    force_authenticate(request, writer)
    response = patch(request, pk=item.pk)
    monkeypatch.undo()
    guards._writers_read.cache_clear()
    assert response.status_code == 200
    assert "ETag" not in response


@pytest.mark.parametrize("name", ["voted", "closed"])
def test_an_action_for_those_who_may_not_read_shows_them_nothing(api: APIClient, name: str) -> None:
    hidden = Item.objects.create(text="secret", hidden="yes")
    refused = api.get(f"/{name}/{hidden.pk}/").status_code
    assert refused in {403, 404}
    done = api.post(f"/{name}/{hidden.pk}/vote/")
    assert done.json() == {"done": hidden.pk}
    assert "ETag" not in done
    stale = api.post(f"/{name}/{hidden.pk}/vote/", headers={"If-Match": '"x-1"'})
    assert stale.status_code == refused
    assert b"secret" not in stale.content


@pytest.mark.parametrize("name", ["voted", "closed"])
def test_an_action_shows_the_tag_to_those_who_may_read(as_boss: APIClient, item: Item, name: str) -> None:
    assert tag_of(as_boss, f"/{name}/{item.pk}/")
    assert "ETag" in as_boss.post(f"/{name}/{item.pk}/vote/")
    stale = as_boss.post(f"/{name}/{item.pk}/vote/", headers={"If-Match": '"x-1"'})
    assert (stale.status_code, stale.json()["current"]["id"]) == (412, item.pk)


@pytest.mark.parametrize("classes", [[AllowAny], [IsAuthenticatedOrReadOnly, IsAuthenticated]])
def test_nobody_is_asked_where_all_who_write_may_read(
    item: Item, monkeypatch: pytest.MonkeyPatch, django_user_model: Any, classes: Any
) -> None:
    monkeypatch.setattr(guards, "clone_request", None)
    patch: Any = ItemView.as_view({"patch": "partial_update"}, permission_classes=classes)
    request = APIRequestFactory().patch("/", {"text": "two"}, format="json")
    force_authenticate(request, django_user_model.objects.create(username="ada"))
    assert "ETag" in patch(request, pk=item.pk)


def test_text_keys(api: APIClient) -> None:
    Texted.objects.create(code="a b", text="one")
    tag = tag_of(api, "/texted/a b/")
    assert patch(api, "/texted/a b/", {"text": "two"}, tag).status_code == 200
    assert patch(api, "/texted/a b/", {"text": "two"}, tag).status_code == 412
