"""The lock of an object as a sub-resource."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client, override_settings
from django.urls import include, path
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission, DjangoModelPermissions, IsAuthenticatedOrReadOnly
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import locks
from drf_concord.models import Lock
from drf_concord.rest import viewsets
from drf_concord.rest.decorators import guarded
from tests.app.models import Bare, Item, Place, Restaurant, Slugged
from tests.app.urls import urlpatterns as app_patterns

from .conftest import AtTheGate, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

MEMBERS = {
    "state", "mine", "mode", "scope", "reason", "holder",
    "acquired_at", "expires_at", "expires_in", "generation",
}  # fmt: skip
REFUSED = {
    "detail", "code", "mode", "scope", "reason", "since", "expires_at", "mine", "holder"
}  # fmt: skip
CLIENT = override_settings(CONCORD={"LOCK_HOLDER": "client"})


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "count"]


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    @action(detail=True, methods=["post"])
    @guarded
    def publish(self, request: Any, pk: Any = None) -> Response:
        item = self.get_object()
        item.notes = "published"
        item.save()
        return Response({"published": True})


class PermittedView(ItemView):
    permission_classes = [DjangoModelPermissions]


class SessionView(ItemView):
    authentication_classes = [SessionAuthentication]
    permission_classes = [IsAuthenticatedOrReadOnly]


class OwnLockView(ItemView):
    """Has an action of its own named lock."""

    @action(detail=True, methods=["post"])
    def lock(self, request: Any, pk: Any = None) -> Response:
        return Response({"own": True})


class ListLockView(ItemView):
    """Has an own action of that name on the list, which is another address."""

    @action(detail=False, methods=["post"], url_path="lock")
    def lock_all(self, request: Any) -> Response:
        return Response({"all": True})


class ActionView(ItemView):
    """Gives permissions by action."""

    def get_permissions(self) -> Any:
        if self.action in {"list", "retrieve", "metadata"}:
            return []
        assert self.action in {"partial_update", "create", "update", "destroy"}
        return [IsAuthenticatedOrReadOnly()]


class OwnedKeptView(ItemView):
    """Keeps its object, and asks on a PATCH only whose it is."""

    class Owned(BasePermission):
        def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
            return request.method == "GET" or bool(obj.owner_id == request.user.pk)

    permission_classes = [Owned]

    def get_object(self) -> Any:
        if not hasattr(self, "_kept"):
            self._kept = super().get_object()
        return self._kept


class SlugView(viewsets.ModelViewSet):
    queryset = Slugged.objects.order_by("pk")
    lookup_field = "slug"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Slugged
            fields = ["id", "title"]


router = SimpleRouter()
for name, view in {
    "item": ItemView, "permitted": PermittedView, "session": SessionView, "own": OwnLockView,
    "listed": ListLockView, "byaction": ActionView, "slug": SlugView, "kept": OwnedKeptView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
bare_router = SimpleRouter(trailing_slash=False)
bare_router.register("bare", ItemView, basename="noslash")
urlpatterns = [path("", include(router.urls)), path("", include(bare_router.urls)), *app_patterns]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one")


def lock(api: APIClient, item: Any, data: Any = None, name: str = "item", **headers: str) -> Any:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return api.post(f"/{name}/{item.pk}/lock/", data or {}, format="json", headers=given)


def taken(api: APIClient, item: Any, data: Any = None, name: str = "item", **headers: str) -> str:
    response = lock(api, item, data, name, **headers)
    assert response.status_code == 201, response.content
    return response["Lock-Token"]


def state(api: APIClient, item: Any, name: str = "item") -> Any:
    response = api.get(f"/{name}/{item.pk}/lock/")
    assert response.status_code == 200
    return response.json()


def renew(api: APIClient, item: Any, data: Any = None, **headers: str) -> Any:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return api.patch(f"/item/{item.pk}/lock/", data or {}, format="json", headers=given)


def release(api: APIClient, item: Any, **headers: str) -> Any:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return api.delete(f"/item/{item.pk}/lock/", headers=given)


def break_(api: APIClient, item: Any, data: Any = None) -> Any:
    return api.post(f"/item/{item.pk}/lock/break/", data or {}, format="json")


def write(api: APIClient, item: Any, token: str | None = None, method: str = "PATCH") -> Any:
    headers = {} if token is None else {"Lock-Token": token}
    body = b'{"text": "two", "count": 1}'
    return api.generic(method, f"/item/{item.pk}/", body, "application/json", headers=headers)


def expire() -> None:
    """Let every lock have run out a second ago."""
    Lock.objects.update(expires_at=time.time_ns() // 1000 - 1_000_000)


# ------------------------------------------------------------------------------------- GET and POST


def test_a_free_object(api: APIClient, item: Item) -> None:
    assert state(api, item) == {
        "state": "free", "mine": False, "mode": None, "scope": None, "reason": "", "holder": None,
        "acquired_at": None, "expires_at": None, "expires_in": None, "generation": 0,
    }  # fmt: skip
    assert api.get(f"/item/{item.pk}/lock/")["Cache-Control"] == "no-store"
    assert not Lock.objects.exists()


def still(body: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is another at each moment."""
    assert body["expires_in"] is None or body["expires_in"] > 0
    return {name: value for name, value in body.items() if name != "expires_in"}


