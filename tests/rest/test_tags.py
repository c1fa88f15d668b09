"""Entity tags of representations: what they are made of, and what is flat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import override_settings
from django.urls import include, path
from django.utils import timezone, translation
from django.utils.timezone import now
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.viewsets import GenericViewSet

from drf_concord.protocol.etags import parse_tag, version_of
from drf_concord.rest import tags, viewsets
from drf_concord.rest.mixins import RetrieveModelMixin
from drf_concord.rest.serializers import ETagField
from tests.app.models import Bare, Event, Folder, Item, Restaurant
from tests.app.models import Tag as Label

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Flat(serializers.ModelSerializer):
    etag = ETagField()
    folder_id = serializers.IntegerField(read_only=True)

    class Meta:
        model = Item
        fields = ["id", "etag", "text", "count", "folder", "folder_id"]


class Validating(Flat):
    """Overrides what is about input only."""

    def validate(self, attrs: Any) -> Any:
        return attrs

    def validate_text(self, value: str) -> str:
        return value

    def create(self, validated_data: Any) -> Any:
        return super().create(validated_data)

    def update(self, instance: Any, validated_data: Any) -> Any:
        return super().update(instance, validated_data)


class WithMethod(Flat):
    shout = serializers.SerializerMethodField()

    class Meta(Flat.Meta):
        fields = [*Flat.Meta.fields, "shout"]

    def get_shout(self, item: Item) -> str:
        return f"{item.text} {self.context['request'].user}"


class WithPath(Flat):
    folder_name = serializers.CharField(source="folder.name", read_only=True)

    class Meta(Flat.Meta):
        fields = [*Flat.Meta.fields, "folder_name"]


class WithProperty(Flat):
    class Meta(Flat.Meta):
        fields = [*Flat.Meta.fields, "__str__"]


class WithMany(Flat):
    class Meta(Flat.Meta):
        fields = [*Flat.Meta.fields, "tags"]


class WithNested(Flat):
    class Meta(Flat.Meta):
        depth = 1


class WithText(Flat):
    folder = serializers.StringRelatedField()


class WithObject(Flat):
    folder = serializers.ReadOnlyField()


class WithSlug(Flat):
    folder = serializers.SlugRelatedField("name", queryset=Folder.objects.all())


class WithKeyField(Flat):
    folder = serializers.PrimaryKeyRelatedField(read_only=True, pk_field=serializers.CharField())


class WithDynamicFields(Flat):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        request = self.context.get("request")
        if request is not None and "fields" in request.query_params:
            for name in set(self.fields) - set(request.query_params["fields"].split(",")):
                self.fields.pop(name)


class WithFieldNames(Flat):
    def get_field_names(self, declared_fields: Any, info: Any) -> Any:
        return super().get_field_names(declared_fields, info)


class WithGetFields(Flat):
    def get_fields(self) -> Any:
        return super().get_fields()


class WithBuildField(Flat):
    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        return super().build_standard_field(field_name, model_field)


class WithRepresentation(Flat):
    def to_representation(self, instance: Any) -> Any:
        return {**super().to_representation(instance), "at": str(now())}


class Mixed:
    def to_representation(self, instance: Any) -> Any:
        return {**super().to_representation(instance), "at": str(now())}  # type: ignore[misc]


class WithMixin(Mixed, Flat):
    pass


class UpperField(serializers.CharField):
    def to_representation(self, value: Any) -> str:
        return super().to_representation(value).upper()


class WithOwnField(Flat):
    text = UpperField()


class Papers(serializers.ModelSerializer):
    class Meta:
        model = Event
        fields = ["id", "title", "start", "paper"]


class Linked(serializers.HyperlinkedModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="flat-detail")

    class Meta:
        model = Item
        fields = ["url", "text"]


class Dated(serializers.ModelSerializer):
    class Meta:
        model = Event
        fields = ["id", "title", "start", "secret"]
        extra_kwargs = {"secret": {"write_only": True}}


class HostList(serializers.ModelSerializer):
    title = serializers.ListField(child=serializers.FileField(use_url=True))

    class Meta:
        model = Event
        fields = ["id", "title"]


class Stars(serializers.ModelSerializer):
    class Meta:
        model = Restaurant
        fields = ["id", "name", "stars"]


class Plain(serializers.Serializer):
    text = serializers.CharField()


FLAT = [Flat, Validating, Dated, Stars]
NOT_FLAT = [
    WithMethod, WithPath, WithProperty, WithMany, WithNested, WithText, WithObject, WithSlug, WithKeyField,
    WithDynamicFields, WithFieldNames, WithGetFields, WithBuildField, WithRepresentation, WithMixin,
    WithOwnField, Papers, Linked, HostList, Plain,
]  # fmt: skip


class View(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = Flat


class WithRetrieve(View):
    def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().retrieve(request, *args, **kwargs)
        response.data = {**response.data, "user": str(request.user)}
        return response


class WithGetObject(View):
    def get_object(self) -> Any:
        item = super().get_object()
        item.text = f"{item.text} for {self.request.user}"
        return item


class WithGetSerializer(View):
    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        serializer = super().get_serializer(*args, **kwargs)
        if "fields" in self.request.query_params:
            serializer.fields.pop("count", None)
        return serializer


class WithFinalize(View):
    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        if response.status_code == 200:
            response.data = {"user": str(request.user), "object": response.data}
        return super().finalize_response(request, response, *args, **kwargs)


class Counting(GenericViewSet):
    """The base class of a project's views."""

    shown = 0

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        Counting.shown += 1
        response.data = {"shown": Counting.shown, "object": response.data}
        return super().finalize_response(request, response, *args, **kwargs)


