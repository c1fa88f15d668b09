"""The operators' lock: every row of its table, at every address, and what it leaves behind."""

from __future__ import annotations

import json
import uuid
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import post_save, pre_save
from django.urls import include, path
from rest_framework import permissions, viewsets
from rest_framework.routers import DefaultRouter, SimpleRouter
from rest_framework.test import APIClient

from drf_concord import ObjectLocked, former, locks, rows
from drf_concord.models import Lock, LockableModel
from drf_concord.protocol.claims import Claim, Mode
from drf_concord.rest import viewsets as ours
from drf_concord.rest.locks import StatesLockMixin
from tests.app.views import serializer_for
from tests.kinds.models import Contract, Machine, Sheet

from .conftest import AtTheGate, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Base(StatesLockMixin):
    queryset = Machine.objects.all()
    serializer_class = serializer_for(Machine, ["uuid", "name", "state"])
    lookup_field = "uuid"
    state_field = "state"

    def can_lock(self, instance: Any) -> bool:
        return bool(instance.state != "broken")


class MachineViewSet(Base, ours.ModelViewSet):
    pass


class PlainViewSet(Base, viewsets.ModelViewSet):
    """REST framework's own writes."""


class WideViewSet(Base, ours.ModelViewSet):
    states_scope = "write"


class WidePlainViewSet(Base, viewsets.ModelViewSet):
    states_scope = "write"


class StatelessViewSet(Base, ours.ModelViewSet):
    state_field = None


class Refusing(permissions.BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return False


class ClosedViewSet(Base, ours.ModelViewSet):
    """Whatever else is demanded, operators lock."""

    permission_classes = [Refusing]


class ContractViewSet(StatesLockMixin, ours.ModelViewSet):
    queryset = Contract.objects.all()
    serializer_class = serializer_for(Contract, ["text", "state"])
    state_field = "text"


class SignedViewSet(ContractViewSet):
    state_field = "state"


class RuledViewSet(ContractViewSet):
    """Holds locked what the model does not."""

    def is_instance_locked(self, obj: Contract) -> bool:
        return obj.text == "closed"


class OpenViewSet(Base, ours.ModelViewSet):
    states_permission_classes = (permissions.IsAuthenticated,)


class SignedInViewSet(Base, ours.ModelViewSet):
    """Chooses its permissions itself, and has these two actions not in mind."""

    def get_permissions(self) -> list[Any]:
        return [permissions.IsAuthenticated()]


class HandWrittenViewSet(Base, viewsets.ModelViewSet):
    """REST framework's own, with hooks that call no others."""

    states_scope = "write"

    def perform_update(self, serializer: Any) -> None:
        serializer.save(name="by hand")

    def perform_destroy(self, instance: Any) -> None:
        instance.delete()


def routed(router: Any) -> Any:
    for name, view in {
        "machines": MachineViewSet,
        "plain": PlainViewSet,
        "wide": WideViewSet,
        "wideplain": WidePlainViewSet,
        "stateless": StatelessViewSet,
        "closed": ClosedViewSet,
        "open": OpenViewSet,
        "contracts": ContractViewSet,
        "signed": SignedViewSet,
        "ruled": RuledViewSet,
        "signedin": SignedInViewSet,
        "byhand": HandWrittenViewSet,
    }.items():
        router.register(name, view, basename=name)
    return include(router.urls)


class Tolerant(SimpleRouter):
    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"


urlpatterns = [
    path("", routed(SimpleRouter())),
    path("bare/", routed(SimpleRouter(trailing_slash=False))),
    path("default/", routed(DefaultRouter())),
    path("tolerant/", routed(Tolerant())),
]


@pytest.fixture
def machine(db: None) -> Machine:
    return Machine.objects.create(name="m1", state="active")


def put(client: APIClient, machine: Any, name: str, data: Any = None, where: str = "machines") -> Any:
    return client.put(f"/{where}/{machine.uuid}/states/{name}", data, format="json")


def state(machine: Machine) -> str:
    return Machine.objects.get(pk=machine.pk).state


# ------------------------------------------------------------------------------- what succeeds


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("habit", ["", "bare/", "default/", "tolerant/"])
def test_both_addresses_answer_under_every_router(
    as_boss: APIClient, machine: Machine, habit: str, slash: str
) -> None:
    address = f"/{habit}machines/{machine.uuid}/states/"
    locked = as_boss.put(f"{address}lock{slash}", {"lock": None}, format="json")
    assert (locked.status_code, locked.content) == (202, b"")
    assert state(machine) == "locked"
    freed = as_boss.put(f"{address}unlock{slash}", {"unlock": None}, format="json")
    assert (freed.status_code, freed.content) == (202, b"")
    assert state(machine) == "active"


def test_the_body_may_be_empty(as_boss: APIClient, machine: Machine) -> None:
    assert as_boss.put(f"/machines/{machine.uuid}/states/lock").status_code == 202
    assert put(as_boss, machine, "unlock", {}).status_code == 202


def test_no_slash_is_not_any_address(as_boss: APIClient, machine: Machine) -> None:
    for end in ("lock//", "lock/x", "locked", "unlock//"):
        assert as_boss.put(f"/machines/{machine.uuid}/states/{end}").status_code == 404


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["lock", "unlock"])
def test_who_is_no_administrator_is_refused(
    api: APIClient, as_ada: APIClient, machine: Machine, name: str
) -> None:
    if name == "unlock":
        locks.freeze(machine)
    for client in (api, as_ada):
        for slash in ("", "/"):
            assert put(client, machine, name + slash).status_code == 403
        assert client.put(f"/machines/{uuid.uuid4()}/states/{name}").status_code == 403
    assert Lock.objects.filter(mode="freeze").exists() == (name == "unlock")


