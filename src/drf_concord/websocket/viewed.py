"""An existing view as a consumer: its actions are requests to it."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import Raw
from rest_framework import exceptions
from rest_framework.views import APIView

from ..live import callers, views
from ..live.pool import pool
from .consumers import AsyncAPIConsumer
from .dispatch import path_of, through
from .permissions import METHODS
from .replies import usable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DjangoViewAsConsumer", "view_as_consumer"]

ACTIONS = {name: METHODS[name] for name in ("list", "retrieve", "create", "update", "patch", "delete")}


class DjangoViewAsConsumer(AsyncAPIConsumer):
    """Sends frames through a view, as the HTTP requests they stand for; the view asks its own permissions.

    ``data`` is the body, ``query`` the query parameters, ``parameters`` (or ``arguments``) the keyword
    arguments of the view's route, of which ``pk`` may stand by itself.
    """

    permission_classes: ClassVar[Any] = ()
    view: Any = None
    """What ``as_view()`` returned."""
    actions: Mapping[str, str] = ACTIONS
    """The HTTP method for each action."""

    async def handle_action(self, action: str, request_id: Any = None, **kwargs: Any) -> None:
        """Send a frame through the view, and reply what it answers."""
        try:
            method = self.actions.get(action)
            if method is None:
                raise exceptions.MethodNotAllowed(action)
            await self._look_at_account(writes=method not in {"GET", "HEAD", "OPTIONS"})
            found = await pool.run(partial(self.call_view, action, method, kwargs))
            errors = msgspec.json.decode(found.errors)
            data = Raw(found.data)
            await self.reply(action, data=data, errors=errors, status=found.status, request_id=request_id)
        except Exception as error:
            await self.handle_exception(error, action=action, request_id=request_id)

    def call_view(self, action: str, method: str, frame: Mapping[str, Any]) -> Any:
        """Call the view; runs in a thread."""
        arguments, query = self.get_view_args(frame), frame.get("query") or {}
        if not isinstance(query, dict):
            raise exceptions.ParseError("The member query is an object.")
        handler = self._handlers.get(method.lower(), method.lower())
        request = views.http_request(
            self.caller,
            method=method,
            path=path_of(self._class, handler, arguments) if self._class else self.scope.get("path", "/"),
            query=query,
            body=b"" if frame.get("data") is None else msgspec.json.encode(frame["data"]),
        )
        return through(self._kept_view, request, arguments)

    def get_view_args(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the view's route; a hook."""
        found = frame.get("parameters", frame.get("arguments", {}))
        if not isinstance(found, dict):
            raise exceptions.ParseError("The member parameters is an object.")
        lookup: Any = getattr(self._class, "lookup_url_kwarg", None) or getattr(
            self._class, "lookup_field", "pk"
        )
        named = {lookup: frame["pk"]} if "pk" in frame else {}
        return {**named, **{k: v for k, v in usable(found).items() if k not in {"request", "args"}}}

    @property
    def _class(self) -> Any:
        return getattr(self.view, "cls", None) or getattr(self.view, "view_class", None)

    @property
    def _handlers(self) -> Mapping[str, str]:
        return getattr(self.view, "actions", None) or {}

    @cached_property
    def _kept_view(self) -> Any:
        """The view, with authentication that is kept for the socket."""
        cls: Any = self._class
        if not (isinstance(cls, type) and issubclass(cls, APIView)):
            return self.view
        options = dict(getattr(self.view, "initkwargs", {}))
        classes = options.get("authentication_classes", cls.authentication_classes)
        options["authentication_classes"] = callers.kept_classes(classes)
        cls = self._class
        if self._handlers:
            return cls.as_view(dict(self._handlers), **options)
        return cls.as_view(**options)


def view_as_consumer(view: Any, mapped_actions: Mapping[str, str] | None = None) -> DjangoViewAsConsumer:
    """Return an ASGI application that sends frames through a view.

    Args:
        view: what ``as_view()`` returned.
        mapped_actions: the HTTP method for each action; the usual six as usual when None.

    Raises:
        TypeError: it is a view's class.
    """
    if isinstance(view, type):
        raise TypeError(f"Give view_as_consumer() what {view.__name__}.as_view() returns.")
    named = {} if mapped_actions is None else {"actions": {a: m.upper() for a, m in mapped_actions.items()}}
    name = f"{getattr(view, '__name__', 'View')}Consumer"
    cls: Any = type(name, (DjangoViewAsConsumer,), {"view": staticmethod(view), **named})
    found: DjangoViewAsConsumer = cls()
    return found
