"""What responses carry: tags, dates, 304 and the headers that go with them."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from django.db.models import QuerySet
from django.test import override_settings
from django.urls import include, path
from django.utils.cache import patch_cache_control
from rest_framework import serializers
from rest_framework.pagination import PageNumberPagination
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.protocol.dates import format_http_date, parse_http_date
from drf_concord.rest import viewsets
from tests.app.models import Folder, Item

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", "django.middleware.http.ConditionalGetMiddleware"]
COMPARED = ("ETag", "Vary", "Cache-Control", "Last-Modified", "Content-Location", "Expires")


class Flat(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "text", "notes"]


class Related(Flat):
    folder_name = serializers.CharField(source="folder.name", read_only=True)

    class Meta(Flat.Meta):
        fields = [*Flat.Meta.fields, "folder_name"]


class FlatView(viewsets.ModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = Flat


class RelatedView(FlatView):
    serializer_class = Related


class Pages(PageNumberPagination):
    page_size = 2


class PagedView(FlatView):
    pagination_class = Pages


class CachedView(FlatView):
    """Says itself how it may be cached."""

    serializer_class = Related

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        patch_cache_control(response, max_age=60)
        return super().finalize_response(request, response, *args, **kwargs)


class TeapotView(FlatView):
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().list(request, *args, **kwargs)
        response.status_code = 418
        return response


class ReadOnlyView(viewsets.ReadOnlyModelViewSet):
    queryset = Item.objects.order_by("pk")
    serializer_class = Flat


router = SimpleRouter()
for name, view in {
    "flat": FlatView, "related": RelatedView, "paged": PagedView, "cached": CachedView,
    "teapot": TeapotView, "readonly": ReadOnlyView,
}.items():  # fmt: skip
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls))]


@pytest.fixture
def item() -> Item:
    return Item.objects.create(text="one", notes="n" * 400, folder=Folder.objects.create(name="f"))


def get(api: APIClient, address: str, **headers: str) -> Any:
    return api.get(address, headers={k.replace("_", "-"): v for k, v in headers.items()})


def aged(item: Item) -> Item:
    """An item whose version is an hour old, so that its date can be told."""
    # a version only moves forward, unless the row comes anew, and past our own queryset
    Item.objects.filter(pk=item.pk).delete()
    item.version = time.time_ns() // 1000 - 3_600_000_000
    QuerySet(Item).bulk_create([item])
    item.refresh_from_db()
    return item


# ------------------------------------------------------------------------------------------- GET


@pytest.mark.parametrize("name", ["flat", "related", "readonly"])
@pytest.mark.rfc("9110", "8.8.3", "GET and HEAD carry the same ETag")
def test_get_and_head_carry_a_strong_tag(api: APIClient, item: Item, name: str) -> None:
    tag = get(api, f"/{name}/{item.pk}/")["ETag"]
    assert tag.startswith('"')

    head = api.head(f"/{name}/{item.pk}/")
    assert head["ETag"] == tag
    assert head.content == b""
    not_modified = api.head(f"/{name}/{item.pk}/", headers={"If-None-Match": tag})
    assert not_modified.status_code == 304
    assert not_modified["ETag"] == tag


@pytest.mark.parametrize("name", ["flat", "related"])
@pytest.mark.parametrize("template", ["W/{}", "{}", '"x", {}', 'W/"a,b" , {},', "*"])
@pytest.mark.rfc("9110", "13.1.2", "If-None-Match compares weakly, and * matches any")
def test_if_none_match_compares_weakly(api: APIClient, item: Item, name: str, template: str) -> None:
    tag = get(api, f"/{name}/{item.pk}/")["ETag"]
    response = get(api, f"/{name}/{item.pk}/", If_None_Match=template.format(tag))
    assert response.status_code == 304


@pytest.mark.parametrize("name", ["flat", "related"])
def test_the_write_half_alone_is_no_reason_for_a_304(api: APIClient, item: Item, name: str) -> None:
    half = get(api, f"/{name}/{item.pk}/")["ETag"].partition("-")[0]
    assert get(api, f"/{name}/{item.pk}/", If_None_Match=f'{half}-0"').status_code == 200


@pytest.mark.parametrize("name", ["flat", "related", "cached"])
@pytest.mark.parametrize("person", ["api", "as_guido"])
@pytest.mark.rfc("9110", "15.4.5", "304 repeats the headers that the 200 would have had")
def test_a_304_has_the_headers_of_the_200(
    item: Item, name: str, person: str, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(person)
    ok = get(client, f"/{name}/{item.pk}/")
    not_modified = get(client, f"/{name}/{item.pk}/", If_None_Match=ok["ETag"])

    assert (ok.status_code, not_modified.status_code) == (200, 304)
    assert "Content-Type" not in not_modified
    for header in COMPARED:
        assert not_modified.get(header) == ok.get(header), header


def test_caches_ask_each_time_and_keep_users_apart(api: APIClient, as_guido: APIClient, item: Item) -> None:
    assert get(api, f"/flat/{item.pk}/")["Cache-Control"] == "no-cache"
    response = get(as_guido, f"/flat/{item.pk}/")
    assert response["Cache-Control"] == "no-cache, private"
    assert {"Accept", "Authorization", "Cookie"} <= set(response["Vary"].split(", "))
    assert get(api, f"/cached/{item.pk}/")["Cache-Control"] == "max-age=60"


@pytest.mark.parametrize("name", ["flat", "related"])
@pytest.mark.rfc("9110", "13.1.1", "a GET whose If-Match is false answers 412")
def test_a_get_whose_if_match_is_false(api: APIClient, item: Item, name: str) -> None:
    tag = get(api, f"/{name}/{item.pk}/")["ETag"]
    assert get(api, f"/{name}/{item.pk}/", If_Match=tag).status_code == 200

    for wrong in ('"x-1"', f"W/{tag}"):
        response = get(api, f"/{name}/{item.pk}/", If_Match=wrong)
        assert response.status_code == 412
        assert response.json()["code"] == "version_mismatch"
        assert response.json()["current_etag"] == response["ETag"] == tag
        assert "one" not in response.content.decode()


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("address", ["/flat/{}/", "/related/{}/", "/flat/"])
def test_a_get_with_a_malformed_condition(api: APIClient, item: Item, header: str, address: str) -> None:
    response = api.get(address.format(item.pk), headers={header: "unquoted"})
    assert response.status_code == 400
    assert response.json()["code"] == "malformed_precondition"


# ------------------------------------------------------------------------------------------ dates


@pytest.mark.rfc("9110", "8.8.2", "Last-Modified is rounded up, and held back while it lies ahead")
def test_last_modified_is_told_when_it_is_past(api: APIClient, item: Item) -> None:
    assert "Last-Modified" not in get(api, f"/flat/{item.pk}/")

    item = aged(item)
    for name in ("flat", "related"):
        date = parse_http_date(get(api, f"/{name}/{item.pk}/")["Last-Modified"])
        assert date == -(-item.version // 1_000_000)


@pytest.mark.rfc("9110", "13.1.3", "a GET whose If-Modified-Since is false answers 304")
def test_if_modified_since(api: APIClient, item: Item) -> None:
    item = aged(item)
    address, date = f"/flat/{item.pk}/", get(api, f"/flat/{item.pk}/")["Last-Modified"]
    before = format_http_date((parse_http_date(date) or 0) - 1)

    not_modified = get(api, address, If_Modified_Since=date)
    assert not_modified.status_code == 304
    assert not_modified["Last-Modified"] == date
    assert get(api, address, If_Modified_Since=before).status_code == 200
    assert get(api, address, If_Modified_Since="yesterday").status_code == 200
    # an If-None-Match that does not match wins over the date
    assert get(api, address, If_Modified_Since=date, If_None_Match='"x-1"').status_code == 200


def test_a_date_says_nothing_of_what_is_not_of_the_row(api: APIClient, item: Item) -> None:
    item = aged(item)
    date = get(api, f"/related/{item.pk}/")["Last-Modified"]
    Folder.objects.update(name="g")

    response = get(api, f"/related/{item.pk}/", If_Modified_Since=date)
    assert response.status_code == 200
    assert response.json()["folder_name"] == "g"


@pytest.mark.rfc("9110", "13.1.4", "a write whose If-Unmodified-Since is false answers 412")
def test_if_unmodified_since(api: APIClient, item: Item) -> None:
    item = aged(item)
    date = get(api, f"/flat/{item.pk}/")["Last-Modified"]
    before = format_http_date((parse_http_date(date) or 0) - 1)

    def patch(**headers: str) -> Any:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        return api.patch(f"/flat/{item.pk}/", {"text": "two"}, headers=given)

    response = patch(If_Unmodified_Since=before)
    assert response.status_code == 412
    assert response["ETag"] == get(api, f"/flat/{item.pk}/")["ETag"]
    # If-Match is there, so the date does not count
    assert patch(If_Unmodified_Since=before, If_Match=response["ETag"]).status_code == 200
    assert patch(If_Unmodified_Since=date).status_code == 412
    assert patch(If_Unmodified_Since="soon").status_code == 200


# ------------------------------------------------------------------------------------------ lists


@pytest.mark.parametrize("address", ["/flat/", "/related/", "/paged/", "/paged/?page=2", "/readonly/"])
def test_a_list_has_a_weak_tag_and_answers_304(api: APIClient, item: Item, address: str) -> None:
    Item.objects.bulk_create(Item(text=str(i)) for i in range(3))
    ok = get(api, address)
    assert ok["ETag"].startswith('W/"')

    for given in (ok["ETag"], ok["ETag"].removeprefix("W/")):
        not_modified = get(api, address, If_None_Match=given)
        assert not_modified.status_code == 304
        assert not_modified.content == b""
        for header in COMPARED:
            assert not_modified.get(header) == ok.get(header), header
    Item.objects.order_by("-pk").update(notes="changed")
    assert get(api, address, If_None_Match=ok["ETag"]).status_code == 200


def test_the_tag_of_a_list_is_of_that_page_and_host(api: APIClient, item: Item) -> None:
    Item.objects.bulk_create(Item(text=str(i)) for i in range(5))
    tags = {get(api, f"/paged/?page={n}")["ETag"] for n in (1, 2, 3)}
    tags |= {get(api, "/paged/?page=1", Host="other.example")["ETag"]}
    assert len(tags) == 4


def test_a_row_that_is_added_or_goes_moves_the_tag(api: APIClient, item: Item) -> None:
    tag = get(api, "/flat/")["ETag"]
    other = Item.objects.create(text="two")
    assert get(api, "/flat/", If_None_Match=tag).status_code == 200
    other.delete()
    assert get(api, "/flat/", If_None_Match=tag).status_code == 304


def test_an_if_match_on_a_list_is_false(api: APIClient, item: Item) -> None:
    tag = get(api, "/flat/")["ETag"]
    response = get(api, "/flat/", If_Match=tag)
    assert response.status_code == 412
    assert response.json()["code"] == "version_mismatch"
    assert get(api, "/flat/", If_Match="*").status_code == 200


@pytest.mark.rfc("9110", "13.2.1", "conditions count only where the answer would be a success")
def test_only_a_success_is_conditional(api: APIClient, item: Item) -> None:
    tag = get(api, "/teapot/")["ETag"]
    assert get(api, "/teapot/", If_None_Match=tag).status_code == 418
    assert get(api, "/paged/?page=99", If_None_Match="*").status_code == 404


# ----------------------------------------------------------------------- the way to and fro


@override_settings(MIDDLEWARE=MIDDLEWARE)
@pytest.mark.parametrize("name", ["flat", "related"])
def test_a_compressed_representation_can_be_written_back(api: APIClient, item: Item, name: str) -> None:
    address = f"/{name}/{item.pk}/"
    response = get(api, address, Accept_Encoding="gzip")
    assert response["Content-Encoding"] == "gzip"
    weak = response["ETag"]
    assert weak.startswith('W/"')
    body = json.loads(gzip.decompress(response.content))

    headers = {"If-Match": weak, "Accept-Encoding": "gzip"}
    assert get(api, address, If_None_Match=weak, Accept_Encoding="gzip").status_code == 304
    changed = api.put(address, {**body, "text": "two"}, format="json", headers=headers)
    assert changed.status_code == 200
    assert changed["ETag"].startswith('W/"')
    refused = api.put(address, {**body, "text": "three"}, format="json", headers=headers)
    assert refused.status_code == 412
    again = api.put(address, body, format="json", headers={"If-Match": changed["ETag"]})
    assert again.status_code == 200


@pytest.mark.parametrize("name", ["flat", "related"])
def test_the_browsable_api(api: APIClient, item: Item, name: str) -> None:
    response = get(api, f"/{name}/{item.pk}/", Accept="text/html")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert get(api, f"/{name}/", Accept="text/html").status_code == 200
    changed = api.patch(f"/{name}/{item.pk}/", {"text": "2"}, headers={"If-Match": response["ETag"]})
    assert changed.status_code == 200
    refused = api.patch(
        f"/{name}/{item.pk}/", {"text": "2"}, headers={"If-Match": response["ETag"], "Accept": "text/html"}
    )
    assert refused.status_code == 412
    assert refused["Content-Type"].startswith("text/html")


def test_scripts_of_other_origins_may_read_the_headers(api: APIClient, item: Item) -> None:
    address = f"/flat/{item.pk}/"
    exposed = "Access-Control-Expose-Headers"
    assert exposed not in get(api, address)

    ok = get(api, address, Origin="https://a.example")
    for response in (
        ok,
        get(api, address, Origin="https://a.example", If_None_Match=ok["ETag"]),
        api.patch(address, headers={"Origin": "https://a.example", "If-Match": '"x-1"'}),
        get(api, "/flat/", Origin="https://a.example"),
    ):
        assert {"ETag", "Lock-Token", "Retry-After"} <= set(response[exposed].split(", "))


@pytest.mark.rfc("9110", "13.2.1", "OPTIONS selects no representation, so conditions are ignored")
@pytest.mark.parametrize("value", ['"x-1"', "unquoted", "*"])
def test_options_ignores_conditions(as_guido: APIClient, item: Item, value: str) -> None:
    for header in ("If-Match", "If-None-Match"):
        for address in (f"/flat/{item.pk}/", "/flat/", f"/flat/{item.pk}/lock/"):
            response = as_guido.options(address, headers={header: value})
            assert response.status_code == 200
            assert "ETag" not in response
