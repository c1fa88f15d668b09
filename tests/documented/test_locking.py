"""Object locking: a project that moved over by a change of imports."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import include, path
from rest_framework import generics, mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.test import APIClient

from drf_concord import ObjectLocked
from drf_concord.locks import LockableMixin
from drf_concord.rest import mixins as concord
from drf_concord.rest.exceptions import APIObjectAlreadyLocked, APIObjectAlreadyUnlocked, APIObjectLocked
from drf_concord.rest.locks import lock_action, unlock_action
from tests.kinds.models import Paragraph, Post, Report

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class ReportSerializer(serializers.ModelSerializer):
    class Meta:
        model = Report
        fields = ["id", "title", "sealed"]


class ReportViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    concord.LockableUpdateModelMixin,
    concord.LockableDestroyModelMixin,
    viewsets.GenericViewSet,
):
    queryset = Report.objects.all()
    serializer_class = ReportSerializer

    @action(methods=["PUT", "PATCH"], detail=True)
    def lock(self: concord.LockableMixin, request: Any, pk: Any = None) -> Response:
        return concord.lock_action(self, request, pk)

    @action(methods=["PUT", "PATCH"], detail=True)
    def unlock(self: concord.LockableMixin, request: Any, pk: Any = None) -> Response:
        return concord.unlock_action(self, request, pk)


class PostSerializer(serializers.ModelSerializer):
    class Meta:
        model = Post
        fields = ["id", "text"]


class PostView(
    concord.LockableUpdateModelMixin,
    concord.LockableDestroyModelMixin,
    generics.RetrieveUpdateDestroyAPIView,
):
    """A model that knows nothing of locks."""

    queryset = Post.objects.all()
    serializer_class = PostSerializer

    def is_instance_locked(self, obj: Any) -> bool:
        return bool(obj.closed)

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        obj.closed = lock


class ParagraphSerializer(serializers.ModelSerializer):
    class Meta:
        model = Paragraph
        fields = ["id", "text"]


class ParagraphViewSet(
    viewsets.ModelViewSet, concord.LockableUpdateModelMixin, concord.LockableDestroyModelMixin
):
    queryset = Paragraph.objects.all()
    serializer_class = ParagraphSerializer


router = DefaultRouter()
router.register("reports", ReportViewSet)
router.register("paragraphs", ParagraphViewSet)
urlpatterns = [path("posts/<int:pk>/", PostView.as_view()), path("", include(router.urls))]


def test_a_report_is_locked_edited_in_vain_unlocked_and_edited() -> None:
    api = APIClient()
    report = api.post("/reports/", {"title": "Numbers"}, format="json").json()
    address = f"/reports/{report['id']}/"
    assert api.put(f"{address}lock/").json() == {**report, "sealed": True}
    assert api.patch(f"{address}lock/").status_code == 409
    assert api.put(address, {"title": "Other"}, format="json").status_code == 409
    assert api.delete(address).status_code == 409
    assert api.get(address).json()["title"] == "Numbers"
    assert api.patch(f"{address}unlock/").json() == report
    assert api.put(f"{address}unlock/").status_code == 409
    assert api.put(address, {"title": "Other"}, format="json").json()["title"] == "Other"
    assert api.delete(address).status_code == 204


def test_the_refusals_say_what_they_are() -> None:
    codes = {kind.default_code: kind.status_code for kind in KINDS}
    assert codes == {"object_locked": 409, "object_already_locked": 409, "object_not_locked": 409}


KINDS = (APIObjectLocked, APIObjectAlreadyLocked, APIObjectAlreadyUnlocked)


def test_a_view_locks_a_model_that_knows_nothing_of_it() -> None:
    api, post = APIClient(), Post.objects.create(text="old", closed=True)
    for method in (api.put, api.patch, api.delete):
        refused = method(f"/posts/{post.pk}/", {"text": "new"}, format="json")
        assert (refused.status_code, refused.json()["code"]) == (409, "object_locked")
    post.save()  # the rest of the project goes on as before


def test_a_paragraph_is_locked_with_its_report_everywhere() -> None:
    api, report = APIClient(), Report.objects.create()
    paragraph = Paragraph.objects.create(report=report, text="old")
    report.set_locked(True)
    report.save()
    address = f"/paragraphs/{paragraph.pk}/"
    assert api.patch(address, {"text": "new"}, format="json").status_code == 409
    assert api.delete(address).status_code == 409
    with pytest.raises(ObjectLocked):
        Paragraph.objects.get().save()
    with pytest.raises(ObjectLocked):
        Paragraph.objects.get().delete()


def test_the_story_of_two_who_loaded_one_object() -> None:
    report = Report.objects.create(title="old")
    mine, yours = Report.objects.get(), Report.objects.get()
    yours.set_locked(True)
    yours.save()
    mine.title = "new"
    with pytest.raises(ObjectLocked):
        mine.save()
    again = Report.objects.get()
    again.set_locked(False)
    again.title = "new"
    again.save()
    report.refresh_from_db()
    assert (report.title, report.sealed) == ("new", False)
    assert report.delete() == (1, {"kinds.Report": 1})


def test_one_function_by_two_names() -> None:
    assert (lock_action, unlock_action) == (concord.lock_action, concord.unlock_action)
    assert concord.LockableMixin is LockableMixin
