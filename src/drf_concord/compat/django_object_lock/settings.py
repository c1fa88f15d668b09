"""The settings, ``DJANGO_OBJECT_LOCK = {"DEFAULT_LOCKED_ICON_URL": "..."}``, read when they are needed."""

from __future__ import annotations

from typing import Any

from ..installing import project_settings

__all__ = ["dol_settings"]

DEFAULTS = {"DEFAULT_LOCKED_ICON_URL": "django_object_lock/images/locked.svg"}


class _Settings:
    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"Invalid setting: {name}")
        return project_settings("DJANGO_OBJECT_LOCK").get(name, DEFAULTS[name])


dol_settings = _Settings()