def test_a_hold(as_guido: APIClient, as_ada: APIClient, item: Item) -> None:
    response = lock(as_guido, item, {"ttl": 60, "reason": "editing"})
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    assert len(response["Lock-Token"]) >= 43
    body = response.json()
    assert set(body) == MEMBERS
    assert body.pop("expires_in") == 60
    assert body == {
        "state": "held", "mine": True, "mode": "hold", "scope": "write", "reason": "editing",
        "holder": "guido", "acquired_at": body["acquired_at"], "expires_at": body["expires_at"],
        "generation": 1,
    }  # fmt: skip
    assert body["acquired_at"] < body["expires_at"]
    assert still(state(as_guido, item)) == body
    assert still(state(as_ada, item)) == {**body, "mine": False}
    assert 59 < state(as_ada, item)["expires_in"] < 60

    for method in ("PUT", "PATCH", "DELETE"):
        refused = write(as_ada, item, method=method)
        assert refused.status_code == 409
        assert 0 < int(refused["Retry-After"]) <= 60
        told = refused.json()
        assert set(told) == REFUSED
        assert (told["code"], told["holder"], told["mine"]) == ("object_locked", "guido", False)
        assert (told["reason"], told["since"]) == ("editing", body["acquired_at"])
    item.refresh_from_db()
    assert item.text == "one"
    assert write(as_guido, item).status_code == 200


def test_a_lock_that_is_taken(as_guido: APIClient, as_ada: APIClient, item: Item) -> None:
    taken(as_guido, item, {"ttl": 60})
    refused = lock(as_ada, item)
    assert refused.status_code == 409
    assert refused.json()["code"] == "object_already_locked"
    assert set(refused.json()) == REFUSED
    assert refused.json()["holder"] == "guido"
    assert 0 < int(refused["Retry-After"]) <= 60
    assert "Lock-Token" not in refused


def test_taking_a_lock_does_not_move_the_tag(as_guido: APIClient, item: Item) -> None:
    tag = as_guido.get(f"/item/{item.pk}/")["ETag"]
    taken(as_guido, item)
    assert as_guido.get(f"/item/{item.pk}/")["ETag"] == tag
    changed = as_guido.patch(f"/item/{item.pk}/", {"text": "two"}, headers={"If-Match": tag})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ('{"ttl": 0}', "ttl"), ('{"ttl": -1}', "ttl"), ('{"ttl": "60"}', "ttl"), ('{"ttl": 1e9}', "ttl"),
        ('{"ttl": true}', "ttl"), ('{"ttl": NaN}', "ttl"), ('{"ttl": []}', "ttl"),
        ('{"mode": "own"}', "mode"), ('{"mode": 1}', "mode"),
        ('{"scope": "read"}', "scope"), ('{"scope": []}', "scope"), ('{"scope": [1]}', "scope"),
        ('{"scope": {}}', "scope"), ('{"scope": ["A B"]}', "scope"),
        ('{"reason": 1}', "reason"), ('{"reason": "' + "x" * 256 + '"}', "reason"),
        ('{"reason": "\\u0000"}', "reason"), ('{"id": "1"}', "id"), ('{"id": 1}', "id"),
        ('{"holder": "ada"}', "holder"), ('{"ttl": 60, "TTL": 1}', "TTL"),
    ],
)  # fmt: skip
def test_a_member_that_cannot_be(as_guido: APIClient, item: Item, body: str, member: str) -> None:
    response = as_guido.generic("POST", f"/item/{item.pk}/lock/", body, "application/json")
    assert response.status_code == 400
    if "NaN" not in body:  # which JSON does not know
        assert (response.json()["code"], response.json()["member"]) == ("invalid_lock", member)
    assert not Lock.objects.exists()


@pytest.mark.parametrize("body", ["[]", "[1]", '"text"', "1", "true", "{", "\xff", "nul"])
@pytest.mark.parametrize(("method", "end"), [("POST", ""), ("PATCH", ""), ("POST", "break/"), ("DELETE", "")])
def test_a_body_of_another_kind_is_400(
    as_boss: APIClient, item: Item, method: str, end: str, body: str
) -> None:
    taken(as_boss, item)
    before = Lock.objects.values().get()
    response = as_boss.generic(method, f"/item/{item.pk}/lock/{end}", body, "application/json")
    if method == "DELETE" and body in {"[]", "[1]", '"text"', "1", "true"}:
        assert response.status_code == 204  # what it says is not asked for
        return
    assert response.status_code == 400
    assert Lock.objects.values().get() == before


