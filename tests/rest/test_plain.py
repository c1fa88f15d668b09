"""The gate for views that know nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.http import Http404
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from drf_concord import rows
from drf_concord.protocol.errors import Conflict, ObjectLocked
from drf_concord.rest import plain
from drf_concord.rest.exceptions import APIConcordError, APIObjectLocked
from tests.app.views import serializer_for
from tests.kinds.models import Post

from .conftest import AtTheGate

pytestmark = pytest.mark.django_db


class View(generics.RetrieveUpdateAPIView):
    queryset = Post.objects.all()
    serializer_class = serializer_for(Post)


class KeepingView(View):
    """Keeps the object it fetched, as many projects do."""

    kept: Any = None

    def get_object(self) -> Any:
        self.kept = self.kept or super().get_object()
        return self.kept


class FirstView(View):
    """Leads to whichever object is the first now."""

    def get_object(self) -> Any:
        found = Post.objects.order_by("text").first()
        if found is None:
            raise Http404
        return found


def view_of(kind: type[View], pk: Any) -> View:
    view = kind()
    view.setup(APIRequestFactory().patch("/"), pk=pk)
    view.request = view.initialize_request(view.request)
    view.format_kwarg = None
    return view


def test_the_object_is_the_locked_row_and_the_view_speaks_of_no_other() -> None:
    post = Post.objects.create()
    view = view_of(View, post.pk)

    def perform(obj: Any) -> str:
        assert view.get_object() is obj
        assert rows.entered(Post, obj.pk, "default") is not None
        assert connection.in_atomic_block
        return "done"

    assert plain.guard(view, "update", perform) == "done"
    assert "get_object" not in vars(view)


def test_a_view_that_keeps_its_object_writes_no_old_state(at_the_gate: AtTheGate) -> None:
    post = Post.objects.create(text="old")
    at_the_gate(lambda: Post.objects.update(text="theirs"))
    assert plain.guard(view_of(KeepingView, post.pk), "update", lambda obj: obj.text) == "theirs"


def test_a_kept_object_that_is_gone_is_not_found(at_the_gate: AtTheGate) -> None:
    post = Post.objects.create()
    at_the_gate(Post.objects.all().delete)
    with pytest.raises(Http404):
        plain.guard(view_of(KeepingView, post.pk), "update", lambda obj: None)


def test_an_address_that_leads_elsewhere_meanwhile_is_followed(at_the_gate: AtTheGate) -> None:
    Post.objects.create(text="b")
    at_the_gate(lambda: Post.objects.create(text="a"))
    assert plain.guard(view_of(FirstView, None), "update", lambda obj: obj.text) == "a"


def test_an_address_that_leads_elsewhere_each_time_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in "ab":
        Post.objects.create(text=text)
    calls = iter(range(100))
    monkeypatch.setattr(
        FirstView, "get_object", lambda self: Post.objects.order_by("text")[next(calls) % 2], raising=True
    )
    with pytest.raises(APIConcordError, match="leads to another object") as refused:
        plain.guard(view_of(FirstView, None), "update", lambda obj: None)
    assert refused.value.status_code == 503


def test_pins_are_put_back_as_they_were() -> None:
    view = view_of(View, 0)
    with plain.pinned(view, "outer"):
        with plain.pinned(view, "inner"):
            assert view.get_object() == "inner"
        assert view.get_object() == "outer"
    assert "get_object" not in vars(view)


@pytest.mark.parametrize(("error", "kind"), [(ObjectLocked, APIObjectLocked), (Conflict, APIConcordError)])
def test_refusals_are_rest_frameworks(error: Any, kind: Any) -> None:
    post = Post.objects.create()

    def perform(obj: Any) -> None:
        raise error

    with pytest.raises(kind) as refused:
        plain.guard(view_of(View, post.pk), "update", perform)
    assert refused.value.status_code == 409


def test_nobody_is_nobody() -> None:
    assert plain.actor_of(Request(APIRequestFactory().get("/"))).holder is None


class WriteHere:
    """Reads may go anywhere, writes go to the default database."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class LaggingView(View):
    """Reads a replica, which shows an older state."""

    def get_object(self) -> Any:
        found = Post.objects.get(pk=self.kwargs["pk"])
        found.text, found._state.db = "older", "replica"
        return found


def test_a_replica_that_lags_behind_decides_nothing(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [WriteHere()]
    post = Post.objects.create(text="newer")
    assert plain.guard(view_of(LaggingView, post.pk), "update", lambda obj: obj.text) == "newer"
