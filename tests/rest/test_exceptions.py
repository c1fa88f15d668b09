"""The package's refusals as Django REST Framework answers them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from django.urls import include, path
from rest_framework import serializers
from rest_framework import viewsets as drf
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.settings import api_settings
from rest_framework.test import APIClient
from rest_framework.views import exception_handler as drf_exception_handler

from drf_concord import locks
from drf_concord.protocol.errors import Busy, ObjectLocked, VersionMismatch
from drf_concord.rest import viewsets
from drf_concord.rest.exceptions import APIConcordError, exception_handler
from tests.app.models import Item, Note
from tests.app.urls import urlpatterns as app_patterns

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

PROBLEM = "application/problem+json"


class NoteSerializer(serializers.ModelSerializer):
    class Meta:
        model = Note
        fields = ["id", "text"]


class OurView(viewsets.ModelViewSet):
    queryset = Note.objects.order_by("pk")
    serializer_class = NoteSerializer


class TheirView(drf.ModelViewSet):
    """DRF's own, over a model that guards itself."""

    queryset = Note.objects.order_by("pk")
    serializer_class = NoteSerializer

    def get_exception_handler(self) -> Any:
        return exception_handler


class BusyView(OurView):
    def perform_update(self, serializer: Any) -> None:
        raise Busy(retry_after=1.2)


def enveloping(exc: Exception, context: dict[str, Any]) -> Response | None:
    """What many projects have: an envelope round every error."""
    response = drf_exception_handler(exc, context)
    if response is not None:
        response.data = {"error": response.data, "status": response.status_code}
    return response


def listing(exc: Exception, context: dict[str, Any]) -> Response | None:
    response = drf_exception_handler(exc, context)
    if response is not None:
        response.data = [response.data]
    return response


class EnvelopingView(OurView):
    def get_exception_handler(self) -> Any:
        return enveloping


class ListingView(OurView):
    def get_exception_handler(self) -> Any:
        return listing


router = SimpleRouter()
for name, view in {
    "ours": OurView, "theirs": TheirView, "busy": BusyView, "enveloping": EnvelopingView,
    "listing": ListingView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls)), *app_patterns]


@pytest.fixture
def frozen(guido: Any) -> Note:
    note = Note.objects.create(text="one")
    locks.freeze(note, by=guido, reason="archive")
    return note


def patch(api: APIClient, address: str, **headers: str) -> Any:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return api.patch(address, {"text": "two"}, format="json", headers=given)


def test_members_stay_what_they_are(api: APIClient, frozen: Note) -> None:
    body = patch(api, f"/ours/{frozen.pk}/").json()
    assert body["expires_at"] is None
    assert body["mine"] is False


@pytest.mark.rfc("4918", "11.3", "423 where a lock stands in the way, if the project wants it so")
@pytest.mark.parametrize(("setting", "status"), [({}, 409), ({"LOCKED_STATUS": 423}, 423)])
def test_the_status_of_a_lock_is_a_setting(
    api: APIClient, as_ada: APIClient, frozen: Note, setting: Any, status: int
) -> None:
    with override_settings(CONCORD=setting):
        assert patch(api, f"/ours/{frozen.pk}/").status_code == status
        assert patch(api, f"/theirs/{frozen.pk}/").status_code == status
        # a lock that cannot be taken is a conflict all the same
        assert as_ada.post(f"/ours/{frozen.pk}/lock/").status_code == 409


def test_a_view_of_drf_answers_what_a_model_refuses(api: APIClient, frozen: Note) -> None:
    response = patch(api, f"/theirs/{frozen.pk}/")
    assert response.status_code == 409
    assert response.json()["code"] == "object_locked"
    assert api.delete(f"/theirs/{frozen.pk}/").status_code == 409
    assert api.get("/theirs/9999/").status_code == 404
    assert Note.objects.get().text == "one"


def test_busy_says_when_to_come_again(api: APIClient) -> None:
    note = Note.objects.create()
    response = patch(api, f"/busy/{note.pk}/")
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert response.json()["code"] == "busy"


