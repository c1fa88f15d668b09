"""Permissions on consumers: DRF's classes as they are, and classes that know of sockets, joined by & | ~."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from rest_framework.permissions import AND, NOT, OR, OperationHolderMixin
from rest_framework.permissions import AllowAny as DRFAllowAny
from rest_framework.permissions import BasePermission as DRFPermission

from ..live.pool import pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .consumers import AsyncAPIConsumer

__all__ = ["METHODS", "AllowAny", "BasePermission", "IsAuthenticated", "allowed", "allows", "allows_object"]

METHODS = {
    "list": "GET",
    "retrieve": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "connect": "HEAD",
    "list_cancel": "GET",
    "subscribe_instance": "GET",
    "unsubscribe_instance": "GET",
}
"""The HTTP method a DRF permission sees for an action; for own actions POST."""


class _Operators(OperationHolderMixin, type):  # type: ignore[misc]
    """Lets classes be joined by ``&``, ``|`` and ``~``, with DRF's own too."""


class BasePermission(metaclass=_Operators):
    """A permission that is asked with the scope and the action; its methods may be asynchronous."""

    def can_connect(self, scope: Mapping[str, Any], consumer: Any, message: Any = None) -> Any:
        """Tell whether the socket may be opened."""
        return True

    def has_permission(self, scope: Mapping[str, Any], consumer: Any, action: str, **kwargs: Any) -> Any:
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
        user = scope.get("user")
        # a class is no user, though its `is_authenticated` is true
        return not isinstance(user, type) and bool(getattr(user, "is_authenticated", False))


async def allowed(
    permissions: Sequence[Any], consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any]
) -> bool:
    """Ask permissions of any kind whether an action may be done."""
    permissions = [p for p in permissions if type(p) not in {AllowAny, DRFAllowAny}]
    if not permissions:
        return True  # no thread is needed to hear that
    if any(waits(permission) for permission in permissions):
        for permission in permissions:
            if not await _allowed(permission, consumer, action, kwargs):
                return False
        return True
    return await pool.run(lambda: all(allows(p, consumer, action, kwargs) for p in permissions))


async def _allowed(
    permission: Any, consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any]
) -> bool:
    if _is(permission, NOT):
        said = not await _allowed(permission.op1, consumer, action, kwargs)
    elif _is(permission, AND, OR):
        # both, as the object is asked about afterwards where nobody can wait for an answer
        both = [await _allowed(p, consumer, action, kwargs) for p in (permission.op1, permission.op2)]
        said = any(both) if _is(permission, OR) else all(both)
    elif inspect.iscoroutinefunction(_asked(permission, action)):
        said = bool(await _answer(permission, consumer, action, kwargs))
    else:
        said = await pool.run(lambda: allows(permission, consumer, action, kwargs))
    permission.concord_said = said
    return said


def allows(permission: Any, consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any]) -> bool:
    """Ask one synchronous permission, of either kind, whether an action may be done; runs in a thread."""
    if _is(permission, NOT):
        return not allows(permission.op1, consumer, action, kwargs)
    if _is(permission, AND):
        return all(allows(p, consumer, action, kwargs) for p in (permission.op1, permission.op2))
    if _is(permission, OR):
        return any(allows(p, consumer, action, kwargs) for p in (permission.op1, permission.op2))
    return bool(_answer(permission, consumer, action, kwargs))


def _answer(permission: Any, consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any]) -> Any:
    if not knows_sockets(permission):
        return permission.has_permission(consumer.request_of(action, kwargs), consumer)
    if action == "connect":
        asked = _asked(permission, action)
        return True if asked is None else asked(consumer.scope, consumer, {"type": "websocket.connect"})
    given = {k: v for k, v in kwargs.items() if k not in {"scope", "consumer", "action", "self"}}
    return permission.has_permission(consumer.scope, consumer, action, **given)


def _asked(permission: Any, action: str) -> Any:
    """Return the method that is asked about an action: one may be asynchronous where the other is not."""
    return getattr(permission, "can_connect" if action == "connect" else "has_permission", None)


def allows_object(
    permission: Any, consumer: AsyncAPIConsumer, action: str, kwargs: Mapping[str, Any], obj: Any
) -> bool:
    """Ask one permission about an object, as DRF does; who says nothing of objects agrees. In a thread."""
    if _is(permission, NOT):
        if not _speaks_of_objects(permission.op1):
            return True
        return not allows_object(permission.op1, consumer, action, kwargs, obj)
    if _is(permission, AND):
        both = (permission.op1, permission.op2)
        return all(allows_object(p, consumer, action, kwargs, obj) for p in both)
    if _is(permission, OR):
        # one that does not hold for the action cannot speak for the object
        return any(
            allows_object(p, consumer, action, kwargs, obj)
            for p in (permission.op1, permission.op2)
            if (p.concord_said if waits(p) else allows(p, consumer, action, kwargs))
        )
    asked = getattr(permission, "has_object_permission", None)
    return asked is None or bool(asked(consumer.request_of(action, kwargs), consumer, obj))


def at_connect(permission: Any) -> bool:
    """Tell whether a permission is asked when a socket opens: those of DRF are asked for each action."""
    if _is(permission, AND, OR):
        return at_connect(permission.op1) and at_connect(permission.op2)
    return not _is(permission, NOT) and knows_sockets(permission)


def _is(permission: Any, *kinds: type) -> bool:
    return isinstance(permission, kinds)


def judges_objects(permission: Any) -> bool:
    """Tell whether a permission can refuse an object: those of DRF that do not say so never do."""
    if _is(permission, NOT):
        return _speaks_of_objects(permission.op1)
    if _is(permission, AND, OR):
        return judges_objects(permission.op1) or judges_objects(permission.op2)
    asked = getattr(type(permission), "has_object_permission", None)
    return asked is not None and asked is not DRFPermission.has_object_permission


def _speaks_of_objects(permission: Any) -> bool:
    if _is(permission, NOT):
        return _speaks_of_objects(permission.op1)
    if _is(permission, AND, OR):
        return _speaks_of_objects(permission.op1) or _speaks_of_objects(permission.op2)
    return hasattr(permission, "has_object_permission")


def waits(permission: Any) -> bool:
    """Tell whether a permission, or one that it is made of, is asynchronous."""
    if _is(permission, NOT):
        return waits(permission.op1)
    if _is(permission, AND, OR):
        return waits(permission.op1) or waits(permission.op2)
    methods = (getattr(permission, name, None) for name in ("has_permission", "can_connect"))
    return any(inspect.iscoroutinefunction(method) for method in methods)


def knows_sockets(permission: Any) -> bool:
    """Tell whether a permission is asked with a scope, or as DRF does with a request and a view."""
    if hasattr(permission, "can_connect"):
        return True
    return "scope" in inspect.signature(permission.has_permission).parameters