@pytest.mark.parametrize("name", ["lock", "unlock"])
def test_what_is_not_there_is_not_found(as_boss: APIClient, machine: Machine, name: str) -> None:
    assert as_boss.put(f"/machines/{uuid.uuid4()}/states/{name}").status_code == 404
    assert as_boss.put(f"/machines/nonsense/states/{name}").status_code == 404


@pytest.mark.parametrize(
    "data",
    [{"unlock": None}, {"lock": True}, {"lock": None, "x": 1}, [], ["lock"], "lock", '{"lock"'],
)
def test_another_body_is_refused(as_boss: APIClient, machine: Machine, data: Any) -> None:
    text = data if isinstance(data, str) and data.startswith("{") else json.dumps(data)
    address = f"/machines/{machine.uuid}/states/lock"
    refused = as_boss.put(address, text, content_type="application/json")
    assert refused.status_code == 400
    assert not Lock.objects.exists()


def test_what_is_locked_is_not_locked_again_and_what_is_not_is_not_unlocked(
    as_boss: APIClient, machine: Machine
) -> None:
    refused = put(as_boss, machine, "unlock")
    assert (refused.status_code, refused.json()["code"]) == (409, "object_not_locked")
    assert put(as_boss, machine, "lock").status_code == 202
    refused = put(as_boss, machine, "lock")
    assert (refused.status_code, refused.json()["code"]) == (409, "object_already_locked")
    assert put(as_boss, machine, "unlock").status_code == 202
    assert put(as_boss, machine, "unlock").status_code == 409
    assert state(machine) == "active"


def test_a_state_that_cannot_be_locked_is_a_conflict(as_boss: APIClient, machine: Machine) -> None:
    Machine.objects.update(state="broken")
    refused = put(as_boss, machine, "lock")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert state(machine) == "broken"
    assert not Lock.objects.exists()


def test_the_state_is_asked_on_the_locked_row(
    as_boss: APIClient, machine: Machine, at_the_gate: AtTheGate
) -> None:
    at_the_gate(lambda: Machine.objects.update(state="broken"))
    assert put(as_boss, machine, "lock").status_code == 409


@pytest.mark.parametrize("name", ["lock", "unlock"])
def test_only_put_is_answered(as_boss: APIClient, machine: Machine, name: str) -> None:
    for method in (as_boss.get, as_boss.post, as_boss.patch, as_boss.delete):
        for slash in ("", "/"):
            assert method(f"/machines/{machine.uuid}/states/{name}{slash}").status_code == 405


