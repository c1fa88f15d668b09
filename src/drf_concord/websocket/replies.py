"""From the members of a frame to a method's arguments, and from what went wrong to the errors of a reply."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from msgspec import Raw
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer

from ..protocol.errors import ConcordError
from ..protocol.frames import NULL

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["accepted", "errors_of", "json_of", "plain", "usable", "without"]

RESERVED = {"self", "action", "request_id", "scope", "consumer", "serializer", "obj", "queryset"}
"""Members of frames that never become arguments: hooks of projects have parameters of these names."""


def usable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the members that may be arguments: none that would take the place of one of ours."""
    return {k: v for k, v in content.items() if k.isidentifier() and k not in RESERVED}


def accepted(method: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a method takes.

    Raises:
        ValidationError: one is missing.
    """
    taken: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return given if not missing else _refuse(missing)
        if name in given:
            taken[name] = given[name]
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            missing[name] = [f"The member {name} is missing."]
    return taken if not missing else _refuse(missing)


def _refuse(missing: dict[str, list[str]]) -> dict[str, Any]:
    raise exceptions.ValidationError(missing)


def without(kwargs: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if k != name}


def json_of(value: Any) -> bytes:
    if value is None:
        return NULL
    return bytes(value) if isinstance(value, Raw) else bytes(JSONRenderer().render(value))


def plain(request_id: Any) -> Any:
    return json.loads(bytes(request_id)) if isinstance(request_id, Raw) else request_id


def errors_of(exc: Exception) -> tuple[int, list[Any]]:
    if isinstance(exc, Http404):
        return 404, ["Not found"]
    if isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    if isinstance(exc, ConcordError):
        return exc.status, [exc.body()]
    if isinstance(exc, exceptions.APIException):
        if exc.status_code == 404:
            return 404, ["Not found"]
        detail: Any = exc.detail
        return exc.status_code, detail if isinstance(detail, list) else [detail]
    return 500, ["The server failed; read again before you repeat this."]
