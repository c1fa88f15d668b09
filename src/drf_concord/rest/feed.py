"""The changes of a list over HTTP: a stream of events at the list itself, and ``changes/`` to be polled."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.handlers.asgi import ASGIRequest
from rest_framework.decorators import action
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response

from ..conf import settings
from ..live.mixins import Followed, RealtimeMixin
from ..protocol.errors import StreamUnavailable
from . import following, tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.generics import GenericAPIView
    from rest_framework.request import Request

    # For the type checker the mixin stands on what it is mixed into.
    _View = GenericAPIView[Any]
else:
    _View = object

__all__ = ["EVENTS", "PATH", "EventRenderer", "FeedMixin", "has_feed", "hides_an_object", "polls"]

EVENTS = "text/event-stream"
PATH = "changes"
HARMLESS = ("django.", "corsheaders.", "whitenoise.")
"""Middleware on which no view depends that is looked at without it."""
SITE = "django.contrib.sites.middleware.CurrentSiteMiddleware"
"""Sets ``request.site``, by which a view may choose what it shows."""
LIST_HOOKS = (
    "list", "get", "dispatch", "finalize_response",
    "paginate_queryset", "get_paginated_response", "paginator",
)  # fmt: skip
"""Where a project's code may show less than its queryset and serializer do."""


class EventRenderer(BaseRenderer):
    """Stands for the stream in content negotiation; renders nothing, as a stream is no representation."""

    media_type = EVENTS
    format = "event-stream"
    charset = None


