"""Who is calling: what authentication found is kept per socket, and forgotten when it no longer holds."""

from __future__ import annotations

import base64
import copy
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from channels.auth import UserLazyObject
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.utils.functional import LazyObject
from rest_framework import permissions, viewsets
from rest_framework.authentication import (
    BaseAuthentication,
    BasicAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.request import Request

from drf_concord.live.callers import Caller, kept_classes
from drf_concord.live.sharing import Level, evaluate
from drf_concord.live.views import admit, build, http_request
from tests.app.models import Item

pytestmark = pytest.mark.django_db

BACKEND = "django.contrib.auth.backends.ModelBackend"


class RowToken(TokenAuthentication):
    """A token that is a row with a relation to its user, as DRF's and Knox's are: an item, by its text."""

    def authenticate_credentials(self, key: str) -> Any:
        token = Item.objects.select_related("owner").filter(text=key).first()
        if token is None:
            raise AuthenticationFailed("Invalid token.")
        return token.owner, token


class Bearer(BaseAuthentication):
    """A token that is no row, and expires."""

    expired: ClassVar[set[str]] = set()

    def authenticate(self, request: Any) -> Any:
        header = request.headers.get("authorization", "")
        if not header.startswith("Bearer "):
            return None
        if header in self.expired:
            raise AuthenticationFailed
        return User.objects.get(username=header[7:]), {"claims": header}


class Closed(viewsets.ModelViewSet):
    queryset = Item.objects.all()
    permission_classes: ClassVar[list[Any]] = [permissions.IsAuthenticated]


def view_of(*classes: Any) -> Any:
    return type("View", (Closed,), {"authentication_classes": list(classes)})


BASIC, TOKEN, SESSION = view_of(BasicAuthentication), view_of(RowToken), view_of(SessionAuthentication)
ANY = view_of(SessionAuthentication, BasicAuthentication, RowToken, Bearer)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="secret")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password that is hashed."""
    found: list[str] = []
    check = User.check_password

    def counted(self: User, password: str) -> bool:
        found.append(password)
        return check(self, password)

    monkeypatch.setattr(User, "check_password", counted)
    return found


def caller(authorization: str | None = None, **scope: Any) -> Caller:
    headers = [(b"host", b"x.example")]
    if authorization is not None:
        headers.append((b"authorization", authorization.encode()))
    return Caller({"type": "websocket", "path": "/ws/", "headers": headers, **scope})


def basic(password: str = "secret") -> str:
    return "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()


def session_of(user: User, **changed: Any) -> SessionStore:
    session = SessionStore()
    session.update({
        SESSION_KEY: str(user.pk),
        BACKEND_SESSION_KEY: BACKEND,
        HASH_SESSION_KEY: user.get_session_auth_hash(),
    } | changed)  # fmt: skip
    session.save()
    return SessionStore(session.session_key)


def logged_in(user: User, **changed: Any) -> Caller:
    return caller(user=user, session=session_of(user, **changed))


def call(by: Caller, view_class: Any = ANY) -> Any:
    view = build(view_class, http_request(by, path="/items/", query={}), action="list", kwargs={})
    admit(view)
    return view.request


# as over HTTP -----------------------------------------------------------------------------------------


def test_each_class_finds_what_it_finds_over_http(ada: User) -> None:
    token = Item.objects.create(text="abc", owner=ada)

    assert call(caller(basic()), BASIC).user == ada
    assert call(caller("Token abc"), TOKEN).auth == token
    assert call(caller("Token abc"), TOKEN).user == ada
    assert call(caller("Bearer ada")).auth == {"claims": "Bearer ada"}
    assert call(logged_in(ada), SESSION).user == ada


@pytest.mark.parametrize(
    ("view", "status"), [(BASIC, 401), (TOKEN, 401), (SESSION, 403)], ids=["basic", "token", "session"]
)
def test_a_view_asks_its_own_classes_only(view: Any, status: int, ada: User) -> None:
    Item.objects.create(text="abc", owner=ada)
    wrong = {BASIC: logged_in(ada), TOKEN: logged_in(ada), SESSION: caller("Token abc")}[view]

    with pytest.raises(NotAuthenticated) as refused:
        call(wrong, view)

    assert refused.value.status_code == status
    assert call(wrong, ANY).user == ada


def test_the_class_that_answered_is_known(ada: User) -> None:
    by = caller(basic())

    for _ in range(2):
        request = call(by)
        assert isinstance(request.successful_authenticator, BasicAuthentication)
        assert request.successful_authenticator in request.authenticators


def test_the_order_of_the_classes_decides(ada: User) -> None:
    bob = User.objects.create_user("bob")
    by = caller(basic(), user=bob, session=session_of(bob))

    assert call(by, view_of(SessionAuthentication, BasicAuthentication)).user == bob
    assert call(by, view_of(BasicAuthentication, SessionAuthentication)).user == ada


def test_kept_classes_are_those_given() -> None:
    given: list[Any] = [SessionAuthentication, lambda: BasicAuthentication()]
    kept = kept_classes(given)

    assert issubclass(kept[0], SessionAuthentication)
    assert kept[1] is given[1]
    assert kept_classes(kept) == kept
    assert kept[0].__name__ == "SessionAuthentication"
    assert kept_classes(given)[0] is kept[0]


def test_kept_classes_work_without_a_socket(ada: User, rf: Any) -> None:
    http = rf.get("/", headers={"authorization": basic()})
    request = Request(http, authenticators=[cls() for cls in kept_classes([BasicAuthentication])])

    assert request.user == ada


@pytest.mark.parametrize("lazy", [UserLazyObject, LazyObject])
def test_a_lazy_user_is_unwrapped(lazy: Any, ada: User) -> None:
    user = lazy()
    user._wrapped = ada

    assert type(caller(user=user).user) is User


def test_a_user_that_is_not_ready_is_an_error() -> None:
    with pytest.raises(ValueError, match="before it is ready"):
        caller(user=UserLazyObject()).user  # noqa: B018


# kept -------------------------------------------------------------------------------------------------


def test_a_password_is_hashed_once_per_socket(ada: User, hashed: list[str]) -> None:
    by = caller(basic())

    for view in (BASIC, ANY, view_of(RowToken, BasicAuthentication)):
        assert call(by, view).user == ada
    by.refresh()
    assert call(by, BASIC).user == ada
    assert hashed == ["secret"]

    call(caller(basic()), BASIC)
    assert hashed == ["secret"] * 2


def test_a_wrong_password_is_hashed_once_per_socket(ada: User, hashed: list[str]) -> None:
    by = caller(basic("guess"))

    for _ in range(3):
        with pytest.raises(AuthenticationFailed) as refused:
            call(by, BASIC)
        assert refused.value.status_code == 401
        by.refresh()

    assert hashed == ["guess"]


def test_calls_that_come_at_once_hash_once(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    both, asked = threading.Barrier(2), []

    class Slow(BasicAuthentication):
        def authenticate(self, request: Any) -> Any:
            asked.append(1)
            return ada, None

    by, view, found = caller(basic()), view_of(Slow), []

    def run() -> None:
        both.wait()
        found.append(call(by, view).user)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [ada, ada]
    assert len(asked) == 1


def test_an_evaluation_that_asks_who_answered_hashes_nothing(ada: User, hashed: list[str]) -> None:
    by = caller(basic())
    request = call(by, BASIC)

    def work(view: Any) -> Any:
        return isinstance(view.request.successful_authenticator, BasicAuthentication), view.request.user

    found = evaluate(
        BASIC,
        http_request(by, path="/", query={}),
        action="list",
        kwargs={},
        work=work,
        user=request.user,
        auth=request.auth,
    )

    assert found == ((True, ada), Level.CONNECTION)
    assert hashed == ["secret"]


def test_what_a_view_puts_on_its_user_ends_with_the_call(ada: User) -> None:
    Item.objects.create(text="abc", owner=ada)
    by = caller("Token abc", user=ada)

    request = call(by, TOKEN)
    assert request.auth.owner is request.user  # as over HTTP
    request.user.team = request.auth.owner.team = request._request.user.team = "red"
    request.user.username = "changed"
    request.user._state.fields_cache["x"] = 1

    again = call(by, TOKEN)
    for user in (again.user, again.auth.owner, by.user):
        assert not hasattr(user, "team")
        assert user.username == "ada"
        assert "x" not in user._state.fields_cache


class Stashing(BaseAuthentication):
    """Leaves something on both requests, as classes do that know a key's organisation."""

    def authenticate(self, request: Any) -> Any:
        user = User.objects.get(username="ada")
        request.organisation = user.last_name
        request._request.owner = user
        return user, "key"


