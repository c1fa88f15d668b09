"""The Django application."""

from __future__ import annotations

from .. import installing

__all__ = ["DjangoObjectLockConfig"]


class DjangoObjectLockConfig(installing.BesideConcord):
    """Has no models; its templates and its icon may be overridden by a project."""

    name = "drf_concord.compat.django_object_lock"
    label = "django_object_lock"