@pytest.mark.parametrize("kind", ["multipart", "application/x-www-form-urlencoded"])
def test_forms(as_guido: APIClient, item: Item, kind: str) -> None:
    address = f"/item/{item.pk}/lock/"
    if kind == "multipart":
        response = as_guido.post(address, {"reason": "r"}, format="multipart")
    else:
        response = as_guido.generic("POST", address, "reason=r", kind)
    assert response.status_code == 201
    assert response.json()["reason"] == "r"
    assert as_guido.generic("POST", address, "", "application/json").status_code in {201, 200}
    assert as_guido.generic("POST", address, "x", "text/csv").status_code == 415


# -------------------------------------------------------------------------------------- idempotency


def test_the_same_id_gets_the_same_token(as_guido: APIClient, as_ada: APIClient, item: Item) -> None:
    wish = {"id": str(uuid.uuid4()), "ttl": 60}
    first = lock(as_guido, item, wish)
    again = lock(as_guido, item, wish)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Lock-Token"] == first["Lock-Token"]
    assert still(again.json()) == still(first.json())
    assert lock(as_ada, item, wish).status_code == 409
    other = lock(as_guido, item, {"id": str(uuid.uuid4())})
    assert other.status_code == 409
    assert other.json()["mine"] is True

    assert write(as_guido, item, first["Lock-Token"]).status_code == 200
    release(as_guido, item)
    anew = lock(as_guido, item, wish)
    assert anew.status_code == 201
    assert anew["Lock-Token"] != first["Lock-Token"]
    assert write(as_guido, item, first["Lock-Token"]).status_code == 412


def test_a_holder_without_an_id_starts_over(as_guido: APIClient, item: Item) -> None:
    first, second = taken(as_guido, item), taken(as_guido, item)
    assert first != second
    assert write(as_guido, item, first).json()["code"] == "lock_lost"
    assert write(as_guido, item, second).status_code == 200
    assert state(as_guido, item)["generation"] == 2


# --------------------------------------------------------------------------------------------- token


def test_a_token_that_is_not_live_is_a_failed_precondition(
    as_guido: APIClient, as_ada: APIClient, api: APIClient, item: Item
) -> None:
    token = taken(as_guido, item)
    for client in (as_ada, api):
        for shown in (token, "x", "", "é" * 10):
            refused = write(client, item, shown)
            assert refused.status_code == 412, shown
            assert refused.json()["code"] == "lock_lost"
            assert "holder" not in refused.json()
    assert write(as_guido, item, token + "x").status_code == 412
    assert release(as_guido, item, Lock_Token="x").status_code == 412
    assert renew(as_guido, item, Lock_Token="x").status_code == 412
    assert release(as_guido, item, Lock_Token=token).status_code == 204
    assert write(as_guido, item, token).status_code == 412
    assert as_guido.delete(f"/item/{item.pk}/", headers={"Lock-Token": token}).status_code == 412
    published = as_guido.post(f"/item/{item.pk}/publish/", headers={"Lock-Token": token})
    assert published.status_code == 412
    item.refresh_from_db()
    assert (item.text, item.notes) == ("one", "")


def test_tokens_are_not_echoed_and_stored_as_hashes(as_guido: APIClient, item: Item) -> None:
    token = taken(as_guido, item)
    for response in (
        write(as_guido, item, token),
        write(as_guido, item, "guess-" + token),
        as_guido.get(f"/item/{item.pk}/lock/", headers={"Lock-Token": token}),
        renew(as_guido, item, Lock_Token=token),
        as_guido.get("/locks/?mine=1"),
        release(as_guido, item, Lock_Token=token),
    ):
        assert token not in response.content.decode()
        assert token not in str(response.headers)
    assert token not in str(Lock.objects.values().get())


def test_a_token_is_of_one_object(as_guido: APIClient, item: Item) -> None:
    other = Item.objects.create(text="other")
    token = taken(as_guido, item)
    assert write(as_guido, other, token).status_code == 412


def test_a_holder_needs_no_token(as_guido: APIClient, item: Item) -> None:
    taken(as_guido, item)
    assert write(as_guido, item).status_code == 200
    assert release(as_guido, item).status_code == 204


@CLIENT
def test_two_tabs_of_one_user(as_guido: APIClient, item: Item) -> None:
    token = taken(as_guido, item)
    refused = write(as_guido, item)
    assert refused.status_code == 409
    assert refused.json()["mine"] is True
    assert lock(as_guido, item).status_code == 409
    assert write(as_guido, item, token).status_code == 200
    assert renew(as_guido, item).status_code in {403, 409, 412}
    assert release(as_guido, item).status_code in {403, 409, 412}
    assert renew(as_guido, item, Lock_Token=token).status_code == 200
    assert release(as_guido, item, Lock_Token=token).status_code == 204