def test_what_a_class_leaves_on_the_request_is_there_at_every_call(ada: User) -> None:
    by, view = caller(), view_of(Stashing)

    for name in ("", "Lovelace"):
        for _ in range(2):
            request = call(by, view)
            assert request.organisation == name
            assert request._request.owner == ada
            assert not hasattr(request.owner, "seen")
            request.owner.seen = True
        User.objects.update(last_name="Lovelace")
        by.refresh()


def test_headers_of_the_first_call_are_not_taken_for_what_a_class_left(ada: User) -> None:
    by = caller(basic())
    call(by, BASIC)

    request = http_request(by, path="/", query={}, headers={"If-Match": "1"})
    view = build(BASIC, request, action="list", kwargs={})
    admit(view)

    assert view.request.headers["If-Match"] == "1"


def test_a_caller_is_not_copied_with_a_request(ada: User) -> None:
    by = caller(user=ada)

    assert copy.deepcopy(http_request(by, path="/", query={})).caller is by


# refreshed --------------------------------------------------------------------------------------------


WAYS = {
    "basic": lambda user: caller(basic()),
    "session": logged_in,
    "token": lambda user: caller("Token abc"),
    "bearer": lambda user: caller("Bearer ada"),
    "put there by a middleware": lambda user: caller(user=user),
}


