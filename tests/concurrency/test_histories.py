"""Promises 1 and 2 under real processes; with the bugs of others as targets that have to be caught.

``CONCORD_WRITES=10000`` makes the run of the counter as long as its promise.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from drf_concord import locks, rows
from drf_concord.models import Lock
from drf_concord.protocol.claims import Claim
from drf_concord.protocol.etags import encode_version
from tests.app.models import Item, Note, Tag
from tests.concurrency.processes import Violation, Worker, crew, nothing_is_lost, pair, workers
from tests.concurrency.worker import TIMEOUT

__all__ = ["crew", "workers"]  # fixtures

WRITES = int(os.environ.get("CONCORD_WRITES", "120"))
ROUNDS = int(os.environ.get("CONCORD_ROUNDS", "300"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
    pytest.mark.mariadb,
    pytest.mark.timeout(240 + WRITES),
]


def run_counter(processes: list[Worker], path: str, *, writes: int = WRITES) -> Any:
    item = Item.objects.create()
    share = -(-writes // len(processes))
    for process in processes:
        process.tell(do="count", path=path.format(item.pk), clients=4, writes=share, seconds=60 + writes / 4)
    histories = [process.answer(120 + writes / 3) for process in processes]
    item.refresh_from_db()
    return histories, item.count


# ------------------------------------------------------------------------- no lost update


def test_every_acknowledged_write_of_eight_clients_is_there(crew: Any) -> None:
    begin = time.monotonic()
    histories, final = run_counter(crew, "/items/{}/")
    acknowledged = nothing_is_lost(histories, final, least=WRITES)

    assert final >= WRITES
    print(
        f"\n{connection.vendor}: {acknowledged} acknowledged in {time.monotonic() - begin:.0f} s,",
        *(history["statuses"] for history in histories),
    )


@pytest.mark.parametrize("mutant", ["naive", "the second check"])
def test_the_judge_catches_those_who_lose(workers: Any, mutant: str) -> None:
    processes = workers(2)
    path = "/naive/{}/" if mutant == "naive" else "/items/{}/"
    if mutant != "naive":
        for process in processes:
            assert process.ask(do="mutate", name=mutant) == mutant
    for _ in range(5):
        histories, final = run_counter(processes, path, writes=80)
        try:
            nothing_is_lost(histories, final, least=40)
        except Violation:
            return
    pytest.fail("nothing was lost")


def test_the_judge_calls_a_run_without_competition_void() -> None:
    def chain(length: int) -> list[tuple[str, str]]:
        return [(f'"{number}-0"', f'"{number + 1}-0"') for number in range(length)]

    def history(*steps: tuple[str, str], **statuses: int) -> dict[str, Any]:
        return {"steps": steps, "statuses": {name.strip("_"): times for name, times in statuses.items()}}

    one = history(('"a-0"', '"b-0"'), _200=1, _412=50)
    two = history(('"b-0"', '"c-0"'), _200=1)
    assert nothing_is_lost([one, two], 2, least=2) == 2
    with pytest.raises(AssertionError, match="void: 2 writes"):
        nothing_is_lost([one, two], 2, least=3)
    with pytest.raises(AssertionError, match="void: no competition"):
        nothing_is_lost([history(*chain(20), _200=20, _412=1)], 20, least=20)
    with pytest.raises(AssertionError, match="void: a process"):
        nothing_is_lost([history(*one["steps"], *two["steps"], _200=2, _412=9), history()], 2, least=2)
    with pytest.raises(Violation, match="errors"):
        nothing_is_lost([history(_500=1)], 0, least=0)
    with pytest.raises(Violation, match="acknowledged"):
        nothing_is_lost([one, two], 1, least=2)
    with pytest.raises(Violation, match="one state"):
        nothing_is_lost([one, one], 2, least=2)
    with pytest.raises(Violation, match="no write led to"):
        nothing_is_lost([one, history(('"x-0"', '"y-0"'))], 2, least=2)


def disjoint(processes: list[Worker], prefix: str, rounds: int) -> int:
    """Let two clients change different fields at once, without a tag; returns how often one was reverted."""
    item, reverted = Item.objects.create(), 0
    for number in range(rounds):
        values = {"text": f"t{number}", "notes": f"n{number}"}
        answers = pair(
            processes,
            *(
                {"do": "request", "method": "patch", "path": f"/{prefix}/{item.pk}/", "data": {name: value}}
                for name, value in values.items()
            ),
        )
        assert {answer["status"] for answer in answers} == {200}
        reverted += Item.objects.values("text", "notes").get(pk=item.pk) != values
    return reverted


def test_two_who_change_different_fields_without_a_tag_do_not_revert_each_other(crew: Any) -> None:
    assert disjoint(crew, "items", ROUNDS) == 0
    # the same without the gate: what the rounds above were up against
    assert any(disjoint(crew, "plain", 20) for _ in range(30))


def test_of_two_with_the_same_tag_exactly_one_writes(crew: Any) -> None:
    processes, item = crew, Item.objects.create()
    for number in range(ROUNDS // 6):
        item.refresh_from_db()
        tag = f'"{encode_version(item.version)}-0"'
        answers = pair(
            processes,
            *(
                {
                    "do": "request",
                    "method": "put",
                    "path": f"/items/{item.pk}/",
                    "data": {"text": f"{name}{number}"},
                    "If_Match": tag,
                }
                for name in "ab"
            ),
        )
        winner = "ab"[[answer["status"] for answer in answers].index(200)]
        assert sorted(answer["status"] for answer in answers) == [200, 412]
        assert Item.objects.get().text == f"{winner}{number}"


@pytest.mark.parametrize("conditional", [True, False])
def test_a_deleted_object_does_not_come_back(crew: Any, conditional: bool) -> None:
    processes, seen = crew, set()
    for number in range(ROUNDS // 6):
        item = Item.objects.create()
        headers = {"If_Match": f'"{encode_version(item.version)}-0"'} if conditional else {}
        path = f"/items/{item.pk}/"
        # each process is the first to be told in half of the rounds
        commands: list[dict[str, Any]] = [
            {"do": "request", "method": "patch", "path": path, "data": {"text": "x"}, **headers},
            {"do": "request", "method": "delete", "path": path, **headers},
        ]
        order = slice(None, None, -1 if number % 2 else 1)
        patched, deleted = pair(processes[order], *commands[order])[order]
        there = Item.objects.filter(pk=item.pk).exists()
        seen.add((patched["status"], deleted["status"], there))

    # on a row that is gone there is nothing to compare a tag with: 404
    allowed = {(404, 204, False)} | ({(200, 412, True)} if conditional else {(200, 204, False)})
    assert seen <= allowed


# -------------------------------------------------------------------- a lock holds on every path


def users() -> list[Any]:
    return [get_user_model().objects.create(username=name) for name in ("ada", "guido")]


def test_of_two_who_lock_exactly_one_has_it(crew: Any) -> None:
    processes, note, (ada, guido) = crew, Note.objects.create(), users()
    generations: list[int] = []
    for _ in range(ROUNDS // 6):
        path = f"/notes/{note.pk}/lock/"
        answers = pair(
            processes,
            *({"do": "request", "method": "post", "path": path, "user": u.pk} for u in (ada, guido)),
        )
        assert sorted(answer["status"] for answer in answers) == [201, 409]
        winner = [answer["status"] for answer in answers].index(201)
        row = Lock.objects.get()
        assert row.holder == str((ada, guido)[winner].pk)
        assert row.token_hash == locks.hash_token(answers[winner]["token"])
        generations.append(answers[winner]["generation"])
        released = processes[winner].ask(
            do="request", method="delete", path=path, user=(ada, guido)[winner].pk
        )
        assert released["status"] == 204

    assert generations == list(range(1, len(generations) + 1))


@pytest.mark.parametrize("way", ["patch", "save"])
def test_nothing_changes_under_a_lock(crew: Any, way: str) -> None:
    processes, (ada, guido) = crew, users()
    seen: set[str] = set()
    for number in range(ROUNDS):
        if number >= ROUNDS // 6 and len(seen) == 2:
            break
        note = Note.objects.create(text="before")
        path = f"/notes/{note.pk}/"
        write: dict[str, Any] = {"do": "save", "pk": note.pk, "text": "after"}
        if way == "patch":
            write = {
                "do": "request",
                "method": "patch",
                "path": path,
                "data": {"text": "after"},
                "user": guido.pk,
            }
        commands = [write, {"do": "request", "method": "post", "path": f"{path}lock/", "user": ada.pk}]
        order = slice(None, None, -1 if number % 2 else 1)
        # whatever is quicker on this machine, a lead that grows lets each of them come first at some time
        written, locked = pair(processes[order], *commands[order], lead=number / 4000)[order]
        outcome = written if way == "save" else {200: "saved", 409: written["code"]}[written["status"]]
        assert (locked["status"], outcome) in {(201, "saved"), (201, "object_locked")}
        seen.add(outcome)

        note.refresh_from_db()
        assert note.text == ("after" if outcome == "saved" else "before")
        # both are read from the database's clock while the row is locked
        assert note.version < Lock.objects.get(object_pk=note.pk).acquired_at

    assert seen == {"saved", "object_locked"}, "void: one was always first"


def test_a_freeze_stands_whoever_came_first(crew: Any) -> None:
    processes, (ada, _) = crew, users()
    for number in range(ROUNDS // 10):
        note = Note.objects.create()
        commands: list[dict[str, Any]] = [
            {"do": "freeze", "pk": note.pk},
            {"do": "request", "method": "post", "path": f"/notes/{note.pk}/lock/", "user": ada.pk},
        ]
        order = slice(None, None, -1 if number % 2 else 1)
        generation, held = pair(processes[order], *commands[order])[order]
        row = Lock.objects.get(object_pk=note.pk)
        assert (row.mode, row.generation) == ("freeze", generation)
        assert (held["status"], generation) in {(201, 2), (409, 1)}


def test_a_lock_that_is_broken_is_not_renewed(crew: Any) -> None:
    processes, note, (ada, guido) = crew, Note.objects.create(), users()
    path = f"/notes/{note.pk}/lock/"
    for number in range(ROUNDS // 6):
        generation = number * 2 + 1
        with rows.enter(Note, note.pk, using="default", actor=locks.actor_for(ada)) as entry:
            token = locks.acquire(entry, Claim(holder=str(ada.pk)))[2] or ""
        commands: list[dict[str, Any]] = [
            {"do": "request", "method": "patch", "path": path, "data": {"ttl": 600}, "user": ada.pk}
            | {"Lock_Token": token},
            {
                "do": "request",
                "method": "post",
                "path": f"{path}break/",
                "data": {"take": True},
                "user": guido.pk,
            },
        ]
        order = slice(None, None, -1 if number % 2 else 1)
        renewed, broken = pair(processes[order], *commands[order])[order]
        row = Lock.objects.get()
        assert (broken["status"], broken["generation"], row.generation) == (
            202,
            generation + 1,
            generation + 1,
        )
        assert renewed["status"] in {200, 412}
        assert row.holder == str(guido.pk)
        assert (row.expires_at or 0) - row.acquired_at == 30_000_000  # not by the loser's ttl
        locks.release_lock(note, by=guido)


# ----------------------------------------------------------------------------- processes that fall


def test_a_process_that_is_killed_in_the_gate_leaves_nothing_behind(workers: Any) -> None:
    item = Item.objects.create(text="whole")
    victim, other = workers(2)
    assert victim.ask(do="stall", pk=item.pk, text="half") == "inside"
    victim.send(signal.SIGKILL)
    victim.process.wait(10)

    begin = time.monotonic()
    answer = other.ask(do="request", method="patch", path=f"/items/{item.pk}/", data={"notes": "n"})
    assert answer["status"] == 200
    assert time.monotonic() - begin < TIMEOUT + 1
    item.refresh_from_db()
    assert (item.text, item.notes, item.tags.count(), Tag.objects.count()) == ("whole", "n", 0, 0)


def test_a_process_that_stands_still_in_the_gate_stops_no_other_for_long(workers: Any) -> None:
    item = Item.objects.create(text="first")
    sleeper, other = workers(2)
    patch: dict[str, Any] = {"do": "request", "method": "patch", "path": f"/items/{item.pk}/"}
    assert sleeper.ask(do="stall", pk=item.pk, text="slow") == "inside"
    sleeper.send(signal.SIGSTOP)

    begin = time.monotonic()
    answer = other.ask(**patch, data={"notes": "refused"})
    assert (answer["status"], answer["retry"], answer["code"]) == (503, "1", "busy")
    assert TIMEOUT * 0.9 < time.monotonic() - begin < TIMEOUT + 4
    sleeper.send(signal.SIGCONT)
    sleeper.tell(do="go on")
    assert sleeper.answer() == "left"

    assert other.ask(**patch, data={"notes": "kept"})["status"] == 200
    item.refresh_from_db()
    assert (item.text, item.notes, item.tags.count()) == ("slow", "kept", 1)
