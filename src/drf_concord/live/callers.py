"""Who is calling over a websocket, and the answers of authentication classes that are kept for the socket."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, load_backend
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Model
from django.utils.crypto import constant_time_compare
from django.utils.functional import LazyObject, cached_property, empty
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from .requests import SocketRequest, header_meta, http_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Caller", "beyond_row", "kept_classes"]

OF_EVERY_USER = {
    "_state", "_password", "backend", "_prefetched_objects_cache",
    "_perm_cache", "_user_perm_cache", "_group_perm_cache",
}  # fmt: skip


@dataclass(slots=True)
class _Kept:
    """What an authentication class answered for this socket; the objects themselves are never handed out."""

    authenticator: Any
    path: str
    user: Any = None
    auth: Any = None
    error: AuthenticationFailed | None = None

    def answer(self) -> tuple[Any, Any]:
        if self.error is not None:
            raise self.error.with_traceback(None)
        user = _copy(self.user)
        auth = _copy(self.auth)
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
        row = _row(self.user)
        if row is None or getattr(row, "password", None) != getattr(self.user, "password", None):
            return None
        if isinstance(self.auth, Model) and not type(self.auth)._base_manager.filter(pk=self.auth.pk).exists():
            return None
        return _Kept(self.authenticator, self.path, row, self.auth)

    def _asked_again(self, caller: Caller) -> _Kept | None:
        request = Request(http_request(caller, path=self.path, query={}))
        try:
            found = self.authenticator.asked.authenticate(self.authenticator, request)
        except APIException:
            return None
        if found is None or getattr(found[0], "pk", None) != getattr(self.user, "pk", None):
            return None
        return _Kept(self.authenticator, self.path, *found)


@dataclass(eq=False)
class Caller:
    """What a socket knows of who is calling.

    Authentication classes are asked on the handshake as over HTTP, and what they found is kept until `refresh`.
    Each request gets copies: what a view caches on a user ends with the call.

    Attributes:
        scope: the ASGI scope of the websocket.
    """

    scope: Mapping[str, Any]
    _kept: dict[type, _Kept] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    @property
    def user(self) -> Any:
        """A copy of the scope's user, as of the last `refresh`; anonymous where there is none."""
        return _copy(self._identity.user)

    @property
    def session(self) -> Any:
        """The scope's session as of the last `refresh`, or None."""
        return self._identity.session

    @property
    def origin(self) -> tuple[str, str]:
        """The scheme and the host, with the script name, that representations may contain.

        They are what Django makes of the headers, those of a proxy included where the settings trust it.
        """
        request = http_request(self, path="/", query={})
        return request.scheme or "http", request._get_raw_host() + request.META["SCRIPT_NAME"]

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the handshake puts into ``META``."""
        return header_meta(self.scope)

    def refresh(self) -> bool:
        """Read the user, the session and tokens again, and forget what no longer holds; hashes no password.

        A user must exist and be active; a session must be in its store, with the same user and session hash; a
        token's class is asked again; Basic credentials hold while the stored password is the same.

        Returns:
            Whether all of it still holds. What was forgotten is asked for again at the next call.
        """
        with self._lock:
            held = self._identity.refresh()
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
        with self._lock:
            kept = self._kept.get(asked)
            if kept is None:
                kept = _Kept(authenticator, request._request.path)
                own = request._request.user
                try:
                    found = asked.authenticate(authenticator, request)
                except AuthenticationFailed as error:
                    if isinstance(authenticator, BasicAuthentication):  # guessing costs a hash once
                        kept.error = error
                        self._kept[asked] = kept
                    raise
                if found is None or found[0] is own:  # the scope's user, who is refreshed anyway
                    answer: tuple[Any, Any] | None = found
                    return answer
                kept.user, kept.auth = found
                self._kept[asked] = kept
        return kept.answer()

    @cached_property
    def _identity(self) -> _Identity:
        with self._lock:
            return _Identity(self.scope)


class _Identity:
    """The user and the session that the socket's middleware found."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        user = _unwrapped(scope.get("user"))
        # a class is no user, though its is_authenticated is a true value
        self.user = _nobody() if user is None or isinstance(user, type) else _copy(user)
        self.session = _unwrapped(scope.get("session"))
        self._by_session = isinstance(self.session, SessionBase) and self._named_by_session()

    def _named_by_session(self) -> bool:
        named = self.session.get(SESSION_KEY)
        return named is not None and named == str(getattr(self.user, "pk", None))

    def refresh(self) -> bool:
        if isinstance(self.session, SessionBase):
            self.session = type(self.session)(self.session.session_key)
        if not isinstance(self.user, Model):
            return True
        known: Any = self.user
        row = _row(known, _user_of(self.session) if self._by_session else None)
        if row is None or (self._by_session and _user_of(self.session) is None):
            self.user = _nobody()
            return False
        self.user = row
        return True


class _KeptAuthentication:
    """Mixed before an authentication class: asks it once per socket."""

    asked: Any

    def authenticate(self, request: Request) -> Any:
        http = request._request
        if isinstance(http, SocketRequest):
            return http.caller.authenticated(self, request)
        return self.asked.authenticate(self, request)


def kept_classes(classes: Iterable[Any]) -> list[Any]:
    """Return authentication classes whose answers are kept per socket; each is a subclass of the one given."""
    return [_kept_class(cls) if isinstance(cls, type) else cls for cls in classes]


@functools.lru_cache(maxsize=256)
def _kept_class(cls: type) -> type:
    if issubclass(cls, _KeptAuthentication):
        return cls
    named = {"asked": cls, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_KeptAuthentication, cls), named)