# ------------------------------------------------------------------------------------------- expiry


def test_a_lock_that_ran_out_refuses_nobody(as_guido: APIClient, as_ada: APIClient, item: Item) -> None:
    token = taken(as_guido, item)
    expire()
    assert state(as_ada, item)["state"] == "free"
    assert write(as_ada, item).status_code == 200
    assert write(as_guido, item, token).status_code == 412
    assert renew(as_guido, item, Lock_Token=token).status_code == 200
    assert write(as_ada, item).status_code == 409

    expire()
    assert taken(as_ada, item)
    assert renew(as_guido, item, Lock_Token=token).status_code == 412
    assert renew(as_guido, item).status_code == 412
    assert write(as_guido, item, token).json()["code"] == "lock_lost"
    assert write(as_guido, item).json()["code"] == "object_locked"
    assert state(as_ada, item)["generation"] == 2


def test_a_hold_has_a_longest_time(as_guido: APIClient, item: Item) -> None:
    taken(as_guido, item)
    Lock.objects.update(acquired_at=time.time_ns() // 1000 - 9 * 3_600_000_000)
    refused = renew(as_guido, item)
    assert (refused.status_code, refused.json()["code"]) == (429, "lock_limit")


def test_a_user_has_a_most_of_locks(as_guido: APIClient, item: Item) -> None:
    with override_settings(CONCORD={"LOCKS_PER_USER": 1}):
        taken(as_guido, item)
        refused = lock(as_guido, Item.objects.create())
        assert (refused.status_code, refused.json()["code"]) == (429, "lock_limit")
        release(as_guido, item)
        taken(as_guido, Item.objects.last())


# ------------------------------------------------------------------------------ PATCH: renew, hand over


def test_renewing(as_guido: APIClient, as_ada: APIClient, api: APIClient, item: Item) -> None:
    assert renew(as_guido, item).status_code == 412  # there is none of his
    token = taken(as_guido, item, {"ttl": 10})
    before = state(as_guido, item)
    response = renew(as_guido, item, {"ttl": 60}, Lock_Token=token)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert "Lock-Token" not in response
    after = response.json()
    assert after["expires_at"] > before["expires_at"]
    assert (after["acquired_at"], after["generation"]) == (before["acquired_at"], 1)

    assert renew(as_ada, item).status_code == 412
    assert renew(api, item).status_code in {401, 403}
    for wrong in ({"ttl": "x"}, {"ttl": 0}, {"reason": "x"}, {"to": 1}, {"to": "nobody"}, {"to": "a\x00"}):
        assert renew(as_guido, item, wrong).status_code == 400
    assert renew(as_guido, item, {"ttl": 1, "to": "ada"}).status_code == 400
    assert still(state(as_guido, item)) == still(after)


def test_handing_over(as_guido: APIClient, as_ada: APIClient, ada: Any, item: Item) -> None:
    token = taken(as_guido, item, {"reason": "r", "scope": ["update"]})
    response = renew(as_guido, item, {"to": "ada"}, Lock_Token=token)
    assert response.status_code == 200
    assert response.json()["holder"] == "ada"
    assert response.json()["mine"] is False
    assert response.json()["generation"] == 2
    assert (response.json()["reason"], response.json()["scope"]) == ("r", ["update"])
    assert write(as_guido, item).status_code == 409
    assert write(as_guido, item, token).status_code == 412
    assert write(as_ada, item).status_code == 200
    assert write(as_ada, item, response["Lock-Token"]).status_code == 200
    assert write(as_guido, item, response["Lock-Token"]).status_code == 412

    ada.is_active = False
    ada.save()
    taken(as_guido, other := Item.objects.create())
    assert renew(as_guido, other, {"to": "ada"}).status_code == 400


# ------------------------------------------------------------------------------------------- DELETE


def test_releasing(as_guido: APIClient, as_ada: APIClient, api: APIClient, item: Item) -> None:
    assert release(as_guido, item).status_code == 204
    taken(as_guido, item)
    refused = release(as_ada, item)
    assert (refused.status_code, refused.json()["code"]) == (403, "lock_forbidden")
    assert release(api, item).status_code in {401, 403}
    response = release(as_guido, item)
    assert (response.status_code, response.content) == (204, b"")
    assert state(as_ada, item)["state"] == "free"
    assert release(as_guido, item).status_code == 204
    assert write(as_ada, item).status_code == 200
    taken(as_ada, item)
    assert state(as_ada, item)["generation"] == 2


def test_an_object_that_is_deleted_takes_its_lock_with_it(as_guido: APIClient, item: Item) -> None:
    taken(as_guido, item)
    assert as_guido.delete(f"/item/{item.pk}/").status_code == 204
    assert as_guido.get(f"/item/{item.pk}/lock/").status_code == 404
    Item.objects.create(pk=item.pk)
    assert state(as_guido, item)["state"] == "free"


# --------------------------------------------------------------------------------------------- break


@pytest.fixture
def as_breaker(ada: Any) -> APIClient:
    ada.user_permissions.add(Permission.objects.get(codename="break", content_type__app_label="concord"))
    return client_of(ada)


def test_breaking_at_once(as_guido: APIClient, as_breaker: APIClient, item: Item) -> None:
    assert break_(as_breaker, item).status_code == 409
    token = taken(as_guido, item)
    response = break_(as_breaker, item)
    assert response.status_code == 202
    assert response.json()["state"] == "free"
    assert write(as_breaker, item).status_code == 200
    assert write(as_guido, item, token).status_code == 412
    assert renew(as_guido, item, Lock_Token=token).status_code == 412
    assert break_(as_breaker, item).json()["code"] == "object_not_locked"


def test_breaking_after_a_period(as_guido: APIClient, as_breaker: APIClient, item: Item) -> None:
    token = taken(as_guido, item, {"ttl": 600})
    response = break_(as_breaker, item, {"period": 60})
    assert response.status_code == 202
    assert response.json()["state"] == "held"
    assert "Lock-Token" not in response
    assert write(as_breaker, item).status_code == 409
    assert write(as_guido, item, token).status_code == 200
    assert renew(as_guido, item, Lock_Token=token).status_code == 412
    expire()
    assert write(as_guido, item, token).status_code == 412
    assert write(as_breaker, item).status_code == 200


def test_taking_over(as_guido: APIClient, as_breaker: APIClient, item: Item) -> None:
    token = taken(as_guido, item)
    response = break_(as_breaker, item, {"take": True, "reason": "urgent"})
    assert response.status_code == 202
    body = response.json()
    assert (body["state"], body["mine"], body["reason"], body["generation"]) == ("held", True, "urgent", 2)
    assert write(as_breaker, item, response["Lock-Token"]).status_code == 200
    assert write(as_guido, item).status_code == 409
    assert write(as_guido, item, token).json()["code"] == "lock_lost"


def test_what_cannot_be_broken(as_guido: APIClient, as_breaker: APIClient, item: Item) -> None:
    taken(as_guido, item)
    for wrong in (
        {"take": 1}, {"take": True, "period": 5}, {"period": -1}, {"period": "5"}, {"period": 10**9},
        {"reason": 1}, {"reason": 1, "take": True}, {"ttl": 5},
    ):  # fmt: skip
        assert break_(as_breaker, item, wrong).status_code == 400, wrong
    assert state(as_guido, item)["mine"] is True
    refused = break_(as_guido, item)
    assert (refused.status_code, refused.json()["code"]) == (403, "lock_forbidden")
    assert break_(APIClient(), item).status_code in {401, 403}
    assert as_breaker.get(f"/item/{item.pk}/lock/break/").status_code == 405


# -------------------------------------------------------------------------------------------- freeze


def test_a_freeze_refuses_everybody(
    as_guido: APIClient, as_boss: APIClient, as_ada: APIClient, item: Item
) -> None:
    assert lock(as_guido, item, {"mode": "freeze"}).status_code == 403
    token = taken(as_guido, item)
    frozen = lock(as_boss, item, {"mode": "freeze", "reason": "archive"})
    assert frozen.status_code == 201
    body = frozen.json()
    assert (body["state"], body["mode"], body["expires_at"]) == ("frozen", "freeze", None)
    assert write(as_guido, item, token).json()["code"] == "lock_lost"
    for client in (as_guido, as_boss, as_ada):
        refused = write(client, item)
        assert (refused.status_code, refused.json()["mode"]) == (409, "freeze")
        assert "Retry-After" not in refused
        assert lock(client, item).status_code == 409
    assert release(as_guido, item).status_code == 403
    assert lock(as_boss, item, {"mode": "freeze"}).status_code == 409
    assert release(as_boss, item).status_code == 204
    assert write(as_ada, item).status_code == 200
    assert lock(as_boss, item, {"mode": "freeze", "ttl": 10**7}).status_code == 201


# ---------------------------------------------------------------------------------------------- scope


@pytest.mark.parametrize(
    ("scope", "refused"),
    [
        (None, {"PATCH", "PUT", "DELETE", "publish"}),
        ("write", {"PATCH", "PUT", "DELETE", "publish"}),
        ("delete", {"DELETE"}),
        (["update"], {"PATCH", "PUT"}),
        (["destroy"], {"DELETE"}),
        (["publish"], {"publish"}),
        (["destroy", "publish"], {"DELETE", "publish"}),
    ],
)
def test_scopes(as_guido: APIClient, as_ada: APIClient, item: Item, scope: Any, refused: set[str]) -> None:
    body = {} if scope is None else {"scope": scope}
    taken(as_guido, item, body)
    assert state(as_ada, item)["scope"] == (scope or "write")
    found = set()
    for method in ("publish", "PATCH", "PUT", "DELETE"):
        if method == "publish":
            response = as_ada.post(f"/item/{item.pk}/publish/")
        else:
            response = write(as_ada, item, method=method)
        if response.status_code == 409:
            found.add(method)
            assert response.json()["scope"] == (scope or "write")
        else:
            assert response.status_code in {200, 204}
    assert found == refused


# ------------------------------------------------------------------------------------- who may lock


def grant(user: Any, *names: str) -> APIClient:
    user.user_permissions.set(Permission.objects.filter(codename__in=[f"{name}_item" for name in names]))
    return client_of(type(user).objects.get(pk=user.pk))


@pytest.mark.parametrize(("method", "end"), [("post", ""), ("patch", ""), ("delete", ""), ("post", "break/")])
def test_model_permissions(guido: Any, boss: Any, item: Item, method: str, end: str) -> None:
    address = f"/permitted/{item.pk}/lock/{end}"
    guido.user_permissions.add(Permission.objects.get(codename="break"))
    break_permission = Permission.objects.get(codename="break")

    def asked(*names: str) -> int:
        client = grant(guido, *names)
        guido.user_permissions.add(break_permission)
        status: int = getattr(client, method)(address, {}, format="json").status_code
        return status

    assert asked("change") in {201, 412, 204, 409}
    Lock.objects.all().delete()
    for names in ([], ["view"], ["add"], ["delete"], ["view", "add", "delete"]):
        assert asked(*names) == 403
    assert not Lock.objects.exists()
    assert grant(guido, "change").get(f"/permitted/{item.pk}/lock/").status_code == 200


def test_permissions_by_action_are_those_of_a_patch(as_guido: APIClient, api: APIClient, item: Item) -> None:
    assert lock(as_guido, item, name="byaction").status_code == 201
    assert api.get(f"/byaction/{item.pk}/lock/").status_code == 200
    assert lock(api, item, name="byaction").status_code in {401, 403}
    assert as_guido.delete(f"/byaction/{item.pk}/lock/").status_code == 204


def test_nobody_locks_nothing(api: APIClient, item: Item) -> None:
    for response in (lock(api, item), renew(api, item), release(api, item), break_(api, item)):
        assert response.status_code in {401, 403}
    assert not Lock.objects.exists()


def test_a_session_needs_its_csrf_token(guido: Any, item: Item) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(guido)
    address = f"/session/{item.pk}/lock/"
    for method in ("POST", "PATCH", "DELETE"):
        response = client.generic(method, address, "{}", "application/json")
        assert response.status_code == 403
        assert "CSRF" in response.json()["detail"]
    assert client.post(f"{address}break/").status_code == 403
    assert not Lock.objects.exists()

    client.cookies["csrftoken"] = "a" * 32
    headers = {"X-CSRFToken": "a" * 32}
    assert client.post(address, headers=headers).status_code == 201


def test_acquiring_is_throttled(as_guido: APIClient, item: Item) -> None:
    with override_settings(CONCORD={"LOCK_RATE": "2/min"}):
        assert [lock(as_guido, item).status_code for _ in range(3)] == [201, 201, 429]
        assert int(lock(as_guido, item)["Retry-After"]) > 0
        assert release(as_guido, item).status_code == 204
        assert renew(as_guido, item).status_code == 412
    with override_settings(CONCORD={"LOCK_RATE": None}):
        assert lock(as_guido, item).status_code == 201


def test_the_throttle_scope_of_the_project_wins(as_guido: APIClient, item: Item) -> None:
    with override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"locks": "1/min"}}):
        assert [lock(as_guido, item).status_code for _ in range(2)] == [201, 429]
    with (
        override_settings(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"locks": None}}),
        override_settings(CONCORD={"LOCK_RATE": "1/min"}),
    ):
        assert lock(as_guido, item).status_code == 201


