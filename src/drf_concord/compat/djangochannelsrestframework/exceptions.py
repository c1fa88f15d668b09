"""What may be raised about a frame."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException

__all__ = ["ActionMissingException"]


class ActionMissingException(APIException):
    """A frame names no action; for a ``get_action_name()`` of a project."""

    status_code = status.HTTP_405_METHOD_NOT_ALLOWED
    default_detail = _("Unable to find action in message body.")
    default_code = "method_not_allowed"
