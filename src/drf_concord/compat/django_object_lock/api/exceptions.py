"""The refusals of views."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from ....rest.exceptions import APIObjectAlreadyLocked as ConcordAlreadyLocked
from ....rest.exceptions import APIObjectAlreadyUnlocked, APIObjectLocked, Conflict

__all__ = ["APIObjectAlreadyLocked", "APIObjectAlreadyUnlocked", "APIObjectLocked", "Conflict"]


class APIObjectAlreadyLocked(ConcordAlreadyLocked):
    """Locking an object that is locked, in the words of before."""

    default_detail = _("This object has already been locked.")
