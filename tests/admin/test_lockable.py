"""Locked objects in the admin: seen, read, and changed by nobody, by whichever page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from drf_concord import locks, rows
from drf_concord.admin import GuardedAdminMixin, LockableAdminMixin
from drf_concord.locks import LockableMixin
from tests.admin.pages import fill
from tests.kinds.models import Branch, Contract, Leaf, Locked, Machine, Paragraph, Post, Report, Root

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class Site(admin.AdminSite):
    pass


site = Site(name="admin")


class ParagraphInline(admin.TabularInline):
    model = Paragraph
    extra = 0


@admin.register(Report, site=site)
class ReportAdmin(LockableAdminMixin, admin.ModelAdmin):
    list_display = ["__str__", "title", "locked_icon"]
    list_editable = ["title"]
    inlines = [ParagraphInline]

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and getattr(obj, "title", "") != "private"


@admin.register(Paragraph, site=site)
class ParagraphAdmin(LockableAdminMixin, admin.ModelAdmin):
    list_display = ["__str__", "locked_icon"]


@admin.register(Post, site=site)
class PostAdmin(LockableAdminMixin, admin.ModelAdmin):
    """Locks by a rule of its own."""

    list_display = ["id", "text"]
    list_editable = ["text"]
    locked_icon_url = "/own.svg"

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.closed)

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock


@admin.register(Locked, site=site)
class LockedAdmin(LockableAdminMixin, admin.ModelAdmin):
    """Locks that are rows, in a list that is edited."""

    list_display = ["__str__", "text", "locked_icon"]
    list_editable = ["text"]


@admin.register(Machine, site=site)
class MachineAdmin(GuardedAdminMixin, admin.ModelAdmin):
    """No rules, but operators' locks."""


class ClosedPostInline(LockableMixin, admin.TabularInline):
    model = Paragraph
    extra = 0

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.text == "closed")


class ContractAdmin(GuardedAdminMixin, admin.ModelAdmin):
    pass


class LeafInline(admin.TabularInline):
    model = Leaf
    extra = 0


class BranchAdmin(LockableAdminMixin, admin.ModelAdmin):
    """Has a rule that knows its own objects only, and inlines that no attribute names."""

    def is_instance_locked(self, obj: Any) -> bool:
        return obj.root_id is None

    def get_inlines(self, request: Any, obj: Any) -> Any:
        return [LeafInline]


site.register(Branch, BranchAdmin)
site.register(Contract, ContractAdmin)
urlpatterns = [path("admin/", site.urls)]


@pytest.fixture
def boss(client: Client, django_user_model: Any) -> Client:
    client.force_login(django_user_model.objects.create_superuser("boss", password="boss"))
    return client


def staff(django_user_model: Any, *codenames: str) -> Client:
    user = django_user_model.objects.create_user("op", password="op", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, model: str, action: str, *objs: Any, post: bool = True, **data: Any) -> Any:
    data |= {"action": action, "_selected_action": [obj.pk for obj in objs]}
    return client.post(f"/admin/kinds/{model}/", data | ({"post": "yes"} if post else {}), follow=True)


