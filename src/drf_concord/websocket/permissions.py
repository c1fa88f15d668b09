"""Permissions on consumers: DRF's classes as they are, and classes that know of sockets."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .consumers import AsyncAPIConsumer

__all__ = ["METHODS", "AllowAny", "BasePermission", "IsAuthenticated", "allows"]

METHODS = {
    "list": "GET",
    "retrieve": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "connect": "HEAD",
}
"""The HTTP method a DRF permission sees for an action; for own actions POST."""


class BasePermission:
    """A permission that is asked with the scope and the action."""

    def can_connect(self, scope: Mapping[str, Any], consumer: Any, message: Any = None) -> bool:
        """Tell whether the socket may be opened."""
        return True

    def has_permission(self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any) -> bool:
        """Tell whether an action may be done."""
        return False


class AllowAny(BasePermission):
    """Everybody may do everything."""

    def has_permission(self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any) -> bool:
        """Say yes."""
        return True


class IsAuthenticated(BasePermission):
    """Who is logged in."""

    def has_permission(self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any) -> bool:
        """Tell whether the socket has a user."""
        return bool(getattr(scope.get("user"), "is_authenticated", False))


def allows(permission: Any, consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any]) -> bool:
    """Ask one permission, of either kind, whether an action may be done; runs in a thread."""
    if knows_sockets(permission):
        if action == "connect":
            return bool(permission.can_connect(consumer.scope, consumer, None))
        asked = {k: v for k, v in kwargs.items() if k not in {"scope", "consumer", "action", "self"}}
        return bool(permission.has_permission(consumer.scope, consumer, action, **asked))
    return bool(permission.has_permission(consumer.request_for(action, kwargs), consumer))


def knows_sockets(permission: Any) -> bool:
    """Tell whether a permission is asked with a scope, or as DRF does with a request and a view."""
    if hasattr(permission, "can_connect"):
        return True
    return "scope" in inspect.signature(permission.has_permission).parameters
