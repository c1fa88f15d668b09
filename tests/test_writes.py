"""The gate: one test for each trap, written so that it fails when the rule is taken out."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed
from django.db.utils import NotSupportedError
from rest_framework.test import APIClient

from drf_concord import locks, rows, writes
from drf_concord.models import Change, Lock
from drf_concord.protocol.claims import Claim, Mode
from drf_concord.protocol.errors import Busy, Conflict, LockLost, ObjectLocked, VersionMismatch
from drf_concord.protocol.etags import version_of
from tests.app import models
from tests.concurrency.threads import Call, gate, if_match, others_wait, tag_of
from tests.kinds import models as kinds

ADA, GUIDO = rows.Actor("1"), rows.Actor("2")

everywhere = [pytest.mark.sqlite, pytest.mark.postgresql, pytest.mark.mariadb]
pytestmark = [pytest.mark.django_db(transaction=True), *everywhere]


@pytest.fixture
def item() -> models.Item:
    return models.Item.objects.create(text="first")


@pytest.fixture
def note() -> models.Note:
    return models.Note.objects.create(text="first")


def write_text(text: str) -> Any:
    def perform(obj: Any) -> Any:
        obj.text = text
        obj.save()
        return obj

    return perform


def taken(obj: Any, *, by: str = "1", mode: Mode = Mode.HOLD, scope: Any = None, ttl: Any = None) -> str:
    """Lock an object; return the hash of the token."""
    with rows.enter(type(obj), obj.pk, using="default", actor=rows.Actor(by)) as entry:
        _, _, token = locks.acquire(entry, Claim(holder=by, mode=mode, scope=scope, ttl=ttl))
    return locks.hash_token(token or "")


class Meeting:
    """Two writers of whom the first is inside the gate until the second has arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, arrival: tuple[Any, str]) -> None:
        self.inside, self.arrived, self.leave = (threading.Event() for _ in range(3))
        owner, name = arrival
        original = getattr(owner, name)
        first = threading.Event()

        def arriving(*args: Any, **kwargs: Any) -> Any:
            if self.inside.is_set() and not first.is_set():
                first.set()
                self.arrived.set()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, arriving)

    def holding(self, perform: Any) -> Any:
        """Return a perform that saves, says that it has the row, and keeps it until it is told to leave."""

        def slow(obj: Any) -> Any:
            result = perform(obj)
            self.inside.set()
            assert self.leave.wait(20)
            return result

        return slow

    def meet(self, first: Any, second: Any) -> tuple[Any, Any]:
        one = Call(first)
        assert self.inside.wait(20)
        other = Call(second)
        assert self.arrived.wait(20)
        others_wait()
        self.leave.set()
        return one, other


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    return Meeting(monkeypatch, (rows, "enter"))


# ------------------------------------------------------------------- the check that counts


def test_of_two_writes_with_one_tag_the_second_is_refused(item: models.Item, meeting: Meeting) -> None:
    seen = if_match(tag_of(item))
    one, other = meeting.meet(
        lambda: gate(item, meeting.holding(write_text("one")), conditions=seen),
        lambda: gate(item, write_text("other"), conditions=seen),
    )

    one.result()
    with pytest.raises(VersionMismatch):
        other.result()
    item.refresh_from_db()
    assert item.text == "one"


def test_two_writes_without_a_tag_that_change_different_fields_are_both_kept(
    item: models.Item, meeting: Meeting
) -> None:
    def annotate(obj: Any) -> None:
        obj.notes = "annotated"
        obj.save()

    one, other = meeting.meet(
        lambda: gate(item, meeting.holding(write_text("one"))), lambda: gate(item, annotate)
    )

    one.result(), other.result()
    item.refresh_from_db()
    assert (item.text, item.notes) == ("one", "annotated")


def test_what_is_refused_is_not_performed(item: models.Item) -> None:
    stale = if_match(tag_of(item))
    item.save()

    with pytest.raises(VersionMismatch):
        gate(item, lambda obj: pytest.fail("performed"), conditions=stale)


