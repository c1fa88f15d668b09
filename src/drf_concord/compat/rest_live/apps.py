"""The Django application."""

from __future__ import annotations

from .. import installing

__all__ = ["RestLiveConfig"]


class RestLiveConfig(installing.BesideConcord):
    """Has no models."""

    name = "drf_concord.compat.rest_live"
    label = "rest_live"
