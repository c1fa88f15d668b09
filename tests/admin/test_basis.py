"""Two open pages of one object in the admin: the second one does not overwrite the first unasked."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import path

from drf_concord import rows, writes
from drf_concord.admin import GuardedAdminMixin, LockableAdminMixin
from drf_concord.admin.forms import based_formset
from drf_concord.changes import VENDORS
from tests.admin.pages import fill, filled
from tests.concurrency.threads import Call, others_wait
from tests.kinds.models import Branch, Clause, Contract, Leaf, Machine, Post, Root

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

CHANGED = "This object was changed while this page was open, so nothing was saved."
UNSTATED = "This form does not say which state of the object it shows, so nothing was saved."
AGAIN = "To put what stands here in its place, save again."
LOGGED = connection.vendor in VENDORS


class Site(admin.AdminSite):
    pass


site = Site(name="admin")


@admin.register(Machine, site=site)
class MachineAdmin(GuardedAdminMixin, admin.ModelAdmin):
    list_display = ["id", "name", "state", "note"]
    list_editable = ["name", "note"]
    ordering = ["name"]


class ClauseInline(admin.TabularInline):
    model = Clause
    extra = 1


@admin.register(Contract, site=site)
class ContractAdmin(LockableAdminMixin, admin.ModelAdmin):
    """Has fieldsets of its own, and children that it does not show in its own tag."""

    fieldsets = [("Words", {"fields": ["text"], "classes": ["collapse"]})]
    inlines = [ClauseInline]

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        return self.fieldsets


class LeafInline(admin.StackedInline):
    model = Leaf
    extra = 0


@admin.register(Branch, site=site)
class BranchAdmin(GuardedAdminMixin, admin.ModelAdmin):
    inlines = [LeafInline]


@admin.register(Post, site=site)
class PostAdmin(GuardedAdminMixin, admin.ModelAdmin):
    """No versions."""

    list_display = ["id", "text"]
    list_editable = ["text"]


urlpatterns = [path("admin/", site.urls)]


def login(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ada(django_user_model: Any) -> Client:
    return login(django_user_model.objects.create_superuser("ada", password="ada"))


@pytest.fixture
def guido(django_user_model: Any) -> Client:
    return login(django_user_model.objects.create_superuser("guido", password="guido"))


@pytest.fixture
def machine() -> Machine:
    return Machine.objects.create(name="press", state="active", note="old")


def page_of(obj: Any) -> str:
    return f"/admin/kinds/{obj._meta.model_name}/{obj.pk}/change/"


def errors(response: Any) -> list[str]:
    """Return what is wrong with the form as a whole."""
    return [str(text) for text in response.context["adminform"].form.non_field_errors()]


def values(obj: Any, *names: str) -> tuple[Any, ...]:
    obj.refresh_from_db()
    return tuple(getattr(obj, name) for name in names)


# ----------------------------------------------------------------------------- the page of an object


def test_the_second_of_two_open_pages_is_refused(ada: Client, guido: Client, machine: Machine) -> None:
    hers, his = ada.get(page_of(machine)), guido.get(page_of(machine))
    assert ada.post(page_of(machine), fill(hers, name="lathe")).status_code == 302

    refused = guido.post(page_of(machine), fill(his, state="off", note="typed <b>"))
    assert values(machine, "name", "state", "note") == ("lathe", "active", "old")
    (said,) = errors(refused)
    assert said.startswith(CHANGED)
    assert said.endswith(AGAIN)
    assert ("Last changed by: ada. What changed: Name." in said) is LOGGED
    text = refused.content.decode()
    link = (
        f'<a href="{page_of(machine)}" target="_blank" rel="noopener">See it as it is now (in a new tab)</a>'
    )
    assert link in text
    # what was typed is still there
    kept = filled(refused)
    assert (kept["name"], kept["state"], kept["note"]) == ("press", "off", "typed <b>")

    assert guido.post(page_of(machine), kept).status_code == 302
    assert values(machine, "name", "state", "note") == ("press", "off", "typed <b>")


def test_saving_again_is_refused_again_when_there_was_another_change(guido: Client, machine: Machine) -> None:
    page = guido.get(page_of(machine))
    for state in ("one", "two"):
        Machine.objects.update(state=state)
        page = guido.post(page_of(machine), fill(page, name="lathe"))
        assert errors(page)[0].startswith(CHANGED)
    assert guido.post(page_of(machine), filled(page)).status_code == 302
    assert values(machine, "name") == ("lathe",)


def test_names_are_shown_as_they_are(guido: Client, machine: Machine, django_user_model: Any) -> None:
    mallory = login(django_user_model.objects.create_superuser("<b>mallory", password="m"))
    his = guido.get(page_of(machine))
    assert mallory.post(page_of(machine), fill(mallory.get(page_of(machine)), name="x")).status_code == 302
    refused = guido.post(page_of(machine), fill(his, note="y")).content.decode()
    assert CHANGED in refused
    assert ("by: &lt;b&gt;mallory." in refused) is LOGGED
    assert "<b>mallory" not in refused


def test_one_user_in_one_page_after_the_other(guido: Client, machine: Machine) -> None:
    for name in ("lathe", "drill"):
        page = guido.get(page_of(machine))
        answer = guido.post(page_of(machine), fill(page, name=name, _continue="1"))
        assert (answer.status_code, values(machine, "name")) == (302, (name,))


@pytest.mark.parametrize("tag", [None, "", "-", "0", "lies", '"', "9" * 5000, "☃", "*"])
def test_a_form_without_its_tag_is_refused(guido: Client, machine: Machine, tag: str | None) -> None:
    data = fill(guido.get(page_of(machine)), name="lathe")
    assert data.pop("concord_tag")
    refused = guido.post(page_of(machine), data if tag is None else data | {"concord_tag": tag})

    assert values(machine, "name") == ("press",)
    assert errors(refused)[0].startswith(CHANGED if tag in {"0", "lies"} else UNSTATED)
    assert guido.post(page_of(machine), filled(refused)).status_code == 302
    assert values(machine, "name") == ("lathe",)


def test_what_is_wrong_besides_is_said_too(guido: Client, machine: Machine) -> None:
    page = guido.get(page_of(machine))
    Machine.objects.update(state="off")
    refused = guido.post(page_of(machine), fill(page, name=""))
    assert errors(refused)[0].startswith(CHANGED)
    assert list(refused.context["adminform"].form.errors) == ["name", "__all__"]


def change_before_the_gate(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    real, done = rows.enter, []

    def enter(*args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(True)
            change()
        return real(*args, **kwargs)

    monkeypatch.setattr(rows, "enter", enter)


def test_the_locked_row_decides(guido: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    data = fill(guido.get(page_of(machine)), name="lathe")
    change_before_the_gate(monkeypatch, lambda: Machine.objects.update(state="off"))
    refused = guido.post(page_of(machine), data)
    assert errors(refused)[0].startswith(CHANGED)
    assert values(machine, "name", "state") == ("press", "off")


def test_an_object_that_was_read_too_early_is_not_saved(
    guido: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = Machine.objects.get()
    Machine.objects.update(state="off")
    data = fill(guido.get(page_of(machine)), name="lathe")
    # such as from a replica; all its columns would be written
    monkeypatch.setattr(MachineAdmin, "get_object", lambda *args: early)
    assert errors(guido.post(page_of(machine), data))[0].startswith(CHANGED)
    assert values(machine, "name", "state") == ("press", "off")


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_who_waits_for_the_row_is_refused(guido: Client, machine: Machine) -> None:
    data = fill(guido.get(page_of(machine)), name="lathe")
    inside, leave = threading.Event(), threading.Event()

    def change(found: Any) -> None:
        found.state = "off"
        found.save()
        inside.set()
        assert leave.wait(20)

    def write() -> None:
        intent = writes.Intent(operation="update", method="PATCH", actor=rows.NOBODY)
        pk, fetch = machine.pk, lambda: Machine.objects.get(pk=machine.pk)
        current: Any = None
        writes.write(
            intent,
            model=Machine,
            pk=pk,
            using="default",
            fetch=fetch,
            current=lambda *_: current,
            perform=change,
        )

    other = Call(write)
    assert inside.wait(20)
    saving = Call(lambda: guido.post(page_of(machine), data))
    others_wait()
    assert saving.running
    leave.set()
    other.result()
    assert errors(saving.result())[0].startswith(CHANGED)
    assert values(machine, "name", "state") == ("press", "off")


def test_fieldsets_of_the_projects_own_carry_the_tag(guido: Client) -> None:
    contract = Contract.objects.create(text="old")
    page = guido.get(page_of(contract))
    Contract.objects.update(text="theirs")
    refused = guido.post(page_of(contract), fill(page, text="mine"))
    assert errors(refused)[0].startswith(CHANGED)
    assert values(contract, "text") == ("theirs",)
    assert ContractAdmin.fieldsets == [("Words", {"fields": ["text"], "classes": ["collapse"]})]


def test_no_field_is_named_that_the_page_does_not_show(guido: Client) -> None:
    contract = Contract.objects.create(text="old")
    page = guido.get(page_of(contract))
    Contract.objects.update(text="theirs", state="other")
    (said,) = errors(guido.post(page_of(contract), fill(page, text="mine")))
    assert "State" not in said
    assert ("What changed: Text." in said) is LOGGED


def test_a_new_object_and_a_copy_need_no_tag(guido: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    adding = guido.get("/admin/kinds/machine/add/")
    assert "concord_tag" not in filled(adding)
    assert guido.post("/admin/kinds/machine/add/", fill(adding, name="new")).status_code == 302
    made = Machine.objects.get()
    monkeypatch.setattr(MachineAdmin, "save_as", True)
    page = guido.get(page_of(made))
    Machine.objects.update(state="off")
    assert guido.post(page_of(made), fill(page, name="copy", _saveasnew="1")).status_code == 302
    assert sorted(Machine.objects.values_list("name", flat=True)) == ["copy", "new"]


def test_deferred_versions_are_read_with_the_row(
    guido: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = admin.ModelAdmin.get_queryset
    monkeypatch.setattr(
        admin.ModelAdmin, "get_queryset", lambda self, request: real(self, request).only("name")
    )
    found = MachineAdmin(Machine, site).get_queryset(None).get()  # type: ignore[arg-type]
    assert "version" not in found.get_deferred_fields()
    assert guido.post(page_of(machine), fill(guido.get(page_of(machine)), name="x")).status_code == 302


def test_deferred_versions_of_inlines_are_too(guido: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Contract.objects.create()
    Clause.objects.create(contract=contract)
    real = admin.options.InlineModelAdmin.get_queryset
    monkeypatch.setattr(ClauseInline, "get_queryset", lambda self, request: real(self, request).only("text"))
    request = guido.get(page_of(contract)).wsgi_request
    inline = ClauseInline(Contract, site)
    kwargs = ContractAdmin(Contract, site).get_formset_kwargs(request, contract, inline, "clause_set")
    assert kwargs["queryset"].get().get_deferred_fields() == {"contract_id"}


def test_files_are_no_reason_to_save_a_line() -> None:
    class WithFile(forms.ModelForm):
        plan = forms.FileField(required=False)

        class Meta:
            model = Machine
            fields = ["name"]

    Machine.objects.create(name="press")
    made = based_formset(forms.modelformset_factory(Machine, WithFile, extra=0), lambda *_: None)
    form = made().forms[0]
    assert 'name="initial-form-0-name"' in str(form["name"])
    assert "initial-" not in str(form["plan"])
    assert made().management_form.initial["INITIAL_FORMS"] == 1
    tags = made().management_form["concord_tags"].value()
    data = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-concord_tags": tags}
    data |= {"form-0-id": str(form.instance.pk), "form-0-name": "press", "initial-form-0-name": "press"}
    assert not made(data).forms[0].has_changed()


def test_objects_without_a_version_are_left_alone(guido: Client) -> None:
    post = Post.objects.create(text="old")
    page = guido.get(page_of(post))
    assert not [name for name in filled(page) if "concord" in name]
    Post.objects.update(text="theirs")
    assert guido.post(page_of(post), fill(page, text="mine")).status_code == 302
    listed = guido.get("/admin/kinds/post/")
    assert not [name for name in filled(listed) if "concord" in name or "initial-" in name]
    assert guido.post("/admin/kinds/post/", fill(listed, form__0__text="b", _save="1")).status_code == 302
    assert values(post, "text") == ("b",)


# ------------------------------------------------------------------------------ a list that is edited

LIST = "/admin/kinds/machine/"


@pytest.fixture
def machines() -> list[Machine]:
    return [Machine.objects.create(name=name, note="old") for name in ("a", "b", "c")]


def row_errors(response: Any) -> list[list[str]]:
    return [[str(e) for e in form.non_field_errors()] for form in response.context["cl"].formset.forms]


def test_a_list_does_not_put_back_what_others_changed(guido: Client, machines: list[Machine]) -> None:
    a, b, c = machines
    page = guido.get(LIST)
    Machine.objects.filter(pk=b.pk).update(name="b of ada", state="off")
    Machine.objects.filter(pk=c.pk).update(note="c of ada")

    assert guido.post(LIST, fill(page, form__0__note="mine", _save="1")).status_code == 302
    assert values(a, "note") == ("mine",)
    assert values(b, "name", "state", "note") == ("b of ada", "off", "old")
    assert values(c, "note") == ("c of ada",)


def test_a_line_that_others_changed_is_refused_and_so_is_the_list(
    guido: Client, machines: list[Machine]
) -> None:
    a, b, c = machines
    page = guido.get(LIST)
    Machine.objects.filter(pk=b.pk).update(state="off", name="z")  # it would stand last now

    refused = guido.post(LIST, fill(page, form__0__note="mine", form__1__note="mine too", _save="1"))
    assert (values(a, "note"), values(b, "note", "name", "state")) == (("old",), ("old", "z", "off"))
    first, (said,), third = row_errors(refused)
    assert (first, third) == ([], [])
    assert said.startswith(CHANGED)
    assert ("What changed: Name, State." in said) is LOGGED
    text = refused.content.decode()
    assert said in text
    # each line shows the object whose form stands in it
    assert text.index(page_of(a)) < text.index(page_of(b)) < text.index('name="form-1-note"')
    assert text.index('name="form-1-note"') < text.index(page_of(c))

    kept = filled(refused)
    assert (kept["form-0-note"], kept["form-1-note"]) == ("mine", "mine too")
    assert guido.post(LIST, kept | {"_save": "1"}).status_code == 302
    assert values(a, "note") == ("mine",)
    assert values(b, "name", "note", "state") == ("b", "mine too", "off")


def test_the_lines_that_were_not_refused_keep_their_tags(guido: Client, machines: list[Machine]) -> None:
    a, _, c = machines
    page = guido.get(LIST)
    Machine.objects.filter(pk=a.pk).update(state="off")
    page = guido.post(LIST, fill(page, form__0__note="mine", _save="1"))
    Machine.objects.filter(pk=c.pk).update(state="off")
    refused = guido.post(LIST, fill(page, form__2__note="mine too", _save="1"))
    assert [bool(each) for each in row_errors(refused)] == [False, False, True]
    assert values(c, "note") == ("old",)


def test_a_line_that_others_deleted_is_an_error(guido: Client, machines: list[Machine]) -> None:
    a, b, _ = machines
    page = guido.get(LIST)
    b.delete()
    refused = guido.post(LIST, fill(page, form__0__note="mine", form__1__note="mine too", _save="1"))
    assert refused.context["cl"].formset.forms[1].errors["id"]
    assert values(a, "note") == ("old",)
    assert page_of(a) in refused.content.decode()


@pytest.mark.parametrize("tags", [None, "", "lies", "0 0 0", "- - -", "9" * 5000])
def test_a_list_without_its_tags_is_refused(guido: Client, machines: list[Machine], tags: str | None) -> None:
    data = fill(guido.get(LIST), form__1__note="mine", _save="1")
    assert len(data.pop("form-concord_tags").split()) == 3
    refused = guido.post(LIST, data if tags is None else data | {"form-concord_tags": tags})
    assert [bool(each) for each in row_errors(refused)] == [False, True, False]
    assert values(machines[1], "note") == ("old",)


def test_a_line_that_does_not_say_what_it_was_is_no_bypass(guido: Client, machines: list[Machine]) -> None:
    data = fill(guido.get(LIST), form__1__note="mine", _save="1")
    Machine.objects.filter(pk=machines[1].pk).update(note="theirs")
    kept = {name: value for name, value in data.items() if not name.startswith("initial-")}
    assert guido.post(LIST, kept).status_code == 200
    assert values(machines[1], "note") == ("theirs",)


def test_the_locked_rows_of_a_list_decide(
    guido: Client, machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fill(guido.get(LIST), form__1__note="mine", _save="1")
    change_before_the_gate(monkeypatch, lambda: Machine.objects.update(state="off"))
    assert [bool(each) for each in row_errors(guido.post(LIST, data))] == [False, True, False]


def test_rows_are_locked_in_one_order(
    guido: Client, machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lists in two orders would wait for each other."""
    Machine.objects.filter(pk=machines[0].pk).update(name="z")
    asked, real = [], rows.enter
    monkeypatch.setattr(rows, "enter", lambda *args, **kw: asked.append(args[1]) or real(*args, **kw))
    page = guido.get(LIST)
    typed = {f"form__{number}__note": "mine" for number in range(3)}
    assert guido.post(LIST, fill(page, **typed, _save="1")).status_code == 302
    assert asked[:3] == [each.pk for each in machines]


