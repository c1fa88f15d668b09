"""The headers and refusals that this package adds to an operation of an OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import OpenApiParameter

from ..conf import settings
from .bodies import conflict, reference
from .merge import PREFERENCE
from .operations import Kind, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["add", "parameters"]

Schema = dict[str, Any]

CONFLICTS = {
    "lock_acquire": "Somebody has the lock: object_already_locked.",
    "lock_break": "There is no lock to end: object_not_locked.",
    "states_lock": "It is locked already, or in a state in which it cannot be locked.",
    "states_unlock": "It is not locked: object_not_locked.",
}
RETRY = {"Retry-After": "When trying again can help, in seconds."}
TAG = {"ETag": "The tag of the object as it is now."}


def parameters(about: Operation, method: str) -> list[OpenApiParameter]:
    """Return the headers, and the query, that this package reads."""
    kind, reads = about.kind, method == "GET"
    if kind is Kind.LOCKS:
        mine = OpenApiParameter("mine", bool, description="One's own only; else it needs concord.view_lock.")
        return [mine, OpenApiParameter("model", description='As "app.Model".')]
    found = []
    if kind is Kind.RETRIEVE or kind is Kind.WRITE or (kind is Kind.LOCK and not reads):
        found.append(_header("If-Match", "The tag of the state this is based on.", required=about.required))
    if kind in {Kind.RETRIEVE, Kind.LIST}:
        found.append(_header("If-None-Match", "The tag of what the client has: 304 while it is current."))
    elif kind is Kind.CREATE:
        found.append(_header("If-None-Match", "*: only where there is none of this key."))
    if not reads and kind is not Kind.STATES:
        found.append(_header("Lock-Token", "The token of the lock this relies on."))
    if about.merges:
        found.append(
            _header("Prefer", f"{PREFERENCE}: apply it to a newer state where nothing of it changed.")
        )
    return found


def add(responses: Schema, about: Operation, method: str, current: Schema | None) -> None:
    """Add headers to the successes among the responses of an operation, and the refusals that are missing.

    Args:
        responses: by status, changed in place.
        about: what this package does there.
        method: in capital letters.
        current: the schema of the representation that a 412 carries, or None.
    """
    kind, reads = about.kind, method == "GET"
    tagged = kind in {Kind.RETRIEVE, Kind.LIST, Kind.CREATE, Kind.WRITE} and method != "DELETE"
    token = about.action in {"lock_acquire", "lock_renew", "lock_break"}
    for code, response in responses.items():
        if str(code).startswith("2"):
            _head(response, TAG if tagged else {})
            _head(response, {"Lock-Token": "Where it is taken or handed over: shown once."} if token else {})
            if about.merges:
                _head(response, {"Preference-Applied": f"{PREFERENCE}, where it was merged."})
                _say_merged(response)
    if kind in {Kind.RETRIEVE, Kind.LIST}:
        responses.setdefault("304", _answer("What the client has is current.", None, TAG))
    for refused, answer in _refusals(about, reads=reads, deletes=method == "DELETE", current=current):
        responses.setdefault(str(int(refused)), answer)
    for status in sorted(responses):
        responses[status] = responses.pop(status)


def _refusals(
    about: Operation, *, reads: bool, deletes: bool, current: Schema | None
) -> Iterable[tuple[int, Schema]]:
    kind, error = about.kind, reference("ConcordError")
    if kind in {Kind.LOCK, Kind.STATES} and not reads and not deletes:
        yield HTTPStatus.BAD_REQUEST, _answer("The body is not what can be asked for.", error)
    if kind in {Kind.LOCK, Kind.STATES, Kind.LOCKS}:
        yield HTTPStatus.FORBIDDEN, _answer("The caller may not do this.", error)
    if kind in {Kind.LOCK, Kind.STATES}:
        yield HTTPStatus.NOT_FOUND, _answer("There is no such object.", error)
    if kind in {Kind.WRITE, Kind.LOCKED}:
        why = "A lock covers this write: object_locked; or something was written at the same time: conflict."
        locked = _answer(why, reference("ConcordObjectLocked"), RETRY)
        yield settings.LOCKED_STATUS, locked
    if kind in {Kind.CREATE, Kind.WRITE}:
        yield HTTPStatus.CONFLICT, _answer("Something was written at the same time: conflict.", error)
    elif about.action in CONFLICTS:
        body = reference("ConcordObjectLocked") if about.action == "lock_acquire" else error
        yield HTTPStatus.CONFLICT, _answer(CONFLICTS[about.action], body)
    if kind is Kind.LOCKED:
        yield HTTPStatus.PRECONDITION_FAILED, _answer("The token is no longer live: lock_lost.", error)
    elif kind in {Kind.RETRIEVE, Kind.CREATE, Kind.WRITE} or (kind is Kind.LOCK and not reads):
        failed = "The object is not as the request assumes: version_mismatch, already_exists or lock_lost."
        body = conflict(current) if about.explains else reference("ConcordConflict")
        yield HTTPStatus.PRECONDITION_FAILED, _answer(failed, body, TAG)
    if kind is Kind.WRITE and about.missing == HTTPStatus.PRECONDITION_REQUIRED:
        needed = "Where a precondition is required: there was none."
        yield HTTPStatus.PRECONDITION_REQUIRED, _answer(needed, error, TAG)
    if kind is Kind.LOCK and not reads and not deletes:
        yield HTTPStatus.TOO_MANY_REQUESTS, _answer("Too many locks, or one for too long.", error, RETRY)
    if kind is not Kind.LOCKS and not reads:
        busy = "Somebody else is writing this right now: busy. Nothing was changed."
        yield HTTPStatus.SERVICE_UNAVAILABLE, _answer(busy, error, RETRY)


def _header(name: str, description: str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, str, "header", description=description, required=required)


def _head(response: Schema, headers: dict[str, str]) -> None:
    for name, description in headers.items():
        described = {"schema": {"type": "string"}, "description": description}
        response.setdefault("headers", {}).setdefault(name, described)


def _say_merged(response: Schema) -> None:
    merged = {"type": "boolean", "description": "true where others' changes are in it; else left out."}
    for media in response.get("content", {}).values():
        if "schema" in media:
            about = {"type": "object", "properties": {"merged": merged}}
            media["schema"] = {"allOf": [media["schema"], about]}


def _answer(description: str, body: Schema | None, headers: dict[str, str] | None = None) -> Schema:
    found: Schema = {"description": description}
    if body is not None:
        found["content"] = {"application/json": {"schema": body}}
    _head(found, headers or {})
    return found
