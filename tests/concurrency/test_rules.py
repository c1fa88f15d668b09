"""Locks by rules of the project, and tags by decoration, between real processes.

``CONCORD_ROUNDS=3000`` makes the rounds as many as their promise. Who comes first is the scheduler's: each
answer is judged by what it says, and by the order that the database's clock gives the writes.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from django.db import connection

from drf_concord import ObjectLocked
from tests.app.models import Bare
from tests.concurrency.processes import Worker, crew, pair
from tests.concurrency.threads import Call, gate, others_wait
from tests.kinds.models import Clause, Contract

__all__ = ["crew"]  # a fixture

ROUNDS = int(os.environ.get("CONCORD_ROUNDS", "60"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.sqlite,
    pytest.mark.postgresql,
    pytest.mark.timeout(120 + ROUNDS),
]

Command = dict[str, Any]


def both(processes: list[Worker], number: int, one: Command, other: Command) -> tuple[Any, Any]:
    """Run two commands at once; each is the first to be told in half of the rounds, by a growing lead."""
    order = slice(None, None, -1 if number % 2 else 1)
    found = pair(processes[order], *[one, other][order], lead=(number % 40) / 4000)
    return tuple(found[order])  # type: ignore[return-value]


def put(path: str, **data: Any) -> Command:
    headers = {name: data.pop(name) for name in list(data) if name[0].isupper()}
    return {"do": "request", "method": "put", "path": path, "data": data, **headers}


def patch(path: str, **data: Any) -> Command:
    return {**put(path, **data), "method": "patch"}


@pytest.mark.parametrize("way", ["patch", "save"])
def test_a_lock_and_an_edit_are_one_after_the_other(crew: list[Worker], way: str) -> None:
    seen: dict[str, int] = {}
    for number in range(ROUNDS):
        contract = Contract.objects.create(text="before")
        path = f"/contracts/{contract.pk}/"
        write = patch(path, text="after")
        if way == "save":
            write = {"do": "save", "pk": contract.pk, "text": "after", "label": "kinds.Contract"}
        written, locked = both(crew, number, write, put(f"{path}lock/"))
        outcome = written if way == "save" else {200: "saved", 409: written["code"]}[written["status"]]

        contract.refresh_from_db()
        assert (locked["status"], contract.state) == (200, "signed")  # an edit does not unlock
        assert (outcome, contract.text) in {("saved", "after"), ("object_locked", "before")}
        seen[outcome] = seen.get(outcome, 0) + 1
    print(f"\n{connection.vendor}: {seen}")


def test_of_two_who_lock_one_is_told_that_it_is_locked(crew: list[Worker]) -> None:
    contract = Contract.objects.create()
    for number in range(ROUNDS):
        path = f"/contracts/{contract.pk}/"
        answers = both(crew, number, put(f"{path}lock/"), put(f"{path}lock/"))
        assert sorted(answer["status"] for answer in answers) == [200, 409]
        assert {answer["code"] for answer in answers} == {None, "object_already_locked"}
        answers = both(crew, number, put(f"{path}unlock/"), put(f"{path}unlock/"))
        assert sorted(answer["status"] for answer in answers) == [200, 409]
        assert {answer["code"] for answer in answers} == {None, "object_not_locked"}


@pytest.mark.parametrize("way", ["patch", "save"])
def test_a_child_does_not_change_under_a_parent_that_was_locked(crew: list[Worker], way: str) -> None:
    seen: dict[str, int] = {}
    for number in range(ROUNDS):
        contract = Contract.objects.create()
        clause = Clause.objects.create(contract=contract, text="before")
        write = patch(f"/clauses/{clause.pk}/", text="after")
        if way == "save":
            write = {"do": "save", "pk": clause.pk, "text": "after", "label": "kinds.Clause"}
        written, locked = both(crew, number, write, put(f"/contracts/{contract.pk}/lock/"))
        outcome = written if way == "save" else {200: "saved", 409: written["code"]}[written["status"]]

        contract.refresh_from_db()
        clause.refresh_from_db()
        assert (locked["status"], contract.state) == (200, "signed")
        assert (outcome, clause.text) in {("saved", "after"), ("object_locked", "before")}
        if outcome == "saved":  # both versions are of the database's clock, read while the parent was held
            assert clause.version <= contract.version
        seen[outcome] = seen.get(outcome, 0) + 1
    print(f"\n{connection.vendor}: {seen}")


def test_of_two_puts_with_one_tag_exactly_one_writes(crew: list[Worker]) -> None:
    bare = Bare.objects.create(text="start")
    path = f"/controlled/{bare.pk}/"
    for number in range(ROUNDS):
        bare.refresh_from_db()
        commands = [put(path, text=f"{name}{number}", If_Match=f'"{bare.text}"') for name in "ab"]
        answers = both(crew, number, commands[0], commands[1])
        assert sorted(answer["status"] for answer in answers) == [200, 412]
        winner = "ab"[[answer["status"] for answer in answers].index(200)]
        assert Bare.objects.get().text == f"{winner}{number}"


def test_a_parent_is_deleted_while_a_child_is_written(crew: list[Worker]) -> None:
    """Both lock the parent first, as a cascade does: neither has to be sacrificed for the other."""
    for number in range(ROUNDS):
        contract = Contract.objects.create()
        clause = Clause.objects.create(contract=contract)
        write, delete = patch(f"/clauses/{clause.pk}/", text="x"), put(f"/contracts/{contract.pk}/")
        written, deleted = both(crew, number, write, {**delete, "method": "delete"})
        assert deleted["status"] == 204
        assert written["status"] in {200, 404}
        assert not Clause.objects.exists()


# ------------------------------------------------------------------------- step by step, in threads


@pytest.mark.parametrize("way", ["the gate", "save()"])
def test_who_locks_a_parent_waits_for_a_child_that_is_being_written(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = Contract.objects.create()
    clause = Clause.objects.create(contract=contract)
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        def stay(found: Any) -> None:
            found.text = "after"
            inside.set()
            assert leave.wait(20)
            found.save()

        if way == "the gate":
            gate(clause, stay)
            return
        real = Clause.save_base

        def save_base(self: Any, *args: Any, **kwargs: Any) -> None:
            inside.set()
            assert leave.wait(20)
            real(self, *args, **kwargs)

        monkeypatch.setattr(Clause, "save_base", save_base)
        mine = Clause.objects.get(pk=clause.pk)
        mine.text = "after"
        mine.save()

    def sign() -> None:
        mine = Contract.objects.get(pk=contract.pk)
        mine.set_locked(True)
        mine.save()

    writer = Call(write)
    assert inside.wait(20)
    signer = Call(sign)
    others_wait()
    assert signer.running
    leave.set()
    writer.result()
    signer.result()
    clause.refresh_from_db()
    contract.refresh_from_db()
    assert (clause.text, contract.state) == ("after", "signed")
    assert clause.version <= contract.version


def test_a_child_waits_for_a_parent_that_is_being_locked() -> None:
    contract = Contract.objects.create()
    clause = Clause.objects.create(contract=contract)
    inside, looked, leave = threading.Event(), threading.Event(), threading.Event()

    def sign(found: Any) -> None:
        found.set_locked(True)
        found.save()
        inside.set()
        assert leave.wait(20)

    def edit() -> str:
        mine = Clause.objects.get(pk=clause.pk)
        assert not mine.is_locked()  # as far as one sees from outside
        looked.set()
        try:
            mine.save()
        except ObjectLocked:
            return "refused"
        return "saved"

    signer = Call(lambda: gate(contract, sign))
    assert inside.wait(20)
    editor = Call(edit)
    assert looked.wait(20)
    others_wait()
    leave.set()
    signer.result()
    assert editor.result() == "refused"
