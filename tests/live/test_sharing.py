"""For whom a result holds: every rule with the view that would leak, or answer wrongly, without it."""

from __future__ import annotations

import contextvars
import copy
import datetime
import functools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.http import HttpRequest
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject, cached_property
from django.views.decorators.cache import never_cache
from rest_framework import permissions, serializers, viewsets
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.filters import BaseFilterBackend, OrderingFilter, SearchFilter
from rest_framework.generics import ListAPIView
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request, clone_request
from rest_framework.reverse import reverse
from rest_framework.versioning import BaseVersioning, HostNameVersioning

from drf_concord.live import sharing, views
from drf_concord.live.recording import RecordedHttpRequest
from drf_concord.live.sharing import LateRead, Level, declared_key, evaluate, never_shared
from drf_concord.rest import viewsets as guarded
from tests.app.models import Bare, Tag

pytestmark = pytest.mark.django_db

SHARED, USER, CONNECTION = Level


class BareSerializer(serializers.ModelSerializer):
    class Meta:
        model = Bare
        fields = ["id", "text"]


class Base(viewsets.ModelViewSet):
    queryset = Bare.objects.order_by("pk")
    serializer_class = BareSerializer
    permission_classes: ClassVar[list[Any]] = []
    authentication_classes: ClassVar[list[Any]] = [SessionAuthentication]


class People:
    """Two users; the first has two sockets that differ in everything but the user."""

    def __init__(self) -> None:
        self.ada = User.objects.create(username="ada", is_staff=True, email="ada@x.example")
        self.bob = User.objects.create(username="bob", email="bob@x.example")
        for text in ("ada", "bob", "ada laptop", "ada phone", "bob phone", "None"):
            Bare.objects.create(text=text)

    def caller(self, name: str, device: str = "phone", **changed: Any) -> views.Caller:
        text = f"{name} {device}".encode()
        scope = {
            "type": "websocket",
            "scheme": "wss",
            "path": f"/ws/{name}/{device}/",
            "query_string": b"ticket=" + text,
            "server": ("10.0.0.1", 443),
            "client": (f"10.0.0.{len(text)}", 5000 + len(text)),
            "headers": [
                (b"host", b"api.example.com"),
                (b"x-team", text),
                (b"cookie", b"team=" + text.replace(b" ", b"-")),
                (b"accept", text),
                (b"content-type", text),
            ],
            "session": {"team": text.decode()},
            "user": User.objects.get(username=name),
        }
        return views.Caller(scope | changed)

    def request(self, name: str = "ada", device: str = "phone", **query: object) -> Any:
        return views.http_request(self.caller(name, device), path="/items/", query=query)


@pytest.fixture
def people() -> People:
    return People()


def rows(view: Any) -> list[Any]:
    queryset = view.filter_queryset(view.get_queryset())
    return [dict(row) for row in view.get_serializer(queryset, many=True).data]


def evaluated(view_class: Any, request: Any, work: Callable[[Any], Any] = rows, **kwargs: Any) -> Any:
    """Evaluate as the cohorts do: admit first, with the authentication of the view."""
    action = kwargs.pop("action", "list")
    admitted = views.build(view_class, copy.copy(request), action=action, kwargs={})
    views.admit(admitted)
    asked = admitted.request
    given = {"user": asked.user, "auth": asked.auth} | kwargs
    return evaluate(view_class, request, action=action, kwargs={}, work=work, **given)


