"""The OpenAPI document of a small API with every kind of view, kept whole in ``openapi.yaml``."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.test import override_settings
from django.urls import include, path
from drf_spectacular import openapi
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.validation import validate_schema
from rest_framework import generics, serializers, viewsets
from rest_framework import mixins as drf
from rest_framework.decorators import action
from rest_framework.filters import BaseFilterBackend
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.rest import mixins
from drf_concord.rest import viewsets as ours
from drf_concord.rest.decorators import guarded, optimistic_concurrency_control
from drf_concord.rest.locks import StatesLockMixin, lock_action
from drf_concord.rest.schema import AutoSchemaMixin
from drf_concord.rest.serializers import ETagField
from tests.app.models import Folder, Item
from tests.kinds.models import Machine, Report

pytestmark = [pytest.mark.sqlite, pytest.mark.urls(__name__)]

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("openapi.yaml")
AGAIN = "CONCORD_WRITE_OPENAPI"
STALE = f"The document changed. If it should: {AGAIN}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"


# no integers: their limits are those of the database and of Django's version
class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "notes", "folder"]


class TaggedItemSerializer(serializers.ModelSerializer):
    etag = ETagField()

    class Meta:
        model = Item
        fields = ["id", "etag", "text"]


class FolderSerializer(serializers.ModelSerializer):
    items = ItemSerializer(many=True, read_only=True)

    class Meta:
        model = Folder
        fields = ["id", "name", "items"]


class MachineSerializer(serializers.ModelSerializer):
    class Meta:
        model = Machine
        fields = ["uuid", "name", "state"]


class ReportSerializer(serializers.ModelSerializer):
    state = serializers.ChoiceField(["open", "closed"], write_only=True)
    mode = serializers.ChoiceField(["slow", "fast"], write_only=True)

    class Meta:
        model = Report
        fields = ["id", "title", "state", "mode"]


class FolderViewSet(ours.ModelViewSet):
    """Folders, with their items."""

    queryset = Folder.objects.all()
    serializer_class = FolderSerializer


class ItemViewSet(ours.ModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer
    merge = "disjoint"

    @action(detail=True, methods=["post"])
    @guarded
    def publish(self, request: Any, pk: Any = None) -> Response:
        """Show it to everybody."""
        raise NotImplementedError

    @action(detail=True, methods=["post"])
    def copy(self, request: Any, pk: Any = None) -> Response:
        """An action that passes no gate."""
        raise NotImplementedError


class MachineViewSet(StatesLockMixin, ours.ModelViewSet):
    """Machines, which administrators lock."""

    queryset = Machine.objects.all()
    serializer_class = MachineSerializer
    lookup_field = "uuid"
    precondition_required = True
    conflict_current = False


class PlainMachineViewSet(StatesLockMixin, viewsets.ModelViewSet):
    queryset = Machine.objects.all()
    serializer_class = MachineSerializer
    lookup_field = "uuid"


class ItemView(mixins.RetrieveModelMixin, mixins.UpdateModelMixin, generics.GenericAPIView):
    """A generic view."""

    queryset = Item.objects.all()
    serializer_class = TaggedItemSerializer

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.retrieve(request, *args, **kwargs)

    def put(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.update(request, *args, **kwargs)


@optimistic_concurrency_control(missing=428)
class ReportView(generics.RetrieveUpdateDestroyAPIView):
    queryset = Report.objects.all()
    serializer_class = ReportSerializer


class LockableReportViewSet(mixins.LockableUpdateModelMixin, drf.RetrieveModelMixin, viewsets.GenericViewSet):
    queryset = Report.objects.all()
    serializer_class = ReportSerializer

    @action(detail=True, methods=["put"])
    def lock(self, request: Any, pk: Any = None) -> Response:
        return lock_action(self, request, pk)


class PlainViewSet(viewsets.ModelViewSet):
    """Nothing of this package."""

    queryset = Report.objects.all()
    serializer_class = ReportSerializer


router = SimpleRouter()
router.register("folders", FolderViewSet)
router.register("items", ItemViewSet)
router.register("machines", MachineViewSet)
small = [
    path("", include(router.urls)),
    path("", include("drf_concord.urls")),
    path("item/<int:pk>/", ItemView.as_view()),
    path("report/<int:pk>/", ReportView.as_view()),
]
edges = SimpleRouter()
edges.register("plain-machines", PlainMachineViewSet, basename="plain-machine")
edges.register("reports", LockableReportViewSet)
edges.register("plain", PlainViewSet, basename="plain")
urlpatterns = [*small, path("edges/", include(edges.urls))]


def using(schema_class: str) -> Any:
    permissions = ["rest_framework.permissions.IsAuthenticatedOrReadOnly"]
    return override_settings(
        REST_FRAMEWORK={"DEFAULT_SCHEMA_CLASS": schema_class, "DEFAULT_PERMISSION_CLASSES": permissions}
    )


@pytest.fixture(autouse=True)
def ours_is_on() -> Iterator[None]:
    with using("drf_concord.rest.schema.AutoSchema"):
        yield


def document(patterns: Any = None) -> Any:
    made = SchemaGenerator(patterns=urlpatterns if patterns is None else patterns)
    return made.get_schema(request=None, public=True)


def headers_of(operation: Any) -> dict[str, bool]:
    sent = [p for p in operation.get("parameters", ()) if p["in"] == "header"]
    return {p["name"]: p.get("required", False) for p in sent}


def body_of(response: Any) -> Any:
    return response["content"]["application/json"]["schema"]


def test_the_document_is_the_one_that_was_agreed_on() -> None:
    made = OpenApiYamlRenderer().render(document(small)).decode()
    if os.environ.get(AGAIN):
        GOLDEN.write_text(made)
    assert made == GOLDEN.read_text(), STALE


@pytest.mark.parametrize("version", ["3.0.3", "3.1.1"])
def test_the_document_is_valid_and_nothing_is_warned_of(
    version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spectacular_settings, "OAS_VERSION", version)
    made = document()
    validate_schema(made)
    assert made["openapi"] == version
    assert not GENERATOR_STATS
    assert capsys.readouterr().err == ""


def test_views_of_others_are_left_as_they_were() -> None:
    with using("drf_spectacular.openapi.AutoSchema"):
        router = SimpleRouter()
        router.register("plain", PlainViewSet, basename="plain")
        before = document([path("edges/", include(router.urls))])
    after = document()
    paths = {address: what for address, what in after["paths"].items() if address.startswith("/edges/plain/")}
    assert paths == before["paths"]
    # names of enumerations, which are found out by comparing all that there are, stay as well
    for name, schema in before["components"]["schemas"].items():
        assert after["components"]["schemas"][name] == schema


def test_whoever_uses_another_class_sees_nothing_of_this() -> None:
    with using("drf_spectacular.openapi.AutoSchema"):
        assert (
            "ConcordConflict"
            not in document([path("item/<int:pk>/", ItemView.as_view())])["components"]["schemas"]
        )


def test_an_action_that_passes_no_gate_is_left_as_it_was() -> None:
    copied = document()["paths"]["/items/{id}/copy/"]["post"]
    assert set(copied["responses"]) == {"200"}
    assert headers_of(copied) == {}


def test_a_view_of_others_says_that_its_object_may_be_locked() -> None:
    paths = document()["paths"]
    for address in ("/edges/reports/{id}/", "/edges/plain-machines/{uuid}/"):
        changed = paths[address]["patch"]
        assert headers_of(changed) == {"Lock-Token": False}
        assert set(changed["responses"]) == {"200", "409", "412", "503"}
        assert headers_of(paths[address]["get"]) == {}
    # the project's own action, not the sub-resource
    assert set(paths["/edges/reports/{id}/lock/"]) == {"put"}
    assert set(paths["/edges/reports/{id}/lock/"]["put"]["responses"]) == {"200"}
    assert "delete" not in paths["/edges/reports/{id}/"]
    assert "409" in paths["/edges/plain-machines/{uuid}/"]["delete"]["responses"]


def test_a_list_that_is_followed_says_how() -> None:
    class Search(BaseFilterBackend):
        def get_schema_operation_parameters(self, view: Any) -> Any:
            return [{"name": "q", "in": "query", "schema": {"type": "string"}}]

    class Found(ItemViewSet):
        filter_backends = [Search]

    class Off(ItemViewSet):
        changes_over_http = False

    router = SimpleRouter()
    router.register("found", Found)
    router.register("off", Off, basename="off")
    paths = document(router.urls)["paths"]
    listed, changes = paths["/found/"]["get"], paths["/found/changes/"]["get"]
    assert "Last-Event-ID" in headers_of(listed)
    assert set(listed["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert [p["name"] for p in changes["parameters"]] == ["q", "since"]
    assert set(changes["responses"]) == {"200", "400", "410", "501"}
    body = body_of(changes["responses"]["200"])
    item = {"$ref": "#/components/schemas/Item"}
    assert body["properties"]["items"]["items"]["properties"]["instance"] == item
    assert "/off/changes/" not in paths
    assert set(paths["/off/"]["get"]["responses"]["200"]["content"]) == {"application/json"}


def test_locks_have_the_status_of_the_setting() -> None:
    with override_settings(CONCORD={"LOCKED_STATUS": 423}):
        answers = document()["paths"]["/items/{id}/"]["put"]["responses"]
    assert body_of(answers["423"]) == {"$ref": "#/components/schemas/ConcordObjectLocked"}
    assert body_of(answers["409"]) == {"$ref": "#/components/schemas/ConcordError"}


def test_what_has_to_be_sent_is_required() -> None:
    with override_settings(CONCORD={"REQUIRE_PRECONDITION": True}):
        paths = document()["paths"]
    assert headers_of(paths["/items/{id}/"]["put"])["If-Match"] is True
    assert headers_of(paths["/items/{id}/publish/"]["post"])["If-Match"] is True
    assert headers_of(paths["/items/{id}/"]["get"])["If-Match"] is False


@pytest.mark.parametrize("base", [generics.RetrieveUpdateAPIView, ItemView])
def test_a_decorated_view_answers_what_it_was_told_to(base: Any) -> None:
    class Held(base):
        queryset = Item.objects.all()
        serializer_class = ItemSerializer

    strict = document([path("it/<int:pk>/", optimistic_concurrency_control(Held).as_view())])
    changed = strict["paths"]["/it/{id}/"]["put"]
    assert headers_of(changed) == {"If-Match": True, "Lock-Token": False}
    assert "ETag" in changed["responses"]["200"]["headers"]
    assert {"412", "428"} & set(changed["responses"]) == {"412"}


def test_a_decorated_view_without_an_address_of_one_object_is_not_guarded() -> None:
    @optimistic_concurrency_control
    class Several(generics.ListCreateAPIView):
        queryset = Item.objects.all()
        serializer_class = ItemSerializer

        def put(self, request: Any) -> Response:
            raise NotImplementedError

    made = document([path("several/", Several.as_view())])["paths"]["/several/"]
    assert [headers_of(made[method]) for method in ("get", "post", "put")] == [{}, {}, {}]


def test_a_decorated_view_that_finds_its_object_by_itself_is_guarded() -> None:
    @optimistic_concurrency_control
    class Profile(generics.RetrieveUpdateAPIView):
        queryset = Item.objects.all()
        serializer_class = ItemSerializer

        def get_object(self) -> Any:
            raise NotImplementedError

    made = document([path("profile/", Profile.as_view())])["paths"]["/profile/"]
    assert headers_of(made["get"]) == {"If-Match": False, "If-None-Match": False}
    assert headers_of(made["put"]) == {"If-Match": True, "Lock-Token": False}


def test_what_the_project_says_goes_before() -> None:
    class SaidViewSet(ours.ModelViewSet):
        queryset = Item.objects.all()
        serializer_class = ItemSerializer

        @extend_schema(
            description="Said by the project.",
            parameters=[OpenApiParameter("If-Match", exclude=True, location="header")],
            responses={200: ItemSerializer, 412: None},
        )
        def update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            """Said by the method."""
            return super().update(request, *args, **kwargs)

        @extend_schema(request=None, responses={201: None})
        def lock_acquire(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            return super().lock_acquire(request, *args, **kwargs)

    router = SimpleRouter()
    router.register("said", SaidViewSet)
    paths = document(router.urls)["paths"]
    said = paths["/said/{id}/"]["put"]
    assert said["description"] == "Said by the project."
    assert headers_of(said) == {"Lock-Token": False}
    assert "content" not in said["responses"]["412"]
    assert body_of(said["responses"]["503"])  # what it says nothing of is still there
    taken = paths["/said/{id}/lock/"]["post"]
    assert "requestBody" not in taken
    assert "content" not in taken["responses"]["201"]


def test_a_class_of_the_project_and_ours_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(openapi.AutoSchema):
        def get_tags(self) -> list[str]:
            return ["own"]

        def get_override_parameters(self) -> list[Any]:
            return [OpenApiParameter("If-Match", exclude=True, location="header")]

    class Own(AutoSchemaMixin, Theirs):
        pass

    monkeypatch.setattr(sys.modules[__name__], "Own", Own, raising=False)
    with using(f"{__name__}.Own"):
        got = document()["paths"]["/items/{id}/"]["get"]
    assert got["tags"] == ["own"]
    assert headers_of(got) == {"If-None-Match": False}
    assert "304" in got["responses"]


def test_a_serializer_that_needs_a_request_leaves_the_current_state_open() -> None:
    class Picky(ours.ModelViewSet):
        queryset = Item.objects.all()

        def get_serializer_class(self) -> Any:
            if self.action == "retrieve":
                raise LookupError
            return ItemSerializer

    router = SimpleRouter()
    router.register("picky", Picky)
    changed = document(router.urls)["paths"]["/picky/{id}/"]["put"]
    assert body_of(changed["responses"]["412"]) == {"$ref": "#/components/schemas/ConcordConflict"}


def test_the_current_state_is_shown_as_a_get_shows_it() -> None:
    class Sketch(serializers.Serializer):
        text = serializers.CharField()

    class Two(ours.ModelViewSet):
        queryset = Item.objects.all()

        def get_serializer_class(self) -> Any:
            return ItemSerializer if self.action == "retrieve" else Sketch

    router = SimpleRouter()
    router.register("two", Two)
    changed = document(router.urls)["paths"]["/two/{id}/"]["put"]
    shown = body_of(changed["responses"]["412"])["allOf"][1]["properties"]["current"]
    assert shown == {"$ref": "#/components/schemas/Item"}
    assert body_of(changed["responses"]["200"]) == {"$ref": "#/components/schemas/Sketch"}


@pytest.mark.django_db
def test_what_is_answered_is_what_the_document_says(
    as_boss: APIClient, as_ada: APIClient, as_guido: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of this version on, schemas are JSON Schema as they stand
    monkeypatch.setattr(spectacular_settings, "OAS_VERSION", "3.1.1")
    made = document()

    def check(response: Any, status: int, method: str, address: str = "/items/{id}/") -> Any:
        said = made["paths"][address][method]["responses"][str(status)]
        assert response.status_code == status, response.content
        certain = {"ETag", "Lock-Token"} if status < 400 else set()
        for name in said.get("headers", {}).keys() & certain:
            assert response.has_header(name), name
        if "content" in said:
            schema = body_of(said)
            jsonschema.validate(response.json(), {**schema, "components": made["components"]})
            named = schema.get("$ref") or schema.get("items", {}).get("$ref") or schema["allOf"][0]["$ref"]
            known = made["components"]["schemas"][named.rpartition("/")[2]]["properties"]
            bodies = response.json() if isinstance(response.json(), list) else [response.json()]
            for body in bodies:
                assert body.keys() - {"current", "merged"} <= known.keys()
        else:
            assert response.content == b""
        return response

    item = Item.objects.create(text="a", owner=None)
    here, lock = f"/items/{item.pk}/", f"/items/{item.pk}/lock/"
    seen = check(as_ada.get(here), 200, "get")["ETag"]
    check(as_ada.get(here, headers={"If-None-Match": seen}), 304, "get")
    check(as_guido.patch(here, {"text": "b"}, format="json"), 200, "patch")
    stale = check(as_ada.patch(here, {"text": "c"}, format="json", headers={"If-Match": seen}), 412, "patch")
    assert stale.json()["current"]["text"] == "b"
    prefer = {"If-Match": seen, "Prefer": "merge=disjoint"}
    merged = check(as_ada.patch(here, {"notes": "c"}, format="json", headers=prefer), 200, "patch")
    assert merged.json()["merged"] is True
    assert merged["Preference-Applied"]

    at = "/items/{id}/lock/"
    check(as_ada.get(lock), 200, "get", at)
    check(as_ada.post(lock, {"ttl": -1}, format="json"), 400, "post", at)
    claim = {"ttl": 20, "reason": "mine", "scope": ["update"], "id": str(uuid.uuid4())}
    check(as_ada.post(lock, claim, format="json"), 201, "post", at)
    check(as_ada.post(lock, claim, format="json"), 200, "post", at)
    check(as_guido.post(lock, {}, format="json"), 409, "post", at)
    check(as_guido.put(here, {"text": "d"}, format="json"), 409, "put")
    check(as_guido.delete(lock), 403, "delete", at)
    check(as_ada.get("/locks/?mine=1"), 200, "get", "/locks/")
    check(as_guido.get("/locks/"), 403, "get", "/locks/")
    check(as_ada.patch(lock, {"to": "guido"}, format="json"), 200, "patch", at)
    lost = as_ada.patch(here, {"text": "e"}, format="json", headers={"Lock-Token": "x"})
    check(lost, 412, "patch")
    broken = as_boss.post(f"{lock}break/", {"take": True}, format="json")
    check(broken, 202, "post", "/items/{id}/lock/break/")
    check(as_boss.delete(lock), 204, "delete", at)
    check(as_boss.post(f"{lock}break/", {}, format="json"), 409, "post", "/items/{id}/lock/break/")

    machine = Machine.objects.create(name="m")
    at = "/machines/{uuid}/states/lock/"
    states = f"/machines/{machine.uuid}/states/lock/"
    check(as_ada.put(states), 403, "put", at)
    check(as_boss.put(states, {"x": 1}, format="json"), 400, "put", at)
    check(as_boss.put(states, {"lock": None}, format="json"), 202, "put", at)
    check(as_boss.put(states), 409, "put", at)
    check(as_boss.put(f"/machines/{uuid.uuid4()}/states/lock/"), 404, "put", at)
    unlock = states.replace("lock/", "unlock/")
    check(as_boss.put(unlock), 202, "put", at.replace("lock/", "unlock/"))
    named = {"name": "n"}
    unsaid = as_boss.put(f"/machines/{machine.uuid}/", named, format="json")
    check(unsaid, 428, "put", "/machines/{uuid}/")

    report = Report.objects.create(sealed=True)
    at, here = "/edges/reports/{id}/", f"/edges/reports/{report.pk}/"
    check(as_ada.patch(here, {"title": "b"}, format="json"), 409, "patch", at)
    lost = as_ada.patch(here, {"title": "b"}, format="json", headers={"Lock-Token": "x"})
    check(lost, 412, "patch", at)
    Report.objects.update(sealed=False)
    at, here = "/report/{id}/", f"/report/{report.pk}/"
    check(as_ada.delete(here), 428, "delete", at)
    check(as_ada.delete(here, headers={"If-Match": '"x"'}), 412, "delete", at)


def test_the_package_works_without_drf_spectacular() -> None:
    script = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"drf_spectacular", "uritemplate", "inflection"}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import django; django.setup()
import importlib, pkgutil, drf_concord.rest
names = [m.name for m in pkgutil.iter_modules(drf_concord.rest.__path__)]
describing = {"schema", "answers", "bodies"}
assert describing < set(names), names
for name in set(names) - describing:
    importlib.import_module("drf_concord.rest." + name)
import drf_concord.urls, drf_concord.admin, drf_concord.checks
try:
    import drf_concord.rest.schema
except ImportError as error:
    print(error)
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("drf_spectacular")
