"""Mixins and actions for views of REST framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....rest import mixins
from ....rest.exceptions import APIObjectAlreadyLocked as ConcordAlreadyLocked
from ....rest.mixins import (
    LockableDestroyModelMixin,
    LockableMixin,
    LockableUpdateModelMixin,
    unlock_action,
)
from .exceptions import APIObjectAlreadyLocked

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.response import Response

__all__ = [
    "LockableDestroyModelMixin",
    "LockableMixin",
    "LockableUpdateModelMixin",
    "lock_action",
    "unlock_action",
]


def lock_action(viewset: LockableMixin, request: Request, pk: Any = None) -> Response:
    """Lock the object of a detail action: 200 with the object.

    Raises:
        APIObjectAlreadyLocked: it is locked, in the words of before.
    """
    try:
        return mixins.lock_action(viewset, request, pk)
    except ConcordAlreadyLocked as refusal:
        raise APIObjectAlreadyLocked from refusal
