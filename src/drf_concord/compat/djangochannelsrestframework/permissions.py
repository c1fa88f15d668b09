"""Permissions that know of sockets."""

from __future__ import annotations

from ...websocket.permissions import AllowAny, BasePermission, IsAuthenticated

__all__ = ["AllowAny", "BasePermission", "IsAuthenticated"]
