"""Consumers: a websocket whose actions are methods of a class."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404
from msgspec import Raw
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.settings import api_settings

from ..live import callers, views
from ..live.pool import pool
from ..protocol.errors import ConcordError
from ..protocol.frames import NULL, BadFrame, members
from . import origins
from .permissions import METHODS, allows, knows_sockets
from .socket import FORBIDDEN, Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

__all__ = ["AsyncAPIConsumer"]

logger = logging.getLogger("drf_concord")

RESERVED = {"self", "action", "request_id", "scope", "consumer", "serializer", "obj", "queryset"}
"""Members of frames that never become arguments: hooks of projects have parameters of these names."""


class AsyncAPIConsumer:
    """A websocket whose actions are the methods declared with ``@action()``.

    Every socket gets an instance of its own. A frame ``{"action", "request_id", ...}`` is answered
    ``{"action", "errors", "response_status", "request_id", "data"}``.
    """

    permission_classes: ClassVar[Any] = None
    """DRF's permission classes, or classes with ``has_permission(scope, consumer, action, **kwargs)``; None
    stands for DRF's ``DEFAULT_PERMISSION_CLASSES``."""

    authentication_classes: ClassVar[Any] = api_settings.DEFAULT_AUTHENTICATION_CLASSES

    scope: MutableMapping[str, Any]
    socket: Socket
    caller: views.Caller
    action: str = ""
    format_kwarg = None

    def __init__(self, **initkwargs: Any) -> None:
        for name, value in initkwargs.items():
            setattr(self, name, value)

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """Return an ASGI application with an instance per socket."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await cls(**initkwargs)(scope, receive, send)

        application.consumer_class = cls  # type: ignore[attr-defined]
        return application

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve one socket, on a copy: an instance may be mounted for all of them."""
        await copy.copy(self)._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or (await receive())["type"] != "websocket.connect":
            return
        self.scope, self.caller = scope, views.Caller(scope)
        self.socket = Socket(send)
        if not origins.allowed(scope) or not await self._may_connect():
            await send({"type": "websocket.close", "code": FORBIDDEN})
            return
        await self.accept(send)
        try:
            await self.socket.serve(receive, self._take)
        finally:
            self.socket.end()

    async def accept(self, send: Callable[[Any], Awaitable[None]]) -> None:
        """Accept the socket; override to choose a subprotocol."""
        await send({"type": "websocket.accept"})

    async def _may_connect(self) -> bool:
        socket_permissions = [p for p in self.get_permissions(action="connect") if knows_sockets(p)]
        return await pool.run(lambda: all(allows(p, self, "connect", {}) for p in socket_permissions))

    # Frames in

    async def _take(self, text: str | bytes) -> None:
        request_id, name = NULL, None
        try:
            found = members(text)
            request_id = bytes(found.pop("request_id", NULL))
            content = {key: msgspec.json.decode(raw) for key, raw in found.items()}
            name = content.pop("action", None)
        except (BadFrame, msgspec.DecodeError, RecursionError):
            await self._reply_raw(name, request_id, 400, errors=["A frame is a JSON object."])
            return
        if not isinstance(name, str):
            await self._reply_raw(None, request_id, 405, errors=["Unable to find action in message body."])
            return
        work = self.handle_action(name, request_id=Raw(request_id), **_usable(content))
        if self.available_actions().get(name, ("", False, None))[1]:
            self.socket.spawn(work)
            return
        pk = content.get("pk")
        await self.socket.start(work, str(pk) if pk is not None else None)

    @classmethod
    def available_actions(cls) -> dict[str, tuple[str, bool, bool | None]]:
        """Return what clients may call: name -> (method, detached, atomic)."""
        found = {}
        for attribute in dir(cls):
            declared = getattr(inspect.getattr_static(cls, attribute), "concord_action", None)
            if declared is not None:
                found[declared[0]] = (attribute, declared[1], declared[2])
        return found

    async def handle_action(self, action: str, /, request_id: Any = None, **kwargs: Any) -> None:
        """Check permissions, do an action and reply."""
        try:
            known = self.available_actions().get(action)
            if known is None:
                raise exceptions.MethodNotAllowed(action)
            await self.check_permissions(action, **kwargs)
            result = await self._run(action, *known, request_id, kwargs)
            if result is not None:
                data, status = result if isinstance(result, tuple) else (result, 200)
                await self.reply(action, data=data, status=status, request_id=request_id)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await self.handle_exception(error, action=action, request_id=request_id)

    async def _run(
        self, action: str, name: str, detached: bool, atomic: bool | None, request_id: Any, kwargs: Any
    ) -> Any:
        # A socket works on several requests at a time: each sees a consumer of its own.
        seen = copy.copy(self)
        seen.action = action
        method = getattr(seen, name)
        if inspect.iscoroutinefunction(method):
            return await method(request_id=_plain(request_id), **kwargs)
        work = partial(method, request_id=_plain(request_id), **kwargs)
        if atomic or (atomic is None and connections.settings["default"]["ATOMIC_REQUESTS"]):
            inner = work
            work = partial(transaction.atomic()(inner))
        return await pool.run(work)

    # Permissions

    def get_permissions(self, action: str, **kwargs: Any) -> list[Any]:
        """Return the permissions that are asked about an action."""
        classes = self.permission_classes
        if classes is None:
            classes = api_settings.DEFAULT_PERMISSION_CLASSES
        return [permission() for permission in classes]

    async def check_permissions(self, action: str, /, **kwargs: Any) -> None:
        """Ask every permission.

        Raises:
            PermissionDenied: one said no.
        """
        asked = self.get_permissions(action=action, **kwargs)
        if not await pool.run(lambda: all(allows(p, self, action, kwargs) for p in asked)):
            raise exceptions.PermissionDenied

    def request_for(self, action: str, kwargs: Mapping[str, Any]) -> Request:
        """Return the request that DRF's permissions and serializers see; runs in a thread."""
        http = views.http_request(
            self.caller,
            method=METHODS.get(action, "POST"),
            path=self.scope.get("path", "/"),
            query={},
        )
        classes = callers.kept_classes(self.authentication_classes)
        return Request(http, authenticators=[each() for each in classes])

    # Frames out

    async def handle_exception(self, exc: Exception, action: str, request_id: Any) -> None:
        """Answer an exception; what is no refusal is logged and answered 500 without internals."""
        status, errors = _errors_of(exc)
        if status >= 500:
            logger.error("The action %s of %s failed.", action, type(self).__name__, exc_info=exc)
        await self.reply(action, errors=errors, status=status, request_id=request_id)

    async def reply(
        self,
        action: str | None,
        data: Any = None,
        errors: list[Any] | None = None,
        status: int = 200,
        request_id: Any = None,
    ) -> None:
        """Send the reply to a request."""
        raw = bytes(request_id) if isinstance(request_id, Raw) else JSONRenderer().render(request_id)
        await self._reply_raw(action, raw, status, data=data, errors=errors)

    async def _reply_raw(
        self, action: str | None, request_id: bytes, status: int, *, data: Any = None, errors: Any = None
    ) -> None:
        self.socket.push(
            (
                b'{"action":%s,"errors":%s,"response_status":%d,"request_id":%s,"data":%s}'
                % (
                    msgspec.json.encode(action),
                    JSONRenderer().render(errors or []),
                    status,
                    request_id or NULL,
                    NULL if data is None else JSONRenderer().render(data),
                )
            ).decode()
        )

    async def send_json(self, content: Any, close: bool = False) -> None:
        """Send a value as a frame."""
        self.socket.push(JSONRenderer().render(content).decode())
        if close:
            await self.close()

    async def close(self, code: int = 1000) -> None:
        """Close the socket."""
        self.socket.close(code)


def _usable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the members that may be arguments: none that would take the place of one of ours."""
    return {k: v for k, v in content.items() if k.isidentifier() and k not in RESERVED}


def _plain(request_id: Any) -> Any:
    return json.loads(bytes(request_id)) if isinstance(request_id, Raw) else request_id


def _errors_of(exc: Exception) -> tuple[int, list[Any]]:
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
    return 500, ["The server failed; nothing was changed."]
