"""A row that is locked before it is read: when, and what happens when somebody else has it."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction
from django.db.models import QuerySet
from django.http import Http404
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from rest_framework import serializers
from rest_framework.filters import BaseFilterBackend
from rest_framework.permissions import BasePermission
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.viewsets import GenericViewSet

from drf_concord import rows
from drf_concord.rest import addresses, viewsets
from drf_concord.rest.addresses import Address, address_of, finds_by_key
from drf_concord.rest.mixins import RetrieveModelMixin, UpdateModelMixin
from tests.app.models import Item, Note, Slugged
from tests.concurrency.threads import PATIENCE, Call, others_wait
from tests.kinds.models import Badge, Clause, Contract, Keyed, Root

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls(__name__),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
]


def serializer_of(shown: Any) -> Any:
    class Serializer(serializers.ModelSerializer):
        class Meta:
            model = shown
            fields = ["id", "text"]

    return Serializer


class NoteView(viewsets.ModelViewSet):
    queryset = Note.objects.order_by("pk")
    serializer_class = serializer_of(Note)


class VisibleView(viewsets.ModelViewSet):
    """Says what it shows with each request."""

    serializer_class = serializer_of(Note)

    def get_queryset(self) -> Any:
        return Note.objects.exclude(text="hidden")


class CrossedView(VisibleView):
    """Finds objects of another model than its serializer says."""

    def get_queryset(self) -> Any:
        return Item.objects.all()

    def perform_update(self, serializer: Any) -> None:
        assert rows.entered(Item, serializer.instance.pk, "default") is not None
        serializer.save()


class OwnWayView(NoteView):
    def get_object(self) -> Any:
        return super().get_object()


class SlugView(viewsets.ModelViewSet):
    queryset = Slugged.objects.all()
    lookup_field = "slug"


class KeyedView(viewsets.ModelViewSet):
    queryset = Keyed.objects.all()


class OnlyMine(BaseFilterBackend):
    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        return queryset.exclude(text="hidden")


class BackendView(NoteView):
    filter_backends = (OnlyMine,)


class OwnFilterView(NoteView):
    def filter_queryset(self, queryset: Any) -> Any:
        return super().filter_queryset(queryset).exclude(text="hidden")


class Visible(GenericViewSet):
    """The base class of a project's views."""

    def filter_queryset(self, queryset: Any) -> Any:
        return super().filter_queryset(queryset).exclude(text="hidden")


class BehindView(RetrieveModelMixin, UpdateModelMixin, Visible):
    """Has the project's base behind our mixin, which calls it."""

    queryset = Note.objects.order_by("pk")
    serializer_class = serializer_of(Note)


class Refusing(GenericViewSet):
    def get_object(self) -> Any:
        found = super().get_object()
        if found.text == "hidden":
            raise Http404
        return found


class RefusingView(RetrieveModelMixin, UpdateModelMixin, Refusing):
    queryset = Note.objects.order_by("pk")
    serializer_class = serializer_of(Note)


class NarrowView(NoteView):
    queryset = Note.objects.exclude(text="hidden")


class NotHidden(BasePermission):
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.text != "hidden"


class PermittedView(NoteView):
    permission_classes = (NotHidden,)


class BadgeView(viewsets.ModelViewSet):
    queryset = Badge.objects.order_by("pk")

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Badge
            fields = ["text"]


router = SimpleRouter()
VIEWS = {
    "note": NoteView,
    "visible": VisibleView,
    "crossed": CrossedView,
    "backend": BackendView,
    "own-filter": OwnFilterView,
    "narrow": NarrowView,
    "behind": BehindView,
    "refusing": RefusingView,
    "badge": BadgeView,
    "keyed": KeyedView,
    "permitted": PermittedView,
}
for name, view in VIEWS.items():
    router.register(name, view, basename=name)
urlpatterns = [path("", include(router.urls))]


def seen(view: Any, key: object, **meta: Any) -> Address | None:
    made = view()
    made.request = RequestFactory().patch("/", b"{}", "application/json", **meta)
    made.kwargs = {made.lookup_field: key}
    return address_of(made)


def patch(api: APIClient, address: str, **headers: str) -> Any:
    return api.patch(address, {"text": "two"}, format="json", headers=headers)


