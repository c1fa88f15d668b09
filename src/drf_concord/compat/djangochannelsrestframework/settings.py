"""The settings, ``DJANGO_CHANNELS_REST_API = {"PAGE_SIZE": 10}``, read when they are needed.

What is not set there is as REST framework's own settings and this package say.
"""

from __future__ import annotations

from typing import Any

from django.utils.module_loading import import_string

from ..installing import project_settings

__all__ = ["api_settings"]

NAMES = ("DEFAULT_PERMISSION_CLASSES", "DEFAULT_PAGINATION_CLASS", "PAGE_SIZE")


class _Settings:
    """Each setting, with dotted paths imported; None where it is not set."""

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES:
            raise AttributeError(f"Invalid API setting: '{name}'")
        return _imported(project_settings("DJANGO_CHANNELS_REST_API").get(name))


def _imported(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_imported(each) for each in value]
    return import_string(value) if isinstance(value, str) else value


api_settings = _Settings()