def test_no_further_permission_is_asked(as_boss: APIClient, machine: Machine) -> None:
    staff = client_of(type(as_boss.handler._force_user)(pk=99, username="op", is_staff=True))
    for where in ("closed", "machines"):
        assert put(staff, machine, "lock", where=where).status_code == 202
        assert put(staff, machine, "unlock/", where=where).status_code == 202
    assert staff.get(f"/closed/{machine.uuid}/").status_code == 403


def test_permissions_that_a_view_chooses_itself_open_nothing(
    as_ada: APIClient, as_boss: APIClient, machine: Machine
) -> None:
    assert as_ada.get(f"/signedin/{machine.uuid}/").status_code == 200
    assert put(as_ada, machine, "lock", where="signedin").status_code == 403
    assert put(as_boss, machine, "lock", where="signedin").status_code == 202
    assert put(as_ada, machine, "unlock", where="signedin").status_code == 403


def test_a_view_may_let_others_lock(as_ada: APIClient, machine: Machine) -> None:
    assert put(as_ada, machine, "lock", where="open").status_code == 202


# ---------------------------------------------------------------------------------- while it lasts


@pytest.mark.parametrize("where", ["machines", "plain"])
def test_nobody_deletes_what_is_locked_and_the_rest_goes_on(
    api: APIClient, as_boss: APIClient, machine: Machine, where: str
) -> None:
    address = f"/{where}/{machine.uuid}/"
    assert put(as_boss, machine, "lock", where=where).status_code == 202
    for client in (api, as_boss):
        refused = client.delete(address)
        assert (refused.status_code, refused.json()["code"]) == (409, "object_locked")
    assert as_boss.patch(address, {"name": "m2"}, format="json").status_code == 200
    assert put(as_boss, machine, "unlock", where=where).status_code == 202
    assert as_boss.delete(address).status_code == 204
    assert not Machine.objects.exists()


@pytest.mark.parametrize("where", ["wide", "wideplain"])
def test_a_view_may_widen_the_scope(as_boss: APIClient, machine: Machine, where: str) -> None:
    assert put(as_boss, machine, "lock", where=where).status_code == 202
    assert state(machine) == "locked"
    for method in (as_boss.patch, as_boss.delete):
        assert method(f"/{where}/{machine.uuid}/", {"name": "m2"}, format="json").status_code == 409
    assert put(as_boss, machine, "unlock", where=where).status_code == 202
    assert (state(machine), Machine.objects.get().name) == ("active", "m1")


def test_hooks_that_call_no_others_are_guarded(as_boss: APIClient, machine: Machine) -> None:
    put(as_boss, machine, "lock", where="byhand")
    address = f"/byhand/{machine.uuid}/"
    answers = (
        as_boss.delete(address),
        as_boss.patch(address, {"name": "x"}),
        as_boss.put(address, {"name": "x"}),
    )
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "object_locked")] * 3
    put(as_boss, machine, "unlock", where="byhand")
    assert as_boss.patch(address, {}).json()["name"] == "by hand"
    assert as_boss.delete(address).status_code == 204


def test_a_write_that_began_before_the_lock_does_not_take_its_state_back(
    as_boss: APIClient, as_ada: APIClient, machine: Machine, at_the_gate: AtTheGate
) -> None:
    at_the_gate(lambda: put(as_boss, machine, "lock", where="plain"))
    assert as_ada.patch(f"/plain/{machine.uuid}/", {"name": "x"}).status_code == 200
    assert state(machine) == "locked"


def test_the_version_moves_with_the_state(as_boss: APIClient, machine: Machine) -> None:
    versions = [machine.version]
    for name in ("lock", "unlock"):
        put(as_boss, machine, name)
        versions.append(Machine.objects.get().version)
    assert versions == sorted(set(versions))


def test_without_a_state_field_the_object_stays_as_it_is(as_boss: APIClient, machine: Machine) -> None:
    assert put(as_boss, machine, "lock", where="stateless").status_code == 202
    assert (state(machine), Machine.objects.get().version) == ("active", machine.version)
    assert as_boss.delete(f"/stateless/{machine.uuid}/").status_code == 409
    assert put(as_boss, machine, "unlock", where="stateless").status_code == 202


