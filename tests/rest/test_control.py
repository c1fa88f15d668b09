"""Optimistic concurrency by decoration, on every kind of view."""

from __future__ import annotations

import threading
from hashlib import sha256
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import include, path
from rest_framework import generics, permissions, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.views import APIView

from drf_concord import locks
from drf_concord.rest import mixins as concord
from drf_concord.rest import viewsets as ours
from drf_concord.rest.decorators import optimistic_concurrency_control
from drf_concord.rest.locks import StatesLockMixin
from tests.app.models import Bare, Item
from tests.app.views import serializer_for
from tests.kinds.models import Report

from .conftest import AtTheGate

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

Serializer = serializer_for(Bare)


def text_hash(view: Any) -> str:
    return sha256(view.get_object().text.encode()).hexdigest()


class Denying(permissions.BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return bool(obj.text != "secret")


@optimistic_concurrency_control(text_hash)
class GenericView(generics.RetrieveAPIView, generics.UpdateAPIView, generics.DestroyAPIView):
    queryset = Bare.objects.all()
    serializer_class = Serializer
    permission_classes = [Denying]


@optimistic_concurrency_control(text_hash)
class PlainViewSet(viewsets.ModelViewSet):
    queryset = Bare.objects.all()
    serializer_class = Serializer

    @action(methods=["PUT"], detail=True)
    def shout(self, request: Any, pk: Any = None) -> Response:
        obj = self.get_object()
        obj.text = obj.text.upper()
        obj.save()
        return Response({})


@optimistic_concurrency_control(text_hash)
class OurViewSet(ours.ModelViewSet):
    queryset = Bare.objects.all()
    serializer_class = Serializer


@optimistic_concurrency_control(text_hash)
class HandMadeView(APIView):
    """Finds its object by no address, and writes by hand."""

    def get_object(self) -> Bare:
        found = Bare.objects.first()
        if found is None:
            raise Http404
        return found

    def get(self, request: Any, pk: Any = None) -> Response:
        return Response(Serializer(self.get_object()).data)

    def put(self, request: Any, pk: Any = None) -> Response:
        obj = self.get_object()
        obj.text = request.data["text"]
        obj.save()
        return Response(Serializer(obj).data)

    patch = put

    def delete(self, request: Any, pk: Any = None) -> Response:
        self.get_object().delete()
        return Response(status=204)


@optimistic_concurrency_control(text_hash, missing=428)
class StrictView(GenericView):
    pass


@optimistic_concurrency_control(missing=428)
class StrictOurViewSet(ours.ModelViewSet):
    queryset = Bare.objects.all()
    serializer_class = Serializer


@optimistic_concurrency_control
class BareView(generics.RetrieveUpdateDestroyAPIView):
    queryset = Bare.objects.all()
    serializer_class = Serializer


@optimistic_concurrency_control
class VersionedView(generics.RetrieveUpdateAPIView):
    queryset = Item.objects.all()
    serializer_class = serializer_for(Item, ["id", "text"])


@optimistic_concurrency_control
class WritingOtherwiseViewSet(viewsets.ModelViewSet):
    """Shows on GET what a write does not take."""

    queryset = Bare.objects.all()

    def get_serializer_class(self) -> Any:
        return Serializer if self.action == "retrieve" else serializer_for(Bare, ["text"])


@optimistic_concurrency_control(lambda view: view.get_object().title)
class LockedView(concord.LockableUpdateModelMixin, generics.RetrieveUpdateAPIView):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title"])


@optimistic_concurrency_control(text_hash)
class VisibleView(generics.RetrieveUpdateAPIView):
    queryset = Bare.objects.exclude(text="hidden")
    serializer_class = Serializer


@optimistic_concurrency_control(lambda view: token(view.get_object(view.kwargs["pk"]).text))
class TutorialView(APIView):
    """Finds its object by what the address says, as REST framework's tutorial does."""

    def get_object(self, pk: int) -> Bare:
        return get_object_or_404(Bare, pk=pk)

    def get(self, request: Any, pk: int) -> Response:
        return Response(Serializer(self.get_object(pk)).data)

    def put(self, request: Any, pk: int) -> Response:
        obj = self.get_object(pk)
        obj.text = request.data["text"]
        obj.save()
        return Response(Serializer(obj).data)

    patch = put

    def delete(self, request: Any, pk: int) -> Response:
        self.get_object(pk).delete()
        return Response(status=204)


@optimistic_concurrency_control(lambda view: f"length-{len(view.get_object().text)}")
class LengthView(GenericView):
    """Another tag than the view it is made from."""


class UnreadBy(permissions.BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.method != "GET")


@optimistic_concurrency_control(text_hash)
class UnreadableView(generics.RetrieveUpdateAPIView):
    queryset = Bare.objects.all()
    serializer_class = Serializer
    permission_classes = [UnreadBy]


@optimistic_concurrency_control(text_hash)
class HalfOursViewSet(StatesLockMixin, viewsets.ModelViewSet):
    """Has a mixin of ours, and reads and writes as REST framework does."""

    queryset = Bare.objects.all()
    serializer_class = Serializer


router = SimpleRouter()
router.register("halfours", HalfOursViewSet, basename="halfours")
router.register("plain", PlainViewSet, basename="plain")
router.register("ours", OurViewSet, basename="ours")
router.register("strictours", StrictOurViewSet, basename="strictours")
router.register("otherwise", WritingOtherwiseViewSet, basename="otherwise")


@optimistic_concurrency_control(lambda view: view.get_object()["text"])
class DictView(APIView):
    """What it shows is no row."""

    def get_object(self) -> Any:
        return {"text": "a"}

    def get(self, request: Any, pk: int) -> Response:
        return Response(self.get_object())

    put = get


urlpatterns = [
    path("dict/<int:pk>/", DictView.as_view()),
    path("generic/<int:pk>/", GenericView.as_view()),
    path("hand/<int:pk>/", HandMadeView.as_view()),
    path("strict/<int:pk>/", StrictView.as_view()),
    path("tutorial/<int:pk>/", TutorialView.as_view()),
    path("length/<int:pk>/", LengthView.as_view()),
    path("unreadable/<int:pk>/", UnreadableView.as_view()),
    path("bare/<int:pk>/", BareView.as_view()),
    path("versioned/<int:pk>/", VersionedView.as_view()),
    path("locked/<int:pk>/", LockedView.as_view()),
    path("visible/<int:pk>/", VisibleView.as_view()),
    path("", include(router.urls)),
]

EVERY = ["generic", "plain", "ours", "hand", "bare", "halfours", "tutorial"]


def made(text: str = "old") -> Bare:
    return Bare.objects.create(text=text)


def token(text: str) -> str:
    return sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------- what succeeds


@pytest.mark.parametrize("where", [*EVERY, "strict"])
@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_tag_that_is_sent_back_writes_and_the_answer_has_the_new_one(
    api: APIClient, where: str, method: str
) -> None:
    address = f"/{where}/{made().pk}/"
    tag = api.get(address)["ETag"]
    write = getattr(api, method)
    first = write(address, {"text": "new"}, format="json", headers={"If-Match": tag})
    assert (first.status_code, first.json()["text"]) == (200, "new")
    assert first["ETag"] == api.get(address)["ETag"] != tag
    late = write(address, {"text": "late"}, format="json", headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "version_mismatch")
    again = write(address, {"text": "newer"}, format="json", headers={"If-Match": first["ETag"]})
    assert again.status_code == 200
    assert Bare.objects.get().text == "newer"


@pytest.mark.parametrize("where", ["generic", "plain", "ours", "hand"])
def test_the_tag_is_the_text_that_was_computed(api: APIClient, where: str) -> None:
    address = f"/{where}/{made().pk}/"
    assert api.get(address)["ETag"] == f'"{token("old")}"'
    if where != "hand":
        assert api.head(address)["ETag"] == f'"{token("old")}"'


@pytest.mark.parametrize("where", EVERY)
def test_a_delete_is_guarded_too(api: APIClient, where: str) -> None:
    address = f"/{where}/{made().pk}/"
    assert api.delete(address, headers={"If-Match": '"x"'}).status_code == 412
    tag = api.get(address)["ETag"]
    gone = api.delete(address, headers={"If-Match": tag})
    assert (gone.status_code, gone.has_header("ETag")) == (204, False)
    assert not Bare.objects.exists()


@pytest.mark.parametrize("where", EVERY)
def test_a_get_with_the_current_tag_is_not_modified(api: APIClient, where: str) -> None:
    address = f"/{where}/{made().pk}/"
    tag = api.get(address)["ETag"]
    same = api.get(address, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", tag)
    assert api.get(address, headers={"If-Match": '"x"'}).status_code == 412
    Bare.objects.update(text="new")
    assert api.get(address, headers={"If-None-Match": tag}).status_code == 200


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("where", EVERY)
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_missing_tag_is_a_failed_one_and_changes_nothing(api: APIClient, where: str, method: str) -> None:
    refused = getattr(api, method)(f"/{where}/{made().pk}/", {"text": "new"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (412, "version_mismatch")
    assert "If-Match" in refused.json()["detail"]
    assert Bare.objects.get().text == "old"


@pytest.mark.parametrize("where", ["strict", "strictours"])
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_missing_tag_may_be_428(api: APIClient, where: str, method: str) -> None:
    refused = getattr(api, method)(f"/{where}/{made().pk}/", {"text": "new"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (428, "precondition_required")
    assert Bare.objects.get().text == "old"


@pytest.mark.parametrize("where", ["generic", "plain", "ours", "hand"])
def test_a_token_without_quotes_is_understood(api: APIClient, where: str) -> None:
    address = f"/{where}/{made().pk}/"
    for bare in (token("other"), "a,b", "with spaces", "W/x"):
        refused = api.put(address, {"text": "new"}, format="json", headers={"If-Match": bare})
        assert refused.status_code == 412
    done = api.put(address, {"text": "new"}, format="json", headers={"If-Match": token("old")})
    assert done.status_code == 200


@pytest.mark.parametrize("where", ["generic", "plain", "ours", "hand"])
@pytest.mark.parametrize("header", ['"a" "b"', '"open', "", '"a", *', "x" * 9000])
def test_what_cannot_be_read_writes_nothing(api: APIClient, where: str, header: str) -> None:
    address = f"/{where}/{made().pk}/"
    refused = api.put(address, {"text": "new"}, format="json", headers={"If-Match": header})
    assert refused.status_code in {400, 412}
    assert refused.status_code == 400 or header.startswith("x")
    assert Bare.objects.get().text == "old"


def test_any_state_will_do_with_a_star(api: APIClient) -> None:
    done = api.put(f"/generic/{made().pk}/", {"text": "new"}, format="json", headers={"If-Match": "*"})
    assert done.status_code == 200


def test_who_may_not_see_the_object_learns_nothing(api: APIClient) -> None:
    address = f"/generic/{made('secret').pk}/"
    for header in ({}, {"If-Match": '"x"'}, {"If-Match": '"'}, {"If-Match": token("secret")}):
        assert api.put(address, {"text": "new"}, format="json", headers=header).status_code == 403
        assert api.put("/generic/0/", {"text": "new"}, format="json", headers=header).status_code == 404


def test_who_may_write_and_not_read_gets_no_tag(api: APIClient) -> None:
    address = f"/unreadable/{made().pk}/"
    assert api.get(address).status_code == 403
    response = api.put(address, {"text": "new"}, format="json", headers={"If-Match": "*"})
    assert (response.status_code, response.has_header("ETag")) == (200, False)


def test_of_two_decorations_the_one_of_the_subclass_counts(api: APIClient) -> None:
    address = f"/length/{made().pk}/"
    assert api.get(address)["ETag"] == '"length-3"'
    sent = {"data": {"text": "newer"}, "format": "json"}
    assert api.put(address, **sent, headers={"If-Match": token("old")}).status_code == 412
    response = api.put(address, **sent, headers={"If-Match": "length-3"})
    assert (response.status_code, response["ETag"]) == (200, '"length-5"')


def test_a_wrong_body_is_said_after_the_tag(api: APIClient) -> None:
    address = f"/generic/{made().pk}/"
    wrong = {"data": "{", "content_type": "application/json"}
    assert api.put(address, **wrong).status_code == 412
    assert api.put(address, **wrong, headers={"If-Match": token("old")}).status_code == 400
    assert api.put(address, {"text": "x" * 41}, headers={"If-Match": token("old")}).status_code == 400
    assert Bare.objects.get().text == "old"


# --------------------------------------------------------------------------------- one guarded step


@pytest.mark.parametrize("where", EVERY)
@pytest.mark.parametrize("method", ["put", "delete"])
def test_what_changes_on_the_way_to_the_gate_counts(
    api: APIClient, at_the_gate: AtTheGate, where: str, method: str
) -> None:
    address = f"/{where}/{made().pk}/"
    tag = api.get(address)["ETag"]
    at_the_gate(lambda: Bare.objects.update(text="theirs"))
    late = getattr(api, method)(address, {"text": "mine"}, format="json", headers={"If-Match": tag})
    assert late.status_code == 412
    assert Bare.objects.get().text == "theirs"


def test_a_tag_and_its_body_are_of_one_state(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes the object between the two makes the next write fail, and not lose his work."""
    bare = made()
    real = GenericView.retrieve

    def retrieve(self: Any, *args: Any, **kwargs: Any) -> Any:
        Bare.objects.update(text="theirs")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(GenericView, "retrieve", retrieve)
    seen = api.get(f"/generic/{bare.pk}/")
    assert (seen.json()["text"], seen["ETag"]) == ("old", f'"{token("old")}"')
    late = api.put(
        f"/generic/{bare.pk}/", {"text": "mine"}, format="json", headers={"If-Match": seen["ETag"]}
    )
    assert late.status_code == 412


def test_what_left_the_callers_sight_has_no_new_tag(api: APIClient) -> None:
    address = f"/visible/{made().pk}/"
    done = api.patch(address, {"text": "hidden"}, format="json", headers={"If-Match": token("old")})
    assert (done.status_code, done.has_header("ETag")) == (200, False)
    assert Bare.objects.get().text == "hidden"


# ------------------------------------------------------------------------------ beside other things


def test_lists_creation_and_own_actions_stay_as_they_are(api: APIClient) -> None:
    for where in ("plain", "ours"):
        created = api.post(f"/{where}/", {"text": "old"}, format="json")
        assert created.status_code == 201
        assert api.get(f"/{where}/").status_code == 200
    pk = created.json()["id"]
    assert api.put(f"/plain/{pk}/shout/").status_code == 200
    assert api.put(f"/plain/{pk}/shout/", headers={"If-Match": token("old")}).status_code == 412
    assert api.put(f"/plain/{pk}/shout/", headers={"If-Match": token("OLD")}).status_code == 200
    assert api.options(f"/plain/{pk}/").status_code == 200


def test_the_lock_of_a_view_of_ours_needs_no_tag(as_ada: APIClient) -> None:
    address = f"/ours/{made().pk}/lock/"
    assert as_ada.post(address).status_code == 201
    assert as_ada.patch(address, {"ttl": 60}, format="json").status_code == 200
    assert as_ada.delete(address).status_code == 204


def test_the_default_is_the_version(api: APIClient) -> None:
    item = Item.objects.create(text="old")
    address = f"/versioned/{item.pk}/"
    tag = api.get(address)["ETag"]
    Item.objects.update(hidden="x")
    late = api.patch(address, {"text": "new"}, format="json", headers={"If-Match": tag})
    assert late.status_code == 412


def test_the_default_without_a_version_is_what_a_get_shows(api: APIClient) -> None:
    address = f"/otherwise/{made().pk}/"
    tag = api.get(address)["ETag"]
    done = api.patch(address, {"text": "new"}, format="json", headers={"If-Match": tag})
    assert (done.status_code, done["ETag"]) == (200, api.get(address)["ETag"])


def test_locks_come_before_tags(api: APIClient) -> None:
    report = Report.objects.create(title="old", sealed=True)
    address = f"/locked/{report.pk}/"
    assert api.patch(address, {"title": "new"}, format="json").status_code == 409
    Report.objects.update(sealed=False)
    assert api.patch(address, {"title": "new"}, format="json").status_code == 412
    done = api.patch(address, {"title": "new"}, format="json", headers={"If-Match": "old"})
    assert (done.status_code, done["ETag"]) == (200, '"new"')
    locks.freeze(report)
    assert api.patch(address, {"title": "x"}, format="json", headers={"If-Match": "new"}).status_code == 409


# ------------------------------------------------------------------------------ what it cannot guard


def test_a_view_without_an_object_is_refused() -> None:
    class Listing(APIView):
        pass

    def function(request: Any) -> None: ...

    for decorate in (optimistic_concurrency_control, optimistic_concurrency_control(text_hash)):
        with pytest.raises(ImproperlyConfigured, match=r"Listing has no get_object\(\)"):
            decorate(Listing)
    with pytest.raises(ImproperlyConfigured, match=r"function has no get_object\(\)"):
        optimistic_concurrency_control(text_hash)(function)  # type: ignore[type-var]
    with pytest.raises(ImproperlyConfigured, match="412 or 428"):
        optimistic_concurrency_control(text_hash, missing=409)(GenericView)
    with pytest.raises(ImproperlyConfigured, match="was given 'text'"):
        optimistic_concurrency_control("text")(GenericView)  # type: ignore[call-overload]


def test_a_function_that_returns_nothing_gives_no_tag_that_all_states_share(rf: Any) -> None:
    """It would match for ever, and guard nothing."""

    @optimistic_concurrency_control(lambda view: None)
    class Forgetful(generics.RetrieveUpdateAPIView):
        queryset = Bare.objects.all()
        serializer_class = Serializer

    Bare.objects.create(pk=1, text="a")
    with pytest.raises(TypeError, match="returned None"):
        Forgetful.as_view()(rf.get("/"), pk=1)
    with pytest.raises(TypeError, match="returned None"):
        Forgetful.as_view()(rf.put("/", {}, "application/json", headers={"If-Match": '"None"'}), pk=1)


def test_a_name_stays_what_it_is() -> None:
    assert isinstance(GenericView, type)
    assert GenericView.__name__ == "GenericView"


# ------------------------------------------------------------------------------- ATOMIC_REQUESTS


@pytest.fixture
def atomic_requests() -> Any:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_what_is_no_row_cannot_be_guarded(api: APIClient) -> None:
    assert api.get("/dict/1/")["ETag"] == '"a"'
    with pytest.raises(ImproperlyConfigured, match=r"DictView.get_object\(\) returned dict"):
        APIClient().put("/dict/1/", {}, format="json", headers={"If-Match": '"a"'})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["hand", "locked"])
def test_racing_requests_that_are_transactions(atomic_requests: None, where: str) -> None:
    """Each begins as a writer: SQLite would refuse at once to make one of a reader who was overtaken."""
    obj: Any = Bare.objects.create(text="0") if where == "hand" else Report.objects.create(title="0")
    name = "text" if where == "hand" else "title"
    done: list[int] = []
    start = threading.Barrier(2)

    def count() -> None:
        api = APIClient(raise_request_exception=False)
        try:
            start.wait()
            for _ in range(8):
                seen = api.get(f"/{where}/{obj.pk}/")
                data = {name: str(int(seen.json()[name]) + 1)}
                headers = {"If-Match": seen["ETag"]}
                done.append(api.put(f"/{where}/{obj.pk}/", data, format="json", headers=headers).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(done) <= {200, 412}
    obj.refresh_from_db()
    assert getattr(obj, name) == str(done.count(200))
