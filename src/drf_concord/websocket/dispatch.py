"""From a frame to a view: a call is the HTTP request it stands for, made inside the process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connections, transaction
from django.urls import NoReverseMatch, get_resolver, reverse
from msgspec import UNSET

from ..live import views
from ..live.middleware import wrapped
from ..protocol.errors import MalformedPrecondition
from ..protocol.frames import Call
from .idempotency import Again, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest

__all__ = ["Answer", "answer", "methods_of", "path_of", "through"]

METHODS = {
    "list": "GET",
    "retrieve": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "lock_state": "GET",
    "lock": "POST",
    "renew": "PATCH",
    "unlock": "DELETE",
    "break": "POST",
}
VIEW_ACTIONS = {
    "patch": "partial_update",
    "delete": "destroy",
    "lock": "lock_acquire",
    "renew": "lock_renew",
    "unlock": "lock_release",
    "break": "lock_break",
}
"""What a frame's action is called on a viewset, where that differs."""
LOCKING = {"lock_state", "lock_acquire", "lock_renew", "lock_release", "lock_break"}
OBJECT_WRITES = {"update", "partial_update", "destroy", "put", "patch", "delete"}
UNHEEDED = MalformedPrecondition(
    "This view compares no tags, so if_match would not be heeded; nothing was changed. Let it inherit from"
    " drf_concord.rest.viewsets, or leave the condition out."
)
SINGLE = {"retrieve", "update", "patch", "delete", "lock_state", "lock", "renew", "unlock", "break"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to."""

    status: int
    data: bytes = b"null"
    errors: bytes = b"[]"
    etag: str | None = None
    code: str | None = None


def answer(view_class: Any, call: Call, caller: views.Caller) -> Answer:
    """Do a call; runs in a thread.

    The view sees an HTTP request of its own route, with the caller of the handshake, and passes permissions,
    throttles, preconditions and locks as over HTTP.
    """
    found = methods_of(view_class).get(call.action)
    if found is None:
        return _refusal(405, [f'Method "{call.action}" not allowed.'])
    name, method, detail = found
    if call.if_match is not None and name in OBJECT_WRITES and not views.compares_tags(view_class):
        return _refusal(UNHEEDED.status, [UNHEEDED.body()], UNHEEDED.code)
    kwargs = dict(call.arguments)
    lookup: str = getattr(view_class, "lookup_url_kwarg", None) or view_class.lookup_field
    if detail and lookup not in kwargs:
        if call.pk is None:
            return _refusal(400, ["The member pk is missing."])
        kwargs[lookup] = call.pk
    if method != "GET":
        caller.refresh()  # a user who was deactivated a moment ago writes nothing any more
    body = bytes(call.data) if call.data is not UNSET else b""
    once = call.idempotency_key is not None and method != "GET" and name not in LOCKING
    request = views.http_request(
        caller,
        method=method,
        path=path_of(view_class, name, kwargs),
        query=call.query,
        body=b"" if body == b"null" or method == "GET" else body,
        headers=_headers(call),
    )
    return _answer_of(_respond(view_class, request, name, detail, kwargs, call if once else None))


@lru_cache(maxsize=512)
def methods_of(view_class: Any) -> dict[str, tuple[str, str, bool]]:
    """Return a view's actions: name in frames -> (name on the view, method, whether it wants an object)."""
    found: dict[str, tuple[str, str, bool]] = {}
    for action, method in METHODS.items():
        name = VIEW_ACTIONS.get(action, action)
        if callable(getattr(view_class, name, None)):
            found[action] = (name, method, action in SINGLE)
        elif not hasattr(view_class, "get_extra_actions") and callable(
            getattr(view_class, method.lower(), None)
        ):
            found[action] = (method.lower(), method, action in SINGLE)
    extra = view_class.get_extra_actions() if hasattr(view_class, "get_extra_actions") else []
    own = {a.__name__ for a in extra}
    if "lock_state" not in own:  # a view's own action has taken the place of the lock
        found = {k: v for k, v in found.items() if v[0] not in LOCKING}
    for action in extra:
        polls = action.__name__ == "list_changes" and action.__module__.startswith("drf_concord.")
        if polls or action.__name__ in {"lock_state", "lock_break"}:
            continue
        for method, name in action.mapping.items():
            found.setdefault(name, (name, method.upper(), bool(action.detail)))
    return found


def _headers(call: Call) -> Mapping[str, str]:
    given = {
        "If-Match": call.if_match,
        "If-None-Match": call.if_none_match,
        "Lock-Token": call.lock_token,
        "Prefer": "merge=disjoint" if call.merge else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _respond(
    view_class: Any,
    request: HttpRequest,
    name: str,
    detail: bool,
    kwargs: dict[str, Any],
    once: Call | None,
) -> Any:
    method = request.method or ""
    options = views.options(view_class, name)  # authentication is kept for the socket
    if hasattr(view_class, "get_extra_actions"):
        view = view_class.as_view({method.lower(): name}, **{"detail": detail, **options})
    else:
        view = view_class.as_view(**options)

    def respond(request: HttpRequest) -> Any:
        return rendered(_atomic(view)(request, **kwargs))

    def respond_once(request: HttpRequest) -> Any:
        assert once is not None  # noqa: S101
        again = Again(view_class, request, name, kwargs, detail=detail)
        return again.respond(once, partial(respond, request))

    return wrapped(respond if once is None else respond_once)(request)


def through(view: Any, request: HttpRequest, kwargs: Mapping[str, Any]) -> Answer:
    """Send a request through what a view's ``as_view()`` returned; runs in a thread."""

    def respond(request: HttpRequest) -> Any:
        return rendered(_atomic(view)(request, **kwargs))

    return _answer_of(wrapped(respond)(request))


def _atomic(view: Any) -> Any:
    """Honour ATOMIC_REQUESTS, which Django's handler does and a view by itself does not."""
    exempt: set[str] = getattr(view, "_non_atomic_requests", set())
    for alias, options in connections.settings.items():
        if options["ATOMIC_REQUESTS"] and alias not in exempt:
            view = transaction.atomic(using=alias)(view)
    return view


def _answer_of(response: Any) -> Answer:
    status = response.status_code
    body = response.content or b"null"
    etag, token = response.get("ETag"), response.get("Lock-Token")
    if token is not None:
        # a frame has no headers, and no member for it
        body = msgspec.json.encode({**json.loads(body), "lock_token": token})
    if status < 400:
        return Answer(status, b"null" if status in {204, 304} else body, etag=etag)
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    code = data.get("code") if isinstance(data, dict) else None
    return Answer(
        status, errors=_errors(status, data), etag=etag, code=code if isinstance(code, str) else None
    )


def _errors(status: int, data: Any) -> bytes:
    """Return an error's body as the list that replies carry."""
    if status == 404:
        listed: list[Any] = ["Not found"]
    elif isinstance(data, dict) and set(data) == {"detail"}:
        listed = [data["detail"]]
    elif data is None:
        listed = ["The server failed." if status >= 500 else "Refused."]
    else:
        listed = data if isinstance(data, list) else [data]
    return msgspec.json.encode(listed)


def _refusal(status: int, errors: list[Any], code: str | None = None) -> Answer:
    return Answer(status, errors=msgspec.json.encode(errors), code=code)


def path_of(view_class: Any, name: str, kwargs: Mapping[str, Any]) -> str:
    """Return the address of the view's HTTP route; a view without one has no better than the root."""
    for route in _routes_of(view_class):
        actions = route[1]
        if actions is None or name in actions:
            try:
                return reverse(route[0], kwargs=dict(kwargs))
            except NoReverseMatch:
                continue
    return "/"


def _routes_of(view_class: Any) -> list[tuple[str, frozenset[str] | None]]:
    resolver: Any = get_resolver()
    known = _known_routes(resolver)
    return known.get(view_class, [])


def _known_routes(resolver: Any) -> dict[Any, list[tuple[str, frozenset[str] | None]]]:
    cached = getattr(resolver, "_concord_routes", None)
    if cached is not None:
        return cached  # type: ignore[no-any-return]
    found: dict[Any, list[tuple[str, frozenset[str] | None]]] = {}

    def walk(patterns: Any, prefix: str) -> None:
        for pattern in patterns:
            if hasattr(pattern, "url_patterns"):
                space = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
                walk(pattern.url_patterns, space)
            elif pattern.name and (cls := getattr(pattern.callback, "cls", None)) is not None:
                actions = getattr(pattern.callback, "actions", None)
                names = frozenset(actions.values()) if actions else None
                found.setdefault(cls, []).append((prefix + pattern.name, names))

    walk(resolver.url_patterns, "")
    resolver._concord_routes = found
    return found
