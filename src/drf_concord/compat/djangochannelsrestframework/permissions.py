"""Permissions that know of sockets; a subclass may ``await super().has_permission(...)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...websocket import permissions

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AllowAny", "BasePermission", "IsAuthenticated", "WrappedDRFPermission"]


class BasePermission(permissions.BasePermission):
    """A permission that is asked with the scope and the action."""

    async def can_connect(self, scope: Mapping[str, Any], consumer: Any, message: Any = None) -> bool:
        """Tell whether the socket may be opened."""
        return True

    async def has_permission(
        self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any
    ) -> bool:
        """Tell whether an action may be done."""
        return False


class AllowAny(BasePermission):
    """Everybody may do everything."""

    async def has_permission(
        self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any
    ) -> bool:
        """Say yes."""
        return True


class IsAuthenticated(BasePermission):
    """Who is logged in."""

    async def has_permission(
        self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any
    ) -> bool:
        """Tell whether the socket has a user."""
        return permissions.IsAuthenticated().has_permission(scope, consumer, action)


class WrappedDRFPermission(permissions.BasePermission):
    """A permission of REST framework, which needs no wrapping here.

    Args:
        permission: an instance.
    """

    def __init__(self, permission: Any) -> None:
        self.permission = permission

    def has_permission(self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any) -> bool:
        """Ask it, as a view would."""
        return bool(self.permission.has_permission(consumer.request_of(action, kwargs), consumer))

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        """Ask it about an object, as a view would."""
        return bool(self.permission.has_object_permission(request, view, obj))
