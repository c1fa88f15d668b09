"""Locks on rows: the service that every door uses, and the part of it that Python code calls."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError, connection, connections, transaction

from drf_concord import locks, rows
from drf_concord.models import Lock
from drf_concord.protocol.claims import Claim, Mode
from drf_concord.protocol.errors import (
    AlreadyLocked,
    Busy,
    InvalidLock,
    LockForbidden,
    LockLimit,
    LockLost,
    NotLocked,
    ObjectLocked,
)
from drf_concord.protocol.locks import Lock as Value
from drf_concord.protocol.locks import Outcome
from tests.app.models import Item, Note
from tests.concurrency.threads import Call, others_wait, until

committing = pytest.mark.django_db(transaction=True)
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite, pytest.mark.postgresql, pytest.mark.mariadb]
PLAIN = re.compile("[0-9a-f]{64}")
"""A token: 256 bits, and no dash, which a shell command would take for an option."""


@pytest.fixture
def note() -> Note:
    return Note.objects.create(text="first")


@pytest.fixture
def ada() -> Any:
    return get_user_model().objects.create(username="ada")


@pytest.fixture
def guido() -> Any:
    return get_user_model().objects.create(username="guido")


@pytest.fixture
def signals() -> Iterator[list[tuple[str, str, int]]]:
    """What was announced: signal, object, generation."""
    heard: list[tuple[str, str, int]] = []
    receivers = {}
    for name in ("locked", "unlocked", "lock_broken"):

        def hear(name: str = name, **sent: Any) -> None:
            heard.append((name, f"{sent['label']} {sent['pk']}", sent["lock"].generation))

        receivers[name] = hear
        getattr(locks, name).connect(hear)
    yield heard
    for name, receiver in receivers.items():
        getattr(locks, name).disconnect(receiver)


def entering(obj: Any, by: Any, token: str | None = None) -> Any:
    return rows.enter(type(obj), obj.pk, using="default", actor=locks.actor_for(by, token))


def take(obj: Any, by: Any, token: str | None = None, **claim: Any) -> str:
    """Lock an object; return the token."""
    with entering(obj, by, token) as entry:
        found = locks.acquire(entry, Claim(holder=entry.actor.holder, **claim))[2]
    assert found
    return found


def state(obj: Any) -> Value:
    return rows.peek(type(obj), obj.pk, using="default", actor=rows.NOBODY).lock


def rob(obj: Any) -> None:
    with entering(obj, None) as entry:
        locks.break_lock(entry)


def no_renewals() -> bool:
    return not [t for t in threading.enumerate() if t.name == "concord-hold"]


def lapse(obj: Any) -> None:
    Lock.objects.filter(object_pk=obj.pk).update(expires_at=rows.now("default"))


# ------------------------------------------------------------------------------- acquiring


def test_a_lock_is_stored_without_its_token(note: Note, ada: Any) -> None:
    token = take(note, ada, ttl=60, reason="editing", scope="write")
    row = Lock.objects.get()

    assert (row.model, row.object_pk, row.holder) == ("app.Note", str(note.pk), str(ada.pk))
    assert PLAIN.fullmatch(token)
    assert row.token_hash == locks.hash_token(token)
    assert token not in str(row.__dict__)
    assert row.value() == state(note)


def test_somebody_elses_lock_cannot_be_taken(note: Note, ada: Any, guido: Any) -> None:
    take(note, ada)
    with pytest.raises(AlreadyLocked):
        take(note, guido)
    assert state(note).holder == str(ada.pk)


def test_a_lock_that_lapsed_can_be_taken_and_the_generation_goes_on(note: Note, ada: Any, guido: Any) -> None:
    take(note, ada)
    lapse(note)
    take(note, guido)

    assert (state(note).holder, state(note).generation) == (str(guido.pk), 2)
    with entering(note, guido) as entry:
        locks.release(entry)
    take(note, ada)
    assert state(note).generation == 3


def test_to_ask_again_with_the_same_id_returns_the_same_token(note: Note, ada: Any) -> None:
    client = "12345678-1234-1234-1234-123456789abc"
    with entering(note, ada) as entry:
        first = locks.acquire(entry, Claim(holder=str(ada.pk), client=client))
    with entering(note, ada) as entry:
        again = locks.acquire(entry, Claim(holder=str(ada.pk), client=client))

    assert (first[1], again[1]) == (Outcome.ACQUIRED, Outcome.KEPT)
    assert first[2] == again[2]
    assert PLAIN.fullmatch(first[2] or "")
    assert again[0] == first[0]
    assert first[0].token_hash == locks.hash_token(first[2] or "")
    with entering(note, ada) as entry:
        other = "12345678-1234-1234-1234-123456789abd"
        with pytest.raises(AlreadyLocked):
            locks.acquire(entry, Claim(holder=str(ada.pk), client=other))


def test_a_holder_without_an_id_starts_over(note: Note, ada: Any) -> None:
    tokens = {take(note, ada), take(note, ada)}

    assert len(tokens) == 2
    assert state(note).generation == 2


def test_where_clients_hold_two_windows_of_a_user_exclude_each_other(
    note: Note, ada: Any, settings: Any
) -> None:
    settings.CONCORD = {"LOCK_HOLDER": "client"}
    token = take(note, ada)
    with pytest.raises(AlreadyLocked):
        take(note, ada)
    for change in (lambda e: locks.renew(e, 10), locks.release, lambda e: locks.hand_over(e, "5")):
        with entering(note, ada) as entry, pytest.raises(LockForbidden):
            change(entry)
    with entering(note, ada, token) as entry:
        locks.renew(entry, 10)
        locks.release(entry)
    assert state(note).mode is None
    take(note, ada)
    assert locks.release_lock(note, by=ada).mode is None


def test_a_user_holds_no_more_locks_than_allowed(ada: Any, guido: Any, settings: Any) -> None:
    settings.CONCORD = {"LOCKS_PER_USER": 2}
    notes = [Note.objects.create() for _ in range(4)]
    take(notes[0], ada), take(notes[1], ada)
    with pytest.raises(LockLimit):
        take(notes[2], ada)

    take(notes[0], ada)  # once more is no lock more
    take(notes[2], guido)
    with entering(notes[2], guido) as entry, pytest.raises(LockLimit):
        locks.hand_over(entry, str(ada.pk))
    for note in notes:
        locks.freeze(note, by=ada)  # who may freeze may freeze everything
    for note in notes:
        locks.release_lock(note)
    take(notes[0], ada), take(notes[1], ada)
    lapse(notes[0])
    take(notes[3], ada)


def test_the_limits_are_the_settings(note: Note, ada: Any, settings: Any) -> None:
    settings.CONCORD = {"LOCK_TTL": 7, "LOCK_MAX_TTL": 20, "LOCK_MAX_HOLD": 15}
    take(note, ada)
    assert (state(note).expires_at or 0) - state(note).acquired_at == 7_000_000
    with pytest.raises(InvalidLock):
        take(note, ada, ttl=21)
    with entering(note, ada) as entry:
        lock = locks.renew(entry, 20)
    assert (lock.expires_at or 0) - lock.acquired_at == 15_000_000
    settings.CONCORD = {}
    assert locks.limits().max_hold == 28800


# ----------------------------------------------------------------------- keeping and ending


def test_only_the_holder_renews_and_only_with_the_locks_token(note: Note, ada: Any, guido: Any) -> None:
    token = take(note, ada, ttl=30)
    with entering(note, ada) as entry:
        locks.renew(entry, 40)
    with entering(note, ada, token) as entry:
        assert ((locks.renew(entry, 50).expires_at or 0) - entry.now) == 50_000_000
    for user, shown in ((guido, None), (guido, token), (ada, "another")):
        with entering(note, user, shown) as entry, pytest.raises(LockLost):
            locks.renew(entry, 10)


@pytest.mark.parametrize("shown", [True, False])
def test_a_hold_that_lapsed_and_that_nobody_took_may_be_renewed(note: Note, ada: Any, shown: bool) -> None:
    token = take(note, ada)
    lapse(note)
    with entering(note, ada, token if shown else None) as entry:
        locks.renew(entry, 10)
    assert state(note).live(rows.now("default"))


def test_a_hold_that_was_taken_over_is_lost(note: Note, ada: Any, guido: Any) -> None:
    token = take(note, ada)
    lapse(note)
    take(note, guido)
    for change in (lambda e: locks.renew(e, 10), locks.release, lambda e: locks.hand_over(e, "5")):
        with entering(note, ada, token) as entry, pytest.raises(LockLost):
            change(entry)
    assert state(note).holder == str(guido.pk)


def test_releasing(note: Note, ada: Any, guido: Any) -> None:
    with entering(note, ada) as entry:
        assert locks.release(entry).mode is None  # nothing to do
    token = take(note, ada)
    with entering(note, guido) as entry, pytest.raises(LockForbidden):
        locks.release(entry)
    with entering(note, ada, token) as entry:
        assert locks.release(entry).generation == 1
    with entering(note, ada, token) as entry, pytest.raises(LockLost):
        locks.release(entry)  # the token is of no lock any more


def test_breaking(note: Note, ada: Any, guido: Any, signals: Any) -> None:
    with entering(note, guido) as entry, pytest.raises(NotLocked):
        locks.break_lock(entry)
    token = take(note, ada)
    with entering(note, guido) as entry:
        lock = locks.break_lock(entry, 20)
        assert (lock.expires_at or 0) - entry.now == 20_000_000
    with entering(note, ada, token) as entry, pytest.raises(LockLost):
        locks.renew(entry, 10)
    with entering(note, guido) as entry:
        locks.break_lock(entry)
    take(note, guido)
    assert state(note).generation == 2


def test_handing_over(note: Note, ada: Any, guido: Any) -> None:
    old = take(note, ada)
    with entering(note, ada, old) as entry:
        lock, token = locks.hand_over(entry, str(guido.pk))
        assert PLAIN.fullmatch(token)
    assert (lock.holder, lock.generation) == (str(guido.pk), 2)
    with entering(note, ada, old) as entry, pytest.raises(LockLost):
        locks.renew(entry, 10)
    with entering(note, guido, token) as entry:
        locks.renew(entry, 10)


def test_a_freeze_overrides_a_hold_and_binds_who_froze_it(
    note: Note, ada: Any, guido: Any, django_capture_on_commit_callbacks: Any, signals: Any
) -> None:
    take(note, ada)
    with django_capture_on_commit_callbacks(execute=True):
        lock = locks.freeze(note, by=guido, reason="archived")

    name = f"app.Note {note.pk}"
    assert [*signals][-2:] == [("locked", name, 2), ("lock_broken", name, 2)]
    assert (lock.mode, lock.expires_at, lock.reason) == (Mode.FREEZE, None, "archived")
    with pytest.raises(AlreadyLocked):
        locks.freeze(note, by=guido)
    with pytest.raises(AlreadyLocked):
        take(note, ada)
    with locks.acting(guido), pytest.raises(ObjectLocked):
        note.save()
    with entering(note, guido) as entry, pytest.raises(LockForbidden):
        locks.release(entry)
    assert locks.release_lock(note).generation == 2
    note.save()


def test_release_lock_ends_no_hold_of_somebody_else(note: Note, ada: Any, guido: Any) -> None:
    take(note, ada)
    with pytest.raises(LockForbidden):
        locks.release_lock(note, by=guido)
    assert locks.release_lock(note, by=ada).mode is None


# --------------------------------------------------------------------------- what is locked


def test_what_is_not_there_cannot_be_locked(note: Note, ada: Any) -> None:
    gone = Note.objects.get()
    note.delete()
    for lock in (
        lambda obj: locks.freeze(obj),
        lambda obj: locks.release_lock(obj),
        lambda obj: locks.hold(obj, holder=ada).__enter__(),
    ):
        with pytest.raises(Note.DoesNotExist):
            lock(gone)
        with pytest.raises(ValueError, match="not saved"):
            lock(Note())
    assert not Lock.objects.exists()


@pytest.mark.parametrize("holder", [None, AnonymousUser()], ids=["nobody", "anonymous"])
def test_a_hold_is_somebodys(note: Note, holder: Any) -> None:
    with pytest.raises(ValueError, match="saved user"), locks.hold(note, holder=holder):
        pass


def test_a_lock_does_not_move_the_objects_version(note: Note, ada: Any) -> None:
    take(note, ada)
    assert Note.objects.get().version == note.version


# ----------------------------------------------------------------------------------- signals


@committing
def test_signals_are_sent_after_the_commit_and_only_then(
    note: Note, ada: Any, guido: Any, signals: Any
) -> None:
    name = f"app.Note {note.pk}"
    with transaction.atomic():
        take(note, ada)
        assert signals == []
    assert signals == [("locked", name, 1)]
    with transaction.atomic():
        with entering(note, ada) as entry:
            locks.release(entry)
        transaction.set_rollback(True)
    with entering(note, ada) as entry:
        locks.renew(entry, 10)
    assert signals == [("locked", name, 1)]
    with entering(note, guido) as entry:
        locks.break_lock(entry)
    take(note, guido)
    with entering(note, guido) as entry:
        locks.hand_over(entry, str(ada.pk))
    with entering(note, ada) as entry:
        locks.release(entry)

    assert signals[1:] == [
        ("lock_broken", name, 1),
        ("locked", name, 2),
        ("locked", name, 3),
        ("unlocked", name, 3),
    ]


@committing
def test_a_receiver_that_fails_harms_nobody(note: Note, ada: Any) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError

    locks.locked.connect(fail)
    logging.disable(logging.ERROR)
    try:
        take(note, ada)
    finally:
        logging.disable(logging.NOTSET)
        locks.locked.disconnect(fail)
    assert state(note).holder == str(ada.pk)


# ------------------------------------------------------------------------------------- hold


@committing
def test_in_a_hold_its_holder_writes_and_nobody_else(note: Note, ada: Any) -> None:
    with locks.hold(note, holder=ada, ttl=60, reason="editing") as lock:
        assert (lock.holder, lock.reason, lock.generation) == (str(ada.pk), "editing", 1)
        note.text = "second"
        note.save()
        with pytest.raises(ObjectLocked):
            Call(Note.objects.get().save).result()
        with pytest.raises(AlreadyLocked), locks.hold(note, holder=get_user_model()(pk=99)):
            pass
        assert state(note).live(rows.now("default"))
    assert state(note).mode is None
    note.save()


def test_a_name_is_no_holder(note: Note) -> None:
    for take in (
        lambda: locks.freeze(note, by="ada"),
        lambda: locks.release_lock(note, by="ada"),
        lambda: locks.hold(note, holder="ada").__enter__(),
    ):
        with pytest.raises(TypeError, match="Pass a user where 'ada' was given"):
            take()


@committing
@pytest.mark.parametrize("renewed", [True, False])
def test_an_object_may_be_deleted_in_its_hold(
    note: Note, ada: Any, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    monkeypatch.setattr(locks, "_pause", lambda ttl: 0.001 if renewed else 60)
    with locks.hold(note, holder=ada):
        note.delete()
        if renewed:
            until(no_renewals, "the end of the renewals")
    assert Lock.objects.get().mode == ""


@committing
def test_an_exception_releases_and_is_raised(note: Note, ada: Any) -> None:
    with pytest.raises(KeyError), locks.hold(note, holder=ada):
        raise KeyError
    assert state(note).mode is None
    assert rows.current_actor() == rows.NOBODY


@committing
def test_an_exception_is_not_hidden_by_a_lost_lock(note: Note, ada: Any, caplog: Any) -> None:
    def edit() -> None:
        with locks.hold(note, holder=ada):
            rob(note)
            raise KeyError

    with pytest.raises(KeyError):
        edit()
    assert "could not be released" in caplog.text


@committing
def test_two_holds_of_one_user_keep_their_tokens_apart(note: Note, ada: Any, settings: Any) -> None:
    settings.CONCORD = {"LOCK_HOLDER": "client"}
    other = Note.objects.create()
    with locks.hold(note, holder=ada), locks.hold(other, holder=ada):
        note.save()
        other.save()
        with locks.acting(ada), pytest.raises(ObjectLocked):
            note.save()
    assert (state(note).mode, state(other).mode) == (None, None)


@committing
def test_it_is_renewed_while_the_block_runs(note: Note, ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_pause", lambda ttl: 0.001)
    seen = threading.Event()
    closed: list[Any] = []
    close_all = connections.close_all

    def closing() -> None:
        closed.append(threading.current_thread().name)
        close_all()

    monkeypatch.setattr(connections, "close_all", closing)
    with locks.hold(note, holder=ada, ttl=60) as lock:
        until(lambda: (state(note).expires_at or 0) > (lock.expires_at or 0), "a renewal")
        assert (state(note).generation, state(note).token_hash) == (1, lock.token_hash)
        seen.set()
    assert seen.is_set()
    assert closed == ["concord-hold"]
    assert no_renewals()


def test_it_is_renewed_three_times_in_its_ttl(settings: Any) -> None:
    settings.CONCORD = {"LOCK_TTL": 12}
    assert (locks._pause(None), locks._pause(30)) == (4, 10)


@committing
@pytest.mark.parametrize("renewed", [True, False])
def test_a_hold_that_was_taken_away_is_lost(
    note: Note, ada: Any, guido: Any, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    monkeypatch.setattr(locks, "_pause", lambda ttl: 0.001 if renewed else 60)

    def edit() -> None:
        with locks.hold(note, holder=ada):
            rob(note)
            take(note, guido)
            with pytest.raises(LockLost):
                note.save()
            if renewed:
                until(no_renewals, "the end of the renewals")

    with pytest.raises(LockLost):
        edit()
    assert state(note).holder == str(guido.pk)


@committing
def test_a_hold_in_which_others_could_write_is_lost(note: Note, ada: Any) -> None:
    def edit() -> None:
        with locks.hold(note, holder=ada):
            lapse(note)
            Call(Note.objects.get().save).result()

    with pytest.raises(LockLost):
        edit()
    assert state(note).holder == str(ada.pk)


@committing
def test_a_renewal_that_does_not_get_through_is_tried_again(
    note: Note, ada: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(locks, "_pause", lambda ttl: 0.001)
    failures = [Busy(), OperationalError("gone away")]
    renew = locks.renew

    def failing(entry: Any, ttl: Any) -> Any:
        if failures:
            raise failures.pop()
        return renew(entry, ttl)

    monkeypatch.setattr(locks, "renew", failing)
    with locks.hold(note, holder=ada, ttl=60) as lock:
        until(lambda: (state(note).expires_at or 0) > (lock.expires_at or 0), "a renewal")
    assert caplog.text.count("could not be renewed") == 2
    assert state(note).mode is None


@committing
def test_a_transaction_in_the_block_may_keep_a_renewal_waiting(
    note: Note, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_pause", lambda ttl: 0.001)
    with locks.hold(note, holder=ada, ttl=60), transaction.atomic():
        note.save()
        others_wait()
        note.save()
    assert state(note).mode is None


def test_inside_a_transaction_it_is_not_renewed(note: Note, ada: Any) -> None:
    assert connection.in_atomic_block
    with locks.hold(note, holder=ada):
        note.save()
        assert no_renewals()
    assert state(note).mode is None


@pytest.mark.sqlite
@committing
def test_in_memory_it_is_not_renewed(note: Note, ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own")
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True)
    with locks.hold(note, holder=ada):
        note.save()
        assert no_renewals()
    assert state(note).mode is None


# ------------------------------------------------------------------------------ telling people


def test_what_people_are_told(note: Note, ada: Any, guido: Any) -> None:
    now = rows.now("default")
    free = locks.describe(state(note), now, viewer=None, disclose=True)
    assert (free["state"], free["holder"], free["scope"], free["generation"]) == ("free", None, None, 0)

    take(note, ada, reason="editing", scope=["update", "publish"])
    lock, now = state(note), rows.now("default")
    mine = locks.describe(lock, now, viewer=str(ada.pk), disclose=False)
    assert (mine["state"], mine["mine"], mine["holder"]) == ("held", True, "ada")
    assert (mine["mode"], mine["scope"], mine["reason"]) == ("hold", ["update", "publish"], "editing")
    assert mine["expires_at"] == locks.iso(lock.expires_at or 0)
    theirs = locks.describe(lock, now, viewer=str(guido.pk), disclose=False)
    assert (theirs["mine"], theirs["holder"]) == (False, None)
    assert locks.describe(lock, now, viewer=None, disclose=True)["holder"] == "ada"
    assert locks.describe(lock, (lock.expires_at or 0), viewer=None, disclose=True)["state"] == "free"

    locks.freeze(note, scope="delete")
    frozen = locks.describe(state(note), now, viewer=str(ada.pk), disclose=True)
    assert (frozen["state"], frozen["mine"], frozen["holder"], frozen["scope"], frozen["expires_at"]) == (
        "frozen",
        False,
        None,
        "delete",
        None,
    )


def test_times_are_iso_8601_in_utc() -> None:
    assert locks.iso(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"
    assert locks.iso(1_700_000_000_000_000) == "2023-11-14T22:13:20Z"


def test_a_holder_who_is_gone_has_no_name(ada: Any) -> None:
    assert locks.holder_name(str(ada.pk)) == "ada"
    pk = ada.pk
    ada.delete()
    assert locks.holder_name(str(pk)) is None
    assert locks.holder_name(None) is None


def test_any_object_can_be_locked_also_one_that_does_not_ask(ada: Any) -> None:
    item = Item.objects.create()
    take(item, ada)
    item.save()  # only Lockable models and the doors ask
    assert state(item).holder == str(ada.pk)