@pytest.fixture(params=WAYS)
def by(request: pytest.FixtureRequest, ada: User) -> Iterator[Caller]:
    """A caller who has been admitted, for each way of saying who one is."""
    Item.objects.create(text="abc", owner=ada)
    found = WAYS[request.param](ada)
    assert call(found).user == ada
    yield found
    Bearer.expired.clear()


def test_what_still_holds_stays(by: Caller, ada: User, hashed: list[str]) -> None:
    assert by.refresh() is True
    assert call(by).user == ada
    assert hashed == []


def test_a_change_of_the_row_is_seen(by: Caller, ada: User) -> None:
    User.objects.update(first_name="Ada")
    assert call(by).user.first_name == ""

    by.refresh()

    assert call(by).user.first_name == "Ada"


def test_a_permission_that_is_taken_away_is_seen(by: Caller, ada: User) -> None:
    permission = Permission.objects.get(codename="view_item")
    ada.user_permissions.add(permission)
    assert call(by).user.has_perm("app.view_item")

    ada.user_permissions.remove(permission)
    by.refresh()

    assert not call(by).user.has_perm("app.view_item")


def test_a_user_who_is_gone(by: Caller, ada: User) -> None:
    Item.objects.all().delete()
    User.objects.all().delete()

    with pytest.raises(User.DoesNotExist) if "Bearer" in str(by.scope) else no_error():
        assert by.refresh() is False
        with pytest.raises((NotAuthenticated, AuthenticationFailed)):
            call(by)


class no_error:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize("kind", ["basic", "session", "put there by a middleware"])
def test_a_user_who_is_not_active_any_more(kind: str, ada: User) -> None:
    by = WAYS[kind](ada)
    call(by)
    User.objects.update(is_active=False)

    assert by.refresh() is False
    with pytest.raises((NotAuthenticated, AuthenticationFailed)):
        call(by)
    assert type(by.user) is AnonymousUser


def test_a_changed_password(ada: User, hashed: list[str]) -> None:
    by = caller(basic())
    call(by, BASIC)
    ada.set_password("other")
    ada.save()

    assert by.refresh() is False
    assert hashed == ["secret"]
    with pytest.raises(AuthenticationFailed):
        call(by, BASIC)


def test_a_token_that_is_gone(ada: User) -> None:
    token = Item.objects.create(text="abc", owner=ada)
    by = caller("Token abc")
    call(by, TOKEN)
    token.delete()

    assert by.refresh() is False
    with pytest.raises(AuthenticationFailed):
        call(by, TOKEN)