def test_a_state_that_was_set_meanwhile_stays(as_boss: APIClient, machine: Machine) -> None:
    put(as_boss, machine, "lock")
    as_boss.patch(f"/machines/{machine.uuid}/", {"state": "stopped"}, format="json")
    put(as_boss, machine, "unlock")
    assert state(machine) == "stopped"
    assert Lock.objects.get().former is None


def test_whoever_ends_the_lock_the_state_comes_back(as_boss: APIClient, machine: Machine) -> None:
    put(as_boss, machine, "lock")
    locks.release_lock(machine)
    assert state(machine) == "active"
    put(as_boss, machine, "lock")
    assert as_boss.delete(f"/machines/{machine.uuid}/lock/").status_code == 204
    assert state(machine) == "active"
    put(as_boss, machine, "lock")
    assert as_boss.post(f"/machines/{machine.uuid}/lock/break/").status_code == 202
    assert state(machine) == "active"


def test_a_row_that_is_gone_when_its_lock_ends_is_no_error(as_boss: APIClient, machine: Machine) -> None:
    put(as_boss, machine, "lock")
    Machine.objects.all().delete()
    with rows.enter(Machine, machine.pk, using="default") as entry:
        locks.release(entry, privileged=True)
    assert Lock.objects.get().former is None


def test_an_empty_state_comes_back_empty(as_boss: APIClient, machine: Machine) -> None:
    with rows.enter(Machine, machine.pk, using="default") as entry:
        locks.acquire(entry, Claim(holder=None))
        former.keep(entry, machine, "note")
    assert Machine.objects.get().note == "locked"
    locks.freeze(machine)
    locks.release_lock(machine)
    assert Machine.objects.get().note is None


def test_a_model_that_guards_itself_may_show_its_state_under_its_lock() -> None:
    sheet = Sheet.objects.create(text="active")
    with rows.enter(Sheet, sheet.pk, using="default") as entry:
        locks.acquire(entry, Claim(holder=None, mode=Mode.FREEZE))
        former.keep(entry, sheet, "text")
    assert Sheet.objects.get().text == "locked"
    with pytest.raises(ObjectLocked):
        sheet.save()
    locks.release_lock(sheet)
    assert Sheet.objects.get().text == "active"


def test_another_copy_that_is_saved_first_is_asked_for() -> None:
    contract = Contract.objects.create(**SIGNED)

    def save(self: Contract, **kwargs: Any) -> None:
        with pytest.raises(ObjectLocked):
            LockableModel.save(Contract.objects.get())
        LockableModel.save(self, **kwargs)

    with rows.enter(Contract, contract.pk, using="default") as entry:
        locks.acquire(entry, Claim(holder=None, mode=Mode.FREEZE))
        with mock.patch.object(Contract, "save", save):
            former.keep(entry, contract, "text")
    assert Contract.objects.get().text == "locked"


# ----------------------------------------------------------------------------- over somebody's hold


def test_what_a_rule_locks_meanwhile_can_be_unlocked(as_boss: APIClient) -> None:
    address = f"/contracts/{Contract.objects.create(text='old').pk}/"
    assert as_boss.put(f"{address}states/lock").status_code == 202
    assert as_boss.patch(address, {"state": "signed"}).json() == {"text": "locked", "state": "signed"}
    assert as_boss.put(f"{address}states/unlock").status_code == 202
    assert as_boss.get(address).json() == {"text": "old", "state": "signed"}


