"""The headers and refusals that this package adds to an operation of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter

from ..conf import settings
from .bodies import conflict, reference
from .feed import EVENTS
from .merge import PREFERENCE
from .operations import Kind, Operation

__all__ = ["add", "parameters"]

Schema = dict[str, Any]

TAG = {"ETag": "The tag of the object as it is now."}
RETRY = {"Retry-After": "When trying again can help, in seconds."}
TOKEN = {"Lock-Token": "Where the lock is taken or handed over: shown once."}
MERGED = {"Preference-Applied": f"{PREFERENCE}, where it was merged."}

TAGGED = {Kind.RETRIEVE, Kind.LIST, Kind.CREATE, Kind.WRITE}
ERROR, LOCKED, CONFLICT = "ConcordError", "ConcordObjectLocked", "ConcordConflict"
STALE = "The object is not as the request assumes: version_mismatch, already_exists or lock_lost."
COVERED = "A lock covers this write: object_locked; or something was written at the same time: conflict."
SENDS = {"POST", "PUT", "PATCH"}
CHANGES = SENDS | {"DELETE"}
ANY = CHANGES | {"GET"}
# status, kinds, methods, description, body, headers; the first of a status counts
REFUSALS: list[tuple[int, set[Kind], set[str], str, str | None, dict[str, str]]] = [
    (304, {Kind.RETRIEVE, Kind.LIST}, ANY, "What the client has is current.", None, TAG),
    (400, {Kind.CHANGES}, ANY, "There are too many objects to follow: too_large.", ERROR, {}),
    (400, {Kind.LOCK, Kind.STATES}, SENDS, "The body is not what can be asked for.", ERROR, {}),
    (403, {Kind.LOCK, Kind.STATES, Kind.LOCKS}, ANY, "The caller may not do this.", ERROR, {}),
    (404, {Kind.LOCK, Kind.STATES}, ANY, "There is no such object.", ERROR, {}),
    (0, {Kind.WRITE, Kind.LOCKED}, ANY, COVERED, LOCKED, RETRY),
    (409, {Kind.CREATE, Kind.WRITE}, ANY, "Something was written at the same time: conflict.", ERROR, {}),
    (410, {Kind.CHANGES}, ANY, "It cannot be told: position_lost. Ask again without since.", ERROR, {}),
    (412, {Kind.LOCKED}, ANY, "The token is no longer live: lock_lost.", ERROR, {}),
    (412, {Kind.RETRIEVE, Kind.CREATE, Kind.WRITE}, ANY, STALE, CONFLICT, TAG),
    (412, {Kind.LOCK}, CHANGES, STALE, CONFLICT, TAG),
    (428, {Kind.WRITE}, ANY, "Where a precondition is required: there was none.", CONFLICT, TAG),
    (429, {Kind.LOCK}, SENDS, "Too many locks, or one for too long.", ERROR, RETRY),
    (501, {Kind.CHANGES}, ANY, "Changes of these objects are not recorded: not_recorded.", ERROR, {}),
    (503, set(Kind) - {Kind.LOCKS}, CHANGES, "Somebody else is writing: busy.", ERROR, RETRY),
]  # fmt: skip
ENDS = {
    "lock_acquire": ("Somebody has the lock: object_already_locked.", LOCKED, RETRY),
    "lock_break": ("There is no lock to end: object_not_locked.", ERROR, {}),
    "states_lock": ("It is locked already, or in a state in which it cannot be locked.", ERROR, {}),
    "states_unlock": ("It is not locked: object_not_locked.", ERROR, {}),
}


def parameters(about: Operation, method: str) -> list[OpenApiParameter]:
    """Return the headers, and the query, that this package reads."""
    kind, changes = about.kind, method != "GET"
    if kind is Kind.LOCKS:
        mine = OpenApiParameter("mine", bool, description="One's own only; else it needs concord.view_lock.")
        return [mine, OpenApiParameter("model", description='As "app.Model".')]
    if kind is Kind.CHANGES:
        return [OpenApiParameter("since", description="Of the last answer; left out for all objects.")]
    found = {}
    if about.streams:
        found["Last-Event-ID"] = "Of the last event that was taken in: a stream goes on after it."
    if kind in {Kind.RETRIEVE, Kind.WRITE} or (kind is Kind.LOCK and changes):
        found["If-Match"] = "The tag of the state this is based on."
    if kind in {Kind.RETRIEVE, Kind.LIST}:
        found["If-None-Match"] = "The tag of what the client has: 304 while it is current."
    if kind is Kind.CREATE:
        found["If-None-Match"] = "*: only where there is none of this key."
    if changes and kind is not Kind.STATES:
        found["Lock-Token"] = "The token of the lock this relies on."
    if about.merges:
        found["Prefer"] = f"{PREFERENCE}: apply it to a newer state where nothing of it changed."
    return [
        OpenApiParameter(n, str, "header", description=d, required=about.required and n == "If-Match")
        for n, d in found.items()
    ]


def add(responses: Schema, about: Operation, method: str, current: Schema | None) -> None:
    """Add headers to the successes among the responses of an operation, and the refusals that are missing.

    Args:
        responses: by status, changed in place.
        about: what this package does there.
        method: in capital letters.
        current: the schema of the representation that a 412 carries, or None.
    """
    token = about.action in {"lock_acquire", "lock_renew", "lock_break"}
    tagged = about.kind in TAGGED and method != "DELETE"
    headers = {**(TAG if tagged else {}), **(TOKEN if token else {}), **(MERGED if about.merges else {})}
    for status, response in responses.items():
        if status.startswith("2"):
            _head(response, headers)
            if about.merges:
                _say_merged(response)
            if about.streams:
                response.setdefault("content", {})[EVENTS] = {"schema": {"type": "string"}}
    if about.action in ENDS:
        description, name, sent = ENDS[about.action]
        responses.setdefault("409", _answer(description, reference(name), sent))
    for code, kinds, methods, description, body, sent in REFUSALS:
        answered = about.kind in kinds and method in methods
        if answered and (code != 428 or about.missing == 428):
            shown = conflict(current) if code == 412 and current else reference(body) if body else None
            responses.setdefault(str(code or settings.LOCKED_STATUS), _answer(description, shown, sent))
    for status in sorted(responses):
        responses[status] = responses.pop(status)


def _head(response: Schema, headers: dict[str, str]) -> None:
    for name, description in headers.items():
        described = {"schema": {"type": "string"}, "description": description}
        response.setdefault("headers", {}).setdefault(name, described)


def _say_merged(response: Schema) -> None:
    merged = {"type": "boolean", "description": "true where others' changes are in it; else left out."}
    for media in response.get("content", {}).values():
        media["schema"] = {"allOf": [media["schema"], {"type": "object", "properties": {"merged": merged}}]}


def _answer(description: str, body: Schema | None, headers: dict[str, str]) -> Schema:
    found: Schema = {"description": description}
    if body is not None:
        found["content"] = {"application/json": {"schema": body}}
    _head(found, headers)
    return found