def test_a_token_that_has_expired(ada: User) -> None:
    by = caller("Bearer ada")
    call(by)
    Bearer.expired.add("Bearer ada")
    try:
        assert by.refresh() is False
        with pytest.raises(AuthenticationFailed):
            call(by)
    finally:
        Bearer.expired.clear()


def test_a_token_that_has_been_given_to_somebody_else(ada: User) -> None:
    token = Item.objects.create(text="abc", owner=ada)
    by = caller("Token abc")
    call(by, TOKEN)
    token.owner = User.objects.create(username="bob")
    token.save()

    assert by.refresh() is False
    assert call(by, TOKEN).user.username == "bob"


def test_a_basic_class_that_answers_with_a_row_hashes_nothing_and_asks_for_the_row(
    ada: User, hashed: list[str]
) -> None:
    token = Item.objects.create(text="abc", owner=ada)

    class ByPassword(BasicAuthentication):
        def authenticate(self, request: Any) -> Any:
            found = super().authenticate(request)
            return None if found is None else (found[0], Item.objects.get(text="abc"))

    by, view = caller(basic()), view_of(ByPassword)
    assert call(by, view).auth == token
    assert by.refresh() is True
    token.delete()
    assert by.refresh() is False
    assert hashed == ["secret"]


def test_what_a_class_put_on_its_user_stays(ada: User) -> None:
    class Annotating(BasicAuthentication):
        def authenticate(self, request: Any) -> Any:
            user, _ = super().authenticate(request)
            user.team = "red"
            return user, None

    by, view = caller(basic()), view_of(Annotating)
    call(by, view).user.role = "cached by a view"
    by.refresh()

    user = call(by, view).user
    assert user.team == "red"
    assert not hasattr(user, "role")


def test_a_user_who_is_no_row() -> None:
    class Machine:
        is_authenticated = True

    class Known(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            return Machine(), None

    by, view = caller(), view_of(Known)
    call(by, view)

    assert by.refresh() is True
    assert isinstance(call(by, view).user, Machine)
    assert caller(user=Machine()).refresh() is True


# sessions ---------------------------------------------------------------------------------------------


def test_a_logout_ends_it(ada: User) -> None:
    by = logged_in(ada)
    call(by, SESSION)
    SessionStore(by.session.session_key).flush()

    assert by.refresh() is False
    with pytest.raises(NotAuthenticated):
        call(by, SESSION)
    assert by.session.get(SESSION_KEY) is None
    assert by.refresh() is True


def test_a_changed_password_ends_a_session(ada: User) -> None:
    by = logged_in(ada)
    call(by, SESSION)
    ada.set_password("other")
    ada.save()

    assert by.refresh() is False
    assert SessionStore(by.session.session_key).exists(by.session.session_key)  # reading writes nothing


def test_another_user_in_the_session_ends_it(ada: User) -> None:
    by = logged_in(ada)
    call(by, SESSION)
    bob = User.objects.create_user("bob")
    session = SessionStore(by.session.session_key)
    session.update({SESSION_KEY: str(bob.pk), HASH_SESSION_KEY: bob.get_session_auth_hash()})
    session.save()

    assert by.refresh() is False


def test_a_backend_that_is_not_used_any_more_ends_it(ada: User, settings: Any) -> None:
    by = logged_in(ada)
    assert by.user == ada
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]

    assert by.refresh() is False


def test_a_session_signed_with_an_older_key_holds(ada: User, settings: Any) -> None:
    by = logged_in(ada)
    assert by.user == ada
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "newer"

    assert by.refresh() is True


def test_what_is_in_the_session_is_read_again(ada: User) -> None:
    by = logged_in(ada, team="red")
    assert call(by, SESSION).session["team"] == "red"
    session = SessionStore(by.session.session_key)
    session["team"] = "blue"
    session.save()

    by.refresh()

    assert call(by, SESSION).session["team"] == "blue"


def test_a_session_of_nobody(ada: User) -> None:
    by = caller(user=ada, session=SessionStore())

    assert by.refresh() is True
    assert by.user == ada


def test_a_session_of_a_kind_of_its_own(ada: User) -> None:
    by = caller(user=ada, session={SESSION_KEY: str(ada.pk)})

    assert by.refresh() is True
    assert by.session == {SESSION_KEY: str(ada.pk)}
