"""A client for APIs made with drf-concord; it needs no Django, and nothing of the server."""

from __future__ import annotations

try:
    from .aio import AsyncClient
except ModuleNotFoundError as missing:
    needed = (missing.name or "").partition(".")[0]
    if needed not in {"httpx", "websockets"}:
        raise
    message = f"The client needs {needed}: pip install drf-concord[client]"
    raise ModuleNotFoundError(message, name=missing.name) from missing

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