def test_a_write_that_is_refused_for_its_tag_is_told_once_its_row_is_free(item: models.Item) -> None:
    told: list[Any] = []

    def note(sender: Any, signal: Any, **about: Any) -> None:
        told.append((sender, connection.in_atomic_block, about))
        raise RuntimeError("a receiver that fails changes nothing")

    writes.version_conflict.connect(note)
    try:
        gate(item, write_text("as told"), conditions=if_match(tag_of(item)))
        taken(note_of := models.Note.objects.create())
        with pytest.raises(ObjectLocked):
            gate(note_of, write_text("locked"), actor=GUIDO)
        assert told == []
        with pytest.raises(VersionMismatch):
            gate(item, write_text("stale"), conditions=if_match('"x-1"'), actor=ADA)
    finally:
        writes.version_conflict.disconnect(note)
    about = {"label": "app.Item", "pk": str(item.pk), "operation": "update", "holder": "1"}
    assert told == [(models.Item, False, about)]


def test_a_refusal_can_say_more_of_the_locked_state(item: models.Item) -> None:
    told: list[Any] = []
    with pytest.raises(VersionMismatch):
        writes.write(
            writes.Intent(operation="update", method="PATCH", actor=ADA, preconditions=if_match('"x-1"')),
            model=models.Item,
            pk=item.pk,
            using="default",
            fetch=lambda: models.Item.objects.get(pk=item.pk),
            current=lambda obj, now: gate.__globals__["_current"](obj, now),
            perform=lambda obj: None,
            refused=lambda error, obj, entry: told.append((type(error), obj.pk, entry.identity)),
        )

    assert told == [(VersionMismatch, item.pk, ("app.Item", str(item.pk)))]


def test_a_refusal_from_within_rolls_back(item: models.Item) -> None:
    def perform(obj: Any) -> None:
        write_text("half")(obj)
        raise VersionMismatch

    with pytest.raises(VersionMismatch):
        gate(item, perform)
    item.refresh_from_db()
    assert item.text == "first"


def test_a_dry_run_that_rolls_itself_back_is_let_through(item: models.Item) -> None:
    taken(item, by="1")

    def perform(obj: Any) -> str:
        write_text("tried")(obj)
        transaction.set_rollback(True)
        assert writes.settle(obj, using="default")
        return "tried"

    assert gate(item, perform, actor=ADA, operation="try") == "tried"
    item.refresh_from_db()
    assert item.text == "first"
    with transaction.atomic():
        assert gate(item, perform, actor=ADA, operation="try") == "tried"
        item.save()
    assert models.Item.objects.get().text == "first"
    assert Lock.objects.get().mode == "hold"


# ----------------------------------------------------------------- what databases refuse to lock


def test_a_distinct_grouped_outer_joined_queryset_is_no_hindrance(item: models.Item) -> None:
    models.Item.objects.filter(pk=item.pk).update(folder=models.Folder.objects.create(name="f"))
    answer = APIClient().patch(f"/odd/{item.pk}/", {"text": "through"}, format="json")

    assert (answer.status_code, answer.data["text"]) == (200, "through")


@pytest.mark.postgresql
def test_postgresql_would_refuse_to_lock_such_a_queryset(item: models.Item) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL says so")
    with transaction.atomic(), pytest.raises(NotSupportedError):
        models.Item.objects.distinct().select_for_update().get(pk=item.pk)


def test_a_row_that_only_refers_to_the_locked_one_does_not_wait() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("other databases know no lock that leaves the key free")
    root = kinds.Root.objects.create()

    def refer() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        return kinds.Remark.objects.create(root=root).pk

    assert gate(root, lambda obj: Call(refer).result())


@pytest.mark.parametrize(("first", "second"), [("place", "restaurant"), ("restaurant", "place")])
def test_an_object_is_one_by_whichever_of_its_tables_it_is_reached(
    first: str, second: str, meeting: Meeting
) -> None:
    restaurant = models.Restaurant.objects.create(name="old", stars=1)
    known = {"restaurant": restaurant, "place": models.Place.objects.get()}
    seen = if_match(tag_of(restaurant))

    def rename(obj: Any) -> None:
        obj.name += "!"
        obj.save()

    one, other = meeting.meet(
        lambda: gate(known[first], meeting.holding(rename), conditions=seen),
        lambda: gate(known[second], rename, conditions=seen),
    )

    one.result()
    with pytest.raises(VersionMismatch):
        other.result()
    assert models.Place.objects.get().name == "old!"


