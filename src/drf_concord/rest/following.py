"""What a list's followers are answered: the response that streams, and the one that says what has changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models.query import ModelIterable
from django.http import StreamingHttpResponse
from django.utils import timezone, translation
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from .. import changes as log
from ..conf import settings
from ..live.looks import Spec, TooLarge, pks_in, shown_in
from ..live.mixins import unrecorded
from ..live.places import places
from ..live.requests import origin_of
from ..live.resuming import differences, outdated, seal_of
from ..live.routes import Missed
from ..live.streams import EventStream
from ..live.telling import render
from ..live.views import ROUTED, Caller
from ..protocol.errors import NotRecorded, PositionLost, TooManyObjects
from ..protocol.held import Held, held_of
from ..protocol.rendered import items_text
from ..triggers import VENDORS
from .responses import VARY

if TYPE_CHECKING:
    from ..protocol.held import Seal
    from ..protocol.rendered import Rendered

__all__ = ["ROUTED", "poll", "require_log", "stream"]

AGAIN = "What has changed since then cannot be told any more. Drop your copy and ask again without since."


def stream(view: Any, using: str, user: Any, session: Any) -> StreamingHttpResponse:
    """Return the response that streams a view's list.

    Args:
        view: an instance that has admitted its request.
        using: the database whose log tells of it.
        user: whom Django's middleware found, before REST framework asked.
        session: his session, or None.

    Raises:
        NotRecorded: no hub reads that log. TooManyObjects, TooManyStreams
    """
    if using != DEFAULT_DB_ALIAS:  # where hubs read
        raise NotRecorded
    request = view.request
    caller = Caller({**request._request.scope, "user": user, "session": session})
    caller.user  # noqa: B018 (found out here: the event loop may not ask the database)
    spec = _spec(view, caller)
    if view.filter_queryset(view.get_queryset())[: settings.MAX_LIST + 1].count() > settings.MAX_LIST:
        raise TooManyObjects
    last = request.META.get("HTTP_LAST_EVENT_ID") or None
    body = EventStream(caller, spec, seal_of(spec, request.user), last)
    places.take(_who(request), body)
    response = StreamingHttpResponse(body, content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-cache, private"
    response["X-Accel-Buffering"] = "no"
    response["Vary"] = ", ".join(VARY)
    return response


def poll(view: Any, using: str, since: str | None) -> Response:
    """Answer all objects of a view's list, or what has changed since a position.

    Args:
        view: an instance that has admitted its request.
        using: the database whose log tells of it.
        since: what the last answer said; None for all objects.

    Raises:
        PositionLost: that cannot be told. TooManyObjects
    """
    spec = _spec(view, None)
    seal = seal_of(spec, view.request.user)
    view._alias = using  # a replica may lag behind the log
    try:
        body = _snapshot(view, spec, seal, using) if since is None else _since(view, spec, seal, using, since)
    except TooLarge:
        raise TooManyObjects from None
    # Django's own cache keeps what is not private, for all who send the same of what varies
    return Response(body, headers={"Cache-Control": "no-store, private", "Vary": ", ".join(VARY)})


def _snapshot(view: Any, spec: Spec, seal: Seal, using: str) -> dict[str, Any]:
    # first the position: what changes while the rows are read is told once more
    position = log.position(using)
    items = [render(each, "CREATED", None) for each in shown_in(view, spec).values()]
    held = Held(seal, (_key(each) for each in items))
    told = json.loads(f"{{{items_text(items, more=False)}}}")["items"]
    return {"since": seal.close(position, held.digest), "items": told}


def _since(view: Any, spec: Spec, seal: Seal, using: str, since: str) -> dict[str, Any]:
    try:
        given, digest = seal.open(since)
        # first what is visible: what is created after that is then known as a change
        before = pks_in(view, spec)
        position, found = log.resume_from(given, using=using)
    except PositionLost as lost:
        raise PositionLost(AGAIN, reason=lost.members["reason"]) from lost
    concerned = Missed.of(found).by_key(spec)
    have = held_of(seal, digest, before, concerned)
    if have is None:
        raise PositionLost(AGAIN, reason="unknown")
    known, visible = set(have), pks_in(view, spec)  # and what went after it, too
    asked = outdated(known, visible, concerned)
    shown = shown_in(view, spec, asked) if asked else {}
    told = differences(spec, known, visible, shown, concerned)
    held = Held(seal, have)
    for each in told:
        held.put(_key(each), there=each.action != "DELETED")
    return {"since": seal.close(position, held.digest), "changes": [json.loads(t.session()) for t in told]}


def _key(each: Rendered) -> str:
    return str(json.loads(each.pk))


def require_log(view: Any) -> str:
    """Return the database whose log tells of a view's objects.

    Raises:
        NotRecorded: there is none, or it tells of other objects.
    """
    try:
        model = view.get_model_class()
    except ImproperlyConfigured:
        raise NotRecorded from None
    using: str = router.db_for_write(model)
    if connections[using].vendor not in VENDORS or unrecorded(type(view)) is not None:
        raise NotRecorded
    if not _shows_rows(view.get_queryset(), model):
        raise NotRecorded
    return using


def _shows_rows(queryset: Any, model: Any) -> bool:
    """Tell whether a queryset is one of a model's objects, and not of values or of another model."""
    shown = getattr(queryset, "model", None)
    if shown is None or shown._meta.concrete_model is not model._meta.concrete_model:
        return False
    return issubclass(getattr(queryset, "_iterable_class", object), ModelIterable)


def _spec(view: Any, caller: Caller | None) -> Spec:
    given = dict(view.request.query_params.lists())
    query = {n: v[0] if len(v) == 1 else v for n, v in given.items()}
    language, zone = translation.get_language(), timezone.get_current_timezone()
    usual = language == django_settings.LANGUAGE_CODE and zone == timezone.get_default_timezone()
    return Spec(
        view=type(view),
        model=view.get_model_class(),
        action="list",
        group_by=None,
        value=None,
        kwargs=tuple(sorted(view.kwargs.items())),
        query=json.dumps(query, sort_keys=True),
        origin=origin_of(caller.scope) if caller is not None else ("http", ""),
        # as the project's own, so that those who ask without saying more share the answers
        language=None if usual else language,
        zone=None if usual else zone,
    )


def _who(request: Any) -> str:
    pk = getattr(request.user, "pk", None)
    return f"user {pk}" if pk is not None else f"address {BaseThrottle().get_ident(request)}"
