"""The Django application."""

from __future__ import annotations

from .. import installing

__all__ = ["DjangoChannelsRestFrameworkConfig"]


class DjangoChannelsRestFrameworkConfig(installing.BesideConcord):
    """Has no models."""

    name = "drf_concord.compat.djangochannelsrestframework"
    label = "djangochannelsrestframework"