def test_a_base_with_keys_of_its_own_is_locked_by_its_own_key() -> None:
    kinds.Article.objects.create(headline="somebody else's")
    review = kinds.Review.objects.create(title="t", headline="h")
    assert review.article_ptr_id != review.book_ptr_id
    changed = threading.Event()

    def edit_other() -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET lock_timeout = '20s'")
        other = kinds.Article.objects.get(pk=review.article_ptr_id)
        gate(other, lambda obj: changed.set())

    def perform(obj: Any) -> Any:
        call = Call(edit_other)
        others_wait()
        assert not changed.is_set()
        return call

    gate(review, perform).result()
    assert changed.is_set()


# --------------------------------------------------------------------- what moved meanwhile


def test_a_row_that_left_the_queryset_is_not_found(item: models.Item, meeting: Meeting) -> None:
    ada, guido = (get_user_model().objects.create(username=name) for name in ("ada", "guido"))
    models.Item.objects.filter(pk=item.pk).update(owner=ada)
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(ada)

    def give_away(obj: Any) -> None:
        obj.owner = guido
        obj.save()

    one, other = meeting.meet(
        lambda: gate(item, meeting.holding(give_away)),
        lambda: client.patch(f"/mine/{item.pk}/", {"text": "mine"}, format="json").status_code,
    )

    one.result()
    assert other.result() == 404
    item.refresh_from_db()
    assert (item.text, item.owner_id) == ("first", guido.pk)


def test_a_lock_is_compared_with_a_clock_that_was_read_after_the_wait(
    note: models.Note, meeting: Meeting
) -> None:
    taken(note, by="1", ttl=3000)

    def end(obj: Any) -> None:
        pass

    def first() -> None:
        with rows.enter(models.Note, note.pk, using="default"):
            meeting.inside.set()
            assert meeting.leave.wait(20)
            # The lock ends now, after the other one began to wait: whoever asks later finds it over.
            Lock.objects.update(expires_at=rows.now("default"))

    one, other = meeting.meet(first, lambda: gate(note, write_text("after"), actor=GUIDO).text)

    one.result()
    assert other.result() == "after"


def test_a_many_to_many_is_written_in_the_same_transaction(item: models.Item) -> None:
    tag = models.Tag.objects.create(name="t")

    def fail(**_: Any) -> None:
        raise RuntimeError("after the row was saved")

    client = APIClient(raise_request_exception=False)
    m2m_changed.connect(fail, sender=models.Item.tags.through)
    try:
        answer = client.patch(f"/tagged/{item.pk}/", {"text": "half", "tags": [tag.pk]}, format="json")
    finally:
        m2m_changed.disconnect(fail, sender=models.Item.tags.through)

    assert answer.status_code == 500
    item.refresh_from_db()
    assert item.text == "first"


def test_a_many_to_many_moves_the_tag_that_is_answered(item: models.Item) -> None:
    if connection.vendor == "mysql":
        pytest.skip("there are no triggers on MariaDB")
    tag = models.Tag.objects.create(name="t")
    answer = APIClient().patch(f"/tagged/{item.pk}/", {"tags": [tag.pk]}, format="json")

    item.refresh_from_db()
    assert answer.status_code == 200
    assert version_of(next(iter(if_match(answer["ETag"]).if_match.tags))) == item.version


# ------------------------------------------------------------------ when the database refuses


@pytest.mark.parametrize("error", [IntegrityError, OperationalError])
def test_what_fails_after_the_commit_is_not_done_twice(item: models.Item, error: type[Exception]) -> None:
    performed = []

    def fail() -> None:
        raise error("UNIQUE constraint failed")

    def perform(obj: Any) -> None:
        performed.append(1)
        write_text("done")(obj)
        gate(models.Item.objects.create(), lambda obj: obj.save())
        transaction.on_commit(fail)

    with pytest.raises(error):
        gate(item, perform)
    item.refresh_from_db()
    assert (performed, item.text) == ([1], "done")


