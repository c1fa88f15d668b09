"""The addresses of the demo."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from demo.board import board, boards, machines
from demo.documents.views import DocumentViewSet
from demo.machines.views import InstanceViewSet
from demo.routers import Router
from demo.story import story
from demo.todolist.views import ListViewSet, TaskViewSet
from demo.tokens import token

router = Router()
router.register("lists", ListViewSet)
router.register("tasks", TaskViewSet)
router.register("documents", DocumentViewSet)
router.register("instances", InstanceViewSet)

urlpatterns = [
    path("", boards, name="boards"),
    path("board/<name>/", board, name="board"),
    path("machines/", machines, name="machines"),
    path("story/", story, name="story"),
    path("board/token/<name>/", token, name="board-token"),
    path("api/", include(router.urls)),
    path("api/", include("drf_concord.urls")),
    path("api-auth/", include("rest_framework.urls")),
    path("admin/", admin.site.urls),
]
