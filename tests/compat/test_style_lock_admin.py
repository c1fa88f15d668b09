"""Object locking in the admin, as independent suites test it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.test import Client, RequestFactory, modify_settings
from django.urls import path, reverse

from drf_concord.compat.django_object_lock.admin import LockableAdminMixin
from drf_concord.compat.django_object_lock.admin.views import (
    default_lock_or_unlock_view,
    default_lock_view,
    default_unlock_view,
    get_lockable_objects,
)
from tests.kinds.models import Paragraph, Post, Report

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

site = admin.AdminSite(name="admin")


@admin.register(Report, site=site)
class ReportAdmin(LockableAdminMixin, admin.ModelAdmin):
    list_display = ["title", "locked_icon"]
    actions = ["lock", "unlock"]


@admin.register(Paragraph, site=site)
class ParagraphAdmin(LockableAdminMixin, admin.ModelAdmin):
    list_display = ["text", "locked_icon"]
    actions = []


@admin.register(Post, site=site)
class PostAdmin(LockableAdminMixin, admin.ModelAdmin):
    """The admin says what a lock is."""

    list_display = ["text", "locked_icon"]
    actions = ["lock"]
    locked_icon_url = "own/lock.png"

    def is_instance_locked(self, obj: Any) -> bool:
        return obj.closed

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock
        obj.save()


urlpatterns = [path("admin/", site.urls)]


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    with modify_settings(INSTALLED_APPS={"append": "drf_concord.compat.django_object_lock"}):
        yield


@pytest.fixture
def boss(django_user_model: Any) -> Any:
    return django_user_model.objects.create_superuser("boss", password="boss")


@pytest.fixture
def browser(client: Client, boss: Any) -> Client:
    client.force_login(boss)
    return client


@pytest.fixture
def request_(boss: Any) -> Any:
    request = RequestFactory().get("/")
    request.user = boss
    request.session = {}
    request._messages = FallbackStorage(request)
    return request


def icons(browser: Client, name: str) -> int:
    return browser.get(reverse(f"admin:kinds_{name}_changelist")).content.decode().count("<img src=")


def test_permissions_of_objects(request_: Any) -> None:
    model_admin = ReportAdmin(Report, site)
    free, locked = Report.objects.create(), Report.objects.create(sealed=True)
    assert model_admin.has_change_permission(request_)
    assert model_admin.has_delete_permission(request_)
    assert model_admin.has_change_permission(request_, free)
    assert model_admin.has_delete_permission(request_, free)
    assert not model_admin.has_change_permission(request_, locked)
    assert not model_admin.has_delete_permission(request_, locked)
    assert model_admin.has_view_permission(request_, locked)


def test_icon_of_an_object() -> None:
    model_admin = ReportAdmin(Report, site)
    icon = model_admin.locked_icon(Report.objects.create(sealed=True))
    assert "django_object_lock/images/locked.svg" in icon
    assert icon == model_admin.locked_icon_html(Report.objects.create(sealed=True))
    assert not model_admin.locked_icon(Report.objects.create())


def test_icon_of_the_admin() -> None:
    model_admin = PostAdmin(Post, site)
    assert "own/lock.png" in model_admin.locked_icon(Post.objects.create(closed=True))


def test_icon_of_the_settings(settings: Any) -> None:
    settings.DJANGO_OBJECT_LOCK = {"DEFAULT_LOCKED_ICON_URL": "my.svg"}
    assert ReportAdmin(Report, site).locked_icon_url == "my.svg"


def test_changelist(browser: Client) -> None:
    Report.objects.create(title="free")
    before = icons(browser, "report")
    Report.objects.create(title="locked", sealed=True)
    assert icons(browser, "report") == before + 1


def test_change_page(browser: Client) -> None:
    free, locked = Report.objects.create(title="t"), Report.objects.create(title="t", sealed=True)
    page = browser.get(reverse("admin:kinds_report_change", args=[free.pk])).content.decode()
    assert 'name="_save"' in page
    page = browser.get(reverse("admin:kinds_report_change", args=[locked.pk])).content.decode()
    assert 'name="_save"' not in page


def test_writes_to_what_is_locked(browser: Client) -> None:
    locked = Report.objects.create(title="old", sealed=True)
    change = reverse("admin:kinds_report_change", args=[locked.pk])
    assert browser.post(change, {"title": "new"}).status_code == 403
    delete = reverse("admin:kinds_report_delete", args=[locked.pk])
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    assert Report.objects.get(pk=locked.pk).title == "old"


def test_child_of_what_is_locked(browser: Client) -> None:
    locked = Report.objects.create(sealed=True)
    Paragraph.objects.bulk_create([Paragraph(report=locked)])
    change = reverse("admin:kinds_paragraph_change", args=[Paragraph.objects.get().pk])
    assert 'name="_save"' not in browser.get(change).content.decode()


@pytest.mark.parametrize("name", ["lock", "unlock"])
def test_addresses(name: str) -> None:
    assert reverse(f"admin:kinds_report_{name}") == f"/admin/kinds/report/{name}/"


def test_addresses_follow_the_actions(browser: Client) -> None:
    names = {getattr(each, "name", "") for each in PostAdmin(Post, site).get_urls()}
    assert "kinds_post_lock" in names
    assert "kinds_post_unlock" not in names
    names = {getattr(each, "name", "") for each in ParagraphAdmin(Paragraph, site).get_urls()}
    assert not {"kinds_paragraph_lock", "kinds_paragraph_unlock"} & names


@pytest.mark.parametrize(("name", "lock"), [("lock", True), ("unlock", False)])
def test_action_redirects(browser: Client, name: str, lock: bool) -> None:
    reports = [Report.objects.create(sealed=not lock) for _ in range(2)]
    ids = [each.pk for each in reports]
    answer = browser.post(reverse("admin:kinds_report_changelist"), {"action": name, "_selected_action": ids})
    assert answer.status_code == 302
    assert answer.url.startswith(reverse(f"admin:kinds_report_{name}") + "?ids=")
    assert sorted(map(int, answer.url.split("=")[1].split(","))) == ids


@pytest.mark.parametrize(("name", "lock"), [("lock", True), ("unlock", False)])
def test_page_asks_and_does(browser: Client, name: str, lock: bool) -> None:
    reports = [Report.objects.create(title=f"r{n}", sealed=not lock) for n in range(2)]
    ids = ",".join(str(each.pk) for each in reports)
    address = reverse(f"admin:kinds_report_{name}")
    page = browser.get(address, {"ids": ids})
    assert page.status_code == 200
    assert f"django_object_lock/admin_{name}.html" in [each.name for each in page.templates]
    assert "Reports: 2" in page.content.decode()
    answer = browser.post(address, {"ids": ids})
    assert (answer.status_code, answer.url) == (302, reverse("admin:kinds_report_changelist"))
    assert {each.is_locked() for each in Report.objects.all()} == {lock}
    assert len(list(get_messages(answer.wsgi_request))) == 1


def test_page_without_objects(browser: Client) -> None:
    for query in ({}, {"ids": ""}, {"ids": "a,b"}, {"ids": "999999"}):
        page = browser.get(reverse("admin:kinds_report_lock"), query)
        assert "No objects have been selected" in page.content.decode()


def test_locking_what_is_locked_already(browser: Client) -> None:
    free, locked = Report.objects.create(), Report.objects.create(sealed=True)
    answer = browser.post(reverse("admin:kinds_report_lock"), {"ids": f"{free.pk},{locked.pk}"})
    assert answer.status_code == 302
    assert Report.objects.filter(sealed=True).count() == 2


def test_rules_of_the_admin(browser: Client) -> None:
    post = Post.objects.create(text="a")
    browser.post(reverse("admin:kinds_post_lock"), {"ids": str(post.pk)})
    post.refresh_from_db()
    assert post.closed
    change = reverse("admin:kinds_post_change", args=[post.pk])
    assert 'name="_save"' not in browser.get(change).content.decode()


def test_nobody_comes_in(client: Client) -> None:
    answer = client.get(reverse("admin:kinds_report_lock"), {"ids": "1"})
    assert answer.status_code == 302
    assert "/login/" in answer.url


@pytest.mark.parametrize(
    ("view", "more", "template"),
    [
        (default_lock_view, (), "django_object_lock/admin_lock.html"),
        (default_unlock_view, (), "django_object_lock/admin_unlock.html"),
        (default_lock_or_unlock_view, (True,), "django_object_lock/admin_lock.html"),
        (default_lock_or_unlock_view, (False,), "django_object_lock/admin_unlock.html"),
    ],
)
def test_views_by_themselves(request_: Any, view: Any, more: Any, template: str) -> None:
    answer = view(ReportAdmin(Report, site), request_, *more)
    assert answer.status_code == 200
    assert template in answer.template_name


def test_own_views(boss: Any) -> None:
    seen = []

    def own(model_admin: Any, request: Any) -> Any:
        seen.append((model_admin, request))
        return default_lock_view(model_admin, request)

    class Own(LockableAdminMixin, admin.ModelAdmin):
        actions = ["lock"]
        lock_view = own

    model_admin = Own(Report, site)
    (found,) = [each for each in model_admin.get_urls() if getattr(each, "name", "") == "kinds_report_lock"]
    request = RequestFactory().get("/")
    request.user = boss
    assert found.callback(request).status_code == 200
    assert seen == [(model_admin, request)]


def test_objects_of_keys() -> None:
    first, second = Report.objects.create(), Report.objects.create()
    assert list(get_lockable_objects(Report, str(first.pk))) == [first]
    assert set(get_lockable_objects(Report, f"{first.pk},{second.pk}")) == {first, second}
    assert list(get_lockable_objects(Report, "")) == []
    assert list(get_lockable_objects(Report, "x")) == []


def test_media() -> None:
    assert "django_object_lock/css/admin.css" in str(ReportAdmin(Report, site).media)


def test_actions_are_offered(request_: Any) -> None:
    offered = ReportAdmin(Report, site).get_actions(request_)
    assert {"lock", "unlock"} <= set(offered)
    assert not {"lock", "unlock"} & set(ParagraphAdmin(Paragraph, site).get_actions(request_))


def test_delete_selected_keeps_what_is_locked(browser: Client) -> None:
    locked = Report.objects.create(sealed=True)
    chosen = {"action": "delete_selected", "_selected_action": [locked.pk], "post": "yes"}
    browser.post(reverse("admin:kinds_report_changelist"), chosen)
    assert Report.objects.filter(pk=locked.pk).exists()
