"""Safe and live REST APIs: two doors, one gate, one log.

Importing this package needs neither Django nor settings; it holds the version and the errors.
"""

from __future__ import annotations

from .protocol.errors import (
    AlreadyExists,
    AlreadyLocked,
    Busy,
    ConcordError,
    Conflict,
    IdempotencyMismatch,
    InvalidLock,
    LockForbidden,
    LockLimit,
    LockLost,
    MalformedPrecondition,
    NotLocked,
    NotRecorded,
    ObjectLocked,
    PositionLost,
    PreconditionFailed,
    PreconditionRequired,
    StreamUnavailable,
    TooManyObjects,
    TooManyStreams,
    VersionMismatch,
)

__all__ = [
    "AlreadyExists",
    "AlreadyLocked",
    "Busy",
    "ConcordError",
    "Conflict",
    "IdempotencyMismatch",
    "InvalidLock",
    "LockForbidden",
    "LockLimit",
    "LockLost",
    "MalformedPrecondition",
    "NotLocked",
    "NotRecorded",
    "ObjectLocked",
    "PositionLost",
    "PreconditionFailed",
    "PreconditionRequired",
    "StreamUnavailable",
    "TooManyObjects",
    "TooManyStreams",
    "VersionMismatch",
    "__version__",
]

__version__ = "0.1.0"