class BehindView(RetrieveModelMixin, Counting):
    """Has the project's base behind our mixin, which calls it."""

    queryset = Item.objects.order_by("pk")
    serializer_class = Flat


class WithSerializerClass(View):
    """Decides per request which of two flat serializers it is."""

    class Short(Flat):
        class Meta(Flat.Meta):
            fields = ["id", "text"]

    def get_serializer_class(self) -> Any:
        return self.Short if "short" in self.request.query_params else Flat


class WithMadeClass(View):
    """Makes a serializer for each request; all of them have one name."""

    def get_serializer_class(self) -> Any:
        meta = type("Meta", (), {"model": Item, "fields": ["id", "text"]})
        shown = {"text": serializers.CharField(source="notes")} if self.request.query_params else {}
        return type("Made", (serializers.ModelSerializer,), {"Meta": meta, **shown})


class ShoutingRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return super().render(data, *args, **kwargs).upper()


class WithRenderer(View):
    renderer_classes = [ShoutingRenderer]


class ComputedView(View):
    serializer_class = WithMethod


class PathView(View):
    serializer_class = WithPath


class ManyView(View):
    serializer_class = WithMany


class DynamicView(View):
    serializer_class = WithDynamicFields


class LinkedView(View):
    serializer_class = Linked


class PaperView(View):
    queryset = Event.objects.order_by("pk")
    serializer_class = Papers


class DatedView(View):
    queryset = Event.objects.order_by("pk")
    serializer_class = Dated


class OnlyView(View):
    """Reads some columns only."""

    def get_queryset(self) -> Any:
        items = Item.objects.order_by("pk")
        return items.only("text") if "only" in self.request.query_params else items.defer("version", "notes")


class BareView(View):
    queryset = Bare.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        etag = ETagField()

        class Meta:
            model = Bare
            fields = ["id", "etag", "text"]


class CallableView(BareView):
    def etag_from(view: Any, obj: Any) -> str:
        return obj.text


class StaticView(BareView):
    @staticmethod
    def etag_from(view: Any, obj: Any) -> int:
        return len(obj.text)


class UnversionedView(BareView):
    etag_from = "version"


class ContentItemView(View):
    etag_from = "content"


router = SimpleRouter()
for name, view in {
    "flat": View, "retrieve": WithRetrieve, "object": WithGetObject, "serializer": WithGetSerializer,
    "finalize": WithFinalize, "class": WithSerializerClass, "made": WithMadeClass, "renderer": WithRenderer,
    "computed": ComputedView, "path": PathView, "many": ManyView, "dynamic": DynamicView,
    "linked": LinkedView, "papers": PaperView, "dated": DatedView, "only": OnlyView, "bare": BareView,
    "callable": CallableView, "static": StaticView, "unversioned": UnversionedView,
    "content": ContentItemView, "behind": BehindView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls))]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one", folder=Folder.objects.create(name="f"))


