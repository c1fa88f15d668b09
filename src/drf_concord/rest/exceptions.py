"""The errors of the package as Django REST Framework answers them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.views import exception_handler as drf_exception_handler

from ..conf import settings
from ..protocol.errors import ConcordError, ObjectLocked

if TYPE_CHECKING:
    from rest_framework.response import Response

__all__ = [
    "APIConcordError",
    "APIObjectAlreadyLocked",
    "APIObjectAlreadyUnlocked",
    "APIObjectLocked",
    "Conflict",
    "exception_handler",
]

PROBLEM = "application/problem+json"


class APIConcordError(APIException):
    """A refusal with its status, body and headers, for any exception handler of a project."""

    def __init__(self, error: ConcordError) -> None:
        # Not through super(): DRF would turn every number and null of the body into text.
        self.error = error
        self.detail: Any = error.body()
        self.status_code = settings.LOCKED_STATUS if isinstance(error, ObjectLocked) else error.status
        if error.retry_after is not None:
            self.wait = math.ceil(error.retry_after)

    def __str__(self) -> str:
        return self.error.detail

    def get_codes(self) -> str:
        """Return the stable code of the refusal."""
        return self.error.code

    def get_full_details(self) -> Any:
        """Return the body of the answer."""
        return self.error.body()


class Conflict(APIException):
    """The object is in a state that does not allow this: 409, with ``detail`` and ``code`` in the body."""

    status_code: int = status.HTTP_409_CONFLICT
    default_detail = _("This cannot be done to the object as it is; look at it again.")
    default_code = "conflict"

    def __init__(
        self, detail: Any = None, code: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, code)
        self.code = code or self.default_code
        self.detail: Any = {"detail": self.detail, "code": ErrorDetail(self.code, self.code)}
        if retry_after is not None:
            self.wait = math.ceil(retry_after)

    def __str__(self) -> str:
        return str(self.detail["detail"])

    def get_codes(self) -> str:
        """Return the stable code of the refusal."""
        return self.code


class APIObjectLocked(Conflict):
    """A write to an object that is locked; 423 where ``LOCKED_STATUS`` says so."""

    default_detail = _("This object is locked and cannot be edited.")
    default_code = "object_locked"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.status_code = settings.LOCKED_STATUS


class APIObjectAlreadyLocked(Conflict):
    """Locking an object that is locked."""

    default_detail = _("This object is locked already.")
    default_code = "object_already_locked"


class APIObjectAlreadyUnlocked(Conflict):
    """Unlocking an object that is not locked."""

    default_detail = _("This object is not locked.")
    default_code = "object_not_locked"


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer the package's errors from any view; the default of DRF's ``EXCEPTION_HANDLER``.

    Views of ours do this by themselves; plain ones that save a locked object would answer 500. A project with
    a handler of its own calls this one in the place of DRF's.
    """
    if isinstance(exc, ConcordError):
        exc = APIConcordError(exc)
    return drf_exception_handler(exc, context)
