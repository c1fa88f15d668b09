"""What can go wrong for a client, and what it can do about it.

* `ClientError`
    * `ConnectionFailed` nobody answered
    * `ValidationError` 400
    * `UnauthorizedError` 401
    * `ForbiddenError` 403
    * `NotFoundError` 404
    * `LockedError` 409
    * `ConflictError` 412
    * `LockLostError` 412 `lock_lost`
    * `BusyError` 503

An answer that fits none of them is a `ClientError`: branch on its `code` or `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol.errors import AlreadyLocked, Busy, LockLost, MalformedPrecondition, ObjectLocked
from .values import Item

__all__ = [
    "BusyError",
    "ClientError",
    "ConflictError",
    "ConnectionFailed",
    "ForbiddenError",
    "LockLostError",
    "LockedError",
    "NotFoundError",
    "UnauthorizedError",
    "ValidationError",
    "refusal",
]


class ClientError(Exception):
    """A request was refused, or could not be made.

    Attributes:
        detail: what happened and what to do now, for people.
        status: the HTTP status of the answer; 0 where there was none.
        code: names the error; empty where the server gave no name.
        retry_after: when trying again can help, in seconds; None when that is not known.
        body: the answer, as decoded.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int = 0,
        code: str = "",
        retry_after: float | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.body = body

    @property
    def members(self) -> Mapping[str, Any]:
        """What the answer says besides; empty where it was no JSON object."""
        return self.body if isinstance(self.body, Mapping) else {}


class ConnectionFailed(ClientError):
    """Nobody answered, or not to the end; of a write it is not known whether it was done."""


class UnauthorizedError(ClientError):
    """This needs a login, or another one."""


class ForbiddenError(ClientError):
    """This user may not do this."""


class NotFoundError(ClientError):
    """There is no such object, for this user."""


class BusyError(ClientError):
    """Others were writing the object all the time; nothing was changed."""


class LockLostError(ClientError):
    """The lock is not held any more: read the object again, and lock it again."""


class ValidationError(ClientError):
    """The server does not take these values.

    Attributes:
        errors: what is wrong, by field, as the server says it.
    """

    @property
    def errors(self) -> Mapping[str, Any]:
        """What is wrong, by field."""
        return self.members


class LockedError(ClientError):
    """Somebody else's lock stands in the way.

    `retry_after` is set where the lock ends by itself.
    """

    @property
    def holder(self) -> str | None:
        """Who has the lock; None where that is not told."""
        return self.members.get("holder")

    @property
    def reason(self) -> str:
        """Why, in the words of the holder."""
        return self.members.get("reason") or ""

    @property
    def since(self) -> str | None:
        """Since when, in ISO 8601."""
        return self.members.get("since")

    @property
    def expires_at(self) -> str | None:
        """When it ends by itself, in ISO 8601; None for never."""
        return self.members.get("expires_at")


class ConflictError(ClientError):
    """The object is not in the state that the write was based on; nothing was changed.

    `client.patch(conflict.theirs, ...)` writes on top of what is there now.

    Attributes:
        mine: what was to be written; None for a DELETE.
        theirs: the object as it is now, with its tag; None where it was not told.
    """

    def __init__(self, detail: str, *, mine: Any = None, theirs: Item | None = None, **answer: Any) -> None:
        super().__init__(detail, **answer)
        self.mine = mine
        self.theirs = theirs

    @property
    def changed(self) -> list[str] | None:
        """The fields that others changed; None where that is not known."""
        return self.members.get("changed_fields")

    @property
    def conflicting(self) -> list[str] | None:
        """Those of them that were to be written too; None where that is not known."""
        return self.members.get("conflicting_fields")

    @property
    def current_etag(self) -> str | None:
        """The tag of the object as it is now."""
        return self.members.get("current_etag")


_BY_STATUS: dict[int, type[ClientError]] = {
    400: ValidationError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    412: ConflictError,
}
_BY_CODE: dict[str, type[ClientError]] = {
    ObjectLocked.code: LockedError,
    AlreadyLocked.code: LockedError,
    LockLost.code: LockLostError,
    Busy.code: BusyError,
    MalformedPrecondition.code: ClientError,
}


def refusal(
    status: int, body: Any, *, retry_after: float | None = None, mine: Any = None, pk: Any = None
) -> ClientError:
    """Return the error that an answer of 400 or more stands for.

    Args:
        status: of the answer.
        body: of the answer, decoded; None where it was not JSON.
        retry_after: in seconds.
        mine: what was to be written.
        pk: of the object it was about.
    """
    members = body if isinstance(body, Mapping) else {}
    code = members.get("code") if isinstance(members.get("code"), str) else ""
    kind = _BY_CODE.get(code or "", _BY_STATUS.get(status, ClientError))
    detail = _detail(status, body)
    answer: dict[str, Any] = {"status": status, "code": code, "retry_after": retry_after, "body": body}
    if kind is not ConflictError:
        return kind(detail, **answer)
    current = members.get("current")
    theirs = Item(current, pk=pk, etag=members.get("current_etag")) if isinstance(current, Mapping) else None
    return ConflictError(detail, mine=mine, theirs=theirs, **answer)


def _detail(status: int, body: Any) -> str:
    if isinstance(body, Mapping):
        if isinstance(body.get("detail"), str):
            return str(body["detail"])
        if status == 400:
            wrong = (f"{name}: {_words(problem)}" for name, problem in body.items())
            return " ".join(wrong) or "The server does not take these values."
    return f"The server answered {status}."


def _words(problem: Any) -> str:
    return " ".join(map(_words, problem)) if isinstance(problem, list) else str(problem)
