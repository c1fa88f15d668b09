"""Who is calling over a websocket, and the answers of authentication classes that are kept for the socket."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Model
from django.utils.functional import cached_property
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from .accounts import carried, copied, nobody, row_of, unwrapped, user_of
from .middleware import within
from .requests import attributes, header_meta, http_request, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Caller", "kept_classes"]


@dataclass(slots=True)
class _Kept:
    """What an authentication class answered for this socket; the objects themselves are never handed out."""

    authenticator: Any
    path: str
    user: Any = None
    auth: Any = None
    error: AuthenticationFailed | None = None
    left: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})  # what it set on the requests

    def answer(self, request: Request) -> tuple[Any, Any]:
        for holder, left in zip((request, request._request), self.left, strict=True):
            for name, value in left.items():
                setattr(holder, name, copied(value))
        if self.error is not None:
            raise self.error.with_traceback(None)
        user = copied(self.user)
        auth = copied(self.auth)
        if isinstance(auth, Model):
            cached = auth._state.fields_cache
            cached.update({name: user for name, value in cached.items() if value is self.user})
        return user, auth

    def again(self, caller: Caller) -> _Kept | None:
        """Return what is to be kept now, or None when it no longer holds."""
        if self.error is not None:
            return self
        if self.auth is not None and not isinstance(self.authenticator, BasicAuthentication):
            return self._asked_again(caller)  # a token: it may be gone, or have expired
        if not isinstance(self.user, Model):
            return self
        row = carried(self.user, row_of(self.user))
        if row is None or getattr(row, "password", None) != getattr(self.user, "password", None):
            return None
        if (
            isinstance(self.auth, Model)
            and not type(self.auth)._base_manager.filter(pk=self.auth.pk).exists()
        ):
            return None
        return replace(self, user=row)

    def _asked_again(self, caller: Caller) -> _Kept | None:
        http = http_request(caller, path=self.path, query={})

        def ask() -> _Kept | None:
            request = Request(http)
            before = _left_on(request)  # by the middleware, which leaves it on every request itself
            found = self.authenticator.asked.authenticate(self.authenticator, request)
            if found is None or _pk(found[0]) != _pk(self.user):
                return None
            user, auth = found
            return replace(self, user=user, auth=auth, left=_new(before, _left_on(request)))

        try:
            return within(http, ask)
        except APIException:
            return None


@dataclass(eq=False)
class Caller:
    """What a socket knows of who is calling.

    Authentication classes are asked about the handshake as over HTTP, and what they found is kept until
    `refresh`. Each request gets copies: what a view caches on a user ends with the call.

    Attributes:
        scope: the ASGI scope of the websocket.
    """

    scope: Mapping[str, Any]
    _kept: dict[type, _Kept] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def __deepcopy__(self, memo: Any) -> Caller:
        return self

    @property
    def user(self) -> Any:
        """A copy of the scope's user, as of the last `refresh`; anonymous where there is none."""
        return copied(self._identity.user)

    @property
    def session(self) -> Any:
        """The scope's session as of the last `refresh`, or None."""
        return self._identity.session

    @property
    def pks(self) -> set[str]:
        """The keys, as text, of the users that this socket is known as."""
        users = [self._identity.user, *(kept.user for kept in list(self._kept.values()))]
        return {str(_pk(user)) for user in users}

    @property
    def origin(self) -> tuple[str, str]:
        """The scheme and the host (with the script name) that representations may contain."""
        return origin_of(self.scope)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the handshake puts into ``META``."""
        return header_meta(self.scope)

    def refresh(self) -> bool:
        """Read the user, the session and tokens again, and forget what no longer holds; hashes no password.

        A user must exist and be active; a session must be in its store, with the same user and session hash;
        a token's class is asked again; Basic credentials hold while the stored password is the same.

        Returns:
            Whether all of it still holds. What was forgotten is asked for again at the next call.
        """
        with self._lock:
            before = self._identity
            self._identity = before.again()
            held = bool(_pk(self._identity.user) == _pk(before.user))
            for asked, kept in list(self._kept.items()):
                again = kept.again(self)
                if again is None:
                    held = False
                    del self._kept[asked]
                else:
                    self._kept[asked] = again
            return held

    def authenticated(self, authenticator: Any, request: Request) -> tuple[Any, Any] | None:
        """Return what an authentication class says, as it said it before on this socket."""
        asked: Any = authenticator.asked
        with self._lock:  # calls that come at once wait for the first, instead of hashing each
            kept = self._kept.get(asked) or self._ask(asked, authenticator, request)
        return kept if kept is None or isinstance(kept, tuple) else kept.answer(request)

    def _ask(self, asked: Any, authenticator: Any, request: Request) -> _Kept | tuple[Any, Any] | None:
        own, before = request._request.user, _left_on(request)
        kept = _Kept(authenticator, request._request.path)
        try:
            found: tuple[Any, Any] | None = asked.authenticate(authenticator, request)
        except AuthenticationFailed as error:
            if not isinstance(authenticator, BasicAuthentication):
                raise
            kept.error = error  # wrong passwords are hashed once, too
        else:
            if found is None or found[0] is own:  # the scope's user, who is refreshed as such
                return found
            kept.user, kept.auth = found
        kept.left = _new(before, _left_on(request))
        self._kept[asked] = kept
        return kept

    @cached_property
    def _identity(self) -> _Identity:
        return _Identity.of(self.scope)


@dataclass(frozen=True, slots=True)
class _Identity:
    """The user and the session that the socket's middleware found."""

    user: Any
    session: Any
    by_session: bool

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> _Identity:
        user, session = unwrapped(scope.get("user")), unwrapped(scope.get("session"))
        if user is None or isinstance(user, type):  # a class is no user, though its is_authenticated is true
            return cls(nobody(), session, False)
        named = session.get(SESSION_KEY) if isinstance(session, SessionBase) else None
        return cls(copied(user), session, named is not None and named == str(_pk(user)))

    def again(self) -> _Identity:
        session = self.session
        if isinstance(session, SessionBase):
            session = type(session)(session.session_key)
        if not isinstance(self.user, Model):
            return _Identity(self.user, session, self.by_session)
        row = carried(self.user, user_of(session) if self.by_session else row_of(self.user))
        return _Identity(nobody() if row is None else row, session, self.by_session)


class _KeptAuthentication:
    """Mixed before an authentication class: asks it once per socket."""

    asked: Any

    def authenticate(self, request: Request) -> Any:
        caller = getattr(request._request, "caller", None)
        if isinstance(caller, Caller):
            return caller.authenticated(self, request)
        return self.asked.authenticate(self, request)


def _pk(user: Any) -> Any:
    return getattr(user, "pk", None)


def _left_on(request: Request) -> list[dict[str, Any]]:
    return [attributes(holder) for holder in (request, request._request)]


def _new(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Any:
    """Return what has been set meanwhile."""
    return tuple(
        {name: value for name, value in now.items() if then.get(name, then) is not value}
        for then, now in zip(before, after, strict=True)
    )


def kept_classes(classes: Iterable[Any]) -> list[Any]:
    """Return authentication classes whose answers are kept per socket, subclasses of those given."""
    return [_kept_class(cls) if isinstance(cls, type) else cls for cls in classes]


@functools.lru_cache(maxsize=256)
def _kept_class(cls: type) -> type:
    if issubclass(cls, _KeptAuthentication):
        return cls
    named = {"asked": cls, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_KeptAuthentication, cls), named)