SIGNED = {"text": "old", "state": "signed"}


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("contracts", {"text": "locked", "state": "signed"}),
        ("signed", {"text": "old", "state": "locked"}),  # the rule goes by that very field
    ],
)
def test_what_a_rule_locks_can_be_locked_for_maintenance_and_stays_locked(
    as_boss: APIClient, where: str, shown: dict[str, str]
) -> None:
    contract = Contract.objects.create(**SIGNED)
    address = f"/{where}/{contract.pk}/"
    assert as_boss.put(f"{address}states/lock").status_code == 202
    assert as_boss.get(address).json() == shown
    for refused in (
        as_boss.patch(address, {"text": "new"}),
        as_boss.put(address, SIGNED),
        as_boss.delete(address),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "object_locked")
    for write in (Contract.objects.get().save, Contract.objects.get().delete):
        with pytest.raises(ObjectLocked):
            write()
    assert as_boss.put(f"{address}states/unlock").status_code == 202
    assert as_boss.get(address).json() == SIGNED


def test_what_a_view_holds_locked_by_that_field_stays_locked(as_boss: APIClient) -> None:
    address = f"/ruled/{Contract.objects.create(text='closed').pk}/"
    assert as_boss.put(f"{address}states/lock").status_code == 202
    assert as_boss.patch(address, {"text": "new"}).status_code == 409
    assert as_boss.put(f"{address}states/unlock").status_code == 202
    assert as_boss.get(address).json() == {"text": "closed", "state": "draft"}


def test_what_no_rule_locks_refuses_the_scope_alone(as_boss: APIClient) -> None:
    address = f"/signed/{Contract.objects.create(text='old').pk}/"
    assert as_boss.put(f"{address}states/lock").status_code == 202
    assert as_boss.patch(address, {"text": "new"}).json() == {"text": "new", "state": "locked"}
    assert as_boss.delete(address).status_code == 409
    assert as_boss.put(f"{address}states/unlock").status_code == 202
    assert as_boss.get(address).json() == {"text": "new", "state": "draft"}


@pytest.mark.parametrize("operation", ["save", "delete"])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("signal", [post_save, pre_save])
def test_what_signals_of_that_save_write_is_asked_for(signal: Any, fresh: bool, operation: str) -> None:
    if signal is pre_save and not fresh and operation == "save":
        return  # it would save itself without end
    contract = Contract.objects.create(**SIGNED)
    refused: list[Exception] = []

    def write(sender: Any, instance: Any, **kwargs: Any) -> None:
        signal.disconnect(write, sender=Contract)
        try:
            getattr(Contract.objects.get() if fresh else instance, operation)()
        except ObjectLocked as error:
            refused.append(error)

    signal.connect(write, sender=Contract)
    with rows.enter(Contract, contract.pk, using="default") as entry:
        locks.acquire(entry, Claim(holder=None, mode=Mode.FREEZE))
        former.keep(entry, contract, "text")
        with pytest.raises(ObjectLocked):
            contract.save()
    assert len(refused) == 1
    assert Contract.objects.get().text == "locked"


def test_it_overrides_a_hold_whose_holder_is_told(
    as_boss: APIClient, as_ada: APIClient, machine: Machine
) -> None:
    held = as_ada.post(f"/machines/{machine.uuid}/lock/", {"ttl": 60}, format="json")
    broken: list[Any] = []
    locks.lock_broken.connect(lambda **kwargs: broken.append(kwargs["lock"]), weak=False, dispatch_uid="t")
    try:
        from django.test import TestCase

        with TestCase.captureOnCommitCallbacks(execute=True):
            assert put(as_boss, machine, "lock").status_code == 202
    finally:
        locks.lock_broken.disconnect(dispatch_uid="t")
    assert [lock.mode for lock in broken] == ["freeze"]
    address = f"/machines/{machine.uuid}/"
    token = {"Lock-Token": held["Lock-Token"]}
    lost = as_ada.patch(address, {"name": "x"}, format="json", headers=token)
    assert (lost.status_code, lost.json()["code"]) == (412, "lock_lost")
    renewed = as_ada.patch(f"{address}lock/", {"ttl": 60}, format="json", headers=token)
    assert (renewed.status_code, renewed.json()["code"]) == (412, "lock_lost")


# ------------------------------------------------------------------------------------- its place


@pytest.mark.parametrize("first", [viewsets.ModelViewSet, viewsets.ReadOnlyModelViewSet])
def test_behind_a_class_that_would_not_ask_it_is_refused(first: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"class Wrong\(StatesLockMixin"):
        type("Wrong", (first, StatesLockMixin), {})
