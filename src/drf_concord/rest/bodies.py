"""The bodies that this package takes and answers, as schemas of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.plumbing import append_meta

from ..locks import limits
from ..protocol.claims import MAX_FREEZE, MAX_OPERATIONS
from ..protocol.locks import MAX_PERIOD

__all__ = ["COMPONENTS", "conflict", "reference"]

Schema = dict[str, Any]


def reference(name: str) -> Schema:
    """Return a reference to one of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def conflict(current: Schema | None) -> Schema:
    """Return the body of a 412 that shows the current state in a schema."""
    if current is None:
        return reference("ConcordConflict")
    about = {"type": "object", "properties": {"current": current}}
    return {"allOf": [reference("ConcordConflict"), about]}


def _text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _nullable(schema: Schema) -> Schema:
    return append_meta(dict(schema), {"nullable": True})


def _object(required: list[str] | None = None, /, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _names(description: str) -> Schema:
    return {"type": "array", "items": {"type": "string"}, "description": description}


def _error() -> Schema:
    return _object(
        ["detail"],
        detail=_text("What happened and what to do, for people."),
        code=_text("For programs, and stable; refusals of REST framework's own have none."),
    )


def _conflict() -> Schema:
    shown = _object(
        ["detail", "code"],
        **_error()["properties"],
        current_etag=_text("The tag to write with now; also in the ETag header."),
        your_etag=_text("The newest of the tags that were sent."),
        changed_fields=_names("What changed since that tag; left out where the log does not tell."),
        conflicting_fields=_names("Those of them that this request writes too."),
        modified_at=_text("When it was last changed.", format="date-time"),
        modified_by=_nullable(_text("Who changed it last, on views that say so.")),
        mergeable={
            "type": "boolean",
            "description": "Whether it would be merged for Prefer: merge=disjoint.",
        },
    )
    return shown


def _scope(**more: Any) -> Schema:
    names: Schema = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_OPERATIONS, "minItems": 1}
    return {
        "description": '"write" (every write), "delete", or names of operations.',
        "oneOf": [{"type": "string"}, names],
        **more,
    }


def _told() -> dict[str, Schema]:
    return {
        "mine": {"type": "boolean"},
        "mode": _nullable(reference("ConcordLockMode")),
        "scope": _nullable(_scope()),
        "reason": _text(),
        "holder": _nullable(_text("The user name, for who may know it.")),
        "expires_at": _nullable(_text(format="date-time")),
    }


def _object_locked() -> Schema:
    since = _nullable(_text("When it was taken.", format="date-time"))
    return _object(["detail", "code"], **_error()["properties"], **_told(), since=since)


def _lock(**more: Schema) -> Schema:
    told = {
        **more,
        "state": reference("ConcordLockState"),
        **_told(),
        "acquired_at": _nullable(_text(format="date-time")),
        "expires_in": _nullable(
            {"type": "number", "description": "What is left by the server's clock, in seconds."}
        ),
        "generation": {"type": "integer", "description": "Grows by one each time the lock is taken."},
    }
    return _object(list(told), **told)


def _reason() -> Schema:
    return _text(maxLength=limits().max_reason)


def _seconds(longest: float, more: str = "") -> Schema:
    return {"type": "number", "minimum": 0, "maximum": longest, "description": f"In seconds.{more}"}


def _renewal() -> Schema:
    return _object(
        ttl=_seconds(limits().max_ttl), to=_text("The user name of who gets the lock; instead of ttl.")
    )


def _break() -> Schema:
    take = {"type": "boolean", "description": "Take the lock at once."}
    return _object(period=_seconds(MAX_PERIOD), take=take, reason=_reason())


def _claim() -> Schema:
    ttl = _seconds(MAX_FREEZE, f" A hold lasts {limits().max_ttl} at the most.")
    own = _text("Of the client: who asks again with it gets the same lock and token.", format="uuid")
    return _object(ttl=ttl, mode=reference("ConcordLockMode"), scope=_scope(), reason=_reason(), id=own)


# Enumerations stand by themselves: as properties they would take part in naming those of the project.
COMPONENTS = {
    "ConcordError": _error,
    "ConcordConflict": _conflict,
    "ConcordObjectLocked": _object_locked,
    "ConcordLock": _lock,
    "ConcordListedLock": lambda: _lock(model=_text('As "app.Model".'), pk=_text()),
    "ConcordLockClaim": _claim,
    "ConcordLockRenewal": _renewal,
    "ConcordLockBreak": _break,
    "ConcordLockState": lambda: _text(enum=["free", "held", "frozen"]),
    "ConcordLockMode": lambda: _text(enum=["hold", "freeze"]),
}
"""The named schemas, each made when a document needs it: settings have a say in them."""
