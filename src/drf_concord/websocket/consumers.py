"""Consumers: a websocket whose actions are methods of a class."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import connections, transaction
from django.http import Http404
from msgspec import Raw
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.settings import api_settings

from ..conf import settings
from ..live import callers, views
from ..live.hub import hub_of_loop
from ..live.pool import pool
from ..protocol.frames import NULL, BadFrame, members
from ..protocol.session import reply_text
from . import origins
from .decorators import actions_of
from .doing import Doing, at, doing
from .groups import Groups
from .inbox import Inbox
from .permissions import METHODS, allowed, allows_object, at_connect, judges_objects, waits
from .presence import Presence
from .replies import accepted, errors_of, json_of, plain, usable, without
from .socket import FORBIDDEN, Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
    from typing import Self

    from .followings import Following, Table

__all__ = ["AsyncAPIConsumer"]

logger = logging.getLogger("drf_concord")

DETACHED = 32
"""How many detached actions of one socket may be under way; more are refused."""


class AsyncAPIConsumer:
    """A websocket whose actions are the methods declared with ``@action()``.

    Every socket gets an instance of its own. A frame ``{"action", "request_id", ...}`` is answered
    ``{"action", "errors", "response_status", "request_id", "data"}``.
    """

    permission_classes: ClassVar[Any] = None
    """DRF's permission classes, or classes with ``has_permission(scope, consumer, action, **kwargs)``; None
    stands for DRF's ``DEFAULT_PERMISSION_CLASSES``."""

    authentication_classes: ClassVar[Any] = api_settings.DEFAULT_AUTHENTICATION_CLASSES

    groups: Any = ()
    """Groups of the Channels layer to join when the socket opens; on a socket, those that it is in."""

    channel_layer_alias: ClassVar[str] = "default"

    channel_from_start: ClassVar[bool] = False
    """Whether each socket has a ``channel_name`` when it opens, and not only once it is in a group."""

    scope: MutableMapping[str, Any]
    socket: Socket
    caller: views.Caller
    detached_tasks: set[asyncio.Task[None]]
    format_kwarg = None
    args = ()

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]
    _send: Callable[[Any], Awaitable[None]]
    _followed: dict[Table, dict[str, set[str]]]
    _outdated: object | None
    _welcome: dict[str, Any] | None
    _answers: tuple[int, dict[Following, bool]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a consumer, and remember how: each socket is to have one that is made the same way."""
        made = super().__new__(cls)
        made._made_with = (args, kwargs)
        return made

    def __init__(self, **initkwargs: Any) -> None:
        for name, value in initkwargs.items():
            setattr(self, name, value)

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """Return an ASGI application with an instance per socket."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await cls(**initkwargs)._serve(scope, receive, send)

        application.consumer_class = cls  # type: ignore[attr-defined]
        return application

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve one socket, by a consumer of its own: this one may be mounted for all of them."""
        args, kwargs = self._made_with
        await type(self)(*args, **kwargs)._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or (await receive())["type"] != "websocket.connect":
            return
        self.scope, self.caller, self._send = dict(scope), views.Caller(scope), send
        self.socket, self.detached_tasks = Socket(send), set()
        self._inbox = Inbox(self)
        self._layer = Groups(self._inbox.put_message, self.channel_layer_alias)
        self._refreshed, self._open = asyncio.get_running_loop().time(), False
        self._outdated, self._followed, self._welcome = None, {}, None
        self._answers = (-1, {})
        presence = Presence(self)
        if not origins.allowed(scope) or not await self._may_connect():
            await send({"type": "websocket.close", "code": FORBIDDEN})
            return
        hub, code = hub_of_loop(), None

        async def taken_in() -> Any:
            nonlocal code
            event = await receive()
            code = event.get("code")
            return event

        hub.listeners.add(presence)
        try:
            if self.channel_from_start and self.channel_layer is not None:
                await self._layer.open()
            for group in tuple(self.groups):
                await self.add_group(group)
            connected = asyncio.Event()
            self.socket.spawn(_until(connected))  # it is work under way, for whoever waits for that
            self.socket.outlet.hold()
            with at(self, "connect", {}):
                await self.connect()
            await self._admit()
            connected.set()
            if self._open:
                await self.socket.serve(taken_in, self._take)
        finally:
            hub.listeners.discard(presence)
            self.socket.end()
            self._inbox.close()
            for table in list(self._followed):
                table.remove(self, None, None)
            await self._layer.leave()
            if self._open:
                await self._disconnected(code)

    async def connect(self) -> None:
        """Accept the socket; override it to look first, and to ``close()`` instead."""
        await self.accept()

    async def accept(self, subprotocol: str | None = None, headers: Any = None) -> None:
        """Accept the socket; the client hears of it when ``connect()`` is through with what it began."""
        self._open = True
        given = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        self._welcome = {name: value for name, value in given.items() if value is not None}
        self._inbox.open()

    async def _admit(self) -> None:
        """Tell the client that the socket is open: what it does from now on, subscriptions of ours see."""
        welcome, self._welcome = self._welcome, None
        if welcome is not None:
            await self._send(welcome)
            self.socket.outlet.release()

    async def disconnect(self, code: int | None) -> None:
        """Clean up when the socket has ended; a hook.

        Args:
            code: with which the client closed it; None when we did, or it broke.
        """

    async def _disconnected(self, code: int | None) -> None:
        try:
            await self.disconnect(code)
        except Exception:
            logger.exception("%s.disconnect() failed.", type(self).__name__)

    async def _may_connect(self) -> bool:
        with at(self, "connect", {}):
            permissions = await self._permissions("connect", {})
            return await allowed([p for p in permissions if at_connect(p)], self, "connect", {})

    # Frames in

    @property
    def action(self) -> str:
        """The action that is being done."""
        return self._now.action

    @property
    def request(self) -> Any:
        """The request that DRF's permissions, filters and serializers see."""
        return self.request_of(self._now.action, self._now.arguments)

    @property
    def frame(self) -> Mapping[str, Any]:
        """The members of the frame that is being answered."""
        return self._now.arguments

    @property
    def kwargs(self) -> dict[str, Any]:
        """What a view's route would have found in an address."""
        return {}

    @property
    def _now(self) -> Doing:
        return doing(self)

    async def _take(self, text: str | bytes) -> None:
        request_id, name = NULL, None
        try:
            found = members(text)
            request_id = bytes(found.pop("request_id", NULL))
            content = {key: msgspec.json.decode(raw) for key, raw in found.items()}
        except (BadFrame, msgspec.DecodeError, RecursionError, UnicodeError):
            await self._reply_raw(name, request_id, 400, errors=["A frame is a JSON object."])
            return
        try:
            name, content = await self.get_action_name(content)
        except Exception as error:
            await self.handle_exception(error, action=None, request_id=Raw(request_id))
            return
        if not isinstance(name, str):
            await self._reply_raw(None, request_id, 405, errors=["Unable to find action in message body."])
            return
        work = self.handle_action(name, request_id=Raw(request_id), **usable(content))
        if self.available_actions().get(name, ("", False, None))[1]:
            self._detach(work, name, request_id)
            return
        pk = content.get("pk")
        await self.socket.start(work, str(pk) if pk is not None else None)

    async def get_action_name(self, content: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return which action a frame asks for, and the rest of the frame; a hook for other dialects."""
        return content.pop("action", None), content

    def _detach(self, work: Coroutine[Any, Any, None], name: str, request_id: bytes) -> None:
        if len(self.detached_tasks) >= DETACHED:
            work.close()
            refusal = self._reply_raw(name, request_id, 429, errors=["Too many actions are under way."])
            self.socket.spawn(refusal)
            return
        self.detach(work, name)

    def detach(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Let something go on beside the requests of this socket, until it ends at the latest."""
        task = self.socket.spawn(work)
        task.set_name(name)
        self.detached_tasks.add(task)
        task.add_done_callback(self.detached_tasks.discard)
        return task

    def detached_of(self, action: str) -> list[asyncio.Task[None]]:
        """Return the detached tasks of an action that are under way."""
        return [task for task in self.detached_tasks if task.get_name() == action]

    @classmethod
    def available_actions(cls) -> dict[str, tuple[str, bool, bool | None]]:
        """Return what clients may call: name -> (method, detached, atomic)."""
        known: dict[str, tuple[str, bool, bool | None]] = actions_of(cast("Any", cls))
        return known

    async def handle_action(self, action: str, request_id: Any = None, **kwargs: Any) -> None:
        """Check permissions, do an action and reply."""
        with at(self, action, kwargs):
            try:
                known = self.available_actions().get(action)
                if known is None:
                    raise exceptions.MethodNotAllowed(action)
                await self._look_at_account(writes=METHODS.get(action, "POST") not in {"GET", "HEAD"})
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
        method = getattr(self, name)
        given = accepted(method, {**kwargs, "action": action, "request_id": plain(request_id)})
        if inspect.iscoroutinefunction(method):
            return await method(**given)
        work = partial(method, **given)
        if atomic or (atomic is None and connections.settings["default"]["ATOMIC_REQUESTS"]):
            inner = work
            work = partial(transaction.atomic()(inner))
        return await pool.run(work)

    # Who is calling

    async def _look_at_account(self, *, writes: bool) -> None:
        """Read the account again when it is time: before each write, when it changed, and now and then."""
        now = asyncio.get_running_loop().time()
        if writes or self._outdated is not None or now - self._refreshed > settings.AUTH_REFRESH:
            await self.refresh_caller()

    async def refresh_caller(self) -> None:
        """Read the user, the session and tokens again: whoever was deactivated does nothing any more."""
        self._refreshed, news = asyncio.get_running_loop().time(), self._outdated
        await pool.run(self.caller.refresh)
        if self._outdated is news:  # or it changed again meanwhile
            self._outdated = None
        self._answers = (-1, {})

    def get_permissions(self, action: str, **kwargs: Any) -> Any:
        """Return the permissions that are asked about an action."""
        classes = self.permission_classes
        if classes is None:
            classes = api_settings.DEFAULT_PERMISSION_CLASSES
        return [permission() for permission in classes]

    async def _permissions(self, action: str, kwargs: Mapping[str, Any]) -> list[Any]:
        found = self.get_permissions(action=action, **without(kwargs, "action"))
        return list(await found if inspect.isawaitable(found) else found)

    async def _asked(self, action: str, kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the permissions for an action, ready to be asked about an object in a thread."""
        found = await self._permissions(action, kwargs)
        for permission in found:
            if waits(permission):
                await allowed([permission], self, action, kwargs)  # it keeps what it said
        return found

    async def check_permissions(self, action: str, **kwargs: Any) -> None:
        """Ask every permission.

        Raises:
            PermissionDenied: one said no.
        """
        if "user" in self.scope:
            self.scope["user"] = self.caller.user  # as of the last time it was read
        asked = self._now.permissions = await self._permissions(action, kwargs)
        if not await allowed(asked, self, action, kwargs):
            raise exceptions.PermissionDenied

    def check_object_permissions(self, obj: Any, /, **kwargs: Any) -> None:
        """Ask every permission about an object; runs in a thread.

        Raises:
            PermissionDenied: one said no.
        """
        now, kwargs = self._now, without(kwargs, "action")
        asked = now.permissions
        if asked is None:
            asked = self.get_permissions(action=now.action, **kwargs)
        if not all(allows_object(p, self, now.action, kwargs, obj) for p in asked):
            raise exceptions.PermissionDenied

    async def may_be_told(self, tick: int, following: Following) -> bool:
        """Ask again whether what a request began to follow may be followed; once per tick of the hub."""
        await self._look_at_account(writes=False)
        if self._answers[0] != tick:
            self._answers = (tick, {})
        said = self._answers[1].get(following)
        if said is None:
            with at(self, following.action, following.arguments):
                try:
                    await self.check_permissions(following.action, **without(following.arguments, "action"))
                    said = True
                except (exceptions.APIException, PermissionDenied):
                    said = False
            self._answers[1][following] = said
        return said

    async def may_be_told_of(self, obj: Any, following: Following) -> bool:
        """Ask whether an object may be shown to who follows."""
        with at(self, following.action, following.arguments) as now:
            now.permissions = await self._asked(following.action, following.arguments)
            if not any(judges_objects(p) for p in now.permissions):
                return True
            try:
                await pool.run(partial(self.check_object_permissions, obj, **following.arguments))
            except (exceptions.APIException, PermissionDenied, Http404, ObjectDoesNotExist):
                return False  # of what is gone, a permission may want to know more than is known
        return True

    def request_of(self, action: str, kwargs: Mapping[str, Any]) -> Request:
        """Return the request of what is being done, made when it is first asked for."""
        now = self._now
        if action != now.action:
            return self.request_for(action, kwargs)
        if now.request is None:
            now.request = self.request_for(action, kwargs)
        found: Request = now.request
        return found

    def request_for(self, action: str, kwargs: Mapping[str, Any]) -> Request:
        """Return a request as DRF's permissions and serializers see it.

        Raises:
            ParseError: the member ``query`` is no object, or holds what no address can.
        """
        query = kwargs.get("query")
        if query is not None and not isinstance(query, dict):
            raise exceptions.ParseError("The member query is an object.")
        http = views.http_request(
            self.caller,
            method=METHODS.get(action, "POST"),
            path=self.scope.get("path", "/"),
            query=query or {},
        )
        classes = callers.kept_classes(self.authentication_classes)
        return Request(http, authenticators=[each() for each in classes])

    # Groups

    async def add_group(self, name: str) -> None:
        """Join a group of the Channels layer: ``{"type": "some.news"}`` sent to it calls ``some_news()``.

        Raises:
            ImproperlyConfigured: there is no Channels layer.
        """
        await self._layer.add(name)
        self.groups = self._layer.names

    async def remove_group(self, name: str) -> None:
        """Leave a group of the Channels layer."""
        await self._layer.remove(name)

    @property
    def channel_layer(self) -> Any:
        """The Channels layer of the project, or None."""
        return self._layer.layer

    @property
    def channel_name(self) -> str | None:
        """This socket's name in the Channels layer, once it is in a group, or ``channel_from_start``."""
        return self._layer.channel

    # Frames out

    async def handle_exception(self, exc: Exception, action: str | None, request_id: Any) -> None:
        """Answer an exception; what is no refusal is logged and answered 500 without internals."""
        status, errors = errors_of(exc)
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
        await self._reply_raw(action, json_of(request_id), status, data=data, errors=errors)

    async def _reply_raw(
        self, action: str | None, request_id: bytes, status: int, *, data: Any = None, errors: Any = None
    ) -> None:
        said = json_of(errors or [])
        self.socket.push(reply_text(action, request_id or NULL, status, data=json_of(data), errors=said))

    async def send_json(self, content: Any, close: bool = False) -> None:
        """Send a value as a frame."""
        self.socket.push(JSONRenderer().render(content).decode())
        if close:
            await self.close()

    async def close(self, code: int = 1000) -> None:
        """Close the socket, or refuse it when it is not accepted yet."""
        if self._open:
            await self._admit()
            self.socket.close(code)
        else:
            await self._send({"type": "websocket.close", "code": code})


async def _until(event: asyncio.Event) -> None:
    await event.wait()