# ---------------------------------------------------------------------------------- on the locked row


def test_a_lock_is_taken_on_the_row_as_it_is(
    as_guido: APIClient, ada: Any, guido: Any, item: Item, at_the_gate: AtTheGate
) -> None:
    at_the_gate(lambda: Item.objects.all().delete())
    assert lock(as_guido, item).status_code == 404
    item = Item.objects.create(owner=guido)
    at_the_gate(lambda: Item.objects.update(owner=ada))
    assert lock(as_guido, item, name="items").status_code == 403
    Item.objects.update(owner=guido)
    at_the_gate(lambda: Item.objects.update(owner=ada))
    assert lock(as_guido, item, name="mine").status_code == 404
    assert not Lock.objects.exclude(mode="").exists()


def test_an_address_that_leads_to_another_row(as_guido: APIClient, at_the_gate: AtTheGate) -> None:
    one = Slugged.objects.create(title="a")

    def swap() -> None:
        Slugged.objects.filter(pk=one.pk).update(slug="b")
        Slugged.objects.create(title="a")

    at_the_gate(swap)
    assert as_guido.post("/slug/a/lock/").status_code == 201
    assert Lock.objects.get().object_pk != str(one.pk)


def test_a_view_that_keeps_its_object(
    as_guido: APIClient, guido: Any, ada: Any, at_the_gate: AtTheGate
) -> None:
    item = Item.objects.create(owner=guido)
    at_the_gate(lambda: Item.objects.update(owner=ada))
    assert lock(as_guido, item, name="kept").status_code == 403
    assert not Lock.objects.exists()