@pytest.fixture
def unserialized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the serializations from here on."""
    count = [0]
    real = serializers.Serializer.to_representation

    def counted(self: Any, instance: Any) -> Any:
        count[0] += 1
        return real(self, instance)

    monkeypatch.setattr(serializers.Serializer, "to_representation", counted)
    return count


def answer(api: APIClient, address: str, tag: str | None = None, **headers: str) -> Any:
    if tag is not None:
        headers["If-None-Match"] = tag
    return api.get(address, headers=headers)


# ------------------------------------------------------------------------------------ what is flat


@pytest.mark.parametrize("serializer", FLAT)
def test_a_serializer_of_columns_only_is_flat(serializer: Any) -> None:
    shown = tags.flat_shape(View, serializer)

    assert shown is not None
    assert shown.path == f"{serializer.__module__}.{serializer.__qualname__}"
    assert "secret" not in shown.fields


@pytest.mark.parametrize("serializer", NOT_FLAT)
def test_whatever_else_it_shows_or_overrides_makes_it_not_flat(serializer: Any) -> None:
    assert tags.flat_shape(View, serializer) is None


@pytest.mark.parametrize("view", [WithRetrieve, WithGetObject, WithGetSerializer, WithFinalize, BehindView])
def test_a_view_that_changes_what_is_shown_is_not_flat(view: Any) -> None:
    assert tags.flat_shape(view, Flat) is None


def test_a_class_behind_this_packages_counts_too() -> None:
    class Elders(GenericAPIView):
        def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
            return super().finalize_response(*args, **kwargs)

    class Behind(viewsets.ModelViewSet, Elders):
        pass

    assert tags.flat_shape(viewsets.ModelViewSet, Flat) is not None
    assert tags.flat_shape(Behind, Flat) is None


def test_a_view_without_retrieve_can_be_flat() -> None:
    assert tags.flat_shape(GenericAPIView, Flat) is not None


def test_a_class_that_its_path_does_not_lead_to_is_not_flat() -> None:
    class Local(Flat):
        pass

    assert tags.flat_shape(View, Local) is None


@pytest.mark.rfc("9110", "13.1.2", "a current If-None-Match answers 304")
def test_a_flat_304_costs_one_query_and_no_serializer(
    api: APIClient, item: Item, unserialized: list[int], django_assert_num_queries: Any
) -> None:
    tag = answer(api, f"/flat/{item.pk}/")["ETag"]
    unserialized[0] = 0

    with django_assert_num_queries(1):
        response = answer(api, f"/flat/{item.pk}/", tag)

    assert response.status_code == 304
    assert response.content == b""
    assert unserialized == [0]


@pytest.mark.parametrize("name", ["computed", "path", "many", "dynamic", "linked", "retrieve", "finalize"])
def test_another_304_is_decided_by_the_rendered_body(
    api: APIClient, item: Item, unserialized: list[int], name: str
) -> None:
    tag = answer(api, f"/{name}/{item.pk}/")["ETag"]
    unserialized[0] = 0

    assert answer(api, f"/{name}/{item.pk}/", tag).status_code == 304
    assert unserialized[0] > 0


def test_the_write_half_is_the_version(api: APIClient, item: Item) -> None:
    for name in ("flat", "computed", "retrieve", "linked"):
        tag = parse_tag(answer(api, f"/{name}/{item.pk}/")["ETag"])
        assert version_of(tag) == item.version
        assert not tag.weak


# ------------------------------------------------------------------------- a 304 is never wrong


def test_a_related_row_that_changed(api: APIClient, item: Item) -> None:
    tag = answer(api, f"/path/{item.pk}/")["ETag"]
    before = item.version
    Folder.objects.update(name="g")

    response = answer(api, f"/path/{item.pk}/", tag)
    item.refresh_from_db()
    assert item.version == before
    assert response.json()["folder_name"] == "g"


def test_a_many_to_many_that_changed(api: APIClient, item: Item) -> None:
    tag = answer(api, f"/many/{item.pk}/")["ETag"]
    item.tags.add(Label.objects.create(name="red"))

    assert answer(api, f"/many/{item.pk}/", tag).status_code == 200


def test_another_user_sees_another_body(as_guido: APIClient, as_ada: APIClient, item: Item) -> None:
    for name in ("computed", "retrieve", "object", "finalize"):
        tag = answer(as_guido, f"/{name}/{item.pk}/")["ETag"]
        assert answer(as_guido, f"/{name}/{item.pk}/", tag).status_code == 304
        response = answer(as_ada, f"/{name}/{item.pk}/", tag)
        assert response.status_code == 200
        assert "ada" in response.content.decode()


def test_another_host_sees_other_links(api: APIClient, item: Item) -> None:
    Event.objects.create(pk=item.pk, paper="a.txt")
    for name in ("linked", "papers"):
        tag = answer(api, f"/{name}/{item.pk}/", Host="a.example")["ETag"]
        assert answer(api, f"/{name}/{item.pk}/", tag, Host="a.example").status_code == 304
        assert answer(api, f"/{name}/{item.pk}/", tag, Host="b.example").status_code == 200


@pytest.mark.parametrize(
    ("name", "query"),
    [("dynamic", "fields=text"), ("serializer", "fields=text"), ("class", "short"), ("made", "as=notes")],
)
def test_a_query_that_chooses_the_fields(api: APIClient, item: Item, name: str, query: str) -> None:
    tag = answer(api, f"/{name}/{item.pk}/")["ETag"]
    response = answer(api, f"/{name}/{item.pk}/?{query}", tag)

    assert response.status_code == 200
    assert response["ETag"] != tag
    assert answer(api, f"/{name}/{item.pk}/?{query}", response["ETag"]).status_code == 304
    assert version_of(parse_tag(response["ETag"])) == item.version


def test_a_media_type_and_its_parameters(api: APIClient, item: Item) -> None:
    tag = answer(api, f"/flat/{item.pk}/", Accept="application/json")["ETag"]

    indented = answer(api, f"/flat/{item.pk}/", tag, Accept="application/json; indent=4")
    assert indented.status_code == 200
    assert b"\n" in indented.content
    html = answer(api, f"/flat/{item.pk}/", tag, Accept="text/html")
    assert html.status_code == 200
    assert html["ETag"] != tag


def test_a_base_class_behind_ours_changes_what_is_shown(api: APIClient, item: Item) -> None:
    first = answer(api, f"/behind/{item.pk}/")
    second = answer(api, f"/behind/{item.pk}/", first["ETag"])
    assert second.status_code == 200
    assert second["ETag"] != first["ETag"]


def test_a_route_that_gives_a_view_its_serializer(item: Item) -> None:
    plain: Any = View.as_view({"get": "retrieve"})
    given: Any = View.as_view({"get": "retrieve"}, get_serializer=lambda obj: WithPath(obj))
    tag = plain(APIRequestFactory().get("/"), pk=item.pk).render()["ETag"]
    other = given(APIRequestFactory().get("/", headers={"If-None-Match": tag}), pk=item.pk).render()
    assert other.status_code == 200


def test_an_own_renderer_is_not_trusted(api: APIClient, item: Item) -> None:
    tag = answer(api, f"/flat/{item.pk}/")["ETag"]
    response = answer(api, f"/renderer/{item.pk}/", tag)

    assert response.status_code == 200
    assert b"TEXT" in response.content


def test_a_language_a_time_zone_and_a_release(api: APIClient) -> None:
    event = Event.objects.create(start=now())
    tag = answer(api, f"/dated/{event.pk}/")["ETag"]
    assert answer(api, f"/dated/{event.pk}/", tag).status_code == 304

    with translation.override("de"):
        assert answer(api, f"/dated/{event.pk}/", tag).status_code == 200
    with timezone.override("Asia/Tokyo"):
        response = answer(api, f"/dated/{event.pk}/", tag)
        assert response.json()["start"].endswith("+09:00")
    with override_settings(CONCORD={"RELEASE": "2"}):
        assert answer(api, f"/dated/{event.pk}/", tag).status_code == 200


class InLanguage:
    """Gives a column's value in the language of the request, as packages for translated models do."""

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        return self if obj is None else f"{translation.get_language()} {obj.__dict__['text']}"

    def __set__(self, obj: Any, value: Any) -> None:
        obj.__dict__["text"] = value