class FeedMixin(Followed, _View):
    """Lets a list be followed: ``Accept: text/event-stream`` streams it, ``GET changes/`` polls."""

    changes_over_http: bool | None = None
    """Whether its list can be followed over HTTP; None: where that shows no more than a GET."""

    _streams = False
    _found: tuple[Any, Any] = (None, None)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Prepare; to the view, who polls asks for the list."""
        if _wants_events(request):
            # before REST framework puts its own user there
            self._found = getattr(request, "user", None), getattr(request, "session", None)
        made = super().initialize_request(request, *args, **kwargs)
        if getattr(self, "action", None) == "list_changes" and _is_ours(type(self).list_changes):
            self.action = "list"
        return made

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Offer the stream to those who name it; whatever else is said to them is JSON."""
        offered = _wants_events(request._request) and not force and self._is_list(request)
        if not offered or self.changes_over_http is False:
            return super().perform_content_negotiation(request, force)
        renderers = [*self.get_renderers(), EventRenderer()]
        negotiator = self.get_content_negotiator()
        chosen, media_type = negotiator.select_renderer(request, renderers, self.format_kwarg)
        if not isinstance(chosen, EventRenderer):
            return chosen, media_type
        self._streams = True
        return JSONRenderer(), JSONRenderer.media_type

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Admit as for any GET; who asked for a stream then gets that in the place of the list."""
        super().initial(request, *args, **kwargs)
        if self._streams:
            vars(self)["get"] = self._stream

    def _is_list(self, request: Request) -> bool:
        named = getattr(self, "action", None)
        if named is not None:
            return bool(named == "list" and getattr(self, "action_map", {}).get("get") == "list")
        lookup = self.lookup_url_kwarg or self.lookup_field
        return request.method == "GET" and hasattr(self, "list") and lookup not in self.kwargs

    def _stream(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        view: Any = type(self)
        if not isinstance(request._request, ASGIRequest):
            raise StreamUnavailable(
                "A stream needs an ASGI server, and this is none. Ask for changes/ from time to time instead."
            )
        # what the address says by place is not there when the stream is looked at
        if args or not _can_be_kept(kwargs) or _given(self):
            raise StreamUnavailable
        if not (has_feed(view) and (_is_said(view) or _is_harmless())):
            raise StreamUnavailable
        return following.stream(self, self._log(), *self._found)

    def _log(self) -> str:
        """Return the database whose log tells all that this list shows.

        Raises:
            StreamUnavailable: it may show less of an object, or fewer, than one that is looked at alone,
                by the serializer that the view chooses for it.
            NotRecorded: it shows no rows of a model that is known.
        """
        using = following.require_log(self)
        if _is_said(type(self)):
            return using
        one, several = self.get_serializer(self.get_model_class()()), self.get_serializer([], many=True)
        child = getattr(several, "child", None)
        whole = _is_library(type(several)) and type(child) is type(one)
        if not whole or list(getattr(child, "fields", ())) != list(getattr(one, "fields", ())):
            raise StreamUnavailable("This list cannot be followed. Ask for the list itself instead.")
        return using

    @classmethod
    def get_extra_actions(cls) -> list[Any]:
        """Return the actions; one of the project's own at ``changes`` takes the place of ours."""
        actions: Any = super()
        found: list[Any] = actions.get_extra_actions()
        own = [a for a in found if not a.detail and not _is_ours(a)]
        taken = any(a.url_path.split("/")[0] == PATH or a.url_name == PATH for a in own)
        return [a for a in found if not _is_ours(a) or (polls(cls) and not taken)]

    @action(detail=False, methods=["get"], url_path=PATH, url_name=PATH)
    def list_changes(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer all objects, or what has changed ``since`` then, and 410 where that cannot be told."""
        # the rest is the query of the list: filters of the project do not know this
        query: Any = request.query_params.copy()
        since = query.pop("since", [None])[-1]
        request._request.GET = query
        return following.poll(self, self._log(), since)


def _is_ours(action: Any) -> bool:
    return action is FeedMixin.list_changes  # a project may have an action of this name, for something else


def _wants_events(request: HttpRequest) -> bool:
    return request.method == "GET" and EVENTS in request.META.get("HTTP_ACCEPT", "").lower()


def _is_said(view: Any) -> bool:
    return bool(view.changes_over_http) or issubclass(view, RealtimeMixin)


@functools.lru_cache(maxsize=1024)
def has_feed(view: Any) -> bool:
    """Tell whether a view's list can be followed over HTTP.

    One that does not say so can where nothing of the project's can hide an object from its list that its
    queryset has: a stream shows what the queryset and the serializer do.
    """
    if view.changes_over_http is False:
        return False
    if _is_said(view):
        return True
    serializer = getattr(view, "serializer_class", None)
    several = getattr(getattr(serializer, "Meta", None), "list_serializer_class", None)
    paged = _overrides(getattr(view, "pagination_class", None), ("paginate_queryset",))
    return several is None and not paged and not _overrides(view, LIST_HOOKS)


def _overrides(cls: Any, names: Iterable[str]) -> bool:
    own = [each for each in getattr(cls, "__mro__", ())[:-1] if not _is_library(each)]
    return any(name in vars(each) for each in own for name in names)


def _is_library(cls: type) -> bool:
    return cls.__module__.startswith((*tags.KNOWN, "django."))


def polls(view: Any) -> bool:
    """Tell whether a viewset has ``changes/``; where an object may have that address, only if it says so."""
    return (
        has_feed(view)
        and _model_of(view) is not None
        and (bool(view.changes_over_http) or address_is_free(view))
    )


def hides_an_object(view: Any) -> bool:
    """Tell whether a viewset's ``changes/`` stands where one of its objects may have its address."""
    extra = view.get_extra_actions() if hasattr(view, "get_extra_actions") else []
    return any(_is_ours(a) for a in extra) and not address_is_free(view)


def address_is_free(view: Any) -> bool:
    """Tell whether no object of a viewset can have the address ``changes/``."""
    pattern = getattr(view, "lookup_value_regex", None)
    if pattern is not None and re.fullmatch(pattern, PATH) is None:
        return True
    model, name = _model_of(view), view.lookup_field
    if model is None:
        return False
    try:
        field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        field.to_python(PATH)
    except ValidationError:
        return True
    except Exception:  # no field, or one of the project's own that raises what it likes
        return False
    return False


def _model_of(view: Any) -> Any:
    try:
        return view.get_model_class()
    except ImproperlyConfigured:
        return None


def _given(view: Any) -> bool:
    """Tell whether a route gives the view other attributes than its class: ``as_view(queryset=..)``."""
    route = getattr(view.request._request.resolver_match, "func", None)
    given = getattr(route, "initkwargs", None)  # REST framework leaves it there, and decorators copy it
    return given is None or not set(given) <= set(following.ROUTED)


def _can_be_kept(kwargs: dict[str, Any]) -> bool:
    """Tell whether what a route says can be part of what names the stream's answers."""
    try:
        hash(tuple(kwargs.values()))
    except TypeError:
        return False
    return True


def _is_harmless() -> bool:
    known = set(settings.SOCKET_MIDDLEWARE)
    others = (path for path in django_settings.MIDDLEWARE if path not in known)
    return all(path.startswith(HARMLESS) and path != SITE for path in others)
