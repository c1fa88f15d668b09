"""The errors of the package as Django REST Framework answers them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import APIException
from rest_framework.views import exception_handler as drf_exception_handler

from ..conf import settings
from ..protocol.errors import ConcordError, ObjectLocked

if TYPE_CHECKING:
    from rest_framework.response import Response

__all__ = ["APIConcordError", "exception_handler"]

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


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer the package's errors from any view: name it as DRF's ``EXCEPTION_HANDLER``.

    Views of ours do this by themselves; plain ones that save a ``Lockable`` object would answer 500.
    """
    if isinstance(exc, ConcordError):
        exc = APIConcordError(exc)
    return drf_exception_handler(exc, context)