def test_a_lock_that_somebody_takes_at_the_gate(
    as_guido: APIClient, as_ada: APIClient, ada: Any, item: Item, at_the_gate: AtTheGate
) -> None:
    at_the_gate(lambda: taken(as_ada, item))
    assert lock(as_guido, item).status_code == 409
    at_the_gate(lambda: release(as_ada, item))
    assert write(as_guido, item).status_code == 200
    at_the_gate(lambda: taken(as_ada, item))
    assert write(as_guido, item).status_code == 409


@pytest.mark.parametrize(("method", "end"), [("POST", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "break/")])
def test_only_what_the_caller_saw_is_locked(as_boss: APIClient, item: Item, method: str, end: str) -> None:
    taken(as_boss, item)
    before = Lock.objects.values().get()
    old = as_boss.get(f"/item/{item.pk}/")["ETag"]
    Item.objects.update(text="theirs")
    new = as_boss.get(f"/item/{item.pk}/")["ETag"]

    def ask(value: str, header: str = "If-Match") -> Any:
        address = f"/item/{item.pk}/lock/{end}"
        return as_boss.generic(method, address, "{}", "application/json", headers={header: value})

    refused = ask(old)
    assert refused.status_code == 412
    assert refused["ETag"] == new
    assert refused.json()["changed_fields"] == ["text"]
    assert ask("*", "If-None-Match").json()["code"] == "already_exists"
    assert ask("unquoted").status_code == 400
    assert Lock.objects.values().get() == before
    assert ask(new).status_code in {200, 201, 202, 204}


