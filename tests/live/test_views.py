"""Building views and requests for a socket, and admitting the caller, as HTTP does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse, HttpResponseNotFound, QueryDict
from rest_framework import permissions, viewsets
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    NotAuthenticated,
    NotFound,
    ParseError,
    PermissionDenied,
)
from rest_framework.generics import ListAPIView
from rest_framework.parsers import FormParser, JSONParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import AcceptHeaderVersioning, NamespaceVersioning, URLPathVersioning

from drf_concord.live.views import Caller, admit, build, http_request, options, stashes
from drf_concord.rest import viewsets as guarded
from tests.app.models import Bare
from tests.app.views import ItemViewSet

HEADERS = [
    (b"host", b"api.example.com:8443"),
    (b"cookie", b"team=red; sessionid=abc"),
    (b"accept-language", b"de"),
    (b"accept", b"text/html"),
    (b"authorization", b"Token abc"),
    (b"content-type", b"text/plain"),
    (b"content-length", b"7"),
    (b"x_forged", b"1"),
]


def caller(*headers: tuple[bytes, bytes], **scope: Any) -> Caller:
    found = {
        "type": "websocket",
        "path": "/ws/",
        "query_string": b"ticket=1",
        "headers": [*HEADERS, *headers],
    }
    return Caller({**found, "client": ("10.0.0.9", 4711), "server": ("10.0.0.1", 80)} | scope)


def request(path: str = "/items/", **given: Any) -> Any:
    query = given.pop("query", {})
    return http_request(given.pop("by", caller()), path=path, query=query, **given)


# the request ------------------------------------------------------------------------------------------


def test_a_request_has_the_headers_of_the_handshake_and_the_address_of_the_call() -> None:
    found = request("/items/a%20b/", query={"n": 1})

    assert isinstance(found, ASGIRequest)
    assert found.META["HTTP_HOST"] == "api.example.com:8443"
    assert found.META["HTTP_AUTHORIZATION"] == found.headers["Authorization"] == "Token abc"
    assert found.META["HTTP_ACCEPT_LANGUAGE"] == "de"
    assert found.META["HTTP_COOKIE"] == "team=red; sessionid=abc"
    assert found.META["REMOTE_ADDR"] == "10.0.0.9"
    assert found.META["SERVER_PORT"] == "80"
    assert found.COOKIES == {"team": "red", "sessionid": "abc"}
    assert "HTTP_X_FORGED" not in found.META
    assert (found.method, found.path, found.path_info) == ("GET", "/items/a b/", "/items/a b/")
    assert found.get_full_path() == "/items/a%20b/?n=1"
    assert found.build_absolute_uri() == "http://api.example.com:8443/items/a%20b/?n=1"
    assert found.META["HTTP_ACCEPT"] == found.headers["accept"] == "application/json"
    assert "CONTENT_TYPE" not in found.META
    assert "CONTENT_LENGTH" not in found.META
    assert not found.body


@pytest.mark.parametrize(
    ("scheme", "secure"), [("ws", False), ("wss", True), ("http", False), ("https", True), (None, False)]
)
def test_the_scheme_is_that_of_http(scheme: str | None, secure: bool) -> None:
    found = request(by=caller(scheme=scheme))

    assert found.scheme == ("https" if secure else "http")
    assert found.is_secure() is secure


def test_a_proxy_is_believed_where_the_settings_say_so(settings: Any) -> None:
    behind = caller((b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"www.example.com"), scheme="ws")
    assert behind.origin == ("http", "api.example.com:8443")

    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.USE_X_FORWARDED_HOST = True

    assert behind.origin == ("https", "www.example.com")
    assert request(by=behind).is_secure()


def test_a_script_name() -> None:
    mounted = caller(root_path="/api")
    found = request("/api/items/", by=mounted)

    assert (found.path, found.path_info, found.META["SCRIPT_NAME"]) == ("/api/items/", "/items/", "/api")
    assert mounted.origin == ("http", "api.example.com:8443/api")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b&c", ["a b&c"]),
        (1, ["1"]),
        (True, ["true"]),
        (False, ["false"]),
        (None, [""]),
        (1.0, ["1"]),
        (1.5, ["1.5"]),
        ([1, "b", True, None], ["1", "b", "true", ""]),
        ((1, 2), ["1", "2"]),
        ([], []),
        ("ä", ["ä"]),
        ("\ud800", ["?"]),
    ],
)
def test_a_query_is_written_as_a_browser_does(value: object, written: list[str]) -> None:
    found = request(query={"x": value, "last": "1"})

    assert isinstance(found.GET, QueryDict)
    assert found.GET.getlist("x") == written
    assert found.GET["last"] == "1"
    assert QueryDict(found.META["QUERY_STRING"]) == found.GET


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], [{}]])
def test_what_no_address_can_hold(value: object) -> None:
    with pytest.raises(ParseError, match="The query parameter x"):
        request(query={"x": value})


def test_a_body() -> None:
    found = request(method="PATCH", body=b'{"text": "a"}', headers={"If-Match": '"1"', "accept": "text/html"})

    assert found.META["CONTENT_TYPE"] == found.content_type == "application/json"
    assert found.META["CONTENT_LENGTH"] == "13"
    assert found.body == b'{"text": "a"}'
    assert found.headers["If-Match"] == '"1"'
    assert found.headers["Accept"] == "application/json"
    view = build(Plain, found, action="partial_update", kwargs={"pk": "1"}, method="PATCH")
    assert view.request.data == {"text": "a"}


def test_a_body_of_another_type() -> None:
    found = request(
        method="POST",
        body=b"text=a",
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    view = build(Plain, found, action="create", kwargs={}, method="POST")

    assert found.encoding == "utf-8"
    assert view.request.data["text"] == "a"


def test_headers_of_one_call_are_not_in_the_next() -> None:
    by = caller()
    request(by=by, headers={"If-Match": '"1"', "Accept-Language": "fr"})

    assert "HTTP_IF_MATCH" not in request(by=by).META
    assert request(by=by).headers["Accept-Language"] == "de"


@pytest.mark.parametrize("scope", [{}, {"user": None}, {"user": AnonymousUser}, {"user": AnonymousUser()}])
def test_nobody_is_an_instance_never_the_class(scope: Any) -> None:  # D-10
    found = request(by=caller(**scope))

    assert type(found.user) is AnonymousUser
    assert found.user.is_authenticated is False
    view = build(Closed, found, action="list", kwargs={})
    with pytest.raises(NotAuthenticated):
        admit(view)


def test_a_session_only_where_there_is_one() -> None:
    assert request(by=caller(session={"team": 1})).session == {"team": 1}
    assert not hasattr(request(), "session")


def test_cookies_that_a_middleware_has_read() -> None:
    assert request(by=caller(cookies={"a": "1"})).COOKIES == {"a": "1"}


def test_the_route_is_found_out() -> None:
    found = request("/items/7/")

    assert found.resolver_match.kwargs == {"pk": "7"}
    assert request("/nowhere/").resolver_match is None
    found.resolver_match = "another"
    assert found.resolver_match == "another"


def test_a_scope_without_headers() -> None:
    found = http_request(Caller({"type": "websocket", "path": "/"}), path="/", query={})

    assert found.COOKIES == {}
    assert found.get_host() == "unknown:0"


# the view ---------------------------------------------------------------------------------------------


class Plain(viewsets.ModelViewSet):
    queryset = Bare.objects.all()
    authentication_classes: ClassVar[list[Any]] = [SessionAuthentication]
    permission_classes: ClassVar[list[Any]] = []
    parser_classes: ClassVar[list[Any]] = [JSONParser, FormParser]

    @action(detail=True, permission_classes=[permissions.IsAdminUser], authentication_classes=[])
    def secret(self, request: Any, pk: Any = None) -> Response:
        return Response()

    @secret.mapping.post
    def tell(self, request: Any, pk: Any = None) -> Response:
        return Response()


class Closed(Plain):
    authentication_classes: ClassVar[list[Any]] = [BasicAuthentication]
    permission_classes: ClassVar[list[Any]] = [permissions.IsAuthenticated]


class Generic(ListAPIView):
    queryset = Bare.objects.all()
    permission_classes: ClassVar[list[Any]] = []


def seen_by(view_class: Any, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> dict[str, Any]:
    """The attributes of a view while HTTP runs its action."""
    held: dict[str, Any] = {}

    def run(self: Any, request: Any, **kwargs: Any) -> Response:
        held.update(vars(self), request=vars(self.request))
        return Response()

    generic = issubclass(view_class, ListAPIView)
    monkeypatch.setattr(view_class, "get" if generic else "list", run)
    view = view_class.as_view() if generic else view_class.as_view({"get": "list"})
    view(request(), **kwargs)
    return held


@pytest.mark.parametrize("view_class", [Plain, Generic, ItemViewSet])
def test_a_view_has_what_http_gives_it(view_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = seen_by(view_class, monkeypatch, group="a")

    view = build(view_class, request(), action="list", kwargs={"group": "a"})

    assert (view.action, view.args, view.kwargs, view.format_kwarg) == ("list", (), {"group": "a"}, None)
    assert view.headers["Allow"] == expected["headers"]["Allow"]
    assert expected.keys() - vars(view).keys() <= {"response"}
    of_request = vars(view.request)
    assert of_request["version"] is of_request["versioning_scheme"] is None
    assert type(view.request.accepted_renderer) is JSONRenderer
    assert view.request.accepted_media_type == "application/json"
    # authentication has not run
    assert expected["request"].keys() - of_request.keys() == {"_user", "_auth", "_authenticator"}


def test_an_action_that_the_view_does_not_have() -> None:
    assert build(Plain, request(), action="vanish", kwargs={}).action == "vanish"


def test_kwargs_are_the_views_own() -> None:
    given = {"pk": "1"}
    view = build(Plain, request(), action="retrieve", kwargs=given)
    view.kwargs["pk"] = "2"

    assert given == {"pk": "1"}
    assert view.request.parser_context["kwargs"] is view.kwargs


def test_a_view_that_has_no_route_can_be_asked_for_its_name() -> None:
    class Unrouted(Plain):
        pass

    view = build(Unrouted, request(), action="list", kwargs={})

    assert view.get_view_name() == "Unrouted"
    assert (view.detail, view.basename) == (None, None)


def test_the_method_is_that_of_the_action() -> None:
    view = build(Plain, request(), action="destroy", kwargs={"pk": 1}, method="DELETE")

    assert view.request.method == "DELETE"
    assert view.action_map == {"delete": "destroy"}
    assert view.delete == view.destroy


@pytest.mark.parametrize("name", ["secret", "tell"])
def test_what_an_action_declares_replaces_what_the_view_declares(name: str) -> None:
    view = build(Plain, request(), action=name, kwargs={"pk": 1})

    assert [type(p) for p in view.get_permissions()] == [permissions.IsAdminUser]
    assert view.get_authenticators() == []
    assert build(Plain, request(), action="list", kwargs={}).get_permissions() == []
    assert options(Plain, name)["permission_classes"] == [permissions.IsAdminUser]


def test_the_options_of_a_view_can_be_given_to_as_view() -> None:
    response = Closed.as_view({"get": "list"}, **options(Closed, "list"))(request())
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Basic realm="api"'

    response = Plain.as_view({"get": "secret"}, **options(Plain, "secret"))(request(), pk=1)
    assert response.status_code == 403
    assert set(options(Generic, "list")) == {"authentication_classes"}


def test_versions() -> None:
    by_path = type("ByPath", (Plain,), {"versioning_class": URLPathVersioning})
    by_header = type("ByHeader", (Plain,), {"versioning_class": AcceptHeaderVersioning})
    by_route = type("ByRoute", (Plain,), {"versioning_class": NamespaceVersioning})

    found = build(by_path, request(), action="list", kwargs={"version": "v2"}).request
    assert found.version == "v2"
    assert isinstance(found.versioning_scheme, URLPathVersioning)
    assert build(by_header, request(), action="list", kwargs={}).request.version is None
    assert build(by_route, request("/admin/"), action="list", kwargs={}).request.version == "admin"


def test_a_version_that_is_not_allowed() -> None:
    class Second(URLPathVersioning):
        allowed_versions = ("v2",)

    view = type("Versioned", (Plain,), {"versioning_class": Second})

    with pytest.raises(NotFound):
        build(view, request(), action="list", kwargs={"version": "v1"})


def test_a_view_that_renders_no_json_is_no_error() -> None:
    class Text(BaseRenderer):
        media_type = "text/plain"
        format = "txt"

    text = type("TextView", (Plain,), {"renderer_classes": [Text]})
    several = type("Several", (Plain,), {"renderer_classes": [BrowsableAPIRenderer, JSONRenderer]})

    assert type(build(text, request(), action="list", kwargs={}).request.accepted_renderer) is Text
    assert type(build(several, request(), action="list", kwargs={}).request.accepted_renderer) is JSONRenderer


# admission --------------------------------------------------------------------------------------------


class Full(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return False

    def wait(self) -> None:
        return None


class Raising(permissions.BasePermission):
    error: Exception = Http404()

    def has_permission(self, request: Any, view: Any) -> bool:
        raise self.error


def admitted(view_class: Any, **scope: Any) -> Any:
    view = build(view_class, request(by=caller(**scope)), action="list", kwargs={})
    admit(view)
    return view


@pytest.mark.parametrize("base", [Plain, guarded.ModelViewSet])
def test_throttles_are_not_asked_yet(base: Any) -> None:
    class Throttled(base):
        queryset = Bare.objects.all()
        throttle_classes: ClassVar[list[Any]] = [Full]
        permission_classes: ClassVar[list[Any]] = []
        authentication_classes: ClassVar[list[Any]] = []

    view = admitted(Throttled)

    with pytest.raises(APIException, match="throttled"):
        view.check_throttles(view.request)


def test_refusals_have_the_status_of_http(django_user_model: Any) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        admitted(Closed)
    assert (refused.value.status_code, refused.value.auth_header) == (401, 'Basic realm="api"')  # type: ignore[attr-defined]

    no_way_in = type("NoWayIn", (Closed,), {"authentication_classes": [SessionAuthentication]})
    with pytest.raises(NotAuthenticated) as refused:
        admitted(no_way_in)
    assert refused.value.status_code == 403

    nobody_asked = type("NobodyAsked", (Closed,), {"authentication_classes": []})
    with pytest.raises(PermissionDenied):
        admitted(nobody_asked)


@pytest.mark.parametrize("error", [Http404(), DjangoPermissionDenied(), NotFound()])
def test_what_a_permission_raises(error: Exception) -> None:
    refuses = type("Refuses", (Raising,), {"error": error})

    with pytest.raises(type(error)):
        admitted(type("Refusing", (Plain,), {"permission_classes": [refuses]}))


def test_an_overridden_initial_runs() -> None:
    class Opens(Plain):
        throttle_classes: ClassVar[list[Any]] = [Full]

        def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
            super().initial(request, *args, **kwargs)
            self.project = kwargs.get("project", "none")
            if self.project == "closed":
                raise PermissionDenied

    assert admitted(Opens).project == "none"
    closed = build(Opens, request(), action="list", kwargs={"project": "closed"})
    with pytest.raises(PermissionDenied):
        admit(closed)
    assert "check_throttles" not in vars(closed)


def by_dispatch(answer: Callable[..., Any]) -> Any:
    class Dispatching(Plain):
        throttle_classes: ClassVar[list[Any]] = [Full]

        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            found = answer(request)
            self.before = True
            return found or super().dispatch(request, *args, **kwargs)

        def list(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("admission does not run the action")

    return Dispatching


def test_an_overridden_dispatch_runs_up_to_the_action() -> None:
    view = admitted(by_dispatch(lambda request: None))

    assert view.before
    assert view.get == view.list
    assert view.action == "list"
    assert "dispatch" not in vars(view)
    assert not {"initialize_request", "handle_exception", "check_throttles"} & vars(view).keys()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda r: HttpResponse(status=302), PermissionDenied),
        (lambda r: HttpResponse(status=403), PermissionDenied),
        (lambda r: HttpResponseNotFound(), NotFound),
    ],
    ids=["to a login", "forbidden", "not found"],
)
def test_a_dispatch_that_does_not_reach_the_action(answer: Any, error: type[Exception]) -> None:
    view = type("Refusing", (by_dispatch(answer),), {"authentication_classes": []})

    with pytest.raises(error):
        admitted(view)


def test_a_dispatch_that_answers_from_a_cache_still_asks_the_permissions() -> None:
    cached = by_dispatch(lambda request: HttpResponse(b"[]"))

    assert admitted(cached)
    with pytest.raises(NotAuthenticated):
        admitted(type("Closed", (cached,), {"permission_classes": [permissions.IsAuthenticated]}))


def test_permissions_of_a_view_with_its_own_dispatch() -> None:
    with pytest.raises(NotAuthenticated):
        admitted(
            type(
                "Closed",
                (by_dispatch(lambda request: None),),
                {"permission_classes": [permissions.IsAuthenticated]},
            )
        )


def test_login_required() -> None:
    class Locked(LoginRequiredMixin, Plain):
        pass

    with pytest.raises(NotAuthenticated):
        admitted(Locked)
    assert admitted(Locked, user=User(pk=1, username="ada")).request.user.username == "ada"


def test_a_view_may_leave_authentication_to_those_who_ask() -> None:
    class Lazy(Plain):
        authentication_classes: ClassVar[list[Any]] = [Raises]

        def perform_authentication(self, request: Any) -> None:
            pass

    view = admitted(Lazy)

    with pytest.raises(AuthenticationFailed):
        view.request.user  # noqa: B018


class Raises(SessionAuthentication):
    def authenticate(self, request: Any) -> Any:
        raise AuthenticationFailed


def test_csrf_is_replaced_by_the_check_of_the_origin() -> None:
    by = caller(user=User(pk=1, username="ada"), session={})
    view = build(Plain, request(by=by, method="PATCH"), action="partial_update", kwargs={}, method="PATCH")

    admit(view)

    assert view.request.user.username == "ada"


def test_what_is_left_behind_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Leaves(permissions.BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            view.project = request.tenant = 1
            return True

    class Leaving(Plain):
        permission_classes: ClassVar[list[Any]] = [Leaves]

    assert not stashes(Leaving)
    with caplog.at_level(logging.INFO, "drf_concord"):
        admitted(Leaving)
        admitted(Leaving)

    assert stashes(Leaving)
    assert not stashes(Plain)
    assert [record.getMessage() for record in caplog.records] == [
        "Answers of Leaving are not shared between sockets: admitting a caller leaves project, tenant on it."
    ]


@pytest.mark.parametrize("view", [Plain, Generic, ItemViewSet, guarded.ReadOnlyModelViewSet])
def test_admission_itself_leaves_nothing_behind(view: Any) -> None:
    usual = type(
        "Usual", (view,), {"permission_classes": [permissions.AllowAny], "queryset": Bare.objects.all()}
    )

    admitted(usual, user=User(pk=1, username="ada"), session={})

    assert not stashes(usual)
