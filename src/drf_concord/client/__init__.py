"""A client for APIs made with drf-concord; it needs no Django, and nothing of the server."""

from __future__ import annotations

from .aio import AsyncClient
from .errors import (
    BusyError,
    ClientError,
    ConflictError,
    ConnectionFailed,
    ForbiddenError,
    LockedError,
    LockLostError,
    NotFoundError,
    UnauthorizedError,
    ValidationError,
)
from .sync import Client
from .values import Change, Item

__all__ = [
    "AsyncClient",
    "BusyError",
    "Change",
    "Client",
    "ClientError",
    "ConflictError",
    "ConnectionFailed",
    "ForbiddenError",
    "Item",
    "LockLostError",
    "LockedError",
    "NotFoundError",
    "UnauthorizedError",
    "ValidationError",
]