# ---------------------------------------------------------------------------------------- addresses


def test_a_router_without_trailing_slash(as_boss: APIClient, item: Item) -> None:
    address = f"/bare/{item.pk}/lock"
    assert as_boss.post(address).status_code == 201
    assert as_boss.get(address).json()["mine"] is True
    assert as_boss.post(f"{address}/break").status_code == 202
    assert as_boss.delete(address).status_code == 204


def test_an_own_action_named_lock_wins(as_guido: APIClient, item: Item) -> None:
    assert as_guido.post(f"/own/{item.pk}/lock/").json() == {"own": True}
    assert as_guido.get(f"/own/{item.pk}/lock/").status_code == 405
    assert as_guido.post(f"/own/{item.pk}/lock/break/").status_code == 404
    assert as_guido.get(f"/own/{item.pk}/").status_code == 200
    names = {a.__name__ for a in OwnLockView.get_extra_actions()}
    assert names == {"lock", "publish", "list_changes"}


def test_an_own_action_on_the_list_takes_nothing_away(as_guido: APIClient, item: Item) -> None:
    assert as_guido.post("/listed/lock/").json() == {"all": True}
    assert as_guido.post(f"/listed/{item.pk}/lock/").status_code == 201


def test_other_methods(as_guido: APIClient, item: Item) -> None:
    address = f"/item/{item.pk}/lock/"
    assert as_guido.put(address).status_code == 405
    assert as_guido.options(address).status_code == 200
    assert as_guido.head(address).status_code == 200
    assert as_guido.get(address, headers={"Accept": "text/html"}).status_code == 200
    html = {"Accept": "text/html"}
    assert as_guido.post(address, headers=html).status_code == 201


