"""Which answer a request gets that breaks two rules at once: always that of the earlier one.

406, 401, 403, 429, 405, 404, object 403, 415, 400 malformed precondition, 412 lock_lost, 409 locked, 428,
412, 400 parse, 400 validation, 409.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import include, path
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.throttling import BaseThrottle

from drf_concord import locks
from drf_concord.models import Lock
from drf_concord.rest import guards, viewsets
from tests.app.models import Pair

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("both_ways")]


class Guido(BaseAuthentication):
    """Everybody is Guido, unless the login is a bad one."""

    def authenticate(self, request: Any) -> Any:
        if "X-Bad-Login" in request.headers:
            raise AuthenticationFailed
        return get_user_model().objects.get(username="guido"), None

    def authenticate_header(self, request: Any) -> str:
        return "Guido"


class Denying(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return "X-Deny" not in request.headers

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return "X-Deny-Object" not in request.headers


class Throttling(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return "X-Throttle" not in request.headers


class PairView(viewsets.ModelViewSet):
    """Breaks the rules that the headers name."""

    queryset = Pair.objects.order_by("pk")
    authentication_classes = [Guido]
    permission_classes = [Denying]
    throttle_classes = [Throttling]

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Pair
            fields = ["id", "left", "right"]
            validators = []

    @property
    def precondition_required(self) -> bool:  # type: ignore[override]
        return "X-Require" in self.request.headers


router = SimpleRouter()
router.register("pairs", PairView, basename="pairs")
urlpatterns = [path("", include(router.urls))]


@dataclass(frozen=True)
class Rule:
    """One way to break a rule, and the answer to it alone."""

    name: str
    status: int
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    pk: int | None = None
    method: str | None = None
    media: str | None = None
    locked: bool = False

    def excludes(self, other: Rule) -> bool:
        """Whether no request can break both."""
        names = {self.name, other.name}
        return (
            (self.body is not None and other.body is not None)
            or names == {"404", "object 403"}
            or names == {"428", "412"}
        )


RULES = [
    Rule("406", 406, headers={"Accept": "image/png"}),
    Rule("401", 401, headers={"X-Bad-Login": "1"}),
    Rule("403", 403, headers={"X-Deny": "1"}),
    Rule("429", 429, headers={"X-Throttle": "1"}),
    Rule("405", 405, method="POST"),
    Rule("404", 404, pk=9999),
    Rule("object 403", 403, headers={"X-Deny-Object": "1"}),
    Rule("415", 415, media="text/csv"),
    Rule("malformed", 400, "malformed_precondition", headers={"If-None-Match": "unquoted"}),
    Rule("lock_lost", 412, "lock_lost", headers={"Lock-Token": "lost"}),
    Rule("locked", 409, "object_locked", locked=True),
    Rule("428", 428, "precondition_required", headers={"X-Require": "1"}),
    Rule("412", 412, "version_mismatch", headers={"If-Match": '"1-0"'}),
    Rule("parse", 400, body="{"),
    Rule("validation", 400, body='{"left": "x"}'),
    Rule("409", 409, "conflict", body='{"left": 1, "right": 2}'),
]


BODIES = {"validation", "409"}
ON_OBJECTS = {"405", "lock_lost", "locked", "428"}
READING = {"406", "401", "403", "429", "404", "object 403", "malformed", "412"}


def pairs(*left_out: str) -> list[tuple[Rule, Rule]]:
    """Every rule alone, and every two that a request can break at once, the earlier one first."""
    rules = [r for r in RULES if r.name not in left_out]
    return [(r, r) for r in rules] + [(a, b) for a, b in combinations(rules, 2) if not a.excludes(b)]


@pytest.fixture
def pair(guido: Any) -> Pair:
    Pair.objects.create(left=1, right=2)
    return Pair.objects.create(left=3, right=4)


@pytest.fixture
def frozen(pair: Pair, ada: Any) -> Pair:
    other = Pair.objects.create(left=5, right=6)
    locks.freeze(other, by=ada)
    return other


def ask(method: str, address: str, first: Rule, second: Rule, body: str = '{"left": 7, "right": 8}') -> Any:
    given = next((r.body for r in (first, second) if r.body is not None), body)
    return APIClient(raise_request_exception=False).generic(
        first.method or second.method or method,
        address,
        given,
        first.media or second.media or "application/json",
        headers=first.headers | second.headers,
    )


def check(response: Any, first: Rule, second: Rule) -> None:
    what = f"{first.name} and {second.name}: {response.content}"
    assert response.status_code == first.status, what
    if first.code is not None:
        assert response.json()["code"] == first.code, what
    elif first.name == "parse":
        assert "JSON parse error" in response.json()["detail"], what


@pytest.mark.rfc("9110", "13.2.1", "conditions do not count where the answer without them is no success")
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_the_earlier_answer_wins(
    pair: Pair, frozen: Pair, method: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not early:  # the gate keeps the order by itself
        monkeypatch.setattr(guards.GuardedMixin, "_refuse_early", lambda *_: None)
    before = list(Pair.objects.order_by("pk").values())
    # what is to be deleted has no body to be valid or to clash
    for first, second in pairs(*(BODIES if method == "DELETE" else ())):
        pk = first.pk or second.pk or (frozen if first.locked or second.locked else pair).pk
        response = ask(method, f"/pairs/{pk}/", first, second)
        check(response, first, second)
        assert ("ETag" in response) is (first.name in {"428", "412"})
    assert list(Pair.objects.order_by("pk").values()) == before


def test_the_order_for_locks(pair: Pair, frozen: Pair) -> None:
    bodies = {"validation": '{"ttl": "x"}', "409": "{}", "parse": "{"}
    for first, second in pairs(*ON_OBJECTS):
        pk = first.pk or second.pk or (frozen if second.name == "409" else pair).pk
        given = next((bodies[r.name] for r in (first, second) if r.name in bodies), "{}")
        response = APIClient(raise_request_exception=False).generic(
            "POST",
            f"/pairs/{pk}/lock/",
            given,
            first.media or second.media or "application/json",
            headers=first.headers | second.headers,
        )
        what = f"{first.name} and {second.name}: {response.content}"
        assert response.status_code == first.status, what
        if first.name in {"malformed", "412"}:
            assert response.json()["code"] == first.code, what
    assert not Lock.objects.exclude(object_pk=frozen.pk).exists()


def test_the_order_for_creating(pair: Pair) -> None:
    for first, second in pairs(*ON_OBJECTS, "404", "object 403"):
        check(ask("POST", "/pairs/", first, second), first, second)
    assert Pair.objects.count() == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_order_for_reading(pair: Pair, method: str) -> None:
    for first, second in pairs(*(r.name for r in RULES if r.name not in READING)):
        response = ask(method, f"/pairs/{first.pk or second.pk or pair.pk}/", first, second, body="")
        assert response.status_code == first.status, f"{first.name} and {second.name}"


def test_a_304_is_for_who_may_read_only(pair: Pair) -> None:
    api = APIClient()
    tag = api.get(f"/pairs/{pair.pk}/")["ETag"]
    for rule in (r for r in RULES if r.name in {"406", "401", "403", "429", "object 403"}):
        for value in (tag, "*"):
            headers = {**rule.headers, "If-None-Match": value}
            response = api.get(f"/pairs/{pair.pk}/", headers=headers)
            assert response.status_code == rule.status
            assert "ETag" not in response
