"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate, pre_migrate

__all__ = ["ConcordConfig"]


class ConcordConfig(AppConfig):
    """One app, one migration history: locks, the log, and what pruning needs."""

    name = "drf_concord"
    label = "concord"
    verbose_name = "Concord"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Keep the triggers right round migrations, hear of logouts, and register the checks."""
        from rest_framework.settings import DEFAULTS

        from . import checks, triggers

        # Views without anything of ours save locked objects too; a project that has its own handler keeps it.
        if DEFAULTS["EXCEPTION_HANDLER"] == "rest_framework.views.exception_handler":
            DEFAULTS["EXCEPTION_HANDLER"] = "drf_concord.rest.exceptions.exception_handler"

        if apps.is_installed("django.contrib.auth"):
            from django.contrib.auth.signals import user_logged_out

            from . import logouts

            user_logged_out.connect(logouts.tell)
        pre_migrate.connect(triggers.before_migrate, sender=self)
        post_migrate.connect(triggers.after_migrate, sender=self)
        register(checks.check_settings, Tags.compatibility)
        register(checks.check_models, Tags.models)
        # with Django's own check of the URLs, which imports the project's views at the same time
        register(checks.check_routers, Tags.urls)
        register(checks.check_views, Tags.urls)
        register(checks.check_observers, Tags.urls)
        register(checks.check_databases, Tags.database, deploy=False)