def test_keys_of_other_kinds(as_guido: APIClient, as_ada: APIClient) -> None:
    slugged = Slugged.objects.create(title="a b")
    assert as_guido.post(f"/slug/{slugged.slug}/lock/").status_code == 201
    assert as_ada.patch(f"/slug/{slugged.slug}/", {"title": "c"}).status_code == 409
    assert as_ada.patch(f"/slugged/{slugged.pk}/", {"title": "c"}).status_code == 409

    restaurant = Restaurant.objects.create(name="r")
    assert as_guido.post(f"/restaurants/{restaurant.pk}/lock/").status_code == 201
    assert as_ada.patch(f"/places/{restaurant.pk}/", {"name": "p"}).status_code == 409
    assert as_ada.post(f"/places/{restaurant.pk}/lock/").status_code == 409
    assert as_guido.delete(f"/places/{restaurant.pk}/lock/").status_code == 204
    assert as_ada.patch(f"/restaurants/{restaurant.pk}/", {"stars": 1}).status_code == 200

    bare = Bare.objects.create(text="a")  # a model of its own kind: nothing to inherit for locks
    assert as_guido.post(f"/content/{bare.pk}/lock/").status_code == 201
    assert as_ada.patch(f"/content/{bare.pk}/", {"text": "b"}).status_code == 409
    assert Place.objects.get().name == "r"


def test_a_model_that_guards_itself(as_guido: APIClient, as_ada: APIClient) -> None:
    note = as_guido.post("/notes/", {"text": "a"}).json()
    address = f"/notes/{note['id']}/"
    token = as_guido.post(f"{address}lock/")["Lock-Token"]
    assert as_ada.patch(address, {"text": "b"}).status_code == 409
    assert as_guido.patch(address, {"text": "b"}).status_code == 200
    assert as_guido.patch(address, {"text": "c"}, headers={"Lock-Token": token}).status_code == 200
    assert as_guido.delete(address).status_code == 204


# ----------------------------------------------------------------------------------------- disclosure


@pytest.fixture
def held(guido: Any, item: Item) -> Item:
    item.owner = guido
    item.save()
    lock(client_of(guido), item, {"ttl": 60})
    return item


@pytest.mark.parametrize(
    ("disclosure", "reader", "editor"),
    [("editors", None, "guido"), ("everyone", "guido", "guido"), ("nobody", None, None)],
)
def test_who_holds_it_is_told_as_the_settings_say(
    api: APIClient, as_ada: APIClient, guido: Any, held: Item, disclosure: str, reader: Any, editor: Any
) -> None:
    with override_settings(CONCORD={"DISCLOSURE": disclosure}):
        # there anybody may read, and only a user may change
        assert state(api, held, "session")["holder"] == reader
        # here anybody may change, but nobody in particular is no editor
        assert write(api, held).json()["holder"] == reader
        assert state(as_ada, held)["holder"] == editor
        assert write(as_ada, held).json()["holder"] == editor
        assert lock(as_ada, held).json()["holder"] == editor
        assert state(client_of(guido), held)["holder"] == "guido"


# --------------------------------------------------------------------------------------------- /locks/


def test_one_s_own_locks(as_guido: APIClient, as_ada: APIClient, api: APIClient, item: Item) -> None:
    other = Slugged.objects.create(title="s")
    token = taken(as_guido, item, {"reason": "r"})
    as_guido.post(f"/slugged/{other.pk}/lock/")
    taken(as_ada, third := Item.objects.create())

    listed = as_guido.get("/locks/?mine=1")
    assert listed.status_code == 200
    assert [(row["model"], row["pk"]) for row in listed.json()] == [
        ("app.Slugged", str(other.pk)),
        ("app.Item", str(item.pk)),
    ]
    assert set(listed.json()[0]) == MEMBERS | {"model", "pk"}
    assert token not in listed.content.decode()
    only = as_guido.get("/locks?mine=true&model=app.item").json()
    assert [row["pk"] for row in only] == [str(item.pk)]
    assert as_guido.get("/locks/?mine=1&model=x").json() == []

    for address in ("/locks/", "/locks/?mine=0", "/locks/?mine="):
        assert as_guido.get(address).status_code == 403
    assert api.get("/locks/?mine=1").status_code in {401, 403}
    assert as_guido.post("/locks/").status_code == 405
    expire()
    assert as_guido.get("/locks/?mine=1").json() == []
    assert third.pk != item.pk


def test_everybody_s_locks_need_a_permission(as_boss: APIClient, as_guido: APIClient, item: Item) -> None:
    taken(as_guido, item)
    (row,) = as_boss.get("/locks/").json()
    assert (row["holder"], row["mine"]) == ("guido", False)
    assert as_boss.get("/locks/?mine=1").json() == []


def test_a_lock_from_python_is_shown(as_ada: APIClient, guido: Any, item: Item) -> None:
    locks.freeze(item, by=guido, scope="delete", reason="maintenance")
    assert state(as_ada, item)["state"] == "frozen"
    assert write(as_ada, item).status_code == 200
    refused = write(as_ada, item, method="DELETE")
    assert (refused.status_code, refused.json()["reason"]) == (409, "maintenance")
    with override_settings(CONCORD={"LOCKED_STATUS": 423}):
        assert write(as_ada, item, method="DELETE").status_code == 423