@pytest.fixture
def reads() -> Any:
    """Counts how often the row of a note is read."""

    def count(context: CaptureQueriesContext) -> int:
        return sum(q["sql"].startswith('SELECT "app_note"."id"') for q in context.captured_queries)

    return count


# ---------------------------------------------------------------------------------- which row it is


def test_the_key_in_the_address_names_a_row() -> None:
    key = uuid.uuid4()
    assert seen(NoteView, "7") == (Note, 7, "default")
    assert seen(VisibleView, "7") == (Note, 7, "default")
    assert seen(KeyedView, str(key)) == (Keyed, key, "default")


@pytest.mark.parametrize("key", ["x", "", None, "1" * 40, str(2**70)])
def test_what_is_no_key_names_none(key: str | None) -> None:
    assert seen(NoteView, key) is None


def test_another_lookup_an_own_way_and_a_large_body_have_to_be_looked_at_first() -> None:
    assert seen(SlugView, "a") is None
    assert seen(OwnWayView, "7") is None
    assert seen(NoteView, "7", CONTENT_LENGTH=str(addresses.SMALL + 1)) is None
    assert seen(NoteView, "7", HTTP_TRANSFER_ENCODING="chunked") is None
    assert seen(NoteView, "7", CONTENT_LENGTH=str(addresses.SMALL)) is not None


@pytest.mark.django_db
def test_what_is_locked_with_its_parent_is_looked_at_first() -> None:
    """Its parent's row is locked before its own, as soon as the process knows that it asks it."""

    class ClauseView(viewsets.ModelViewSet):
        queryset = Clause.objects.all()

    clause = Clause.objects.create(contract=Contract.objects.create())
    clause.save()
    waits = connection.vendor != "sqlite"  # there a writer has the whole database
    assert (seen(ClauseView, str(clause.pk)) is None) == waits


# -------------------------------------------------------------------------------------- one read


def test_a_row_that_is_free_is_read_once(api: APIClient, reads: Any) -> None:
    note = Note.objects.create(text="one")
    with CaptureQueriesContext(connection) as context:
        assert patch(api, f"/note/{note.pk}/").status_code == 200
    assert reads(context) == 1


def test_a_wrong_guess_is_seen_and_writes_the_right_row(api: APIClient) -> None:
    note = Note.objects.create(text="one")
    item = Item.objects.create(pk=note.pk, text="one")
    assert patch(api, f"/crossed/{note.pk}/").status_code == 200
    item.refresh_from_db()
    note.refresh_from_db()
    assert (note.text, item.text) == ("one", "two")


def test_a_key_that_nobody_has_is_404(api: APIClient) -> None:
    assert patch(api, "/note/1/").status_code == 404


@pytest.mark.parametrize("key", ["-1", "9223372036854775808", "9" * 40, "abc", "1.5", "1_0", "%20", "%00"])
@pytest.mark.parametrize("name", ["note", "badge", "keyed"])
def test_a_key_that_no_row_can_have_is_404(api: APIClient, name: str, key: str) -> None:
    assert patch(api, f"/{name}/{key}/").status_code == 404
    assert api.get(f"/{name}/{key}/").status_code == 404
    badge = Badge.objects.create(root=Root.objects.create())
    assert patch(api, f"/badge/{badge.pk}/").status_code == 200


@pytest.mark.parametrize("method", ["to_python", "get_prep_value"])
@pytest.mark.parametrize("error", [TypeError, ValueError, ValidationError("No.")])
def test_a_field_may_refuse_a_key_in_its_own_way(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, method: str, error: Any
) -> None:
    def refuse(value: Any) -> Any:
        raise error

    monkeypatch.setattr(Keyed._meta.pk, method, refuse)
    assert seen(KeyedView, str(uuid.uuid4())) is None
    if method == "get_prep_value":  # that one the ORM asks as well
        assert patch(api, f"/keyed/{uuid.uuid4()}/").status_code == 404