# --------------------------------------------------------------------------------------------- inlines


@pytest.fixture
def contract() -> Contract:
    contract = Contract.objects.create(text="old")
    for text in ("one", "two"):
        Clause.objects.create(contract=contract, text=text)
    return contract


def test_an_inline_does_not_put_back_what_others_changed(guido: Client, contract: Contract) -> None:
    one, two = contract.clause_set.order_by("pk")
    page = guido.get(page_of(contract))
    Clause.objects.filter(pk=two.pk).update(text="two of ada")
    assert guido.post(page_of(contract), fill(page, clause_set__0__text="mine")).status_code == 302
    assert (values(one, "text"), values(two, "text")) == (("mine",), ("two of ada",))


def test_an_inline_that_others_changed_is_refused_and_so_is_the_page(
    guido: Client, contract: Contract
) -> None:
    two = contract.clause_set.order_by("pk")[1]
    page = guido.get(page_of(contract))
    Clause.objects.filter(pk=two.pk).update(text="two of ada")
    refused = guido.post(page_of(contract), fill(page, clause_set__1__text="mine", text="new"))
    assert (values(contract, "text"), values(two, "text")) == (("old",), ("two of ada",))
    text = refused.content.decode()
    assert text.count(CHANGED) == 1
    assert "See it as it is now" not in text  # it has no page of its own
    assert guido.post(page_of(contract), filled(refused)).status_code == 302
    assert (values(contract, "text"), values(two, "text")) == (("new",), ("mine",))