def over_http(view_class: Any, request: Any, work: Callable[[Any], Any] = rows) -> Any:
    """What the same request gets from the view over HTTP."""

    class Worked(view_class):
        def list(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            self.worked = work(self)
            return super().list(request)

        def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
            assert response.status_code == 200, response.data
            result.append(self.worked)
            return super().finalize_response(request, response, *args, **kwargs)

    result: list[Any] = []
    Worked.as_view({"get": "list"})(request)
    return result[0]


def showing(read: Callable[[Any], object]) -> Any:
    """Return a view whose objects show what a function reads of the view."""

    class Serializer(BareSerializer):
        shown = serializers.SerializerMethodField()

        def get_shown(self, row: Bare) -> str:
            return str(read(self.context["view"]))

        class Meta(BareSerializer.Meta):
            fields = ["id", "shown"]

    return type("Showing", (Base,), {"serializer_class": Serializer})


def check(view_class: Any, people: People, level: Level, **query: object) -> None:
    """The level is the expected one, the answer is that of HTTP, and right for all it is said to hold for."""
    request = people.request(**query)

    result, found = evaluated(view_class, request)

    assert result == over_http(view_class, people.request(**query))
    same = {
        USER: over_http(view_class, people.request(device="laptop", **query)) == result,
        SHARED: over_http(view_class, people.request("bob", **query)) == result,
    }
    assert found is level
    assert all(same[each] for each in same if each >= found), same


# what is noticed -------------------------------------------------------------------------------------


class OfUser(Base):  # V2
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(text=self.request.user.username)


class OfUnderlyingUser(Base):  # V3
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(text=self.request._request.user.username)


class Mine(BaseFilterBackend):  # V9: what django-filter's FilterSet.request does
    class FilterSet:
        def __init__(self, request: Any) -> None:
            self.request = request

        def qs(self, queryset: Any) -> Any:
            return queryset.filter(text=self.request.user.username)

    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        return self.FilterSet(request).qs(queryset)


class OfFilter(Base):
    filter_backends: ClassVar[list[Any]] = [Mine]


class OfContext(Base):  # V10
    class Serializer(BareSerializer):
        mine = serializers.SerializerMethodField()

        def get_mine(self, row: Bare) -> bool:
            return row.text == self.context["request"].user.username

        class Meta(BareSerializer.Meta):
            fields = ["id", "mine"]

    serializer_class = Serializer


class OfCachedProperty(Base):
    """A permission reads the property on the admitted view; on a fresh view it is computed again."""

    class Asks(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            return bool(view.mine)

    permission_classes: ClassVar[list[Any]] = [Asks]

    @cached_property
    def mine(self) -> str:
        return self.request.user.username

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(text=self.mine)


class OfPermission(Base):
    """A permission asks first, so that the answer is in the user's cache and no query is made."""

    class Asks(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            request.user.has_perm("app.view_bare")
            return True

    permission_classes: ClassVar[list[Any]] = [Asks]

    def get_queryset(self) -> Any:
        found = super().get_queryset()
        return found if self.request.user.has_perm("app.view_bare") else found.none()


@pytest.mark.parametrize("view", [Base, guarded.ModelViewSet])  # V1
def test_what_reads_nothing_is_shared(view: Any, people: People) -> None:
    plain = type("Plain", (view,), {"queryset": Base.queryset, "serializer_class": BareSerializer})
    plain.authentication_classes, plain.permission_classes = [SessionAuthentication], []

    check(plain, people, SHARED)


@pytest.mark.parametrize(
    "view", [OfUser, OfUnderlyingUser, OfFilter, OfContext, OfCachedProperty, OfPermission]
)
def test_what_reads_the_user_holds_for_the_user(view: Any, people: People) -> None:
    people.ada.user_permissions.add(Permission.objects.get(codename="view_bare"))

    check(view, people, USER)


FREE: dict[str, Callable[[Any], object]] = {
    "method": lambda v: v.request.method,
    "query_params": lambda v: v.request.query_params.dict(),
    "GET": lambda v: v.request.GET["n"],
    "underlying GET": lambda v: v.request._request.GET["n"],
    "META QUERY_STRING": lambda v: v.request.META["QUERY_STRING"],
    "META HTTP_HOST": lambda v: v.request.META.get("HTTP_HOST"),
    "META HTTP_ACCEPT": lambda v: "HTTP_ACCEPT" in v.request.META,
    "headers host": lambda v: v.request.headers["Host"],
    "headers accept": lambda v: v.request.headers.get("accept"),
    "version": lambda v: v.request.version,
    "versioning_scheme": lambda v: v.request.versioning_scheme,
    "renderer": lambda v: v.request.accepted_renderer.format,
    "media type": lambda v: v.request.accepted_media_type,
    "scheme": lambda v: (v.request.scheme, v.request.is_secure()),
    "host": lambda v: v.request.get_host(),
    "absolute": lambda v: v.request.build_absolute_uri("/media/a.png"),  # V11: every FileField and link
    "reverse": lambda v: reverse("items-list", request=v.request),
    "parsers": lambda v: len(v.request.parsers),
    "isinstance": lambda v: (isinstance(v.request, Request), isinstance(v.request._request, HttpRequest)),
    "action": lambda v: (v.action, v.kwargs, v.basename),
    "set by the view": lambda v: setattr(v.request, "seen", 1) or v.request.seen,
    "set on the request": lambda v: setattr(v.request._request, "seen", 1) or v.request.seen,
}


@pytest.mark.parametrize("read", FREE.values(), ids=FREE)
def test_what_is_free_to_read(read: Callable[[Any], object], people: People) -> None:
    check(showing(read), people, SHARED, n=1)


OF_USER: dict[str, Callable[[Any], object]] = {
    "user": lambda v: v.request.user,
    "_user": lambda v: v.request._user,
    "getattr _user": lambda v: getattr(v.request, "_user", None),
    "underlying": lambda v: v.request._request.user,
    "getattr": lambda v: getattr(v.request, "user", None),
    "copy": lambda v: copy.copy(v.request).user,  # V13
    "copy of the underlying": lambda v: copy.copy(v.request._request).user,
    "deepcopy": lambda v: copy.deepcopy(v.request).user,
    "by the property": lambda v: Request.user.fget(v.request),
    "handed to a thread": lambda v: in_thread(lambda: v.request.user.username),
    "in a closure": lambda v: (lambda request=v.request: request.user)(),
    "passed on by a default": lambda v: serializers.CurrentUserDefault()(v.get_serializer()),
}


def in_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("read", OF_USER.values(), ids=OF_USER)
def test_ways_to_the_user(read: Callable[[Any], object], people: People) -> None:
    check(showing(read), people, USER)


OF_CONNECTION: dict[str, Callable[[Any], object]] = {
    "vars": lambda v: vars(v.request)["_user"],  # V12
    "vars of the underlying": lambda v: vars(v.request._request)["user"],
    "__dict__": lambda v: sorted(v.request.__dict__["_request"].__dict__["META"].items(), key=str),
    "META.get": lambda v: v.request.META.get("REMOTE_ADDR"),
    "META[]": lambda v: v.request.META["HTTP_X_TEAM"],
    "META in": lambda v: "HTTP_X_TEAM" in v.request.META,
    "META items": lambda v: sorted(map(str, v.request.META.items())),
    "META values": lambda v: sorted(map(str, v.request.META.values())),
    "dict(META)": lambda v: dict(v.request.META)["HTTP_X_TEAM"],
    "**META": lambda v: {**v.request.META}["HTTP_X_TEAM"],
    "META | {}": lambda v: (v.request.META | {})["HTTP_X_TEAM"],
    "{} | META": lambda v: ({} | v.request.META)["HTTP_X_TEAM"],
    "META copy": lambda v: v.request.META.copy()["HTTP_X_TEAM"],
    "copy of META": lambda v: copy.copy(v.request.META)["HTTP_X_TEAM"],
    "META as format": lambda v: "{HTTP_X_TEAM}".format_map(v.request.META),
    "META as json": lambda v: json.loads(json.dumps(v.request.META, default=str))["HTTP_X_TEAM"],
    "META pop": lambda v: (
        v.request.META.setdefault("HTTP_X_TEAM", ""),
        v.request.META.pop("SERVER_NAME", ""),
    ),
    "META length": lambda v: (len(v.request.META), bool(v.request.META)),
    "underlying META": lambda v: v.request._request.META["HTTP_X_TEAM"],
    "META of a copy": lambda v: copy.copy(v.request).META["HTTP_X_TEAM"],
    "headers": lambda v: v.request.headers["X-Team"],
    "headers.get": lambda v: v.request.headers.get("x_team"),
    "headers items": lambda v: sorted(v.request.headers.items()),
    "COOKIES": lambda v: v.request.COOKIES["team"],
    "get_signed_cookie": lambda v: v.request.get_signed_cookie("team", default="none"),
    "session": lambda v: v.request.session["team"],
    "auth": lambda v: v.request.auth,
    "underlying auth": lambda v: v.request._request.auth,
    "authenticator": lambda v: type(v.request.successful_authenticator).__name__,
    "_authenticator": lambda v: type(getattr(v.request, "_authenticator", None)).__name__,
    "data": lambda v: v.request.data,
    "body": lambda v: v.request.body,
    "content_type": lambda v: v.request.content_type,
    "unknown": lambda v: getattr(v.request, "tenant", None),
    "unknown, underlying": lambda v: hasattr(v.request._request, "tenant"),
    "scope": lambda v: v.request.scope["client"],
    "caller": lambda v: v.request.caller.scope["client"],
    "deepcopy of the underlying": lambda v: copy.deepcopy(v.request._request).user,
    "clone_request": lambda v: clone_request(v.request, "POST").user,
}


@pytest.mark.parametrize("read", OF_CONNECTION.values(), ids=OF_CONNECTION)
def test_all_else_holds_for_the_socket(read: Callable[[Any], object], people: People) -> None:
    check(showing(read), people, CONNECTION)


PATHS: dict[str, Callable[[Any], object]] = {
    "path": lambda v: v.request.path,
    "get_full_path": lambda v: v.request.get_full_path(),
    "own address": lambda v: v.request.build_absolute_uri(),
    "relative address": lambda v: v.request.build_absolute_uri("next"),
    "resolver_match": lambda v: v.request.resolver_match,
}


@pytest.mark.parametrize("read", PATHS.values(), ids=PATHS)
def test_the_path_is_not_part_of_the_key(read: Callable[[Any], object], people: People) -> None:
    assert evaluated(showing(read), people.request())[1] is CONNECTION


def test_what_a_request_accepts_is_free_only_where_it_is_always_the_same(people: People) -> None:
    def accepted(view: Any) -> Any:
        return view.request.META["HTTP_ACCEPT"], view.request.headers["accept"]

    request = people.request()
    assert evaluated(Base, request, accepted) == (("application/json",) * 2, SHARED)
    for other in (people.request(), people.request()):
        other.META["HTTP_ACCEPT"] = "text/html"
        assert evaluated(Base, other, accepted) == (("text/html",) * 2, CONNECTION)


def test_filters_and_links_of_drf_are_shared(people: People) -> None:
    class Usual(Base):
        class Serializer(BareSerializer):
            url = serializers.HyperlinkedIdentityField(view_name="items-detail")

            class Meta(BareSerializer.Meta):
                fields = ["id", "url"]

        serializer_class = Serializer
        filter_backends: ClassVar[list[Any]] = [SearchFilter, OrderingFilter]
        search_fields: ClassVar[list[str]] = ["text"]

    check(Usual, people, SHARED, search="ada", ordering="-id")


def test_pages_read_their_own_address(people: People) -> None:
    class Paged(Base):
        class pagination_class(PageNumberPagination):
            page_size = 2

    def page(view: Any) -> Any:
        found = view.paginate_queryset(view.filter_queryset(view.get_queryset()))
        return view.get_paginated_response(view.get_serializer(found, many=True).data).data

    assert evaluated(Paged, people.request(), page)[1] is CONNECTION


def test_generic_views(people: People) -> None:
    class Generic(ListAPIView):
        queryset = Base.queryset
        serializer_class = BareSerializer
        permission_classes: ClassVar[list[Any]] = []
        authentication_classes: ClassVar[list[Any]] = [SessionAuthentication]

    assert evaluated(Generic, people.request()) == (evaluated(Base, people.request())[0], SHARED)


# the user ---------------------------------------------------------------------------------------------


class Annotating(BaseAuthentication):
    """Puts something on the user that is not in his row."""

    def authenticate(self, request: Any) -> Any:
        user = User.objects.get(username="ada")
        user.team = request.headers["X-Team"]  # type: ignore[attr-defined]
        return user, None


def test_a_user_who_carries_more_than_his_row(people: People) -> None:
    view = showing(lambda v: v.request.user.team)
    view.authentication_classes = [Annotating]

    check(view, people, CONNECTION)


class Leaving(BaseAuthentication):
    """Puts something on the request, which is kept for the socket with the user."""

    def authenticate(self, request: Any) -> Any:
        request.team = request.headers["X-Team"]
        return User.objects.get(username="ada"), None


def test_an_authentication_that_leaves_something_on_the_request(people: People) -> None:
    view = showing(lambda v: getattr(v.request, "team", None))
    view.authentication_classes = [Leaving]

    check(view, people, CONNECTION)
    by = people.caller("ada")
    for _ in range(2):
        request = views.http_request(by, path="/items/", query={})
        assert evaluated(view, request)[0][0]["shown"] == "ada phone"


def test_a_request_that_is_no_socket_s(people: People, rf: Any) -> None:
    request = rf.get("/items/")
    request.user = AnonymousUser()

    result, level = evaluate(
        ByInitial, request, action="list", kwargs={}, work=rows, user=people.ada, auth=None
    )

    assert [row["text"] for row in result] == ["ada"]
    assert level is CONNECTION


def test_another_model_as_the_user_may_have_the_same_key(people: People) -> None:
    class Device(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            return Tag(pk=people.ada.pk, name="device"), None

    view = showing(lambda v: type(v.request.user).__name__)
    view.authentication_classes = [Device]

    check(view, people, CONNECTION)


@pytest.mark.parametrize("user", [None, AnonymousUser()], ids=str)
def test_nobody_is_a_user_like_others(user: Any, people: People) -> None:
    view = showing(lambda v: v.request.user)

    assert evaluated(view, people.request(), user=user)[1] is USER
    assert evaluated(Base, people.request(), user=user)[1] is SHARED


def test_a_user_given_lazily_is_unwrapped(people: People) -> None:
    lazy = SimpleLazyObject(lambda: people.ada)

    result, level = evaluated(OfUser, people.request(), user=lazy)

    assert level is USER
    assert [row["text"] for row in result] == ["ada"]


def test_a_view_may_put_another_user_on_its_request(people: People) -> None:
    def act_as(view: Any) -> str:
        view.request.user = people.bob
        return view.request.user.username + view.request._request.user.username

    assert evaluated(Base, people.request(), act_as) == ("bobbob", USER)


# what has run before ----------------------------------------------------------------------------------


class Stashed(Base):
    """Reads something that something else has left; without it, all objects are shown."""

    def get_queryset(self) -> Any:
        found = super().get_queryset()
        name = getattr(self, "owner", None) or getattr(self.request, "tenant", None)
        return found if name is None else found.filter(text=name)


def stashing(where: str) -> Any:
    class Stashing(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            name = request.user.username
            match where:
                case "view":
                    view.owner = name
                case "request":
                    request.tenant = name
                case "underlying":
                    request._request.tenant = name
                case "attribute":
                    view.suffix = name
                case "queryset":
                    view.queryset = view.queryset.filter(text=name)
                case "kwargs":
                    view.kwargs["name"] = name
            return True

    class Stashing_(Stashed):
        permission_classes: ClassVar[list[Any]] = [Stashing]

        def get_queryset(self) -> Any:
            name = self.kwargs.get("name") or self.suffix
            return super().get_queryset().filter(text=name) if name else super().get_queryset()

    return Stashing_


@pytest.mark.parametrize(
    "where", ["view", "request", "underlying", "attribute", "queryset", "kwargs"]
)  # V5, V6
def test_a_permission_that_leaves_something_behind(where: str, people: People) -> None:
    view = stashing(where)
    assert not never_shared(view)

    check(view, people, CONNECTION)

    assert never_shared(view)


def test_a_permission_that_leaves_something_for_some(people: People) -> None:
    class Narrows(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            if not request.user.is_staff:
                view.owner = request.user.username
            return True

    class Narrowed(Stashed):
        permission_classes: ClassVar[list[Any]] = [Narrows]

        def get_queryset(self) -> Any:
            found = Base.queryset.all()
            return found.filter(text=self.owner) if "owner" in vars(self) else found

    assert len(evaluated(Narrowed, people.request())[0]) == 6
    result, level = evaluated(Narrowed, people.request("bob"))

    assert [row["text"] for row in result] == ["bob"]
    assert level is CONNECTION
    assert evaluated(Narrowed, people.request())[1] is CONNECTION


def test_a_permission_that_stashes_what_is_missed_loudly(people: People) -> None:
    class Sets(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            view.project = request.user.username
            return True

    class OfProject(Base):
        permission_classes: ClassVar[list[Any]] = [Sets]

        def get_queryset(self) -> Any:
            return super().get_queryset().filter(text=self.project)

    with pytest.raises(AttributeError, match="project"):  # nobody was admitted, so nothing is known of it
        evaluate(OfProject, people.request(), action="list", kwargs={}, work=rows, user=people.ada, auth=None)
    check(OfProject, people, CONNECTION)


class ByInitial(Stashed):  # V4
    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.owner = request.user.username


class ByDispatch(Stashed):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.owner = request.user.username
        return super().dispatch(request, *args, **kwargs)


class ByRequest(Stashed):
    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.owner = request.user.username
        return super().initialize_request(request, *args, **kwargs)


class ByAuthenticators(Stashed):
    def get_authenticators(self) -> Any:
        self.owner = getattr(getattr(self.request, "user", None), "username", None)
        return super().get_authenticators()


class Mixed(guarded.ModelViewSet, ByInitial):
    """Another override stands before the one that matters."""


HOOKED = {
    "initial": ByInitial,
    "dispatch": ByDispatch,
    "initialize_request": ByRequest,
    "get_authenticators": ByAuthenticators,
    "a base": type("Sub", (ByInitial,), {}),
    "behind ours": Mixed,
}


@pytest.mark.parametrize("view", HOOKED.values(), ids=HOOKED)
def test_what_runs_before_the_recording(view: Any, people: People) -> None:
    assert never_shared(view)
    check(view, people, CONNECTION)


def test_setup_of_a_generic_view(people: People) -> None:
    class BySetup(ListAPIView):
        serializer_class = BareSerializer
        permission_classes: ClassVar[list[Any]] = []

        def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
            super().setup(request, *args, **kwargs)
            self.owner = request.user.username

        def get_queryset(self) -> Any:
            return Base.queryset.filter(text=self.owner)

    result, level = evaluated(BySetup, people.request())

    assert [row["text"] for row in result] == ["ada"]
    assert level is CONNECTION


def test_a_decorated_dispatch_is_an_overridden_one() -> None:
    assert never_shared(method_decorator(never_cache, name="dispatch")(type("Decorated", (Base,), {})))


def test_our_own_views_and_those_of_drf_do_not_count() -> None:
    assert not never_shared(guarded.ModelViewSet)
    assert not never_shared(viewsets.ModelViewSet)
    assert not never_shared(ListAPIView)
    impostor = type("Impostor", (Base,), {"initial": Base.initial, "__module__": "drf_concord_extras.views"})
    assert never_shared(impostor)


# a fresh view, an empty context -----------------------------------------------------------------------

TENANT: contextvars.ContextVar[str | None] = contextvars.ContextVar("tenant", default=None)


def test_context_variables_of_the_caller_are_not_there(people: People) -> None:
    view = showing(lambda v: TENANT.get())
    TENANT.set("ada")

    result, level = evaluated(view, people.request())

    assert {row["shown"] for row in result} == {"None"}
    assert level is SHARED


def test_context_variables_are_there_for_views_that_are_not_watched(people: People) -> None:
    class Own(ByInitial):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(text=TENANT.get())

    TENANT.set("ada")

    assert len(evaluated(Own, people.request())[0]) == 1


@pytest.fixture
def clocks() -> Iterator[None]:
    yield
    timezone.deactivate()
    translation.deactivate()


def of_clocks(view: Any) -> tuple[str, str | None]:
    return timezone.get_current_timezone_name(), translation.get_language()


@pytest.mark.usefixtures("clocks")
def test_language_and_time_zone_are_those_given(people: People) -> None:  # V8
    timezone.activate(ZoneInfo("Asia/Tokyo"))
    translation.activate("de")
    given = {"language": "fr", "time_zone": ZoneInfo("Europe/Paris")}

    assert evaluated(Base, people.request(), of_clocks) == (("Asia/Tokyo", "de"), SHARED)
    assert evaluated(Base, people.request(), of_clocks, **given) == (("Europe/Paris", "fr"), SHARED)
    assert of_clocks(None) == ("Asia/Tokyo", "de")


@pytest.mark.usefixtures("clocks")
def test_without_a_language(people: People) -> None:
    translation.deactivate_all()

    assert evaluated(Base, people.request(), of_clocks)[0][1] is None


@pytest.mark.usefixtures("clocks")
def test_what_a_view_activates_ends_with_it(people: People) -> None:
    def work(view: Any) -> tuple[str, str | None]:
        timezone.activate(ZoneInfo("Asia/Tokyo" if view.request.user.is_staff else "UTC"))
        translation.activate("de")
        return of_clocks(view)

    before = of_clocks(None)
    assert evaluated(Base, people.request(), work) == (("Asia/Tokyo", "de"), USER)
    assert of_clocks(None) == before


def test_links_have_the_script_name(people: People) -> None:
    caller = people.caller("ada", root_path="/prefix")
    view = showing(lambda v: reverse("items-list", request=v.request))
    request = views.http_request(caller, path="/prefix/items/", query={})

    result, level = evaluated(view, request)

    assert result[0]["shown"] == "https://api.example.com/prefix/items/"
    assert level is SHARED


def test_each_evaluation_has_a_fresh_view(people: People) -> None:
    class Counting(Base):
        @functools.cached_property
        def shown(self) -> str:
            return str(self.request.user)

    work = lambda view: view.shown  # noqa: E731

    assert evaluated(Counting, people.request(), work) == ("ada", USER)
    assert evaluated(Counting, people.request("bob"), work) == ("bob", USER)


def test_the_version_is_determined_while_it_is_watched(people: People) -> None:
    class OfTeam(BaseVersioning):
        def determine_version(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return request.headers.get("X-Team")

    by_team, by_host = showing(lambda v: v.request.version), showing(lambda v: v.request.version)
    by_team.versioning_class, by_host.versioning_class = OfTeam, HostNameVersioning

    check(by_team, people, CONNECTION)
    check(by_host, people, SHARED)


# afterwards -------------------------------------------------------------------------------------------


def test_a_read_after_the_answer_is_refused(people: People) -> None:
    late, level = evaluated(Base, people.request(), lambda view: lambda: view.request.user)
    assert level is SHARED
    with pytest.raises(LateRead):
        late()

    lazy, level = evaluated(OfUser, people.request(), lambda view: (r for r in [view.request.user, view]))
    assert level is USER
    assert next(lazy) == people.ada
    with pytest.raises(LateRead):
        next(lazy).request.session  # noqa: B018


def test_what_the_work_raises_is_raised(people: People) -> None:
    held: list[Any] = []

    def work(view: Any) -> None:
        held.append(view)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluated(Base, people.request(), work)
    with pytest.raises(LateRead):
        held[0].request.user  # noqa: B018


def test_the_request_given_is_left_as_it_was(people: People) -> None:
    def work(view: Any) -> None:
        view.request._request.tenant = view.request.META["HTTP_X_NEW"] = "ada"
        del view.request._request.tenant
        with pytest.raises(AttributeError):
            del view.request._request.tenant
        vars(view.request._request)["tenant"] = "ada"

    request = people.request()

    evaluated(Base, request, work)

    assert "tenant" not in vars(request)
    assert "HTTP_X_NEW" not in request.META


def test_a_request_of_another_class_cannot_be_watched(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(Request):
        pass

    class OfOwn(Base):
        def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            found = super().initialize_request(request, *args, **kwargs)
            found.__class__ = Own
            return found

    monkeypatch.setattr(sharing, "_overrides", lambda view_class: False)

    with pytest.raises(TypeError, match="Own cannot be recorded"):
        evaluated(OfOwn, people.request())


def test_a_recorded_request_looks_like_the_real_one(people: People) -> None:
    def work(view: Any) -> None:
        assert isinstance(view.request, Request)
        assert isinstance(view.request._request, views.SocketRequest)
        assert type(view.request._request) is RecordedHttpRequest
        assert repr(view.request._request) == "<SocketRequest: GET '/items/?n=1'>"

    evaluated(Base, people.request(n=1), work)


# declared keys, and what cannot be noticed -------------------------------------------------------------

LOCAL = threading.local()


class OfThread(Base):
    """V7 and V14: nothing of the request is read, so nothing can be noticed."""

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(text=LOCAL.name)


class Declared(OfThread):
    def visibility_key(self, request: Any) -> str:
        return LOCAL.name


def test_thread_locals_are_not_noticed_and_have_to_be_declared(people: People) -> None:
    LOCAL.name = "ada"

    assert evaluated(OfThread, people.request())[1] is SHARED  # the documented limit
    assert evaluated(Declared, people.request())[1] is CONNECTION


@pytest.mark.parametrize("kind", [None, staticmethod, classmethod])
def test_declared_keys(kind: Any, people: People) -> None:
    if kind is None:

        def visibility_key(self: Any, request: Any) -> str:
            return request.user.username

    elif kind is classmethod:

        def visibility_key(cls: Any, request: Any) -> str:  # type: ignore[no-redef]
            return request.user.username

    else:

        def visibility_key(request: Any) -> str:  # type: ignore[no-redef,misc]
            return request.user.username

    declared = kind(visibility_key) if kind else visibility_key
    view = type("Declared", (ByInitial,), {"visibility_key": declared})
    admitted = views.build(view, people.request(), action="list", kwargs={})
    views.admit(admitted)

    key = declared_key(view)

    assert key is not None
    assert key(admitted.request) == "ada"
    assert not never_shared(view)
    result, level = evaluated(view, people.request())
    assert [row["text"] for row in result] == ["ada"]
    assert level is CONNECTION
    assert declared_key(Base) is None
    assert declared_key(type("Undeclared", (Base,), {"visibility_key": None})) is None


def test_levels_are_ordered() -> None:
    assert SHARED < USER < CONNECTION
    assert max(SHARED, USER) is USER
    assert datetime.timedelta(0) is not None