def test_a_key_that_the_database_cannot_compare_is_404(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    field: Any = Keyed._meta.pk
    for method in ("to_python", "get_prep_value", "get_db_prep_value"):
        monkeypatch.setattr(field, method, lambda value, *args, **kwargs: value)
    assert seen(KeyedView, "no-uuid") is not None
    assert patch(api, "/keyed/no-uuid/").status_code == 404


# ------------------------------------------------------------------------ read as it is being locked


class Elsewhere:
    """Routes nothing; but a project that has a router may route by whatever it likes."""


@pytest.mark.parametrize(
    ("view", "alone"),
    [
        (NoteView, True),
        (PermittedView, True),
        (VisibleView, False),
        (BackendView, False),
        (OwnFilterView, False),
        (NarrowView, False),
        (OwnWayView, False),
        (BehindView, False),
        (RefusingView, False),
    ],
)
def test_what_a_key_alone_finds(view: Any, alone: bool) -> None:
    assert finds_by_key(view(), "default") is alone
    assert not finds_by_key(view(), "other")
    with override_settings(DATABASE_ROUTERS=[Elsewhere()]):
        assert not finds_by_key(view(), "default")


def test_a_queryset_of_one_request_counts_like_that_of_the_class() -> None:
    view = NoteView()
    view.queryset = Note.objects.exclude(text="hidden")
    assert not finds_by_key(view, "default")
    pinned: Any = NoteView()
    pinned.get_queryset = lambda: Note.objects.none()
    assert not finds_by_key(pinned, "default")
    assert finds_by_key(NoteView(), "default")


@pytest.mark.parametrize(
    "name", ["backend", "own-filter", "narrow", "visible", "permitted", "behind", "refusing"]
)
def test_what_is_not_shown_is_not_written(api: APIClient, name: str) -> None:
    shown, hidden = Note.objects.create(text="one"), Note.objects.create(text="hidden")
    refused = 403 if name == "permitted" else 404
    answers = [patch(api, f"/{name}/{note.pk}/").status_code for note in (shown, hidden)]
    assert answers == [200, refused]
    hidden.refresh_from_db()
    assert hidden.text == "hidden"


@pytest.mark.parametrize(
    "name", ["backend", "own-filter", "narrow", "visible", "permitted", "behind", "refusing"]
)
def test_what_is_not_shown_is_not_read(api: APIClient, name: str) -> None:
    shown, hidden = Note.objects.create(text="one"), Note.objects.create(text="hidden")
    refused = 403 if name == "permitted" else 404
    assert [api.get(f"/{name}/{note.pk}/").status_code for note in (shown, hidden)] == [200, refused]


@pytest.mark.parametrize("key", ["0", "x", "-1", "1.5", "1" * 40, str(2**70), "%00", "%s"])
def test_there_is_nothing_under_what_is_no_key(api: APIClient, key: str) -> None:
    Note.objects.create(text="one")
    assert api.get(f"/note/{key}/").status_code == 404
    assert patch(api, f"/note/{key}/").status_code == 404


def test_an_object_that_a_key_finds_is_read_by_one_statement_and_no_queryset(
    api: APIClient, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Note.objects.create(text="one")
    monkeypatch.setattr(QuerySet, "get", None)
    with CaptureQueriesContext(connection) as context:
        answer = api.get(f"/note/{note.pk}/")
    assert (answer.status_code, answer.json()["text"], reads(context), len(context)) == (200, "one", 1, 1)


def find_nothing(*args: Any) -> Any:
    raise Http404


@pytest.mark.parametrize(
    "given",
    [
        {"get_object": find_nothing},
        {"get_queryset": Note.objects.none},
        {"filter_queryset": find_nothing},
        {"queryset": Note.objects.none()},
        {"filter_backends": [OnlyMine]},
    ],
)
def test_what_a_route_gives_a_view_counts(given: dict[str, Any]) -> None:
    hidden = Note.objects.create(text="hidden")
    route: Any = NoteView.as_view({"patch": "partial_update"}, **given)
    assert (
        route(APIRequestFactory().patch("/", {"text": "two"}, format="json"), pk=hidden.pk).status_code == 404
    )
    hidden.refresh_from_db()
    assert hidden.text == "hidden"


def test_whoever_watches_the_queries_sees_them_all(api: APIClient) -> None:
    """Those of every write go past Django's wrappers, but not past somebody's who looks on."""
    note = Note.objects.create(text="one")
    seen: list[str] = []

    def look(execute: Any, sql: str, *args: Any) -> Any:
        seen.append(sql)
        return execute(sql, *args)

    assert patch(api, f"/note/{note.pk}/").status_code == 200
    with connection.execute_wrapper(look):
        assert patch(api, f"/note/{note.pk}/").status_code == 200
    for words in ("concord_lock", '"app_note"."text"', 'UPDATE "app_note"'):
        assert sum(words in sql for sql in seen) >= 1, words


class Listening:
    """A cursor that tells what it is asked."""

    def __init__(self, cursor: Any, heard: list[str]) -> None:
        self._cursor, self._heard = cursor, heard

    def __enter__(self) -> Any:
        self._cursor.__enter__()
        return self

    def __exit__(self, *args: Any) -> Any:
        return self._cursor.__exit__(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, parameters: Any = None) -> Any:
        self._heard.append(sql)
        return self._cursor.execute(sql, parameters)


@pytest.mark.parametrize("by", ["connection", "backend"])
def test_who_makes_cursors_of_his_own_sees_what_they_are_asked(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """As tracers do, which replace a method of a connection, and backends of others, which inherit."""
    note, heard = Note.objects.create(text="one"), []
    this: Any = connections["default"]
    if by == "connection":
        plain = this.cursor
        monkeypatch.setattr(this, "cursor", lambda: Listening(plain(), heard), raising=False)
    else:

        class Wrapper(type(this)):  # type: ignore[misc]
            def make_cursor(self, cursor: Any) -> Any:
                return Listening(super().make_cursor(cursor), heard)

        monkeypatch.setattr(this, "__class__", Wrapper)
    assert patch(api, f"/note/{note.pk}/").status_code == 200
    monkeypatch.undo()
    for words in ("concord_lock", '"app_note"."text"', 'UPDATE "app_note"'):
        assert any(words in sql for sql in heard), words


def test_a_broken_transaction_is_said_to_be_one() -> None:
    note = Note.objects.create(text="one")
    with transaction.atomic():
        transaction.set_rollback(True)
        with (
            pytest.raises(transaction.TransactionManagementError),
            rows.enter(Note, note.pk, using="default", wait=False, read=True),
        ):
            raise AssertionError


# -------------------------------------------------------------------------- somebody else has the row


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_row_to_be_refused(api: APIClient) -> None:
    note = Note.objects.create(text="one")
    hidden = Note.objects.create(text="hidden")
    with rows.enter(Note, note.pk, using="default"):
        stale = Call(lambda: patch(api, f"/note/{note.pk}/", **{"If-Match": '"x-1"'})).result()
        unseen = Call(lambda: patch(api, f"/visible/{hidden.pk}/")).result()
    with rows.enter(Note, hidden.pk, using="default"):
        kept = Call(lambda: patch(api, f"/visible/{hidden.pk}/")).result()
    assert (stale.status_code, unseen.status_code, kept.status_code) == (412, 404, 404)


@pytest.mark.django_db(transaction=True)
def test_who_may_write_waits_for_his_turn(api: APIClient) -> None:
    note = Note.objects.create(text="one")
    with rows.enter(Note, note.pk, using="default"):
        call = Call(lambda: patch(api, f"/note/{note.pk}/"))
        others_wait()
        note.text = "first"
        note.save()
        first = note.version
    assert call.result().status_code == 200
    note.refresh_from_db()
    assert (note.text, note.version > first) == ("two", True)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_not_free_leaves_nothing_behind() -> None:
    note = Note.objects.create()
    refused, written = threading.Event(), threading.Event()

    def attempt() -> str:
        before = _patience()
        with pytest.raises(rows.NotFree) as kept, rows.enter(Note, note.pk, using="default", wait=False):
            pass
        assert _patience() == before
        assert not connection.in_atomic_block
        refused.set()
        assert written.wait(PATIENCE)
        # While the exception, with all it holds, is still there: no statement of that time is open.
        with rows.enter(Note, note.pk, using="default") as entry:
            assert entry.found
        return kept.typename

    with rows.enter(Note, note.pk, using="default"):
        call = Call(attempt)
        assert refused.wait(PATIENCE)
        note.save()
    written.set()
    assert call.result() == "NotFree"


def _patience() -> Any:
    if connection.vendor != "sqlite":
        return None
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        return cursor.fetchone()
