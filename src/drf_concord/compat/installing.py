"""What the packages here need of a project when they stand in ``INSTALLED_APPS``."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

__all__ = ["BesideConcord", "project_settings"]


class BesideConcord(AppConfig):
    """An app without models that stands beside ``drf_concord``, whose tables it needs.

    Subclasses name it by its module: Django picks the only class that it finds in ``apps``.
    """

    def import_models(self) -> None:
        """Look for the app of the tables before its models are imported, which would fail in other words.

        Raises:
            ImproperlyConfigured: it is missing.
        """
        if not apps.is_installed("drf_concord"):
            raise ImproperlyConfigured(
                f'Add "drf_concord" to INSTALLED_APPS, beside "{self.name}", and run "migrate": its tables'
                " are needed."
            )
        super().import_models()


def project_settings(name: str) -> dict[str, Any]:
    """Return a settings dictionary of the project; an empty one where there is none."""
    found: object = getattr(django_settings, name, None)
    return found if isinstance(found, dict) else {}
