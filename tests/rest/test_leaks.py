"""Nobody learns more from a refusal, a tag or a lock than a GET by the same caller would show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.urls import include, path
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import locks
from drf_concord.rest import viewsets
from drf_concord.rest.decorators import guarded
from tests.app.models import Bare, Item

from .conftest import AtTheGate, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("both_ways")]

SECRET = "the secret text"
METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
LOCKS = (("GET", ""), ("HEAD", ""), ("POST", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "break/"))
CONDITIONS = (
    {},
    {"If-Match": "*"},
    {"If-Match": '"1-0"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"1-0"'},
    {"If-Match": "unquoted"},
    {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    {"If-Modified-Since": "Sun, 06 Nov 2094 08:49:37 GMT"},
    {"Lock-Token": "guess"},
)


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text"]


class Owned(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.owner_id == request.user.pk


class WriteOnly(BasePermission):
    """May send what it likes, and read nothing."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.method not in {"GET", "HEAD"}


class WriteOnlyObject(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return request.method not in {"GET", "HEAD"}


class ForbiddenView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    permission_classes = [Owned]

    @action(detail=True, methods=["post"])
    @guarded
    def publish(self, request: Any, pk: Any = None) -> Response:
        self.get_object().save()
        return Response({"done": True})


class RequiringView(ForbiddenView):
    precondition_required = True


class HiddenView(ForbiddenView):
    permission_classes = []

    def get_queryset(self) -> Any:
        return Item.objects.filter(owner_id=self.request.user.pk)


class DropBoxView(ForbiddenView):
    permission_classes = [WriteOnly]


class DropObjectView(ForbiddenView):
    permission_classes = [WriteOnlyObject]


class DropRequiringView(DropObjectView):
    precondition_required = True


class DropContentView(viewsets.ModelViewSet):
    queryset = Bare.objects.order_by("pk")
    permission_classes = [WriteOnlyObject]

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Bare
            fields = ["id", "text"]


class LikeView(ForbiddenView):
    """Anybody may read and like; only the owner may change."""

    class Liking(BasePermission):
        def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
            return view.action in {"retrieve", "like"} or obj.owner_id == request.user.pk

    permission_classes = [Liking]

    @action(detail=True, methods=["post"])
    @guarded
    def like(self, request: Any, pk: Any = None) -> Response:
        return Response({"liked": True})


class NonReadableList(viewsets.ModelViewSet):
    """Lists what is one's own; everything has one name."""

    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    lookup_field = "text"

    def get_queryset(self) -> Any:
        return Item.objects.filter(owner_id=self.request.user.pk)


router = SimpleRouter()
for name, view in {
    "forbidden": ForbiddenView, "required": RequiringView, "hidden": HiddenView, "dropbox": DropBoxView,
    "dropobject": DropObjectView, "droprequired": DropRequiringView, "dropcontent": DropContentView,
    "like": LikeView, "own": NonReadableList,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include("drf_concord.urls")), path("", include(router.urls))]


@pytest.fixture
def secret(guido: Any) -> Item:
    """An item of Guido's, which he holds."""
    item = Item.objects.create(text=SECRET, owner=guido)
    with_lock = client_of(guido).post(f"/forbidden/{item.pk}/lock/", {"reason": "guido's reason"})
    assert with_lock.status_code == 201
    return item


def send(client: APIClient, method: str, address: str, **headers: str) -> Any:
    return client.generic(method, address, b'{"text": "x"}', "application/json", headers=headers)


def requests(client: APIClient, prefix: str, *, locking: bool = True) -> Iterator[tuple[Any, str]]:
    """The answers to everything one can send to one object."""
    for conditions in CONDITIONS:
        for method in METHODS:
            yield send(client, method, prefix, **conditions), f"{method} {conditions}"
        yield send(client, "POST", f"{prefix}publish/", **conditions), f"publish {conditions}"
        for method, end in LOCKS if locking else ():
            body = b"{}"
            response = client.generic(
                method, f"{prefix}lock/{end}", body, "application/json", headers=conditions
            )
            yield response, f"{method} lock/{end} {conditions}"


def tells_nothing(response: Any, what: str) -> None:
    """There is no tag, no holder, no state and no token in an answer."""
    for header in ("ETag", "Last-Modified", "Lock-Token", "Retry-After", "Content-Location"):
        assert header not in response, what
    text = response.content.decode()
    for told in (SECRET, "guido", "etag", "version", "lock_lost", "locked"):
        assert told not in text, what


@pytest.mark.rfc("9110", "13.2.1", "permission comes before every precondition")
@pytest.mark.parametrize(("name", "status"), [("forbidden", 403), ("required", 403), ("hidden", 404)])
def test_who_may_not_get_learns_nothing(as_ada: APIClient, secret: Item, name: str, status: int) -> None:
    for disclosure in ("editors", "everyone"):
        with override_settings(CONCORD={"DISCLOSURE": disclosure}):
            for response, what in requests(as_ada, f"/{name}/{secret.pk}/"):
                assert response.status_code == (403 if "break" in what else status), what
                tells_nothing(response, what)
    secret.refresh_from_db()
    assert secret.text == SECRET


