"""Locks by rules of the project on REST framework's own views."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.urls import include, path
from rest_framework import generics, mixins, permissions, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import locks
from drf_concord.models import Lock
from drf_concord.rest import exceptions
from drf_concord.rest import locks as rest_locks
from drf_concord.rest import mixins as concord
from drf_concord.rest import viewsets as ours
from tests.app.views import serializer_for
from tests.kinds.models import Contract, Locked, Paragraph, Post, Report, Undefined

from .conftest import AtTheGate

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Actions:
    """Own actions of any name."""

    @action(methods=["PUT", "PATCH"], detail=True)
    def lock(self: Any, request: Any, pk: Any = None) -> Response:
        return concord.lock_action(self, request, pk)

    @action(methods=["PUT", "PATCH"], detail=True, url_path="open-again")
    def unlock(self: Any, request: Any, pk: Any = None) -> Response:
        return rest_locks.unlock_action(self, request, pk)

    @action(methods=["PUT"], detail=False)
    def lock_all(self: Any, request: Any) -> Response:
        return concord.lock_action(self, request)


class ReportViewSet(
    Actions,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    concord.LockableUpdateModelMixin,
    concord.LockableDestroyModelMixin,
    viewsets.GenericViewSet,
):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title", "sealed"])


class MixinsLastViewSet(
    viewsets.ModelViewSet, concord.LockableDestroyModelMixin, concord.LockableUpdateModelMixin
):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title"])


class MixinsFirstView(
    concord.LockableDestroyModelMixin,
    concord.LockableUpdateModelMixin,
    generics.RetrieveUpdateDestroyAPIView,
):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title"])


class ParagraphViewSet(
    Actions, concord.LockableUpdateModelMixin, concord.LockableDestroyModelMixin, viewsets.ModelViewSet
):
    queryset = Paragraph.objects.select_related("report")
    serializer_class = serializer_for(Paragraph)


class PostViewSet(
    Actions, concord.LockableUpdateModelMixin, concord.LockableDestroyModelMixin, viewsets.ModelViewSet
):
    """A model that knows nothing of locks, looked up by its text."""

    queryset = Post.objects.all()
    serializer_class = serializer_for(Post)
    lookup_field = "text"

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.closed)

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock

    @action(methods=["PUT"], detail=True, url_path="lock")
    def lock(self, request: Any, text: str = "") -> Response:
        return concord.lock_action(self, request)

    @action(methods=["PUT"], detail=True, url_path="open-again")
    def unlock(self, request: Any, text: str = "") -> Response:
        return concord.unlock_action(self, request)


class TitledViewSet(ReportViewSet):
    """Locks by another rule than the model."""

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.title == "closed")


class UndefinedViewSet(concord.LockableUpdateModelMixin, viewsets.GenericViewSet):
    queryset = Post.objects.all()
    serializer_class = serializer_for(Post)


class SilentViewSet(UndefinedViewSet):
    queryset = Undefined.objects.all()
    serializer_class = serializer_for(Undefined)


class LockedViewSet(Actions, concord.LockableUpdateModelMixin, viewsets.ModelViewSet):
    """Locks that are ``Lock`` rows."""

    queryset = Locked.objects.all()
    serializer_class = serializer_for(Locked)


class ContractViewSet(Actions, ours.ModelViewSet):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["id", "text", "state"])


class MixedViewSet(
    concord.LockableUpdateModelMixin, concord.LockableDestroyModelMixin, Actions, ours.ModelViewSet
):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["id", "text"])

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.text == "closed")


class BareGuardedViewSet(concord.LockableUpdateModelMixin, ours.GenericViewSet):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["id", "text"])


class Nobody(permissions.BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return bool(obj.title != "secret")


class SecretViewSet(ReportViewSet):
    permission_classes = [Nobody]


router = SimpleRouter()
for name, view in {
    "reports": ReportViewSet,
    "last": MixinsLastViewSet,
    "paragraphs": ParagraphViewSet,
    "posts": PostViewSet,
    "titled": TitledViewSet,
    "undefined": UndefinedViewSet,
    "silent": SilentViewSet,
    "locked": LockedViewSet,
    "contracts": ContractViewSet,
    "mixed": MixedViewSet,
    "bare": BareGuardedViewSet,
    "secret": SecretViewSet,
}.items():
    router.register(name, view, basename=name)
urlpatterns = [
    path("first/<int:pk>/", MixinsFirstView.as_view()),
    path("", include(router.urls)),
]

LOCKED = {"detail": "This object is locked and cannot be edited.", "code": "object_locked"}


@pytest.mark.parametrize("where", ["reports", "last", "first"])
def test_a_locked_object_is_not_changed_and_a_free_one_is(api: APIClient, where: str) -> None:
    report = Report.objects.create(title="old", sealed=True)
    address = f"/{where}/{report.pk}/"
    for method in (api.put, api.patch, api.delete):
        refused = method(address, {"title": "new"}, format="json")
        assert (refused.status_code, refused.json()) == (409, LOCKED)
    assert Report.objects.get().title == "old"
    assert api.get(address).status_code == 200

    Report.objects.update(sealed=False)
    assert api.put(address, {"title": "put"}, format="json").json()["title"] == "put"
    assert api.patch(address, {"title": "patched"}, format="json").json()["title"] == "patched"
    assert api.delete(address).status_code == 204
    assert not Report.objects.exists()


def test_a_write_does_not_unlock_on_its_way(api: APIClient) -> None:
    report = Report.objects.create(sealed=True)
    refused = api.patch(f"/reports/{report.pk}/", {"sealed": False, "title": "new"}, format="json")
    assert refused.status_code == 409
    assert Report.objects.get().sealed


@pytest.mark.parametrize("where", ["reports", "last", "contracts", "mixed"])
def test_what_is_locked_on_the_way_to_the_gate_is_refused(
    api: APIClient, at_the_gate: AtTheGate, where: str
) -> None:
    if where in {"contracts", "mixed"}:
        pk, act = Contract.objects.create().pk, lambda: Contract.objects.update(state="signed", text="closed")
    else:
        pk, act = Report.objects.create().pk, lambda: Report.objects.update(sealed=True)
    at_the_gate(act)
    refused = api.patch(f"/{where}/{pk}/", {"title": "new", "text": "new"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "object_locked")


def test_a_lock_status_is_set_once(api: APIClient) -> None:
    report = Report.objects.create(title="old")
    lock, unlock = f"/reports/{report.pk}/lock/", f"/reports/{report.pk}/open-again/"
    for method in (api.put, api.patch):
        done = method(lock)
        assert (done.status_code, done.json()) == (200, {"id": report.pk, "title": "old", "sealed": True})
        again = method(lock)
        assert (again.status_code, again.json()["code"]) == (409, "object_already_locked")
        assert Report.objects.get().sealed
        assert method(unlock).json()["sealed"] is False
        again = method(unlock)
        assert (again.status_code, again.json()["code"]) == (409, "object_not_locked")
        assert not Report.objects.get().sealed


@pytest.mark.parametrize("was", [False, True])
def test_a_lock_status_is_decided_on_the_locked_row(
    api: APIClient, at_the_gate: AtTheGate, was: bool
) -> None:
    report = Report.objects.create(title="old", sealed=was)
    at_the_gate(lambda: Report.objects.update(sealed=not was, title="new"))
    answer = api.put(f"/reports/{report.pk}/{'open-again' if was else 'lock'}/")
    assert answer.status_code == 409
    assert Report.objects.get().title == "new"  # and nothing else was reverted


@pytest.mark.parametrize("how", ["saved", "in bulk"])
def test_a_status_may_be_written_by_who_sets_it(
    api: APIClient, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Any, obj: Any, lock: bool) -> None:
        if how == "saved":
            obj.sealed = lock
            obj.save()
        else:
            Report.objects.filter(pk=obj.pk).update(sealed=lock)

    monkeypatch.setattr(ReportViewSet, "set_locked_status", write)
    address = f"/reports/{Report.objects.create().pk}/"
    for name, sealed in (("lock", True), ("open-again", False)):
        response = api.put(f"{address}{name}/")
        assert (response.status_code, response.json()["sealed"]) == (200, sealed)
        assert Report.objects.get().sealed is sealed


def test_an_action_on_a_list_says_what_is_wrong(api: APIClient) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"detail=True\) over ReportViewSet.lock_all"):
        APIClient().put("/reports/lock_all/")


def test_the_object_is_found_as_the_view_finds_it(api: APIClient) -> None:
    Post.objects.create(text="hello")
    assert api.put("/posts/hello/lock/").json()["closed"] is True
    assert api.put("/posts/hello/", {"text": "x"}, format="json").status_code == 409
    assert api.delete("/posts/hello/").status_code == 409
    assert api.put("/posts/hello/lock/").json()["code"] == "object_already_locked"
    assert api.put("/posts/hello/open-again/").status_code == 200
    assert api.delete("/posts/hello/").status_code == 204
    assert api.put("/posts/hello/lock/").status_code == 404


def test_a_child_is_locked_with_its_parent(api: APIClient) -> None:
    paragraph = Paragraph.objects.create(report=Report.objects.create(sealed=True))
    address = f"/paragraphs/{paragraph.pk}/"
    assert api.patch(address, {"text": "new"}, format="json").status_code == 409
    assert api.delete(address).status_code == 409
    assert api.put(f"{address}lock/").json()["code"] == "object_already_locked"
    Report.objects.update(sealed=False)
    assert api.patch(address, {"text": "new"}, format="json").status_code == 200


def test_a_parent_that_is_locked_on_the_way_counts(api: APIClient, at_the_gate: AtTheGate) -> None:
    paragraph = Paragraph.objects.create(report=Report.objects.create())
    at_the_gate(lambda: Report.objects.update(sealed=True))
    assert api.patch(f"/paragraphs/{paragraph.pk}/", {"text": "new"}, format="json").status_code == 409


def test_a_view_may_lock_by_another_rule_and_the_model_still_guards(api: APIClient) -> None:
    report = Report.objects.create(title="closed")
    assert api.patch(f"/titled/{report.pk}/", {"title": "new"}, format="json").status_code == 409
    Report.objects.update(title="open", sealed=True)
    refused = api.patch(f"/titled/{report.pk}/", {"title": "new"}, format="json")
    assert (refused.status_code, refused.json()) == (409, LOCKED)
    assert Report.objects.get().title == "open"


@pytest.mark.parametrize("where", ["undefined", "silent"])
def test_a_rule_that_is_nowhere_is_said_to_who_needs_it(where: str) -> None:
    pk = (Post if where == "undefined" else Undefined).objects.create().pk
    with pytest.raises(NotImplementedError, match=r"is_(instance_)?locked"):
        router_view(where)(pk)


def router_view(where: str) -> Any:
    from rest_framework.test import APIRequestFactory

    view: Any = UndefinedViewSet if where == "undefined" else SilentViewSet
    request = APIRequestFactory().patch("/", {"text": "new"}, format="json")
    return lambda pk: view.as_view({"patch": "partial_update"})(request, pk=pk)


def test_who_may_not_see_an_object_learns_nothing_of_its_lock(api: APIClient) -> None:
    report = Report.objects.create(title="secret", sealed=True)
    assert api.patch(f"/secret/{report.pk}/", {"title": "new"}, format="json").status_code == 403
    assert api.put(f"/secret/{report.pk}/lock/").status_code == 403
    assert api.patch("/secret/0/", {"title": "new"}, format="json").status_code == 404


def test_a_wrong_body_is_said_after_the_lock(api: APIClient) -> None:
    report = Report.objects.create(sealed=True)
    address = f"/reports/{report.pk}/"
    assert api.patch(address, "{", content_type="application/json").status_code == 409
    Report.objects.update(sealed=False)
    assert api.patch(address, "{", content_type="application/json").status_code == 400
    assert api.patch(address, {"title": "x" * 41}, format="json").status_code == 400
    assert api.patch(address, "x", content_type="text/csv").status_code == 415


def test_a_lock_that_was_taken_holds_on_plain_views_too(
    api: APIClient, guido: Any, as_guido: APIClient
) -> None:
    report = Report.objects.create()
    address = f"/reports/{report.pk}/"
    with locks.hold(report, holder=guido):
        refused = api.patch(address, {"title": "new"}, format="json")
        assert (refused.status_code, refused.json()) == (409, LOCKED)
        assert int(refused["Retry-After"]) > 0
        assert as_guido.patch(address, {"title": "new"}, format="json").status_code == 200
        lost = as_guido.patch(address, {"title": "x"}, format="json", headers={"Lock-Token": "no"})
        assert (lost.status_code, lost.json()["code"]) == (412, "lock_lost")
        assert as_guido.delete(address).status_code == 204


def test_a_lockable_is_locked_for_nobody_and_freed_by_anybody(api: APIClient, ada: Any) -> None:
    note = Locked.objects.create(text="old")
    lock, unlock = f"/locked/{note.pk}/lock/", f"/locked/{note.pk}/open-again/"
    assert api.put(unlock).json()["code"] == "object_not_locked"
    assert api.put(lock).json() == {"id": note.pk, "text": "old"}
    assert api.put(lock).json()["code"] == "object_already_locked"
    assert api.patch(f"/locked/{note.pk}/", {"text": "new"}, format="json").status_code == 409
    assert api.put(unlock).status_code == 200
    assert api.patch(f"/locked/{note.pk}/", {"text": "new"}, format="json").status_code == 200
    with locks.hold(note, holder=ada):
        refused = api.put(unlock)
        assert (refused.status_code, refused.json()["code"]) == (403, "lock_forbidden")
    locks.freeze(note, scope="delete")
    assert api.patch(f"/locked/{note.pk}/", {"text": "newer"}, format="json").status_code == 200


def test_a_lock_is_not_put_on_what_the_address_led_to_before(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, other = Locked.objects.create(), Locked.objects.create()
    real, found = LockedViewSet.get_object, [seen, other]
    monkeypatch.setattr(LockedViewSet, "get_object", lambda view: real(view) and found.pop(0))
    response = api.put(f"/locked/{seen.pk}/lock/")
    assert (response.status_code, response.json()["code"]) == (503, "busy")
    assert not Lock.objects.exclude(mode="").exists()


# ------------------------------------------------------------------------------ on views of ours


def test_the_gate_asks_the_model(api: APIClient, both_ways: str) -> None:
    contract = Contract.objects.create(text="old", state="signed")
    address = f"/contracts/{contract.pk}/"
    tag = api.get(address)["ETag"]
    refused = api.patch(address, {"text": "new", "state": "draft"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "object_locked")
    assert api.patch(address, {}, format="json", headers={"If-Match": '"x"'}).status_code == 409
    assert api.delete(address).status_code == 409
    opened = api.put(f"{address}open-again/", headers={"If-Match": tag})
    assert (opened.status_code, opened.json()["state"]) == (200, "draft")
    assert api.put(f"{address}lock/", headers={"If-Match": tag}).status_code == 412
    assert api.patch(address, {"text": "new"}, format="json").status_code == 200


def test_the_gate_asks_the_view_and_keeps_its_preconditions(api: APIClient) -> None:
    contract = Contract.objects.create(text="old")
    address = f"/mixed/{contract.pk}/"
    tag = api.get(address)["ETag"]
    written = api.patch(address, {"text": "closed"}, format="json", headers={"If-Match": tag})
    assert written.status_code == 200
    assert written["ETag"] != tag
    for method in (api.patch, api.delete):
        assert method(address, {"text": "x"}, format="json").status_code == 409
    Contract.objects.update(text="open")
    assert api.patch(address, {"text": "x"}, format="json", headers={"If-Match": tag}).status_code == 412
    assert api.delete(address, headers={"If-Match": tag}).status_code == 412
    assert api.delete(address).status_code == 204


def test_a_mixin_over_a_bare_viewset_of_ours_is_guarded(api: APIClient) -> None:
    contract = Contract.objects.create()
    assert api_of(BareGuardedViewSet, contract.pk).status_code == 200
    Contract.objects.update(state="signed")
    assert api_of(BareGuardedViewSet, contract.pk).status_code == 409


class Noting:
    """Somebody else's mixin, which does something on the way."""

    noted: list[str] = []

    def update(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.noted.append("before")
        return super().update(request, *args, **kwargs)  # type: ignore[misc]


@pytest.mark.parametrize(
    "base", [viewsets.GenericViewSet, ours.GenericViewSet, ours.ModelViewSet], ids=["plain", "bare", "ours"]
)
def test_a_mixin_of_somebody_else_is_called_too_and_all_is_guarded(base: Any) -> None:
    class Noted(Noting, mixins.UpdateModelMixin):
        pass

    class NotedViewSet(concord.LockableUpdateModelMixin, Noted, base):
        queryset = Contract.objects.all()
        serializer_class = serializer_for(Contract, ["id", "text"])

    contract = Contract.objects.create()
    Noting.noted.clear()
    answer = api_of(NotedViewSet, contract.pk)
    assert (answer.status_code, Noting.noted) == (200, ["before"])
    assert answer.has_header("ETag") == (base is not viewsets.GenericViewSet)
    Contract.objects.update(state="signed")
    assert api_of(NotedViewSet, contract.pk).status_code == 409
    assert Noting.noted == ["before"]


def api_of(view: Any, pk: Any) -> Any:
    from rest_framework.test import APIRequestFactory

    request = APIRequestFactory().patch("/", {"text": "new"}, format="json", HTTP_ACCEPT="application/json")
    return view.as_view({"patch": "partial_update"})(request, pk=pk).render()


# ---------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (exceptions.Conflict, "conflict"),
        (exceptions.APIObjectLocked, "object_locked"),
        (exceptions.APIObjectAlreadyLocked, "object_already_locked"),
        (exceptions.APIObjectAlreadyUnlocked, "object_not_locked"),
    ],
)
def test_the_exceptions_are_conflicts_of_rest_framework(kind: Any, code: str) -> None:
    error = kind()
    assert isinstance(error, APIException)
    assert (error.status_code, error.get_codes(), kind.default_code) == (409, code, code)
    assert str(error) == error.detail["detail"]
    assert error.detail["code"] == code
    assert str(kind("Mine.", "own")) == "Mine."
    assert kind("Mine.", "own").get_codes() == "own"


def test_locked_may_be_423(settings: Any) -> None:
    settings.CONCORD = {**settings.CONCORD, "LOCKED_STATUS": 423}
    assert exceptions.APIObjectLocked().status_code == 423
    assert exceptions.APIObjectAlreadyLocked().status_code == 409


# ------------------------------------------------------------------------------- ATOMIC_REQUESTS


@pytest.fixture
def atomic_requests() -> Any:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
def test_requests_that_are_transactions_begin_as_writers(atomic_requests: None) -> None:
    reports = [Report.objects.create() for _ in range(2)]
    done: list[int] = []
    start = threading.Barrier(2)

    def write(report: Report) -> None:
        api = APIClient(raise_request_exception=False)
        try:
            start.wait()
            for number in range(8):
                answer = api.patch(f"/reports/{report.pk}/", {"title": str(number)}, format="json")
                done.append(answer.status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=[report]) for report in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [200] * 16
    assert set(Report.objects.values_list("title", flat=True)) == {"7"}
