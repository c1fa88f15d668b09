"""django-object-lock by its own paths: the names, a view, the admin and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin, staticfiles
from django.contrib.auth.models import Permission
from django.contrib.staticfiles import finders
from django.test import Client, modify_settings
from django.urls import include, path, reverse
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord import locks
from drf_concord.compat.django_object_lock.admin import LockableAdminMixin
from drf_concord.compat.django_object_lock.admin.views import get_lockable_objects
from drf_concord.compat.django_object_lock.api.mixins import (
    LockableDestroyModelMixin,
    LockableUpdateModelMixin,
    lock_action,
    unlock_action,
)
from drf_concord.compat.django_object_lock.exceptions import ObjectLocked
from drf_concord.compat.django_object_lock.settings import dol_settings
from tests.app.views import serializer_for
from tests.kinds.models import Paragraph, Report

from .paths import found_at, rows_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

APP = "drf_concord.compat.django_object_lock"
TABLE = {
    "models": {"LockableModel": "models.LockableModel"},
    "exceptions": {"ObjectLocked": "ObjectLocked"},
    "mixins": {"LockableMixin": "locks.LockableMixin"},
    "api.mixins": {
        "LockableUpdateModelMixin": "rest.mixins.LockableUpdateModelMixin",
        "LockableDestroyModelMixin": "rest.mixins.LockableDestroyModelMixin",
        "unlock_action": "rest.mixins.unlock_action",
    },
    "api.exceptions": {
        "Conflict": "rest.exceptions.Conflict",
        "APIObjectLocked": "rest.exceptions.APIObjectLocked",
        "APIObjectAlreadyLocked": "<rest.exceptions.APIObjectAlreadyLocked",
        "APIObjectAlreadyUnlocked": "rest.exceptions.APIObjectAlreadyUnlocked",
    },
    "admin": {"LockableAdminMixin": "<admin.LockableAdminMixin"},
    "apps": {"DjangoObjectLockConfig": "<compat.installing.BesideConcord"},
}


@pytest.mark.parametrize(("module", "name", "ours"), rows_of(TABLE))
def test_paths(module: str, name: str, ours: str) -> None:
    found, expected = found_at("django_object_lock", module, name, ours)
    assert issubclass(found, expected) if ours[0] == "<" else found is expected


class ReportViewSet(
    mixins.RetrieveModelMixin, LockableUpdateModelMixin, LockableDestroyModelMixin, viewsets.GenericViewSet
):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title", "sealed"])

    @action(methods=["PUT", "PATCH"], detail=True)
    def lock(self, request: Any, pk: Any = None) -> Response:
        return lock_action(self, request, pk)

    @action(methods=["PUT", "PATCH"], detail=True)
    def unlock(self, request: Any, pk: Any = None) -> Response:
        return unlock_action(self, request, pk)


class Site(admin.AdminSite):
    pass


site = Site(name="admin")


@admin.register(Report, site=site)
class ReportAdmin(LockableAdminMixin, admin.ModelAdmin):
    list_display = ["__str__", "locked_icon"]


@admin.register(Paragraph, site=site)
class ParagraphAdmin(LockableAdminMixin, admin.ModelAdmin):
    actions = None


router = SimpleRouter()
router.register("reports", ReportViewSet)
urlpatterns = [path("admin/", site.urls), path("", include(router.urls))]


@pytest.fixture
def installed() -> Iterator[None]:
    finders.get_finder.cache_clear()
    with modify_settings(INSTALLED_APPS={"append": APP}):
        yield
    finders.get_finder.cache_clear()


@pytest.fixture
def boss(client: Client, django_user_model: Any, installed: None) -> Client:
    client.force_login(django_user_model.objects.create_superuser("boss", password="boss"))
    return client


# ------------------------------------------------------------------------------------ the API


def test_a_view_refuses_what_is_locked_in_the_words_of_before() -> None:
    client, report = APIClient(), Report.objects.create(title="old")
    address = f"/reports/{report.pk}/"
    told = client.put(f"{address}lock/")
    assert (told.status_code, told.json()) == (200, {"id": report.pk, "title": "old", "sealed": True})
    for answer, text in (
        (client.patch(address, {"title": "new"}), "This object is locked and cannot be edited."),
        (client.put(address, {"title": "new"}), "This object is locked and cannot be edited."),
        (client.delete(address), "This object is locked and cannot be edited."),
        (client.put(f"{address}lock/"), "This object has already been locked."),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (409, text)
    assert client.put(f"{address}unlock/").status_code == 200
    again = client.put(f"{address}unlock/")
    assert (again.status_code, again.json()["detail"]) == (409, "This object is not locked.")
    assert client.patch(address, {"title": "new"}).json()["title"] == "new"


def test_a_model_refuses_to_be_saved() -> None:
    report = Report.objects.create()
    Report.objects.filter(pk=report.pk).update(sealed=True)
    with pytest.raises(ObjectLocked, match="This object is locked and cannot be edited"):
        report.save()


# ---------------------------------------------------------------------------------- the admin


@pytest.mark.parametrize("name", ["lock", "unlock"])
def test_an_action_leads_to_a_page_that_asks(boss: Client, name: str) -> None:
    reports = [Report.objects.create(sealed=name == "unlock") for _ in range(2)]
    page = reverse(f"admin:kinds_report_{name}")
    assert page == f"/admin/kinds/report/{name}/"
    chosen = {"action": name, "_selected_action": [each.pk for each in reports]}
    led = boss.post("/admin/kinds/report/", chosen)
    assert led.status_code == 302
    assert sorted(led["Location"].removeprefix(f"{page}?ids=").split(",")) == sorted(
        str(each.pk) for each in reports
    )
    asked = boss.get(led["Location"])
    assert asked.templates[0].name == f"django_object_lock/admin_{name}.html"
    assert "Reports: 2" in asked.content.decode()
    assert Report.objects.filter(sealed=name == "lock").count() == 0

    done = boss.post(led["Location"])
    assert (done.status_code, done["Location"]) == (302, "/admin/kinds/report/")
    assert Report.objects.filter(sealed=name == "lock").count() == 2
    text = boss.get("/admin/kinds/report/").content.decode()
    assert f"2 reports were {name}ed." in text


def test_more_than_an_address_can_name_is_asked_about_by_the_list(boss: Client) -> None:
    reports = [Report(pk=10**15 + n) for n in range(130)]
    Report.objects.bulk_create(reports)
    chosen = {"action": "lock", "_selected_action": [each.pk for each in reports]}
    page = boss.post("/admin/kinds/report/", chosen)
    assert (page.status_code, page.templates[0].name) == (200, "drf_concord/admin/confirm_lock.html")
    assert boss.post("/admin/kinds/report/", {**chosen, "post": "yes"}).status_code == 302
    assert Report.objects.filter(sealed=True).count() == 130


def test_the_keys_may_stand_in_the_body(boss: Client) -> None:
    report = Report.objects.create()
    boss.post("/admin/kinds/report/lock/", {"ids": str(report.pk)})
    assert Report.objects.get(pk=report.pk).sealed


def test_a_refusal_is_a_message(boss: Client, django_user_model: Any) -> None:
    report = Report.objects.create()
    holder = django_user_model.objects.create_user("holder")
    with locks.hold(report, holder=holder):
        answer = boss.post(f"/admin/kinds/report/lock/?ids={report.pk}", follow=True)
    assert "Nothing was changed." in answer.content.decode()
    assert not Report.objects.get(pk=report.pk).sealed


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=x,1"])
def test_who_chose_nothing_is_told(boss: Client, query: str) -> None:
    Report.objects.create()
    page = boss.get(f"/admin/kinds/report/lock/{query}")
    assert "No objects have been selected" in page.content.decode()


@pytest.mark.parametrize("codename", [None, "view_report"])
def test_who_may_not_change_may_not_lock(
    client: Client, django_user_model: Any, installed: None, codename: str | None
) -> None:
    user = django_user_model.objects.create_user("op", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename=codename))
    client.force_login(user)
    report = Report.objects.create(title="secret")
    for query in (f"?ids={report.pk}", ""):
        assert client.get(f"/admin/kinds/report/lock/{query}").status_code == 403
        assert client.post(f"/admin/kinds/report/lock/{query}").status_code == 403
    assert not Report.objects.get(pk=report.pk).sealed


def test_an_admin_without_actions_has_no_pages() -> None:
    names = {pattern.name for pattern in ParagraphAdmin(Paragraph, site).get_urls()}
    assert not names & {"kinds_paragraph_lock", "kinds_paragraph_unlock"}


def test_objects_of_keys() -> None:
    reports = [Report.objects.create() for _ in range(3)]
    keys = f"{reports[0].pk},{reports[2].pk}"
    assert set(get_lockable_objects(Report, keys)) == {reports[0], reports[2]}
    assert not get_lockable_objects(Report, "1,x").exists()


# ------------------------------------------------------------------------------- the settings


def test_the_icon(boss: Client, settings: Any) -> None:
    Report.objects.create(sealed=True)
    icon = "django_object_lock/images/locked.svg"
    assert icon == dol_settings.DEFAULT_LOCKED_ICON_URL
    page = boss.get("/admin/kinds/report/").content.decode()
    assert f'src="/static/{icon}"' in page
    assert "django_object_lock/css/admin.css" in page
    for name in (icon, "django_object_lock/css/admin.css"):
        assert staticfiles.finders.find(name), name
    settings.DJANGO_OBJECT_LOCK = {"DEFAULT_LOCKED_ICON_URL": "/own.svg"}
    assert dol_settings.DEFAULT_LOCKED_ICON_URL == "/own.svg"
    assert 'src="/own.svg"' in boss.get("/admin/kinds/report/").content.decode()


def test_a_setting_that_is_none() -> None:
    with pytest.raises(AttributeError, match="Invalid setting: COLOUR"):
        _ = dol_settings.COLOUR