def texts(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def form(report: Report, paragraphs: tuple[Paragraph, ...] = (), **data: Any) -> dict[str, Any]:
    count = len(paragraphs)
    found = {"title": report.title, "marks": "{}", "paragraphs-TOTAL_FORMS": count}
    found["paragraphs-INITIAL_FORMS"] = count
    for number, each in enumerate(paragraphs):
        found |= {f"paragraphs-{number}-id": each.pk, f"paragraphs-{number}-report": report.pk}
        found[f"paragraphs-{number}-text"] = each.text
    return found | data


# ----------------------------------------------------------------------------------- what is seen


def test_the_list_shows_an_icon_for_what_is_locked(boss: Client, settings: Any) -> None:
    Report.objects.create(sealed=True)
    Report.objects.create()
    page = boss.get("/admin/kinds/report/").content.decode()
    assert page.count("/static/drf_concord/locked.svg") == 1
    settings.CONCORD = {**settings.CONCORD, "LOCKED_ICON_URL": "https://example.org/lock.png"}
    assert 'src="https://example.org/lock.png"' in boss.get("/admin/kinds/report/").content.decode()
    assert 'src="/own.svg"' in PostAdmin(Post, site).locked_icon(Post(closed=True))


def test_the_locks_of_a_list_are_read_at_once(boss: Client, django_user_model: Any) -> None:
    notes = [Locked.objects.create() for _ in range(5)]
    locks.freeze(notes[0])
    with CaptureQueriesContext(connection) as few:
        page = boss.get("/admin/kinds/locked/").content.decode()
    assert page.count("locked.svg") == 1
    notes += [Locked.objects.create() for _ in range(20)]
    with CaptureQueriesContext(connection) as many:
        boss.get("/admin/kinds/locked/")
    assert len(many) == len(few)
    assert "locked.svg" in LockedAdmin(Locked, site).locked_icon(Locked.objects.get(pk=notes[0].pk))


def test_the_page_of_a_locked_object_is_to_be_read(boss: Client) -> None:
    report = Report.objects.create(title="old", sealed=True)
    address = f"/admin/kinds/report/{report.pk}/"
    page = boss.get(f"{address}change/").content.decode()
    assert 'name="_save"' not in page
    assert 'name="title"' not in page
    assert boss.post(f"{address}change/", form(report, title="new")).status_code == 403
    assert boss.get(f"{address}delete/").status_code == 403
    assert boss.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    assert Report.objects.get().title == "old"
    Report.objects.update(sealed=False)
    assert 'name="_save"' in boss.get(f"{address}change/").content.decode()
    assert boss.post(f"{address}change/", form(report, title="new")).status_code == 302
    assert Report.objects.get().title == "new"
    assert boss.post(f"{address}delete/", {"post": "yes"}).status_code == 302
    assert not Report.objects.exists()


def test_the_page_says_who_locked_it_why_and_until_when(boss: Client, django_user_model: Any) -> None:
    note, ada = Locked.objects.create(), django_user_model.objects.create_user("ada")
    address = f"/admin/kinds/locked/{note.pk}/change/"
    assert texts(boss.get(address)) == []
    with locks.hold(note, holder=ada, ttl=60, reason="counting"):
        (said,) = texts(boss.get(address))
    assert said.startswith("This object is locked and can only be read. By: ada. Why: counting. Until: 20")
    report = Report.objects.create(sealed=True)
    (said,) = texts(boss.get(f"/admin/kinds/report/{report.pk}/change/"))
    assert said == "This object is locked and can only be read."


def test_the_holder_is_named_to_whom_the_settings_say(
    boss: Client, django_user_model: Any, settings: Any
) -> None:
    note, ada = Locked.objects.create(), django_user_model.objects.create_user("ada")
    locks.freeze(note, by=ada)
    reader = staff(django_user_model, "view_locked")
    for disclosure, told in (("editors", [1, 0]), ("nobody", [0, 0]), ("everyone", [1, 1])):
        settings.CONCORD = {**settings.CONCORD, "DISCLOSURE": disclosure}
        said = [texts(client.get(f"/admin/kinds/locked/{note.pk}/change/"))[0] for client in (boss, reader)]
        assert ["By: ada." in text for text in said] == told


def test_a_child_is_locked_with_its_parent(boss: Client) -> None:
    paragraph = Paragraph.objects.create(report=Report.objects.create(sealed=True))
    address = f"/admin/kinds/paragraph/{paragraph.pk}/"
    assert 'name="_save"' not in boss.get(f"{address}change/").content.decode()
    assert boss.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    assert "locked.svg" in boss.get("/admin/kinds/paragraph/").content.decode()
    refused = act(boss, "paragraph", "unlock", paragraph)
    assert ["Nothing was changed. Define Paragraph.set_locked(value)" in t for t in texts(refused)] == [True]


# ------------------------------------------------------------------------------ what is not written


def lock_before_the_gate(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    real, done = rows.enter, []

    def enter(*args: Any, **kwargs: Any) -> Any:
        if not done:
            done.append(change())
        return real(*args, **kwargs)

    monkeypatch.setattr(rows, "enter", enter)


def test_what_is_locked_while_the_form_is_open_is_not_saved(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report.objects.create(title="old")
    lock_before_the_gate(monkeypatch, lambda: Report.objects.update(sealed=True))
    answer = boss.post(f"/admin/kinds/report/{report.pk}/change/", form(report, title="new"), follow=True)
    assert texts(answer)[0].startswith("Nothing was changed. This object is locked")
    assert not LogEntry.objects.exists()
    assert Report.objects.get().title == "old"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("model", ["report", "post"])
def test_a_list_that_is_edited_is_guarded(
    boss: Client, model: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = Report if model == "report" else Post
    name = "title" if model == "report" else "text"
    first, second = kind.objects.create(**{name: "a"}), kind.objects.create(**{name: "b"})

    def close() -> None:
        kind.objects.filter(pk=second.pk).update(**{"sealed" if model == "report" else "closed": True})

    if when == "before":
        close()
    else:
        lock_before_the_gate(monkeypatch, close)
    data = {"form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2, "_save": "Save"}
    for number, obj in enumerate((second, first)):
        data |= {f"form-{number}-id": obj.pk, f"form-{number}-{name}": f"new {obj.pk}"}
    answer = boss.post(f"/admin/kinds/{model}/", data, follow=True)
    left = set(kind.objects.values_list(name, flat=True))
    if texts(answer)[0].startswith("Nothing was changed."):
        assert left == {"a", "b"}
    else:  # newer Djangos pass over the rows that may not be changed
        assert (when, left) == ("before", {f"new {first.pk}", "b"})


def test_deleting_in_bulk_is_all_or_nothing(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    free, locked = Report.objects.create(title="free"), Report.objects.create(title="held", sealed=True)
    page = act(boss, "report", "delete_selected", free, locked, post=False)
    assert page.context["perms_lacking"]
    assert act(boss, "report", "delete_selected", free, locked).status_code == 403
    Report.objects.update(sealed=False)
    lock_before_the_gate(monkeypatch, lambda: Report.objects.filter(pk=locked.pk).update(sealed=True))
    answer = act(boss, "report", "delete_selected", free, locked)
    assert texts(answer)[0].startswith("Nothing was changed.")
    assert (Report.objects.count(), LogEntry.objects.count()) == (2, 0)
    monkeypatch.undo()
    Report.objects.update(sealed=False)
    act(boss, "report", "delete_selected", free, locked)
    assert not Report.objects.exists()


def test_an_inline_is_guarded(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report.objects.create()
    paragraph = Paragraph.objects.create(report=report, text="old")
    address = f"/admin/kinds/report/{report.pk}/change/"
    paragraph.text = "new"
    assert boss.post(address, form(report, (paragraph,))).status_code == 302
    assert Paragraph.objects.get().text == "new"

    locks.freeze(paragraph)
    for data in ({"paragraphs-0-text": "newer"}, {"paragraphs-0-DELETE": "on"}):
        answer = boss.post(address, form(report, (paragraph,), title="t", **data), follow=True)
        assert texts(answer)[-1].startswith("Nothing was changed.")
    assert (Report.objects.get().title, Paragraph.objects.get().text) == ("", "new")
    locks.release_lock(paragraph)

    monkeypatch.setattr(ReportAdmin, "inlines", [ClosedPostInline])
    Paragraph.objects.update(text="closed")
    answer = boss.post(address, form(report, (paragraph,), **{"paragraphs-0-text": "x"}), follow=True)
    assert texts(answer)[-1].startswith("Nothing was changed.")
    assert Paragraph.objects.get().text == "closed"


def test_the_rule_of_a_page_is_not_asked_of_inlines(boss: Client) -> None:
    branch = Branch.objects.create(root=Root.objects.create())
    Leaf.objects.create(name="old", branch=branch)
    address = f"/admin/kinds/branch/{branch.pk}/change/"
    data = fill(boss.get(address), name="x", leaves__0__name="new")
    assert boss.post(address, data).status_code == 302
    assert Leaf.objects.get().name == "new"


def test_operators_locks_hold_in_the_admin_too(boss: Client) -> None:
    machine = Machine.objects.create(name="m")
    locks.freeze(machine, scope="delete")
    assert boss.post(f"/admin/kinds/machine/{machine.pk}/delete/", {"post": "yes"}).status_code == 403
    assert act(boss, "machine", "delete_selected", machine).status_code == 403
    locks.release_lock(machine)
    locks.freeze(machine)
    data = {"name": "new", "state": "x", "note": ""}
    answer = boss.post(f"/admin/kinds/machine/{machine.pk}/change/", data, follow=True)
    assert texts(answer)[0].startswith("Nothing was changed.")
    assert Machine.objects.get().name == "m"


def test_a_model_with_rules_is_asked_without_the_mixin_of_rules(boss: Client) -> None:
    contract = Contract.objects.create(state="signed")
    data = {"text": "new", "state": "draft"}
    answer = boss.post(f"/admin/kinds/contract/{contract.pk}/change/", data, follow=True)
    assert texts(answer)[0].startswith("Nothing was changed.")
    assert Contract.objects.get().state == "signed"


# ------------------------------------------------------------------------------------- the actions


@pytest.mark.parametrize("model", ["report", "post", "locked"])
def test_objects_are_locked_and_unlocked_after_a_question(boss: Client, model: str) -> None:
    kind: Any = {"report": Report, "post": Post, "locked": Locked}[model]
    one, other = kind.objects.create(), kind.objects.create()
    held = ADMINS[model].is_instance_locked
    page = act(boss, model, "lock", one, other, post=False)
    assert page.status_code == 200
    assert "Lock them?" in page.content.decode()
    assert not any(held(kind.objects.get(pk=obj.pk)) for obj in (one, other))
    assert f"{kind._meta.verbose_name_plural.capitalize()}: 2" in page.content.decode()
    assert f'value="{one.pk}"' in page.content.decode()

    done = act(boss, model, "lock", one)
    assert texts(done) == [f"1 {kind._meta.verbose_name} was locked."]
    done = act(boss, model, "lock", one, other)
    assert texts(done) == [f"1 {kind._meta.verbose_name} was locked."]  # the other one was so already
    assert all(held(kind.objects.get(pk=obj.pk)) for obj in (one, other))
    done = act(boss, model, "unlock", one, other)
    assert texts(done) == [f"2 {kind._meta.verbose_name_plural} were unlocked."]
    assert not any(held(kind.objects.get(pk=obj.pk)) for obj in (one, other))
    assert LogEntry.objects.count() == 4


ADMINS = {
    "report": ReportAdmin(Report, site),
    "post": PostAdmin(Post, site),
    "locked": LockedAdmin(Locked, site),
}


def test_a_status_may_be_written_by_who_sets_it(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, obj: Any, lock: bool) -> None:
        Post.objects.filter(pk=obj.pk).update(closed=lock)

    monkeypatch.setattr(PostAdmin, "set_locked_status", write)
    post = Post.objects.create()
    act(boss, "post", "lock", post)
    assert Post.objects.get().closed
    act(boss, "post", "unlock", post)
    assert not Post.objects.get().closed


def test_all_pages_of_a_list_may_be_chosen(boss: Client) -> None:
    reports = [Report.objects.create() for _ in range(3)]
    page = act(boss, "report", "lock", reports[0], post=False, select_across="1")
    assert "Reports: 3" in page.content.decode()
    assert 'name="select_across"' in page.content.decode()
    act(boss, "report", "lock", reports[0], select_across="1")
    assert Report.objects.filter(sealed=True).count() == 3


def test_who_may_only_look_is_not_offered_the_actions_and_cannot_do_them(django_user_model: Any) -> None:
    report = Report.objects.create(title="a secret name")
    looking = staff(django_user_model, "view_report")
    page = looking.get("/admin/kinds/report/").content.decode()
    assert 'value="lock"' not in page
    act(looking, "report", "lock", report)
    assert not Report.objects.get().sealed


def test_who_may_do_nothing_sees_no_name(django_user_model: Any) -> None:
    report = Report.objects.create(title="a secret name", sealed=True)
    nobody, nothing = Client(), staff(django_user_model)
    assert nothing.get("/admin/kinds/report/").status_code == 403
    for client in (nobody, nothing):
        for post in (False, True):
            refused = act(client, "report", "unlock", report, post=post)
            assert "a secret name" not in refused.content.decode()
    assert Report.objects.get().sealed


@pytest.mark.parametrize("post", [False, True])
def test_object_permissions_are_asked(boss: Client, post: bool) -> None:
    mine, private = Report.objects.create(), Report.objects.create(title="private")
    refused = act(boss, "report", "lock", mine, private, post=post)
    assert refused.status_code == 403
    assert not Report.objects.filter(sealed=True).exists()


def test_a_lockable_is_frozen_by_who_may_and_a_hold_is_broken_by_who_may(
    boss: Client, django_user_model: Any
) -> None:
    note = Locked.objects.create()
    editor = staff(django_user_model, "view_locked", "change_locked", "delete_locked")
    act(editor, "locked", "lock", note)
    assert not LockableMixin().is_instance_locked(note)
    user = django_user_model.objects.get(username="op")
    user.user_permissions.add(Permission.objects.get(codename="freeze"))
    ada = django_user_model.objects.create_user("ada")
    with rows.enter(Locked, note.pk, using="default", actor=locks.actor_for(ada)) as entry:
        locks.acquire(entry, locks.Claim(holder=str(ada.pk)))
    assert act(editor, "locked", "unlock", note).status_code == 403
    assert texts(act(boss, "locked", "unlock", note)) == ["1 locked was unlocked."]
    assert texts(act(editor, "locked", "lock", note)) == ["1 locked was locked."]


def test_the_holder_of_a_lock_may_edit(boss: Client, django_user_model: Any) -> None:
    note = Locked.objects.create(text="old")
    user = django_user_model.objects.get(username="boss")
    address = f"/admin/kinds/locked/{note.pk}/change/"
    with rows.enter(Locked, note.pk, using="default", actor=locks.actor_for(user)) as entry:
        locks.acquire(entry, locks.Claim(holder=str(user.pk)))
    assert boss.post(address, {"text": "new"}).status_code == 302
    assert Locked.objects.get().text == "new"


def test_the_holder_of_a_lock_may_edit_in_an_inline_too(boss: Client, django_user_model: Any) -> None:
    report = Report.objects.create()
    paragraph = Paragraph.objects.create(report=report, text="old")
    user = django_user_model.objects.get(username="boss")
    with rows.enter(Paragraph, paragraph.pk, using="default", actor=locks.actor_for(user)) as entry:
        locks.acquire(entry, locks.Claim(holder=str(user.pk)))
    data = form(report, (paragraph,), **{"paragraphs-0-text": "new"})
    assert boss.post(f"/admin/kinds/report/{report.pk}/change/", data).status_code == 302
    assert Paragraph.objects.get().text == "new"


def test_what_is_created_is_asked_nothing(boss: Client) -> None:
    boss.post("/admin/kinds/post/add/", {"text": "x", "closed": "on"})
    assert Post.objects.get().closed


# ------------------------------------------------------------------------------- what is missing


def test_an_admin_without_a_rule_is_reported() -> None:
    class Forgotten(LockableAdminMixin, admin.ModelAdmin):
        pass

    found = Forgotten(Post, site).check()
    assert [(message.id, message.obj) for message in found] == [("concord.E016", Forgotten)]
    assert "app.Post" in found[0].msg or "kinds.Post" in found[0].msg
    for kind, model in ((PostAdmin, Post), (ReportAdmin, Report), (LockedAdmin, Locked)):
        assert kind(model, site).check() == []
