"""Create, update and delete over HTTP: what DRF's mixins do, guarded."""

from __future__ import annotations

import datetime as dt
import io
import threading
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.models import Count
from django.db.models.signals import post_save
from django.test import override_settings
from django.urls import include, path
from rest_framework import generics, mixins, serializers
from rest_framework.parsers import FileUploadParser
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.validators import UniqueValidator

from drf_concord.rest import mixins as ours
from drf_concord.rest import viewsets
from drf_concord.rest.serializers import ETagField
from tests.app.models import Event, Folder, Item, Keyed, Pair, Slugged, Tag, Texted
from tests.app.urls import urlpatterns as app_patterns

from .conftest import AtTheGate, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "count", "notes"]


class ItemView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer


class HookView(ItemView):
    """Overrides the hooks as projects do."""

    def perform_create(self, serializer: Any) -> None:
        serializer.save(notes="by the view")

    def perform_update(self, serializer: Any) -> None:
        serializer.save(notes=f"was {serializer.instance.notes}")

    def perform_destroy(self, instance: Any) -> None:
        instance.notes = "deleted"
        instance.save()

    def update(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().update(request, *args, **kwargs)
        response["X-Own"] = "yes"
        return response


class SilentView(ItemView):
    """Saves nothing by itself."""

    def perform_create(self, serializer: Any) -> None:
        pass

    def perform_update(self, serializer: Any) -> None:
        Item.objects.filter(pk=serializer.instance.pk).update(notes="elsewhere")


class ManyView(ItemView):
    """Creates several at once."""

    class serializer_class(serializers.ModelSerializer):
        etag = ETagField()

        class Meta:
            model = Item
            fields = ["id", "etag", "text", "tags"]

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(kwargs.get("data"), list):
            kwargs["many"] = True
        return super().get_serializer(*args, **kwargs)


class AnnotatedView(ItemView):
    class serializer_class(serializers.ModelSerializer):
        tagged = serializers.IntegerField(read_only=True)

        class Meta:
            model = Item
            fields = ["id", "text", "tagged", "tags"]

    def get_queryset(self) -> Any:
        items = Item.objects.select_related("folder").prefetch_related("tags")
        return items.annotate(tagged=Count("tags")).distinct()


class PartView(ItemView):
    def get_queryset(self) -> Any:
        if self.request.query_params.get("by") == "defer":
            return Item.objects.defer("version", "notes")
        return Item.objects.only("text")


class NestedSerializer(serializers.ModelSerializer):
    items = ItemSerializer(many=True)

    class Meta:
        model = Folder
        fields = ["id", "name", "items"]

    def create(self, validated_data: Any) -> Any:
        items = validated_data.pop("items")
        folder = Folder.objects.create(**validated_data)
        for item in items:
            Item.objects.create(folder=folder, **item)
        return folder

    def update(self, folder: Any, validated_data: Any) -> Any:
        items = validated_data.pop("items", None)
        folder = super().update(folder, validated_data)
        if items is not None:
            Item.objects.filter(folder=folder).delete()
            for item in items:
                Item.objects.create(folder=folder, **item)
        return folder


class NestedView(viewsets.ModelViewSet):
    queryset = Folder.objects.prefetch_related("items").order_by("pk")
    serializer_class = NestedSerializer


class EventView(viewsets.ModelViewSet):
    queryset = Event.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Event
            fields = ["id", "title", "saved_at", "paper"]


class KeyView(viewsets.ModelViewSet):
    """The client chooses the key."""

    queryset = Texted.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Texted
            fields = ["code", "text"]


class UncheckedKeyView(KeyView):
    """Leaves uniqueness to the database."""

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Texted
            fields = ["code", "text"]
            extra_kwargs = {"code": {"validators": []}}

        def create(self, validated_data: Any) -> Any:
            return Texted.objects.create(**validated_data)


class KeyedView(viewsets.ModelViewSet):
    queryset = Keyed.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        id = serializers.CharField(validators=[UniqueValidator(Keyed.objects.none())])

        class Meta:
            model = Keyed
            fields = ["id", "text"]


class PairView(viewsets.ModelViewSet):
    queryset = Pair.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Pair
            fields = ["id", "left", "right"]
            validators = []


class PlainSerializer(serializers.Serializer):
    text = serializers.CharField()

    def create(self, validated_data: Any) -> Any:
        return {"text": validated_data["text"].upper()}


class NoModelView(ours.CreateModelMixin, viewsets.GenericViewSet):
    queryset = Item.objects.all()
    serializer_class = PlainSerializer


class NoQuerysetView(ours.CreateModelMixin, viewsets.GenericViewSet):
    serializer_class = ItemSerializer


class UploadView(ItemView):
    parser_classes = [FileUploadParser]


class Generic(
    ours.UpdateModelMixin, ours.RetrieveModelMixin, ours.DestroyModelMixin, generics.GenericAPIView
):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.retrieve(request, *args, **kwargs)

    def put(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.update(request, *args, **kwargs)

    def patch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.partial_update(request, *args, **kwargs)

    def delete(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.destroy(request, *args, **kwargs)


class GenericList(ours.CreateModelMixin, ours.ListModelMixin, generics.GenericAPIView):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.list(request, *args, **kwargs)

    def post(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.create(request, *args, **kwargs)


class DRFGeneric(ours.UpdateModelMixin, ours.RetrieveModelMixin, generics.RetrieveUpdateAPIView):
    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer


router = SimpleRouter()
for name, view in {
    "item": ItemView, "hook": HookView, "silent": SilentView, "several": ManyView,
    "annotated": AnnotatedView, "part": PartView, "nested": NestedView, "event": EventView, "key": KeyView,
    "unchecked": UncheckedKeyView, "uuid": KeyedView, "pair": PairView, "nomodel": NoModelView,
    "noqueryset": NoQuerysetView, "upload": UploadView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [
    path("generic/", GenericList.as_view()),
    path("generic/<str:pk>/", Generic.as_view()),
    path("drfgeneric/<str:pk>/", DRFGeneric.as_view()),
    path("", include(router.urls)),
    *app_patterns,
]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one", notes="n")


def patch(api: APIClient, address: str, data: Any, tag: str | None = None, **extra: Any) -> Any:
    headers = {"If-Match": tag} if tag is not None else {}
    return api.patch(address, data, format="json", headers=headers, **extra)


# -------------------------------------------------------------------------------- tags of writes


@pytest.mark.parametrize("name", ["items", "tagged", "slugged", "notes", "places", "restaurants", "keyed"])
def test_create_put_and_patch_carry_the_tag_of_the_next_get(api: APIClient, name: str) -> None:
    field = {"slugged": "title", "places": "name", "restaurants": "name"}.get(name, "text")
    created = api.post(f"/{name}/", {field: "one", "tags": []}, format="json")
    assert created.status_code == 201, created.content
    body = created.json()
    address = f"/{name}/{body.get('id') or body.get('place_ptr')}/"

    tags = [created["ETag"]]
    assert api.get(address)["ETag"] == tags[-1]
    for method in (api.put, api.patch, api.put):
        changed = method(address, {**body, field: "two"}, format="json", headers={"If-Match": tags[-1]})
        assert changed.status_code == 200, changed.content
        tags.append(changed["ETag"])
        seen = api.get(address)
        assert seen["ETag"] == tags[-1]
        assert seen.json() == changed.json()
    assert len(set(tags)) == 4
    assert api.delete(address, headers={"If-Match": tags[0]}).status_code == 412
    assert api.delete(address, headers={"If-Match": tags[-1]}).status_code == 204
    assert api.get(address).status_code == 404


@pytest.mark.rfc("9110", "8.7", "Content-Location of a PUT says that its body is the representation")
def test_a_put_names_what_its_body_is(api: APIClient, item: Item) -> None:
    body = {"text": "two", "count": 1, "notes": ""}
    assert api.put(f"/item/{item.pk}/?a=b", body)["Content-Location"] == f"/item/{item.pk}/?a=b"
    assert "Content-Location" not in patch(api, f"/item/{item.pk}/", {})


def test_a_many_to_many_moves_the_tag(api: APIClient, item: Item) -> None:
    red = Tag.objects.create(name="red")
    address = f"/tagged/{item.pk}/"
    tag = api.get(address)["ETag"]

    changed = patch(api, address, {"tags": [red.pk]}, tag)
    assert changed.json()["tags"] == [red.pk]
    assert changed["ETag"] == api.get(address)["ETag"]
    assert changed.json()["etag"].partition("-")[0] == changed["ETag"].partition("-")[0]
    assert patch(api, address, {"tags": []}, tag).status_code == 412
    assert list(item.tags.all()) == [red]


def test_a_nested_write(api: APIClient) -> None:
    created = api.post("/nested/", {"name": "f", "items": [{"text": "a"}]}, format="json")
    assert created.status_code == 201
    address = f"/nested/{created.json()['id']}/"
    assert api.get(address)["ETag"] == created["ETag"]

    changed = patch(api, address, {"items": [{"text": "b"}, {"text": "c"}]}, created["ETag"])
    assert [i["text"] for i in changed.json()["items"]] == ["b", "c"]
    assert api.get(address)["ETag"] == changed["ETag"]
    refused = patch(api, address, {"items": []}, created["ETag"])
    assert refused.status_code == 412
    assert Item.objects.count() == 2


# ---------------------------------------------------------------------------- PATCH reverts nobody


def test_a_patch_does_not_revert_what_was_written_meanwhile(
    api: APIClient, item: Item, at_the_gate: AtTheGate
) -> None:
    at_the_gate(lambda: Item.objects.filter(pk=item.pk).update(notes="theirs", hidden="too"))

    response = patch(api, f"/item/{item.pk}/", {"text": "mine"})
    item.refresh_from_db()
    assert (item.text, item.notes, item.hidden) == ("mine", "theirs", "too")
    assert response.json()["notes"] == "theirs"


@pytest.mark.django_db(transaction=True)
def test_a_second_attempt_begins_with_the_row_again(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    item = Item.objects.create(text="one", notes="n")
    attempts: list[str] = []

    def perform_update(self: Any, serializer: Any) -> None:
        attempts.append(serializer.instance.notes)
        serializer.save(notes="of the attempt")
        if len(attempts) == 1:
            cause = Exception()
            cause.sqlstate = "40001"  # type: ignore[attr-defined]
            raise OperationalError from cause

    monkeypatch.setattr(ItemView, "perform_update", perform_update, raising=False)
    assert patch(api, f"/item/{item.pk}/", {"text": "two"}).status_code == 200
    assert attempts == ["n", "n"]


def test_a_conditional_patch_is_checked_on_the_locked_row(
    api: APIClient, item: Item, at_the_gate: AtTheGate
) -> None:
    tag = api.get(f"/item/{item.pk}/")["ETag"]
    at_the_gate(lambda: Item.objects.filter(pk=item.pk).update(notes="theirs"))

    response = patch(api, f"/item/{item.pk}/", {"text": "mine"}, tag)
    assert response.status_code == 412
    assert response.json()["current"]["notes"] == "theirs"
    item.refresh_from_db()
    assert item.text == "one"


@pytest.mark.parametrize("by", ["only", "defer"])
def test_a_view_that_reads_some_columns(api: APIClient, item: Item, at_the_gate: AtTheGate, by: str) -> None:
    address = f"/part/{item.pk}/?by={by}"
    tag = api.get(address)["ETag"]
    assert patch(api, address, {"text": "mine"}, tag).status_code == 200
    assert patch(api, address, {"text": "mine"}, tag).status_code == 412

    at_the_gate(lambda: Item.objects.filter(pk=item.pk).update(notes="theirs"))
    assert patch(api, address, {"text": "again"}).json()["notes"] == "theirs"


def test_an_annotated_distinct_and_prefetched_view(api: APIClient, item: Item) -> None:
    red = Tag.objects.create(name="red")
    address = f"/annotated/{item.pk}/"
    tag = api.get(address)["ETag"]

    changed = patch(api, address, {"tags": [red.pk], "text": "two"}, tag)
    assert changed.status_code == 200
    assert changed.json()["tags"] == [red.pk]
    assert api.get(address).json()["tagged"] == 1
    assert patch(api, address, {"text": "three"}, tag).status_code == 412


def test_save_overrides_auto_now_and_signals_run(api: APIClient) -> None:
    sent: list[Any] = []

    def receiver(sender: Any, instance: Any, update_fields: Any, **_: Any) -> None:
        sent.append(update_fields)

    slugged = Slugged.objects.create(title="A b")
    event = Event.objects.create(title="a")
    Event.objects.update(saved_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    post_save.connect(receiver, sender=Slugged)
    try:
        assert patch(api, f"/slugged/{slugged.pk}/", {"title": "C d"}).json()["slug"] == "c-d"
    finally:
        post_save.disconnect(receiver, sender=Slugged)
    assert sent == [None]  # a full save
    assert not patch(api, f"/event/{event.pk}/", {"title": "b"}).json()["saved_at"].startswith("2020")


# ----------------------------------------------------------------------------- a project's own hooks


def test_the_hooks_of_a_project_are_called(api: APIClient) -> None:
    created = api.post("/hook/", {"text": "a"})
    assert created.json()["notes"] == "by the view"
    address = f"/hook/{created.json()['id']}/"

    changed = patch(api, address, {"text": "b"}, created["ETag"])
    assert changed.json()["notes"] == "was by the view"
    assert changed["X-Own"] == "yes"
    deleted = api.delete(address, headers={"If-Match": changed["ETag"]})
    assert deleted.status_code == 204
    seen = api.get(address)
    assert seen.json()["notes"] == "deleted"
    assert seen["ETag"] != changed["ETag"]


def test_a_hook_that_saves_nothing_by_itself(api: APIClient, item: Item) -> None:
    created = api.post("/silent/", {"text": "a"})
    assert created.status_code == 201
    assert "ETag" not in created

    changed = patch(api, f"/silent/{item.pk}/", {"text": "b"})
    assert changed.status_code == 200
    tag = api.get(f"/silent/{item.pk}/")["ETag"]
    assert changed["ETag"].partition("-")[0] == tag.partition("-")[0]


def test_several_objects_created_at_once(api: APIClient) -> None:
    red = Tag.objects.create(name="red")
    bodies = [{"text": "a", "tags": [red.pk]}, {"text": "b", "tags": []}]
    response = api.post("/several/", bodies, format="json")
    assert response.status_code == 201
    assert [i["text"] for i in response.json()] == ["a", "b"]
    assert "ETag" not in response
    for row in response.json():
        assert patch(api, f"/several/{row['id']}/", {}, row["etag"]).status_code == 200


def test_create_without_a_model_or_a_queryset(api: APIClient) -> None:
    response = api.post("/nomodel/", {"text": "a"})
    assert (response.status_code, response.json()) == (201, {"text": "A"})
    response = api.post("/noqueryset/", {"text": "a"})
    assert response.status_code == 201
    assert response["ETag"]


# ---------------------------------------------------------------------------- generic views of DRF


@pytest.mark.parametrize("name", ["generic", "drfgeneric"])
def test_generic_views_without_an_action(api: APIClient, item: Item, name: str) -> None:
    address = f"/{name}/{item.pk}/"
    tag = api.get(address)["ETag"]
    assert api.get(address, headers={"If-None-Match": tag}).status_code == 304
    changed = api.put(address, {"text": "2", "count": 1, "notes": ""}, headers={"If-Match": tag})
    assert changed.status_code == 200
    refused = patch(api, address, {"text": "3"}, tag)
    assert refused.status_code == 412
    assert refused.json()["current"]["text"] == "2"
    assert patch(api, address, {"text": "3"}, refused["ETag"]).status_code == 200
    assert api.get("/generic/9999/").status_code == 404


def test_generic_lists_and_deletes(api: APIClient) -> None:
    created = api.post("/generic/", {"text": "a"})
    assert created["ETag"]
    address = f"/generic/{created.json()['id']}/"
    listed = api.get("/generic/")
    assert api.get("/generic/", headers={"If-None-Match": listed["ETag"]}).status_code == 304
    assert api.delete(address, headers={"If-Match": '"x-1"'}).status_code == 412
    assert api.delete(address, headers={"If-Match": created["ETag"]}).status_code == 204


def test_the_mixins_have_the_methods_of_drf() -> None:
    for name in ("Create", "List", "Retrieve", "Update", "Destroy"):
        theirs = vars(getattr(mixins, f"{name}ModelMixin"))
        assert {n for n in theirs if not n.startswith("_")} <= set(dir(getattr(ours, f"{name}ModelMixin")))


# ----------------------------------------------------------------------------------- If-None-Match


@pytest.mark.rfc("9110", "13.1.2", "If-None-Match: * creates only where there is nothing")
@pytest.mark.parametrize("name", ["key", "unchecked"])
def test_create_only_where_there_is_nothing(api: APIClient, name: str) -> None:
    def post(code: str, **headers: str) -> Any:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        return api.post(f"/{name}/", {"code": code, "text": "t"}, headers=given)

    assert post("a", If_None_Match="*").status_code == 201
    refused = post("a", If_None_Match="*")
    assert refused.status_code == 412
    assert refused.json()["code"] == "already_exists"
    assert post("a").status_code == (400 if name == "key" else 409)
    assert Texted.objects.count() == 1
    assert post("b", If_Match="*").status_code == 412
    assert post("b", If_Match='"x-1"').status_code == 412
    assert not Texted.objects.filter(code="b").exists()
    # what is wrong with the rest of it is said as ever
    assert api.post("/key/", {"text": "t"}, headers={"If-None-Match": "*"}).status_code == 400
    assert api.post("/key/", [1], format="json", headers={"If-None-Match": "*"}).status_code == 400
    assert post("a\x00", If_None_Match="*").status_code == 400


def test_a_race_for_a_key_is_lost_with_412_or_409(api: APIClient, at_the_gate: AtTheGate) -> None:
    for code, headers, status in (("a", {"If-None-Match": "*"}, 412), ("b", {}, 409)):
        at_the_gate(lambda code=code: Texted.objects.create(code=code, text="theirs"))
        response = api.post("/unchecked/", {"code": code, "text": "mine"}, headers=headers)
        assert response.status_code == status
        assert Texted.objects.get(code=code).text == "theirs"


def test_a_key_that_cannot_be_one(api: APIClient) -> None:
    body = {"id": "no uuid", "text": "x" * 50}
    response = api.post("/uuid/", body, headers={"If-None-Match": "*"})
    assert response.status_code == 400


@pytest.mark.rfc("9110", "13.1.2", "If-None-Match: * on PUT of what is there answers 412")
def test_if_none_match_on_a_put(api: APIClient, item: Item) -> None:
    address, body = f"/item/{item.pk}/", {"text": "two", "count": 1, "notes": ""}
    tag = api.get(address)["ETag"]
    for value in ("*", tag, f"W/{tag}", f'{tag.partition("-")[0]}-0"'):
        refused = api.put(address, body, headers={"If-None-Match": value})
        assert refused.status_code == 412
        assert refused.json()["code"] == "already_exists"
        assert refused.json()["current_etag"] == tag
    assert api.put(address, body, headers={"If-None-Match": '"x-1"'}).status_code == 200


def test_a_clash_of_two_columns_is_409(api: APIClient) -> None:
    assert api.post("/pair/", {"left": 1, "right": 2}).status_code == 201
    refused = api.post("/pair/", {"left": 1, "right": 2})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    other = api.post("/pair/", {"left": 1, "right": 3})
    address = f"/pair/{other.json()['id']}/"
    assert patch(api, address, {"right": 2}, other["ETag"]).status_code == 409
    assert api.get(address)["ETag"] == other["ETag"]
    # DRF's own check of the same
    assert api.post("/pairs/", {"left": 1, "right": 2}).status_code == 400


@pytest.mark.django_db(transaction=True)
def test_only_one_of_many_simultaneous_creations_gets_201() -> None:
    answers: list[int] = []
    start = threading.Barrier(4)

    def post(headers: dict[str, str]) -> None:
        try:
            start.wait()
            response = client_of(None).post("/unchecked/", {"code": "a", "text": "t"}, headers=headers)
            answers.append(response.status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=post, args=[{"If-None-Match": "*"}]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 412, 412, 412]


# ------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize("body", ["[]", "[1, 2]", '"text"', "1", "true", '[{"text": "a"}]'])
@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_a_body_of_another_kind_is_400(api: APIClient, item: Item, method: str, body: str) -> None:
    address = "/item/" if method == "post" else f"/item/{item.pk}/"
    tag = api.get(f"/item/{item.pk}/")["ETag"]
    for headers in ({}, {"If-Match": tag}):
        response = api.generic(method.upper(), address, body, "application/json", headers=headers)
        assert response.status_code == (412 if headers and method == "post" else 400)
    assert api.get(f"/item/{item.pk}/")["ETag"] == tag


@pytest.mark.parametrize("body", ["[1]", '"text"', "1", "null", "{", ""])
def test_a_stale_tag_comes_before_whatever_is_wrong_with_the_body(
    api: APIClient, item: Item, body: str
) -> None:
    response = api.generic(
        "PATCH", f"/item/{item.pk}/", body, "application/json", headers={"If-Match": '"1-0"'}
    )
    assert response.status_code == 412
    assert response.json().get("conflicting_fields", []) == []


@pytest.mark.parametrize("body", ["", "null", "{}"])
def test_an_empty_patch_changes_nothing_else(api: APIClient, item: Item, body: str) -> None:
    response = api.generic("PATCH", f"/item/{item.pk}/", body, "application/json")
    assert response.status_code in {200, 400}
    item.refresh_from_db()
    assert (item.text, item.notes) == ("one", "n")


@pytest.mark.parametrize("kind", ["multipart", None])
def test_forms(api: APIClient, item: Item, kind: str | None) -> None:
    address = f"/tagged/{item.pk}/"
    red = Tag.objects.create(name="red")
    tag = api.get(address)["ETag"]

    def send(data: Any, tag: str) -> Any:
        if kind:
            return api.patch(address, data, format=kind, headers={"If-Match": tag})
        body = "&".join(f"{k}={v}" for k, v in data.items())
        form = "application/x-www-form-urlencoded"
        return api.generic("PATCH", address, body, form, headers={"If-Match": tag})

    changed = send({"text": "two", "tags": red.pk}, tag)
    assert changed.status_code == 200
    assert changed.json()["tags"] == [red.pk]
    refused = send({"text": "three"}, tag)
    assert refused.status_code == 412
    assert refused.json()["conflicting_fields"] == ["text"]


def test_a_file(api: APIClient, settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path
    paper = io.BytesIO(b"paper")
    paper.name = "a.txt"
    created = api.post("/event/", {"title": "a", "paper": paper}, format="multipart")
    assert created.status_code == 201
    address = f"/event/{created.json()['id']}/"
    assert api.get(address)["ETag"] == created["ETag"]
    assert patch(api, address, {"title": "b"}, created["ETag"]).json()["paper"].endswith("a.txt")


def test_a_parser_that_finds_fault(api: APIClient, item: Item) -> None:
    response = api.generic("PATCH", f"/upload/{item.pk}/", "x", "text/plain")
    assert response.status_code == 400  # it misses a file name


@pytest.mark.parametrize("pk", ["x", "1.5", "-1", "9" * 30, "%00", "é"])
def test_a_key_that_is_none_is_404(as_guido: APIClient, item: Item, pk: str) -> None:
    for name in ("item", "uuid", "key"):
        for response in (
            as_guido.get(f"/{name}/{pk}/"),
            patch(as_guido, f"/{name}/{pk}/", {"text": "x"}, '"1-0"'),
            as_guido.delete(f"/{name}/{pk}/"),
            as_guido.get(f"/{name}/{pk}/lock/"),
            as_guido.post(f"/{name}/{pk}/lock/"),
        ):
            assert response.status_code == 404, (name, pk)


# ------------------------------------------------------------------------------- ATOMIC_REQUESTS


@pytest.fixture
def atomic_requests() -> Any:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
def test_requests_that_are_transactions(api: APIClient, atomic_requests: None) -> None:
    created = api.post("/item/", {"text": "a"})
    address = f"/item/{created.json()['id']}/"
    changed = patch(api, address, {"text": "b"}, created["ETag"])
    assert changed.status_code == 200
    assert changed["ETag"] == api.get(address)["ETag"]
    assert patch(api, address, {"text": "c"}, created["ETag"]).status_code == 412
    assert patch(api, address, {"count": "x"}, changed["ETag"]).status_code == 400
    assert api.get(address)["ETag"] == changed["ETag"]
    assert api.post("/pair/", {"left": 1, "right": 2}).status_code == 201
    assert api.post("/pair/", {"left": 1, "right": 2}).status_code == 409
    Texted.objects.create(code="a")
    refused = api.post("/unchecked/", {"code": "a"}, headers={"If-None-Match": "*"})
    assert refused.status_code == 412
    assert api.delete(address, headers={"If-Match": changed["ETag"]}).status_code == 204


@pytest.mark.django_db(transaction=True)
def test_racing_requests_that_are_transactions(atomic_requests: None) -> None:
    item = Item.objects.create()
    done: list[int] = []
    start = threading.Barrier(2)

    def count() -> None:
        api = client_of(None)
        try:
            start.wait()
            for _ in range(8):
                seen = api.get(f"/item/{item.pk}/")
                data = {"count": seen.json()["count"] + 1}
                done.append(patch(api, f"/item/{item.pk}/", data, seen["ETag"]).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(done) <= {200, 412}
    item.refresh_from_db()
    assert item.count == done.count(200)


@override_settings(ROOT_URLCONF=__name__)
def test_the_update_of_a_row_that_is_deleted_at_the_gate(
    api: APIClient, item: Item, at_the_gate: AtTheGate
) -> None:
    for call in (
        lambda pk: patch(api, f"/item/{pk}/", {"text": "x"}),
        lambda pk: patch(api, f"/item/{pk}/", {"text": "x"}, api.get(f"/item/{pk}/")["ETag"]),
        lambda pk: api.delete(f"/item/{pk}/"),
    ):
        item = Item.objects.create()
        at_the_gate(lambda pk=item.pk: Item.objects.filter(pk=pk).delete())
        assert call(item.pk).status_code == 404
        assert not Item.objects.filter(pk=item.pk).exists()