@pytest.fixture
def unshaped() -> Iterator[None]:
    """What is known of serializers and of statements is found out anew in this test."""

    def forget() -> None:
        tags.flat_shape.cache_clear()
        connections[DEFAULT_DB_ALIAS].__dict__.pop("_concord_selects", None)

    forget()
    yield
    forget()


@pytest.mark.usefixtures("unshaped")
@pytest.mark.parametrize("by", ["the model", "the field"])
def test_a_text_that_depends_on_the_language(
    api: APIClient, item: Item, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    def read(value: Any, *args: Any) -> str:
        return f"{translation.get_language()} {value}"

    if by == "the model":
        monkeypatch.setattr(Item, "text", InLanguage())
    else:
        monkeypatch.setattr(Item._meta.get_field("text"), "from_db_value", read, raising=False)
    english = answer(api, f"/flat/{item.pk}/")
    assert answer(api, f"/flat/{item.pk}/", english["ETag"]).status_code == 304
    with translation.override("de"):
        german = answer(api, f"/flat/{item.pk}/", english["ETag"])
    assert (german.status_code, german.json()["text"][:3]) == (200, "de ")


def test_a_version_of_the_api(item: Item) -> None:
    seen = set()
    for version in ("1", "2"):
        request: Any = APIRequestFactory().get("/")
        view: Any = View()
        view.setup(request, pk=item.pk)
        view.action_map, view.action, view.format_kwarg = {"get": "retrieve"}, "retrieve", None
        view.request = view.initialize_request(request)
        view.request.accepted_renderer, view.request.accepted_media_type = JSONRenderer(), "application/json"
        view.request.version = version
        seen.add(tags.flat_variant(view, view.request))
    assert len(seen) == 2
    assert None not in seen
    view.request.accepted_renderer = BrowsableAPIRenderer()
    assert tags.flat_variant(view, view.request) is None


# ------------------------------------------------------------------ the version comes with the row


@pytest.mark.parametrize("query", ["?only=1", ""])
def test_a_version_left_out_by_the_view_is_read_with_the_row(
    api: APIClient, item: Item, query: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1 if not query else 3):  # count and folder, which were not read either
        response = answer(api, f"/only/{item.pk}/{query}")

    assert response.status_code == 200
    assert version_of(parse_tag(response["ETag"])) == item.version


def test_a_queryset_is_left_alone_where_it_has_the_version() -> None:
    for queryset in (Item.objects.all(), Item.objects.only("version"), Item.objects.defer("text")):
        assert tags.with_version(queryset) is queryset
    assert tags.with_version(Bare.objects.only("text")).query.deferred_loading[0] == {"text"}
    loading = tags.with_version(Item.objects.defer("version", "text")).query.deferred_loading
    assert (set(loading[0]), loading[1]) == ({"text"}, True)
    assert tags.with_version(Item.objects.defer("version")).query.deferred_loading[0] == frozenset()


# ------------------------------------------------------------------------------ other sources


def test_a_model_without_a_version_is_tagged_by_its_content(api: APIClient) -> None:
    bare = Bare.objects.create(text="a")
    response = answer(api, f"/bare/{bare.pk}/?x=1")

    assert re.fullmatch(r'"[0-9a-f]{32}-[0-9a-f]{16}"', response["ETag"])
    assert "Last-Modified" not in response
    assert response.json()["etag"] is None
    assert answer(api, f"/bare/{bare.pk}/", response["ETag"]).status_code == 304
    Bare.objects.update(text="b")
    assert answer(api, f"/bare/{bare.pk}/", response["ETag"]).status_code == 200
    assert api.patch(f"/bare/{bare.pk}/", headers={"If-Match": response["ETag"]}).status_code == 412


def test_a_content_tag_guards_writes_whatever_the_query(api: APIClient) -> None:
    bare = Bare.objects.create(text="a")
    tag = answer(api, f"/bare/{bare.pk}/")["ETag"]
    response = api.patch(f"/bare/{bare.pk}/?x=1", {"text": "b"}, headers={"If-Match": tag})

    assert response.status_code == 200
    assert response["ETag"] == answer(api, f"/bare/{bare.pk}/")["ETag"]
    assert api.patch(f"/bare/{bare.pk}/", {"text": "c"}, headers={"If-Match": tag}).status_code == 412
    assert api.delete(f"/bare/{bare.pk}/", headers={"If-Match": f"W/{response['ETag']}"}).status_code == 204


def test_a_content_tag_can_be_chosen_for_a_model_with_a_version(api: APIClient, item: Item) -> None:
    tag = answer(api, f"/content/{item.pk}/")["ETag"]
    item.save()  # another version, the same content but for the etag in it
    assert version_of(parse_tag(tag)) is None
    assert api.patch(f"/content/{item.pk}/", headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize(("name", "tag"), [("callable", '"abc"'), ("static", '"3"')])
def test_a_callable_says_what_the_tag_is(api: APIClient, name: str, tag: str) -> None:
    bare = Bare.objects.create(text="abc")
    assert answer(api, f"/{name}/{bare.pk}/")["ETag"] == tag
    assert answer(api, f"/{name}/{bare.pk}/", tag).status_code == 304

    response = api.patch(f"/{name}/{bare.pk}/", {"text": "abcd"}, headers={"If-Match": tag})
    assert response.status_code == 200
    assert response["ETag"] != tag
    assert api.patch(f"/{name}/{bare.pk}/", {"text": "x"}, headers={"If-Match": tag}).status_code == 412
    weak = f"W/{response['ETag']}"  # what a project computes is compared as it is
    assert api.patch(f"/{name}/{bare.pk}/", {"text": "x"}, headers={"If-Match": weak}).status_code == 412


def test_a_callable_may_return_any_text(api: APIClient) -> None:
    bare = Bare.objects.create(text='two "words"')
    tag = answer(api, f"/callable/{bare.pk}/")["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    assert answer(api, f"/callable/{bare.pk}/", tag).status_code == 304


def test_version_is_refused_where_there_is_none() -> None:
    bare = Bare.objects.create(text="a")
    with pytest.raises(TypeError, match="has no version column"):
        APIClient().get(f"/unversioned/{bare.pk}/")