def test_an_error_for_any_handler() -> None:
    error = APIConcordError(VersionMismatch(current_etag='"x"'))
    assert error.status_code == 412
    assert error.get_codes() == "version_mismatch"
    assert (
        error.get_full_details()
        == error.detail
        == {
            "detail": error.error.detail,
            "code": "version_mismatch",
            "current_etag": '"x"',
        }
    )
    assert str(error) == error.error.detail
    assert not hasattr(error, "wait")
    assert APIConcordError(ObjectLocked(retry_after=0.1)).wait == 1
    assert exception_handler(ValueError(), {}) is None


# -------------------------------------------------------------------------- a project's own handler


@pytest.mark.parametrize("name", ["enveloping", "listing"])
@pytest.mark.parametrize("accept", ["application/json", f"application/json, {PROBLEM}"])
def test_the_handler_of_a_project_has_the_last_word(
    api: APIClient, frozen: Note, name: str, accept: str
) -> None:
    locked = patch(api, f"/{name}/{frozen.pk}/", Accept=accept)
    assert locked.status_code == 409
    locks.release_lock(frozen)
    stale = patch(api, f"/{name}/{frozen.pk}/", Accept=accept, If_Match='"1-0"')
    assert stale.status_code == 412
    assert stale["ETag"] == api.get(f"/{name}/{frozen.pk}/")["ETag"]
    body = stale.json()
    told = body["error"] if name == "enveloping" else body[0]
    assert told["code"] == "version_mismatch"
    assert told["current"]["text"] == "one"


def test_the_handler_of_a_project_by_its_setting(api: APIClient, frozen: Note) -> None:
    with override_settings(REST_FRAMEWORK={"EXCEPTION_HANDLER": f"{__name__}.enveloping"}):
        body = patch(api, f"/ours/{frozen.pk}/").json()
    assert body["status"] == 409
    assert body["error"]["code"] == "object_locked"


def test_without_a_setting_it_is_this_packages() -> None:
    assert api_settings.EXCEPTION_HANDLER is exception_handler
    with override_settings(REST_FRAMEWORK={"EXCEPTION_HANDLER": f"{__name__}.enveloping"}):
        assert api_settings.EXCEPTION_HANDLER is enveloping


# --------------------------------------------------------------------------------- problem details


@pytest.mark.rfc("9457", "3", "problem details where they are asked for")
@pytest.mark.parametrize("accept", [f"application/json, {PROBLEM}", f"{PROBLEM}, */*;q=0.1"])
def test_problem_details(api: APIClient, frozen: Note, accept: str) -> None:
    response = patch(api, f"/ours/{frozen.pk}/", Accept=accept)
    assert response.status_code == 409
    assert response["Content-Type"] == PROBLEM
    body = response.json()
    assert (body["status"], body["title"], body["code"]) == (409, "object_locked", "object_locked")
    assert body["detail"]
    ok = api.get(f"/ours/{frozen.pk}/", headers={"Accept": accept})
    assert ok["Content-Type"] == "application/json"
    plain = patch(api, f"/ours/{frozen.pk}/")
    assert plain["Content-Type"] == "application/json"
    assert "title" not in plain.json()


def test_problem_details_are_json_or_nothing(api: APIClient, frozen: Note) -> None:
    html = patch(api, f"/ours/{frozen.pk}/", Accept=f"text/html, {PROBLEM};q=0.1")
    assert html.status_code == 409
    assert html["Content-Type"].startswith("text/html")
    assert patch(api, f"/ours/{frozen.pk}/", Accept=PROBLEM).status_code == 406


def test_a_refusal_of_drf_is_no_problem_of_ours(api: APIClient) -> None:
    item = Item.objects.create()
    response = api.patch(f"/items/{item.pk}/", {"count": "x"}, headers={"Accept": f"*/*, {PROBLEM}"})
    assert response.status_code == 400
    assert set(response.json()) == {"count"}
