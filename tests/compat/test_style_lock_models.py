"""Object locking in models and in the API, as independent suites test it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from django.urls import include, path
from django.utils.functional import Promise
from rest_framework import generics, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.routers import DefaultRouter
from rest_framework.test import APIClient, APIRequestFactory

from drf_concord.compat.django_object_lock.api.exceptions import (
    APIObjectAlreadyLocked,
    APIObjectAlreadyUnlocked,
    APIObjectLocked,
    Conflict,
)
from drf_concord.compat.django_object_lock.api.mixins import (
    LockableDestroyModelMixin,
    LockableUpdateModelMixin,
    lock_action,
    unlock_action,
)
from drf_concord.compat.django_object_lock.exceptions import ObjectLocked
from drf_concord.compat.django_object_lock.mixins import LockableMixin
from drf_concord.compat.django_object_lock.models import LockableModel
from drf_concord.compat.django_object_lock.settings import dol_settings
from tests.app.views import serializer_for
from tests.kinds.models import Paragraph, Post, Report, Undefined

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LOCKED = "This object is locked and cannot be edited."


class ReportViewSet(LockableUpdateModelMixin, LockableDestroyModelMixin, viewsets.ModelViewSet):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title", "sealed"])

    @action(methods=["PUT"], detail=True)
    def lock(self, request: Any, pk: Any = None) -> Any:
        return lock_action(self, request, pk)

    @action(methods=["PUT"], detail=True)
    def unlock(self, request: Any, pk: Any = None) -> Any:
        return unlock_action(self, request, pk)


class PostViewSet(LockableUpdateModelMixin, LockableDestroyModelMixin, viewsets.ModelViewSet):
    """The view says what a lock is."""

    queryset = Post.objects.all()
    serializer_class = serializer_for(Post, ["id", "text", "closed"])

    def is_instance_locked(self, obj: Any) -> bool:
        return obj.closed

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock
        obj.save()

    @action(methods=["PATCH"], detail=True)
    def lock(self, request: Any, pk: Any = None) -> Any:
        return lock_action(self, request, pk)

    @action(methods=["PATCH"], detail=True)
    def unlock(self, request: Any, pk: Any = None) -> Any:
        return unlock_action(self, request, pk)


class ParagraphViewSet(LockableUpdateModelMixin, LockableDestroyModelMixin, viewsets.ModelViewSet):
    queryset = Paragraph.objects.all()
    serializer_class = serializer_for(Paragraph, ["id", "text", "report"])


class ReportDetail(LockableUpdateModelMixin, LockableDestroyModelMixin, generics.GenericAPIView):
    queryset = Report.objects.all()
    serializer_class = serializer_for(Report, ["id", "title", "sealed"])

    def put(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.update(request, *args, **kwargs)

    def patch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.partial_update(request, *args, **kwargs)

    def delete(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.destroy(request, *args, **kwargs)


router = DefaultRouter()
router.register("reports", ReportViewSet)
router.register("posts", PostViewSet)
router.register("paragraphs", ParagraphViewSet)
urlpatterns = [path("", include(router.urls)), path("detail/<int:pk>/", ReportDetail.as_view())]


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def report() -> Report:
    return Report.objects.create(title="old")


@pytest.fixture
def locked() -> Report:
    return Report.objects.create(title="old", sealed=True)


# ------------------------------------------------------------------------------------- the model


def test_a_new_object_may_be_created_locked(locked: Report) -> None:
    assert locked.pk
    assert locked.is_locked()


def test_an_unlocked_object_is_saved(report: Report) -> None:
    report.title = "new"
    report.save()
    report.refresh_from_db()
    assert report.title == "new"


def test_a_locked_object_is_not_saved(locked: Report) -> None:
    found = Report.objects.get(pk=locked.pk)
    found.title = "new"
    with pytest.raises(ObjectLocked):
        found.save()
    assert Report.objects.get(pk=locked.pk).title == "old"


def test_the_text_of_the_refusal(locked: Report) -> None:
    with pytest.raises(ObjectLocked) as raised:
        Report.objects.get(pk=locked.pk).save()
    assert str(raised.value) == LOCKED


def test_a_locked_object_is_not_deleted(locked: Report) -> None:
    with pytest.raises(ObjectLocked):
        Report.objects.get(pk=locked.pk).delete()
    assert Report.objects.filter(pk=locked.pk).exists()


def test_an_unlocked_object_is_deleted(report: Report) -> None:
    report.delete()
    assert not Report.objects.exists()


def test_locking_by_saving(report: Report) -> None:
    report.set_locked(True)
    report.title = "last words"
    report.save()
    report.refresh_from_db()
    assert (report.sealed, report.title) == (True, "last words")
    with pytest.raises(ObjectLocked):
        report.save()


def test_unlocking_by_saving(locked: Report) -> None:
    found = Report.objects.get(pk=locked.pk)
    found.set_locked(False)
    found.title = "free"
    found.save()
    assert Report.objects.get(pk=locked.pk).title == "free"
    found.title = "freer"
    found.save()
    found.delete()


def test_locked_just_now_cannot_be_saved_again(report: Report) -> None:
    report.sealed = True
    report.save()
    report.title = "more"
    with pytest.raises(ObjectLocked):
        report.save()


def test_save_takes_what_django_takes(report: Report) -> None:
    report.title = "new"
    report.sealed = True
    report.save(update_fields=["title"])
    found = Report.objects.get(pk=report.pk)
    assert (found.title, found.sealed) == ("new", False)


def test_update_of_a_queryset_passes(locked: Report) -> None:
    assert Report.objects.filter(pk=locked.pk).update(title="bulk") == 1


def test_a_derived_lock(locked: Report) -> None:
    Paragraph.objects.bulk_create([Paragraph(report=locked)])
    paragraph = Paragraph.objects.get()
    with pytest.raises(ObjectLocked):
        paragraph.save()


def test_a_derived_lock_comes_and_goes(report: Report) -> None:
    paragraph = Paragraph.objects.create(report=report, text="a")
    report.sealed = True
    report.save()
    with pytest.raises(ObjectLocked):
        Paragraph.objects.get(pk=paragraph.pk).delete()
    found = Report.objects.get(pk=report.pk)
    found.sealed = False
    found.save()
    Paragraph.objects.get(pk=paragraph.pk).delete()


def test_a_model_without_rules() -> None:
    thing = Undefined(text="a")
    with pytest.raises(NotImplementedError):
        thing.is_locked()
    with pytest.raises(NotImplementedError):
        thing.set_locked(True)


def test_the_model_is_abstract() -> None:
    assert LockableModel._meta.abstract
    assert not LockableModel._meta.local_fields
    assert issubclass(Report, LockableModel)


def test_the_exception_without_and_with_a_text() -> None:
    assert issubclass(ObjectLocked, Exception)
    assert str(ObjectLocked()) == LOCKED
    assert str(ObjectLocked("own words")) == "own words"


# ------------------------------------------------------------------------------------- the mixin


def test_the_mixin_asks_the_model(report: Report, locked: Report) -> None:
    mixin = LockableMixin()
    assert mixin.is_instance_locked(locked) is True
    assert mixin.is_instance_locked(report) is False
    mixin.set_locked_status(report, True)
    assert report.is_locked()


def test_the_mixin_without_a_rule() -> None:
    post = Post.objects.create()
    with pytest.raises(NotImplementedError):
        LockableMixin().is_instance_locked(post)
    with pytest.raises(NotImplementedError):
        LockableMixin().set_locked_status(post, True)


# --------------------------------------------------------------------------------- the exceptions


@pytest.mark.parametrize(
    ("exception", "code", "text"),
    [
        (APIObjectLocked, "object_locked", LOCKED),
        (APIObjectAlreadyLocked, "object_already_locked", "This object has already been locked."),
        (APIObjectAlreadyUnlocked, "object_not_locked", "This object is not locked."),
    ],
)
def test_exceptions_of_the_api(exception: Any, code: str, text: str) -> None:
    assert issubclass(exception, Conflict)
    assert issubclass(exception, APIException)
    assert exception.status_code == status.HTTP_409_CONFLICT
    assert exception.default_code == code
    assert str(exception.default_detail) == text
    assert isinstance(exception.default_detail, Promise)
    raised = exception()
    assert (raised.status_code, raised.get_codes(), str(raised)) == (409, code, text)


def test_conflict() -> None:
    assert (Conflict.status_code, Conflict.default_code) == (409, "conflict")
    assert str(Conflict("own words")) == "own words"


# ---------------------------------------------------------------------------------------- the API


@pytest.mark.parametrize("address", ["/reports/{}/", "/detail/{}/"])
@pytest.mark.parametrize("method", ["put", "patch"])
def test_update_of_what_is_unlocked(api: APIClient, report: Report, address: str, method: str) -> None:
    answer = getattr(api, method)(address.format(report.pk), {"title": "new"}, format="json")
    assert answer.status_code == status.HTTP_200_OK
    assert answer.data["title"] == "new"


@pytest.mark.parametrize("address", ["/reports/{}/", "/detail/{}/"])
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_writes_to_what_is_locked(api: APIClient, locked: Report, address: str, method: str) -> None:
    answer = getattr(api, method)(address.format(locked.pk), {"title": "new"}, format="json")
    assert answer.status_code == status.HTTP_409_CONFLICT
    assert answer.data["detail"] == LOCKED
    assert Report.objects.get(pk=locked.pk).title == "old"


def test_delete_of_what_is_unlocked(api: APIClient, report: Report) -> None:
    assert api.delete(f"/reports/{report.pk}/").status_code == status.HTTP_204_NO_CONTENT
    assert not Report.objects.exists()


def test_reading_and_creating_go_on(api: APIClient, locked: Report) -> None:
    assert api.get(f"/reports/{locked.pk}/").status_code == 200
    assert len(api.get("/reports/").data) == 1
    assert api.post("/reports/", {"title": "x"}).status_code == 201


def test_lock_and_unlock(api: APIClient, report: Report) -> None:
    answer = api.put(f"/reports/{report.pk}/lock/")
    assert (answer.status_code, answer.data["sealed"]) == (200, True)
    again = api.put(f"/reports/{report.pk}/lock/")
    assert (again.status_code, again.data["detail"]) == (409, "This object has already been locked.")
    answer = api.put(f"/reports/{report.pk}/unlock/")
    assert (answer.status_code, answer.data["sealed"]) == (200, False)
    again = api.put(f"/reports/{report.pk}/unlock/")
    assert (again.status_code, again.data["detail"]) == (409, "This object is not locked.")


def test_locking_what_is_not_there(api: APIClient) -> None:
    assert api.put("/reports/999999/lock/").status_code == 404
    assert api.put("/reports/999999/unlock/").status_code == 404


def test_rules_of_the_view(api: APIClient) -> None:
    post = Post.objects.create(text="a")
    assert api.patch(f"/posts/{post.pk}/lock/").data == {"id": post.pk, "text": "a", "closed": True}
    assert api.patch(f"/posts/{post.pk}/", {"text": "b"}).status_code == 409
    assert api.delete(f"/posts/{post.pk}/").status_code == 409
    assert api.patch(f"/posts/{post.pk}/unlock/").status_code == 200
    assert api.patch(f"/posts/{post.pk}/", {"text": "b"}).data["text"] == "b"


def test_a_child_of_what_is_locked(api: APIClient, report: Report) -> None:
    paragraph = Paragraph.objects.create(report=report, text="a")
    address = f"/paragraphs/{paragraph.pk}/"
    assert api.patch(address, {"text": "b"}).status_code == 200
    api.put(f"/reports/{report.pk}/lock/")
    assert api.patch(address, {"text": "c"}).status_code == 409
    assert api.delete(address).status_code == 409


def test_views_called_by_a_request_factory(locked: Report, report: Report) -> None:
    factory = APIRequestFactory()
    view = ReportViewSet.as_view({"patch": "partial_update", "put": "lock", "delete": "destroy"})
    assert view(factory.patch("/", {"title": "x"}), pk=locked.pk).status_code == 409
    assert view(factory.delete("/"), pk=locked.pk).status_code == 409
    assert view(factory.patch("/", {"title": "x"}), pk=report.pk).status_code == 200
    assert view(factory.put("/"), pk=report.pk).status_code == 200
    report.refresh_from_db()
    assert report.is_locked()


# ----------------------------------------------------------------------------------- the settings


def test_the_settings() -> None:
    assert dol_settings.DEFAULT_LOCKED_ICON_URL == "django_object_lock/images/locked.svg"
    with override_settings(DJANGO_OBJECT_LOCK={"DEFAULT_LOCKED_ICON_URL": "own.svg"}):
        assert dol_settings.DEFAULT_LOCKED_ICON_URL == "own.svg"
    assert dol_settings.DEFAULT_LOCKED_ICON_URL == "django_object_lock/images/locked.svg"
    with pytest.raises(AttributeError, match="Invalid setting"):
        _ = dol_settings.NOTHING
