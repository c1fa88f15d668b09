"""The bodies that this package takes and answers, as schemas of an OpenAPI document."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from drf_spectacular.plumbing import append_meta

from ..locks import limits
from ..protocol.claims import MAX_FREEZE, MAX_OPERATIONS
from ..protocol.locks import MAX_PERIOD

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["components", "conflict", "news", "nullable", "reference"]

Schema = dict[str, Any]

NAMES = {"type": "array", "items": {"type": "string"}}
FLAG = {"type": "boolean"}


def reference(name: str) -> Schema:
    """Return a reference to one of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def conflict(current: Schema) -> Schema:
    """Return the body of a 412 that shows the current state in a schema."""
    return {"allOf": [reference("ConcordConflict"), _object((), current=current)]}


def news(current: Schema | None) -> Schema:
    """Return the body that tells all objects of a list, or what has changed in it."""
    state = {
        "pk": {},
        "etag": nullable(_text("The tag to write with.")),
        "version": nullable({"type": "integer", "description": "A higher one is newer."}),
        "instance": current or {},
    }
    change = {
        "action": _text(enum=["CREATED", "UPDATED", "DELETED"]),
        **state,
        "reason": _text("Of DELETED: deleted or left.", enum=["deleted", "left"]),
    }
    return deepcopy(
        _object(
            ["since"],
            since=_text("To be sent with the next request."),
            items={"type": "array", "items": _object(list(state), **state)},
            changes={"type": "array", "items": _object(["action", "pk", "etag", "version"], **change)},
        )
    )


def nullable(schema: Schema) -> Schema:
    """Return a schema that allows null, as the version of OpenAPI says it."""
    return append_meta(schema, {"nullable": True})


def components() -> dict[str, Schema]:
    """Return the named schemas; settings have a say in them."""
    mode, reason = reference("ConcordLockMode"), _text(maxLength=limits().max_reason)
    error = {
        "detail": _text("What happened and what to do, for people."),
        "code": _text("For programs, and stable; refusals of REST framework's own have none."),
    }
    wrong = _text("What in the body is wrong.")
    told = {
        "mine": FLAG,
        "mode": nullable(mode),
        "scope": nullable(_scope()),
        "reason": _text(),
        "holder": nullable(_text("The user name, for who may know it.")),
        "expires_at": nullable(_time()),
    }
    left = "What is left by the server's clock, in seconds."
    lock = {
        "state": reference("ConcordLockState"),
        **told,
        "acquired_at": nullable(_time()),
        "expires_in": nullable({"type": "number", "description": left}),
        "generation": {"type": "integer", "description": "Grows by one each time the lock is taken."},
    }
    listed = {"model": _text('As "app.Model".'), "pk": _text(), **lock}
    changed = {
        "current_etag": _text("The tag to write with now; also in the ETag header."),
        "your_etag": _text("The newest of the tags that were sent."),
        "changed_fields": {**NAMES, "description": "Left out where the log does not tell."},
        "conflicting_fields": {**NAMES, "description": "Those of them that this request writes too."},
        "modified_at": _time("When it was last changed."),
        "modified_by": nullable(_text("Who changed it last, on views that say so.")),
        "mergeable": {**FLAG, "description": "Whether it would be merged for Prefer: merge=disjoint."},
    }
    claim = {
        "ttl": _seconds(MAX_FREEZE, f" A hold lasts {limits().max_ttl} at the most."),
        "mode": mode,
        "scope": _scope(),
        "reason": reason,
        "id": _text("Of the client: who asks again with it gets the same lock and token.", format="uuid"),
    }
    to = _text("The user name of who gets the lock; instead of ttl.")
    take = {**FLAG, "description": "Take the lock at once."}
    # hooks of a project may change a document in place
    return deepcopy(
        {
            "ConcordError": _object(["detail"], **error, member=wrong),
            "ConcordConflict": _object(error, **error, **changed),
            "ConcordObjectLocked": _object(
                error, **error, **told, since=nullable(_time("When it was taken."))
            ),
            "ConcordLock": _object(lock, **lock),
            "ConcordListedLock": _object(listed, **listed),
            "ConcordLockClaim": _object((), **claim),
            "ConcordLockRenewal": _object((), ttl=_seconds(limits().max_ttl), to=to),
            "ConcordLockBreak": _object((), period=_seconds(MAX_PERIOD), take=take, reason=reason),
            # by themselves: as properties they would take part in naming the enumerations of the project
            "ConcordLockState": _text(enum=["free", "held", "frozen"]),
            "ConcordLockMode": _text(enum=["hold", "freeze"]),
        }
    )


def _text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _time(description: str = "") -> Schema:
    return _text(description, format="date-time")


def _seconds(longest: float, more: str = "") -> Schema:
    return {"type": "number", "minimum": 0, "maximum": longest, "description": f"In seconds.{more}"}


def _scope() -> Schema:
    description = '"write" (every write), "delete", or names of operations.'
    names = {**NAMES, "minItems": 1, "maxItems": MAX_OPERATIONS}
    return {"description": description, "oneOf": [{"type": "string"}, names]}


def _object(required: Collection[str], /, **properties: Schema) -> Schema:
    named = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **named}
