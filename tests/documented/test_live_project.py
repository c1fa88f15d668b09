"""A project of somebody else: live lists and their tests, run by Django on its in-memory database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "rest_framework", "drf_concord", "todolist",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
ROOT_URLCONF = "todolist.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MODELS = """
from django.db import models
from drf_concord.models import Versioned

class List(models.Model):
    name = models.CharField(max_length=64)

class Task(Versioned):
    text = models.CharField(max_length=140)
    done = models.BooleanField(default=False)
    list = models.ForeignKey(List, related_name="tasks", on_delete=models.CASCADE)
"""
VIEWS = """
from drf_concord.live import RealtimeMixin
from rest_framework import serializers
from rest_framework.viewsets import ModelViewSet
from todolist.models import List, Task

class TaskSerializer(serializers.ModelSerializer):
    class Meta:
        model = Task
        fields = ["id", "text", "done"]

class ListSerializer(serializers.ModelSerializer):
    tasks = TaskSerializer(many=True, read_only=True)

    class Meta:
        model = List
        fields = ["id", "name", "tasks"]

class ListViewSet(ModelViewSet):
    queryset = List.objects.all()
    serializer_class = ListSerializer

class TaskViewSet(ModelViewSet, RealtimeMixin):
    serializer_class = TaskSerializer
    group_by_fields = ["pk", "list_id"]
"""
URLS = """
from django.urls import include, path
from rest_framework.routers import DefaultRouter
from todolist import views

router = DefaultRouter()
router.register("lists", views.ListViewSet)
router.register("tasks", views.TaskViewSet)
urlpatterns = [path("api/", include(router.urls))]
"""
ASGI = """
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.urls import path
from drf_concord.websocket import RealtimeRouter
from todolist.views import TaskViewSet

router = RealtimeRouter()
router.register(TaskViewSet)
application = ProtocolTypeRouter({
    "http": django_application,
    "websocket": AuthMiddlewareStack(
        URLRouter([path("ws/subscribe/", router.consumer, name="subscriptions")])
    ),
})
"""
TESTS = """
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import TransactionTestCase
from drf_concord.testing import APICommunicator, async_test, get_headers_for_user
from todolist.asgi import application
from todolist.models import List, Task

class TaskTests(TransactionTestCase):
    def setUp(self):
        assert connection.is_in_memory_db()
        self.user = get_user_model().objects.create_user("guido")
        self.list = List.objects.create(name="food")

    async def asyncSetUp(self):
        headers = await get_headers_for_user(self.user)
        self.client_ = APICommunicator(application, "/ws/subscribe/", headers)
        connected, _ = await self.client_.connect()
        assert connected

    async def asyncTearDown(self):
        await self.client_.disconnect()

    @async_test
    async def test_created(self):
        await self.client_.send_json_to({"request_id": 1, "model": "todolist.Task", "value": "1"})
        assert await self.client_.receive_nothing()
        await database_sync_to_async(Task.objects.create)(pk=1, text="x", list_id=self.list.pk)
        assert await self.client_.receive_json_from() == {
            "type": "broadcast", "request_id": 1, "model": "todolist.Task", "action": "CREATED",
            "instance": {"id": 1, "text": "x", "done": False}}

    @async_test
    async def test_what_http_writes_reaches_who_follows_the_list(self):
        found = await self.async_client.get("/api/lists/")
        (shown,) = found.json()
        assert shown == {"id": self.list.pk, "name": "food", "tasks": []}
        frame = {"request_id": 2, "model": "todolist.Task", "group_by": "list_id", "value": shown["id"]}
        await self.client_.send_json_to({**frame, "arguments": {"list": shown["id"]}})
        assert await self.client_.receive_nothing()
        task = await database_sync_to_async(Task.objects.create)(text="milk", list=self.list)
        assert (await self.client_.receive_json_from())["action"] == "CREATED"
        done = await self.async_client.patch(
            f"/api/tasks/{task.pk}/", {"done": True}, content_type="application/json")
        assert done.status_code == 200, done.content
        pushed = await self.client_.receive_json_from()
        assert (pushed["action"], pushed["instance"]["done"]) == ("UPDATED", True)
        (shown,) = (await self.async_client.get("/api/lists/")).json()
        assert shown["tasks"] == [pushed["instance"]]
"""
RUN = """
import sys
sys.modules["daphne"] = None  # importing it raises
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "test", "--verbosity", "0"])
"""


@pytest.mark.sqlite
def test_a_project_tests_its_live_lists_in_memory_and_without_daphne(tmp_path: Path) -> None:
    app = tmp_path / "todolist"
    app.mkdir()
    files = {"models": MODELS, "views": VIEWS, "urls": URLS, "asgi": ASGI, "tests": TESTS, "__init__": ""}
    for name, text in files.items():
        (app / f"{name}.py").write_text(text)
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "manage.py").write_text(RUN)
    found = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "manage.py"],
        cwd=tmp_path,
        env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    assert "Ran 2 tests" in found.stderr
