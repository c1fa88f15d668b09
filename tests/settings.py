"""The Django settings of the test project; `CONCORD_TEST_DB` chooses the database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent

# one name per run: workers inherit it, so that two runs at once never share a test database
RUN = os.environ.setdefault("CONCORD_TEST_RUN", str(os.getpid()))
TEST_DB = os.environ.get("CONCORD_TEST_DB", "sqlite")


def _sqlite() -> dict[str, Any]:
    # a file, because every connection to an in-memory database of a thread shares one lock
    path = str(Path(tempfile.gettempdir()) / f"drf-concord-{RUN}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "TEST": {"NAME": path},
        "OPTIONS": {
            "timeout": 20,
            # the whole test is lost with a machine that dies, so nothing need reach its disk
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        },
    }


def _postgresql() -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "drf_concord",
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        # as above
        "OPTIONS": {"options": "-c synchronous_commit=off"},
        "TEST": {"NAME": f"test_drf_concord_{RUN}"},
    }


def _mariadb() -> dict[str, Any]:
    import pymysql

    pymysql.install_as_MySQLdb()
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "drf_concord",
        "USER": "root",
        "PASSWORD": "",
        "HOST": os.environ.get("MARIADB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("MARIADB_PORT", "3306"),
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"NAME": f"test_drf_concord_{RUN}", "CHARSET": "utf8mb4"},
    }


DATABASES = {
    "default": {"sqlite": _sqlite, "postgresql": _postgresql, "mariadb": _mariadb}[TEST_DB](),
}

SECRET_KEY = "tests-only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.app.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"
# the default hasher is slow on purpose
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "rest_framework",
    "drf_concord",
    "tests.app",
    "tests.kinds",
]

# of processes that a test starts: a test in this process overrides the setting
LAYER = os.environ.get("CONCORD_TEST_LAYER")
if LAYER:
    BACKEND = "channels_redis.pubsub.RedisPubSubChannelLayer"
    CHANNEL_LAYERS = {"default": {"BACKEND": BACKEND, "CONFIG": {"hosts": [LAYER], "prefix": f"test-{RUN}"}}}

CONCORD = {"CAPTURE": ["app.Watched"]}

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
