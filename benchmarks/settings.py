"""The Django settings of the benchmarks; which database they run on comes from the environment."""

from __future__ import annotations

import json
import os

DATABASES = {"default": json.loads(os.environ["CONCORD_BENCH_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = "benchmarks-only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.app.urls"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    "drf_concord",
    "benchmarks.app",
    "benchmarks.sockets",
]

# for the peers; ours has no use for one that stays in the process
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# That of a project stands round what is called in the process (calls.py); the socket server has none.
MIDDLEWARE: list[str] = []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}

# the refusals of a contended run are counted, not told one by one
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django": {"level": "CRITICAL"}, "drf_concord": {"level": "ERROR"}},
}