def test_an_inline_that_others_changed_is_not_deleted(guido: Client, contract: Contract) -> None:
    two = contract.clause_set.order_by("pk")[1]
    page = guido.get(page_of(contract))
    Clause.objects.filter(pk=two.pk).update(text="two of ada")
    data = fill(page) | {"clause_set-1-DELETE": "on"}
    refused = guido.post(page_of(contract), data)
    assert Clause.objects.filter(pk=two.pk).exists()
    assert CHANGED in refused.content.decode()
    kept = filled(refused)
    assert kept["clause_set-1-DELETE"] == "on"
    assert guido.post(page_of(contract), kept).status_code == 302
    assert not Clause.objects.filter(pk=two.pk).exists()


def test_inlines_are_added_beside_those_of_others(guido: Client, contract: Contract) -> None:
    page = guido.get(page_of(contract))
    Clause.objects.create(contract=contract, text="of ada")
    assert guido.post(page_of(contract), fill(page, clause_set__2__text="mine")).status_code == 302
    texts = set(contract.clause_set.values_list("text", flat=True))
    assert texts == {"one", "two", "of ada", "mine"}


def test_a_page_whose_tag_moves_with_its_inlines(ada: Client, guido: Client) -> None:
    branch = Branch.objects.create(root=Root.objects.create(), name="old")
    leaf = Leaf.objects.create(name="old", branch=branch)
    hers, his = ada.get(page_of(branch)), guido.get(page_of(branch))
    assert ada.post(page_of(branch), fill(hers, leaves__0__name="hers")).status_code == 302

    refused = guido.post(page_of(branch), fill(his, name="his"))
    assert errors(refused)[0].startswith(CHANGED)
    assert guido.post(page_of(branch), filled(refused)).status_code == 302
    # the other's leaf stays as it is: nobody typed into it here
    assert (values(branch, "name"), values(leaf, "name")) == (("his",), ("hers",))
