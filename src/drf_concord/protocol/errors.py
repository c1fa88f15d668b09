"""Every way in which a rule can refuse, the same at both doors.

* `ConcordError`
    * `MalformedPrecondition` 400
    * `InvalidLock` 400
    * `TooManyObjects` 400
    * `LockForbidden` 403
    * `StreamUnavailable` 406
    * `Conflict` 409
        * `ObjectLocked`
        * `AlreadyLocked`
        * `NotLocked`
    * `PositionLost` 410
    * `PreconditionFailed` 412
        * `VersionMismatch`
        * `AlreadyExists`
        * `LockLost`
    * `IdempotencyMismatch` 422
    * `PreconditionRequired` 428
    * `LockLimit` 429
    * `TooManyStreams` 429
    * `NotRecorded` 501
    * `Busy` 503

The docstring of a class is its message: its first sentence is sent when nobody says it better.
"""

from __future__ import annotations

import re
from typing import ClassVar

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
]

_SENTENCE = re.compile(r".+?[.](?=\s|$)", re.DOTALL)


class ConcordError(Exception):
    """The request was refused.

    Attributes:
        code: names the error on the wire; clients branch on it, never on the text.
        status: the HTTP status it is answered with.
        detail: what happened and what to do now, for people.
        retry_after: when trying again can help, in seconds; None when waiting does not.
        members: what the answer carries besides `detail` and `code`.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self, detail: str | None = None, *, retry_after: float | None = None, **members: object
    ) -> None:
        self.detail = _message(type(self)) if detail is None else detail
        self.retry_after = retry_after
        self.members = members
        super().__init__(self.detail)

    def body(self) -> dict[str, object]:
        """Return what the answer says: over HTTP the body, over a websocket one of `errors`."""
        return {"detail": self.detail, "code": self.code, **self.members}


def _message(cls: type[ConcordError]) -> str:
    # python -OO leaves no docstrings, and a subclass in a project may have none
    text = " ".join((cls.__doc__ or cls.code).split())
    sentence = _SENTENCE.match(text)
    return sentence[0] if sentence else text


class MalformedPrecondition(ConcordError):
    """A conditional header cannot be read; put entity tags into double quotes: If-Match: "abc"."""

    code = "malformed_precondition"
    status = 400


class InvalidLock(ConcordError):
    """The lock asked for is not possible; correct the member that is named.

    The member `member` names what is wrong: `ttl`, `mode`, `scope`, `reason`, `id`, `to`, `period`.
    """

    code = "invalid_lock"
    status = 400


class LockForbidden(ConcordError):
    """This lock is not yours; ask its holder, or somebody who may break locks."""

    code = "lock_forbidden"
    status = 403


class Conflict(ConcordError):
    """The object is in a state that does not allow this; look at it again."""

    code = "conflict"
    status = 409


class ObjectLocked(Conflict):
    """This object is locked and cannot be edited.

    Try again when the lock has ended: `expires_at` and `retry_after` say when, where that is known.
    """

    code = "object_locked"


class AlreadyLocked(Conflict):
    """This object is locked already; try again when that lock has ended."""

    code = "object_already_locked"


class NotLocked(Conflict):
    """This object is not locked, so there is nothing to end."""

    code = "object_not_locked"


class PositionLost(ConcordError):
    """The changes since this position are not known any more; drop your copy and read it all again.

    The member `reason` says why: `expired` (older than what is kept), `epoch` (of another log, or
    no position at all), `overflow` (too much happened to send it one by one) or `unknown` (the log does
    not tell which objects you hold).
    """

    code = "position_lost"
    status = 410


class TooManyObjects(ConcordError):
    """This list shows more objects than can be followed at once; narrow it by its filters."""

    code = "too_large"
    status = 400


class StreamUnavailable(ConcordError):
    """This list cannot be streamed here; ask for its `changes/` from time to time instead."""

    code = "stream_unavailable"
    status = 406


class PreconditionFailed(ConcordError):
    """The object is not as the request assumes; read it again and repeat the change on that."""

    code = "precondition_failed"
    status = 412


class VersionMismatch(PreconditionFailed):
    """The object was changed since you read it; read it again and repeat your change on that."""

    code = "version_mismatch"


class AlreadyExists(PreconditionFailed):
    """An object is there already; read it, and change it instead of creating it."""

    code = "already_exists"


class LockLost(PreconditionFailed):
    """The lock this request relies on is not yours any more; read the object and lock it again."""

    code = "lock_lost"


class IdempotencyMismatch(ConcordError):
    """This idempotency_key was used for another request; nothing was changed, take a new key for this."""

    code = "idempotency_mismatch"
    status = 422


class PreconditionRequired(ConcordError):
    """This change must say what it is based on; repeat it with the ETag you read in If-Match."""

    code = "precondition_required"
    status = 428


class LockLimit(ConcordError):
    """This lock was held for as long as is allowed; release it, so that others get their turn."""

    code = "lock_limit"
    status = 429


class TooManyStreams(ConcordError):
    """You have too many streams open; close one, or ask for `changes/` from time to time."""

    code = "too_many_streams"
    status = 429


class NotRecorded(ConcordError):
    """Changes of these objects are not recorded on this server, so nobody can follow them."""

    code = "not_recorded"
    status = 501


class Busy(ConcordError):
    """Somebody else is writing this object right now; nothing was changed, try again shortly."""

    code = "busy"
    status = 503
