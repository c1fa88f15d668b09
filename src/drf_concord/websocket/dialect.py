"""The frames of later releases of the system that plain mode comes from.

They name a subscription by ``id``, say whether an object or the list is meant, and get answers with ``id``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from django.http import Http404
from msgspec import UNSET, Raw

from ..protocol.frames import NULL, BadFrame, Subscribe, members, request_key
from ..protocol.session import Follow
from .subscriptions import follow, spec_for

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from ..live.looks import Spec
    from .application import Connection

__all__ = ["members_of", "take"]

TYPES = {"subscribe", "unsubscribe"}
OTHERS = {"request_id", "pk", "data"}
"""Members that only requests have: an ``action`` beside one of these is to be done."""
NAMED = "id"


def members_of(text: str | bytes) -> Mapping[str, Raw] | None:
    """Return the members of a frame of this dialect, or None: it is another's, or cannot be read."""
    if ('"type"' if isinstance(text, str) else b'"type"') not in text:  # type: ignore[operator]
        return None
    try:
        found = members(text)
    except BadFrame:
        return None
    if _text(found, "type") in TYPES or ("type" in found and NAMED in found and OTHERS.isdisjoint(found)):
        return found
    return None


def take(connection: Connection, found: Mapping[str, Raw]) -> Coroutine[Any, Any, None] | None:
    """Do what a frame asks for; returns what is still to be awaited."""
    session, given = connection.session, bytes(found.get(NAMED, NULL))
    key = b"id " + request_key(given)

    def refuse(code: int, message: str) -> None:
        connection.push(session.error(given, code, message, NAMED))

    kind = _text(found, "type")
    if kind == "unsubscribe":
        if key not in session.subscriptions:
            refuse(404, "Attempted to unsubscribe for request ID before subscribing.")
            return None
        session.forget(key)
        connection.leave(key)
        return None
    if kind != "subscribe":
        refuse(400, f"unknown message type `{kind}`.")
        return None
    model, action = _text(found, "model"), _text(found, "action")
    if not model:
        refuse(400, "No model specified.")
    elif action not in {"list", "retrieve"}:
        refuse(400, "`action` must be present and the value must be either `list` or `retrieve`.")
    elif connection.router.view(model) is None:
        refuse(404, f"Model {model} not registered for realtime updates.")
    else:
        try:
            frame = Subscribe(
                model=model,
                value=UNSET if action == "list" else _value(found, "lookup_by", None),
                arguments=_object(found, "view_kwargs"),
                query=_object(found, "query_params"),
            )
        except ValueError as error:
            refuse(400, str(error))
            return None
        texts = {
            403: f"Unauthorized to subscribe to {model} for action {action}",
            404: "Instance not found. Make sure 'lookup_by' is set to a valid ID",
        }
        command = Follow(frame, given, key, named=NAMED, single=action == "retrieve", texts=texts)
        refusal = session.admit(command)
        if refusal is None:
            return follow(connection, command, _spec)
        connection.push(refusal)
    return None


def _spec(connection: Connection, view: Any, command: Follow) -> Spec:
    if not command.single:
        return spec_for(connection, view, command, None)
    lookup, frame = view.lookup_field, command.frame
    if frame.value is None:
        raise Http404
    named = "pk" if lookup in {"pk", view.get_model_class()._meta.pk.name} else lookup
    route = getattr(view, "lookup_url_kwarg", None) or lookup
    arguments = {route: frame.value, **frame.arguments}
    asked = replace(command, frame=msgspec.structs.replace(frame, arguments=arguments))
    try:
        return spec_for(connection, view, asked, named, single=True)
    except ValueError as error:
        raise Http404 from error  # no key of this model, so no object has it


def _text(found: Mapping[str, Raw], name: str) -> str | None:
    value = _value(found, name, None)
    return value if isinstance(value, str) else None


def _object(found: Mapping[str, Raw], name: str) -> dict[str, Any]:
    value = _value(found, name, {})
    if not isinstance(value, dict):
        raise ValueError(f"The member {name} is an object.")
    return value


def _value(found: Mapping[str, Raw], name: str, default: Any) -> Any:
    raw = found.get(name)
    if raw is None or bytes(raw) == NULL:
        return default
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return default