def test_what_is_hidden_looks_like_what_is_not_there(as_ada: APIClient, secret: Item) -> None:
    there = requests(as_ada, f"/hidden/{secret.pk}/")
    absent = requests(as_ada, f"/hidden/{secret.pk + 1000}/")
    for (one, what), (other, _) in zip(there, absent, strict=True):
        assert one.status_code == other.status_code, what
        assert one.content == other.content, what
        assert dict(one.headers) == dict(other.headers), what


@pytest.mark.parametrize("name", ["dropbox", "dropobject", "droprequired"])
def test_who_may_write_and_not_get(as_ada: APIClient, secret: Item, name: str) -> None:
    """Every refusal that would tell something is a 403."""
    for response, what in requests(as_ada, f"/{name}/{secret.pk}/"):
        malformed = "unquoted" in what and "GET" not in what and "HEAD" not in what and "lock" not in what
        assert response.status_code == (400 if malformed else 403), what
        if not malformed:
            tells_nothing(response, what)
    secret.refresh_from_db()
    assert secret.text == SECRET


@pytest.mark.parametrize("name", ["dropbox", "dropobject"])
def test_who_may_write_and_not_get_writes_without_a_tag(as_ada: APIClient, name: str) -> None:
    created = send(as_ada, "POST", f"/{name}/")
    assert created.status_code == 201
    address = f"/{name}/{created.json()['id']}/"
    changed = send(as_ada, "PATCH", address)
    assert changed.status_code == 200
    published = send(as_ada, "POST", f"{address}publish/")
    assert published.status_code == 200
    for response in (created, changed, published):
        assert "ETag" not in response
        assert "Last-Modified" not in response
    assert send(as_ada, "DELETE", address).status_code == 204


def test_who_may_write_and_not_get_where_the_tag_is_of_the_content(as_ada: APIClient) -> None:
    bare = Bare.objects.create(text=SECRET)
    address = f"/dropcontent/{bare.pk}/"
    for conditions in CONDITIONS[1:4]:
        response = send(as_ada, "PATCH", address, **conditions)
        if conditions == {"If-Match": "*"}:
            continue
        assert response.status_code == 403, conditions
        tells_nothing(response, str(conditions))
    assert send(as_ada, "PATCH", address).status_code == 200


def test_lists_of_locks(as_ada: APIClient, api: APIClient, secret: Item) -> None:
    assert as_ada.get("/locks/?mine=1").json() == []
    assert as_ada.get("/locks/?mine=1&model=app.Item").json() == []
    for client in (as_ada, api):
        response = client.get("/locks/")
        assert response.status_code in {401, 403}
        tells_nothing(response, "locks")


def test_a_holder_is_told_to_who_may_change_and_not_to_who_may_only_act(
    as_ada: APIClient, as_guido: APIClient, guido: Any
) -> None:
    item = Item.objects.create(text="open", owner=guido)
    address = f"/like/{item.pk}/"
    assert as_guido.post(f"{address}lock/").status_code == 201
    for disclosure, told in (("editors", None), ("everyone", "guido"), ("nobody", None)):
        with override_settings(CONCORD={"DISCLOSURE": disclosure}):
            refused = as_ada.post(f"{address}like/")
            assert (refused.status_code, refused.json()["holder"]) == (409, told)
            assert as_ada.get(f"{address}lock/").json()["holder"] == told
            assert as_ada.post(f"{address}lock/").status_code == 403
            assert as_guido.get(f"{address}lock/").json()["holder"] == "guido"


def test_a_permission_that_changes_at_the_gate(
    as_guido: APIClient, guido: Any, ada: Any, at_the_gate: AtTheGate
) -> None:
    item = Item.objects.create(text=SECRET, owner=guido)
    for method, end in (("PATCH", ""), ("DELETE", ""), ("POST", "publish/"), ("POST", "lock/")):
        for name, status in (("forbidden", 403), ("hidden", 404)):
            Item.objects.update(owner=guido)

            def give_away() -> None:
                Item.objects.update(owner=ada)
                locks.freeze(item, by=ada)

            at_the_gate(give_away)
            response = send(as_guido, method, f"/{name}/{item.pk}/{end}", **{"If-Match": "*"})
            assert response.status_code == status, (method, end)
            tells_nothing(response, f"{method} {end}")
            locks.release_lock(item, by=ada)
    item.refresh_from_db()
    assert item.text == SECRET


def test_if_none_match_tells_only_of_what_can_be_seen(
    as_ada: APIClient, as_guido: APIClient, guido: Any
) -> None:
    Item.objects.create(text="x", owner=guido)
    created = as_ada.post("/own/", {"text": "x"}, headers={"If-None-Match": "*"})
    assert created.status_code == 201


def test_a_412_shows_what_the_caller_of_a_get_sees(
    as_guido: APIClient, as_ada: APIClient, guido: Any
) -> None:
    item = Item.objects.create(text="one", owner=guido)
    refused = send(as_guido, "PATCH", f"/forbidden/{item.pk}/", **{"If-Match": '"1-0"'})
    assert refused.json()["current"] == as_guido.get(f"/forbidden/{item.pk}/").json()
    assert send(as_ada, "PATCH", f"/forbidden/{item.pk}/", **{"If-Match": '"1-0"'}).status_code == 403