@pytest.mark.parametrize("conditional", [True, False])
def test_repeatable_read_looks_again_at_the_new_state(
    item: models.Item, meeting: Meeting, conditional: bool
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL's serialization failure")
    conditions = if_match(tag_of(item)) if conditional else writes.UNCONDITIONAL

    def second() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'repeatable read'")

        def annotate(obj: Any) -> str:
            obj.notes = "annotated"
            obj.save()
            return str(obj.text)

        return gate(item, annotate, conditions=conditions)

    one, other = meeting.meet(lambda: gate(item, meeting.holding(write_text("one"))), second)

    one.result()
    if conditional:
        with pytest.raises(VersionMismatch):
            other.result()
    else:
        assert other.result() == "one"


def test_a_deadlock_is_tried_again() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time cannot deadlock")
    first, second = (models.Item.objects.create(text=name) for name in "ab")
    both = threading.Barrier(2, timeout=20)
    tries: list[str] = []

    def crossing(mine: models.Item, other: models.Item) -> str:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET deadlock_timeout = '20ms'")

        def perform(obj: Any) -> str:
            tries.append(obj.text)
            if len(tries) <= 2:
                both.wait()  # each has its own row, and now wants the other's
            gate(other, lambda other: other.save())
            return "done"

        return gate(mine, perform)

    calls = Call(lambda: crossing(first, second)), Call(lambda: crossing(second, first))

    assert [call.result() for call in calls] == ["done", "done"]
    assert len(tries) >= 3


def wait_briefly() -> None:
    """Let this connection give up soon on SQLite, where the time is its own."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 30")


def test_a_row_that_is_not_released_is_busy(item: models.Item, settings: Any) -> None:
    settings.CONCORD = {"LOCK_TIMEOUT": 0.05}

    def impatient() -> None:
        wait_briefly()
        gate(item, lambda obj: pytest.fail("performed"))

    def perform(obj: Any) -> None:
        with pytest.raises(Busy) as caught:
            Call(impatient).result()
        assert caught.value.retry_after == 1

    gate(item, perform)


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_over_http_that_is_503_with_retry_after(
    item: models.Item, settings: Any, monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
) -> None:
    settings.CONCORD = {"LOCK_TIMEOUT": 0.05}
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)

    def impatient() -> Any:
        wait_briefly()
        client = APIClient(raise_request_exception=False)
        return client.patch(f"/items/{item.pk}/", {"text": "no"}, format="json")

    def perform(obj: Any) -> None:
        answer = Call(impatient).result()
        assert (answer.status_code, answer["Retry-After"]) == (503, "1")
        assert answer.data["code"] == "busy"

    gate(item, perform)


PYTHON: dict[str, Any] = {
    "freeze": locks.freeze,
    "release": locks.release_lock,
    "hold": lambda note: locks.hold(note, holder=get_user_model()(pk=1)).__enter__(),
    "save": lambda note: note.save(),
    "delete": lambda note: note.delete(),
}


@pytest.mark.parametrize("way", PYTHON)
def test_python_does_not_wait_longer_either(note: models.Note, settings: Any, way: str) -> None:
    settings.CONCORD = {"LOCK_TIMEOUT": 0.05}

    def impatient() -> None:
        wait_briefly()
        PYTHON[way](note)

    def perform(obj: Any) -> None:
        with pytest.raises(Busy):
            Call(impatient).result()

    gate(note, perform)


def test_a_constraint_that_another_writer_filled_first_is_a_conflict() -> None:
    models.Pair.objects.create(left=1, right=1)
    two = models.Pair.objects.create(left=2, right=2)

    def collide(obj: Any) -> None:
        obj.left = obj.right = 1
        obj.save()

    with pytest.raises(Conflict):
        gate(two, collide)
    with pytest.raises(Conflict):
        writes.create(
            ADA,
            model=models.Pair,
            using="default",
            perform=lambda: models.Pair.objects.create(left=1, right=1),
        )
    assert models.Pair.objects.count() == 2


def test_a_constraint_that_no_other_writer_can_fill_is_raised_as_it_is(item: models.Item) -> None:
    def forget(obj: Any) -> None:
        obj.text = None
        obj.save()

    with pytest.raises(IntegrityError):
        gate(item, forget)


# --------------------------------------------------------------------------- what is touched


def test_what_a_write_touches_is_locked_first_and_from_above() -> None:
    root = kinds.Root.objects.create()
    branch = kinds.Branch.objects.create(root=root)
    leaf = kinds.Leaf.objects.create(branch=branch)
    found = writes.parents(leaf)

    if connection.vendor == "sqlite":
        assert found == []  # a writer has the whole database
    else:
        assert found == [(kinds.Root, root.pk), (kinds.Branch, branch.pk)]
        assert writes.parents(branch) == [(kinds.Root, root.pk)]
    assert writes.parents(kinds.Leaf()) == []
    assert writes.parents(kinds.Locked()) == []


def test_a_writer_of_a_row_and_one_of_what_it_touches_do_not_wait_for_each_other(
    meeting: Meeting,
) -> None:
    root = kinds.Root.objects.create()
    branch = kinds.Branch.objects.create(root=root)
    leaf = kinds.Leaf.objects.create(branch=branch)
    performed: list[str] = []

    def save_leaf(obj: Any) -> None:
        performed.append("leaf")
        meeting.inside.set()
        assert meeting.leave.wait(20)
        obj.name = "written"
        obj.save()

    def save_branch(obj: Any) -> None:
        performed.append("branch")
        obj.leaves.get().save()
        obj.save()

    one, other = meeting.meet(lambda: gate(leaf, save_leaf), lambda: gate(branch, save_branch))

    one.result(), other.result()
    assert performed == ["leaf", "branch"]  # each once: there was no deadlock to recover from


@pytest.mark.parametrize("model", [kinds.Leaf, kinds.Sheet])
@pytest.mark.parametrize("way", ["save", "delete"])
def test_who_saves_past_the_gate_locks_in_its_order(model: Any, way: str) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time cannot deadlock")
    root = kinds.Root.objects.create()
    above: Any = kinds.Branch.objects.create(root=root)
    leaf = kinds.Leaf.objects.create(branch=above)
    if model is kinds.Sheet:
        above, leaf = root, kinds.Sheet.objects.create(root=root)
    plain, performed = model.objects.get(pk=leaf.pk), []

    def gated() -> None:
        def perform(obj: Any) -> None:
            performed.append(1)
            obj.save()

        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                # in a deadlock the other one is to be the victim: nobody would try that one again
                cursor.execute("SET deadlock_timeout = '20s'")
        try:
            gate(leaf, perform)
        except model.DoesNotExist:
            performed.append(0)

    with transaction.atomic():
        rows.lock([(type(above), above.pk)], using="default")
        one = Call(getattr(plain, way))
        others_wait(1)
        other = Call(gated)
        others_wait(2)

    one.result(), other.result()
    assert performed == ([1] if way == "save" else [0])


# ------------------------------------------------------------------------ ATOMIC_REQUESTS


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_stale_write_is_refused_with_and_without_a_transaction_round_the_request(
    item: models.Item, monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
    client = APIClient()
    tag = client.get(f"/items/{item.pk}/")["ETag"]
    answers = [
        client.patch(f"/items/{item.pk}/", {"text": text}, format="json", headers={"If-Match": tag})
        for text in ("one", "other")
    ]

    assert [answer.status_code for answer in answers] == [200, 412]
    assert models.Item.objects.get().text == "one"


def test_a_request_in_a_transaction_waits_for_its_turn(
    item: models.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    meeting = Meeting(monkeypatch, (rows, "claim_open_transactions"))
    other_item = models.Item.objects.create(text="other")
    client = APIClient(raise_request_exception=False)

    def second() -> int:
        return client.patch(f"/items/{item.pk}/", {"text": "waited"}, format="json").status_code

    if connection.vendor == "sqlite":
        one, other = meeting.meet(lambda: gate(other_item, meeting.holding(write_text("first"))), second)
        one.result()
        assert other.result() == 200
    else:
        assert Call(second).result() == 200


# ---------------------------------------------------------------------------- who it was


def actors(obj: Any) -> list[str | None]:
    changes = Change.objects.filter(model=obj._meta.label, pk_text=str(obj.pk), op="U").order_by("id")
    return list(changes.values_list("actor", flat=True))


no_triggers = pytest.mark.skipif("connection.vendor == 'mysql'", reason="there are no triggers on MariaDB")


@no_triggers
@pytest.mark.parametrize("refused", [False, True])
def test_an_inner_gate_gives_the_name_back(item: models.Item, refused: bool) -> None:
    other = models.Item.objects.create(text="other")

    def inner(obj: Any) -> None:
        obj.save()
        if refused:
            raise VersionMismatch

    def outer(obj: Any) -> None:
        obj.save()
        try:
            gate(other, inner, actor=GUIDO)
        except VersionMismatch:
            assert refused
        obj.save()

    gate(item, outer, actor=ADA)

    assert actors(item) == ["1", "1"]
    assert actors(other) == ([] if refused else ["2"])


@no_triggers
def test_a_lockable_that_is_saved_inside_is_written_by_the_same(item: models.Item, note: models.Note) -> None:
    def outer(obj: Any) -> None:
        note.save()
        obj.save()

    gate(item, outer, actor=ADA)

    assert (actors(note), actors(item)) == (["1"], ["1"])


@no_triggers
def test_an_innermost_gate_of_three_gives_the_middle_name_back(item: models.Item) -> None:
    two, three = (models.Item.objects.create(text=name) for name in ("two", "three"))

    def middle(obj: Any) -> None:
        gate(three, lambda obj: obj.save(), actor=rows.Actor("3"))
        obj.save()

    def outer(obj: Any) -> None:
        gate(two, middle, actor=GUIDO)
        obj.save()

    gate(item, outer, actor=ADA)

    assert [actors(obj) for obj in (item, two, three)] == [["1"], ["2"], ["3"]]


@no_triggers
def test_after_the_gate_nobody_is_named(item: models.Item) -> None:
    def raw() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE app_item SET notes = notes || 'x'")

    gate(item, lambda obj: obj.save(), actor=ADA)
    Call(raw).result()
    raw()
    with transaction.atomic():
        gate(item, lambda obj: obj.save(), actor=ADA)
        raw()

    assert actors(item) == ["1", None, None, "1", None]


@no_triggers
def test_a_refused_write_leaves_no_name_behind(item: models.Item) -> None:
    with transaction.atomic():
        with pytest.raises(VersionMismatch):
            gate(item, lambda obj: None, actor=ADA, conditions=if_match('"x-1"'))
        item.save()

    assert actors(item) == [None]


@no_triggers
def test_an_early_look_at_the_lock_names_nobody(item: models.Item) -> None:
    with transaction.atomic():
        rows.peek(models.Item, item.pk, using="default", actor=ADA)
        item.save()

    assert actors(item) == [None]


@no_triggers
def test_what_is_created_is_created_by_somebody() -> None:
    created = writes.create(
        ADA, model=models.Item, using="default", perform=lambda: models.Item.objects.create(text="new")
    )

    assert list(Change.objects.filter(pk_text=str(created.pk), op="I").values_list("actor", flat=True)) == [
        "1"
    ]


def test_nothing_stays_on_a_connection_that_a_pool_hands_on(item: models.Item) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("settings of a session are PostgreSQL's")
    gate(item, lambda obj: obj.save(), actor=ADA)

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('concord.actor', true), current_setting('lock_timeout')")
        assert cursor.fetchone() in {("", "0"), (None, "0")}


# --------------------------------------------------------------------- what was asked, and for what


def test_who_may_update_may_not_delete_on_that_ground(note: models.Note) -> None:
    taken(note, mode=Mode.FREEZE, scope="delete")

    with pytest.raises(ObjectLocked):
        gate(note, lambda obj: obj.delete(), operation="update")
    with pytest.raises(ObjectLocked):
        gate(note, lambda obj: obj.delete(), operation="archive")
    gate(note, write_text("updated"), operation="update")
    assert models.Note.objects.get().text == "updated"


def test_that_holds_for_models_that_do_not_ask_themselves(item: models.Item) -> None:
    taken(item, mode=Mode.FREEZE, scope="delete")

    for operation in ("update", "archive"):
        with pytest.raises(ObjectLocked):
            gate(item, lambda obj: obj.delete(), operation=operation, actor=ADA)
    gate(item, write_text("updated"))
    assert models.Item.objects.get().text == "updated"


def test_an_action_is_asked_for_by_its_own_name(note: models.Note) -> None:
    taken(note, mode=Mode.FREEZE, scope=["publish"])

    with pytest.raises(ObjectLocked):
        gate(note, write_text("published"), operation="publish")
    gate(note, write_text("updated"), operation="update")
    gate(note, write_text("retired"), operation="retire")


def test_the_gate_of_one_object_opens_no_other(note: models.Note) -> None:
    other = models.Note.objects.create(text="other")
    taken(other, by="2")

    def perform(obj: Any) -> None:
        write_text("half")(obj)
        write_text("broken into")(other)

    with pytest.raises(ObjectLocked):
        gate(note, perform, actor=ADA)
    assert set(models.Note.objects.values_list("text", flat=True)) == {"first", "other"}


def test_a_gate_that_is_over_opens_nothing(note: models.Note) -> None:
    gate(note, lambda obj: None, actor=ADA)
    taken(note, by="2")

    with pytest.raises(ObjectLocked):
        note.save()


def test_a_gate_stands_open_only_where_its_transaction_is(note: models.Note) -> None:
    copied: list[contextvars.Context] = []

    def seen() -> Any:
        return rows.entered(models.Note, note.pk, "default")

    def perform(obj: Any) -> None:
        copied.append(contextvars.copy_context())
        assert seen() is not None
        assert Call(lambda: copied[0].copy().run(seen)).result() is None

    gate(note, perform)

    assert copied[0].run(seen) is None


def test_a_token_is_of_one_object(note: models.Note) -> None:
    other = models.Note.objects.create(text="other")
    token = taken(note, by="1")
    taken(other, by="1")

    def perform(obj: Any) -> None:
        write_text("both")(obj)
        write_text("both")(other)

    gate(note, perform, actor=rows.Actor("1", token))
    assert set(models.Note.objects.values_list("text", flat=True)) == {"both"}
    with pytest.raises(ObjectLocked):
        gate(note, perform, actor=rows.Actor("1", token, need_token=True))
    with pytest.raises(LockLost):
        gate(note, perform, actor=rows.Actor("1", "x" * 64))


def test_an_inner_gate_on_the_same_row_may_show_the_same_token(note: models.Note) -> None:
    token = taken(note, by="1")

    def perform(obj: Any) -> None:
        obj.delete()  # asks again, as an update was asked for

    gate(note, perform, actor=rows.Actor("1", token, need_token=True))
    assert not models.Note.objects.exists()


def test_a_lock_ends_with_its_object_and_only_then(item: models.Item) -> None:
    def mark(obj: Any) -> None:
        obj.notes = "deleted"
        obj.save()

    taken(item, by="1")
    gate(item, mark, operation="destroy", actor=ADA)
    assert Lock.objects.get().mode == "hold"
    gate(item, lambda obj: obj.delete(), operation="archive", actor=ADA)
    assert (Lock.objects.get().mode, Lock.objects.get().generation) == ("", 1)


# ------------------------------------------------------------------------- the number in the gate


def versions(*objects: Any) -> list[int]:
    return [obj.version for obj in objects]


def stored(obj: Any) -> int:
    found: int = type(obj)._base_manager.values_list("version", flat=True).get(pk=obj.pk)
    return found


def test_every_save_in_one_gate_moves_on(item: models.Item) -> None:
    older = models.Item.objects.get()

    def perform(obj: Any) -> None:
        obj.save()
        first = stored(obj)
        older.save()
        second = stored(obj)
        obj.save()
        assert item.version < first < second < stored(obj) == obj.version
        assert older.version == second

    gate(item, perform)


def test_a_number_is_not_trusted_after_others_wrote_the_row(item: models.Item) -> None:
    def perform(obj: Any) -> None:
        inner = gate(obj, write_text("inner"))
        between = stored(obj)
        assert between == inner.version
        obj.save()
        assert obj.version == stored(obj) > between
        models.Item.objects.filter(pk=obj.pk).update(count=F("count") + 1)
        between = stored(obj)
        obj.save()
        assert obj.version == stored(obj) > between

    gate(item, perform)


def test_what_something_else_wrote_is_read_back(item: models.Item) -> None:
    def perform(obj: Any) -> None:
        models.Item.objects.filter(pk=obj.pk).update(text="raw")
        assert writes.settle(obj, using="default", before=obj.version)
        assert obj.version == stored(obj) > item.version

    gate(item, perform)
    assert not writes.settle(None, using="default")
    assert not writes.settle(models.Item(), using="default")
    assert not writes.settle(models.Item(pk=999), using="default")
    assert writes.settle(models.Bare(pk=1), using="default")


def test_a_save_of_another_row_of_the_same_model_has_its_own_number(item: models.Item) -> None:
    other = models.Item.objects.create(text="other")

    def perform(obj: Any) -> None:
        other.save()
        assert other.version == stored(other)

    gate(item, perform)


# ------------------------------------------------------------------------- what a model says of itself


@pytest.mark.django_db
@pytest.mark.parametrize("operation", ["update", "destroy", "publish"])
def test_the_gate_asks_a_model_that_has_a_rule(operation: str) -> None:
    contract = kinds.Contract.objects.create(state="signed")
    done: list[Any] = []
    if operation == "publish":  # an action of the project's own may be what unlocks
        gate(contract, done.append, operation=operation)
    else:
        with pytest.raises(ObjectLocked):
            gate(contract, done.append, operation=operation)
    assert bool(done) == (operation == "publish")
