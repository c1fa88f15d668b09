"""Requests that notice what is read of them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.http.request import HttpHeaders
from rest_framework.request import Request

from .accounts import is_plain
from .requests import JSON

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LateRead", "Level", "Record", "RecordedHttpRequest", "RecordedRequest"]


class Level(enum.IntEnum):
    """For whom a result holds."""

    SHARED = 0
    """Nothing about the caller was read: it holds for every user."""
    USER = 1
    """Only the user was read: it holds for that user."""
    CONNECTION = 2
    """Something else of the request was read, or it is not known: it holds for this socket."""


class LateRead(RuntimeError):
    """Something about the caller was read after it had been said for whom the result holds."""


FREE = frozenset({
    "method", "GET", "scheme", "is_secure", "get_host", "_get_raw_host", "_current_scheme_host", "encoding",
    "_force_auth_user", "_force_auth_token", "_parsed_accept_list",
})  # fmt: skip
"""What a Django request may be asked: it is the same for all who share the view, the query and the host."""
FREE_META = frozenset({"REQUEST_METHOD", "QUERY_STRING", "HTTP_HOST"})
FREE_HEADERS = frozenset({"host"})
FREE_OF_DRF = frozenset({"query_params", "__class__"})

SLOT = "\0record"
"""Where a recorded request keeps its record, under a name that code cannot spell by accident."""


class Record:
    """What one evaluation has read, and what its requests answer.

    Attributes:
        level: for whom a result computed from what was read holds.
        plain: the request that answers.
    """

    def __init__(self, plain: HttpRequest, user: Any, auth: Any) -> None:
        self.plain = plain
        self.user = user
        self.auth = auth
        self.level = Level.SHARED
        json = plain.META.get("HTTP_ACCEPT") == JSON  # as it is in every call over a socket
        self.free_meta = FREE_META | {"HTTP_ACCEPT"} if json else FREE_META
        self.free_headers = FREE_HEADERS | {"accept"} if json else FREE_HEADERS
        self._closed = False
        self._meta: _Meta | None = None
        self._headers: _Headers | None = None

    def note(self, level: Level) -> None:
        """Take notice of a read.

        Raises:
            LateRead: the level has been told already.
        """
        if level > self.level:
            if self._closed:
                raise LateRead("The request was read after its result had been given to others.")
            self.level = level

    def note_user(self) -> None:
        """Take notice that the user was read, who may be more than a row of the user model."""
        if self.level is Level.SHARED or self._closed:
            self.note(Level.USER if is_plain(self.user) else Level.CONNECTION)

    def close(self) -> Level:
        """Return the level; from now on no higher one can be reached."""
        self._closed = True
        return self.level

    @property
    def meta(self) -> _Meta:
        """The recorded ``META``."""
        if self._meta is None:
            self._meta = _Meta(self.plain.META)
            self._meta.record = self
        return self._meta

    @property
    def headers(self) -> _Headers:
        """The recorded headers."""
        if self._headers is None:
            self._headers = _Headers.of(self)
        return self._headers

    def build_absolute_uri(self, location: str | None = None) -> str:
        """Return an absolute URI; only one that is relative to the path reads the path."""
        if location is None or not str(location).startswith("/"):
            self.note(Level.CONNECTION)
        return self.plain.build_absolute_uri(location)


class _Meta(dict[str, Any]):
    """``META``; reading anything but the free keys is noticed."""

    record: Record

    def _note(self, key: object) -> None:
        if key not in self.record.free_meta:
            self.record.note(Level.CONNECTION)


def _noting(method: Callable[..., Any], *, by_key: bool) -> Any:
    def noting(self: _Meta, *args: Any, **kwargs: Any) -> Any:
        self._note(args[0] if by_key else None)
        return method(self, *args, **kwargs)

    return noting


for _name in ("__getitem__", "get", "__contains__", "setdefault", "pop"):
    setattr(_Meta, _name, _noting(getattr(dict, _name), by_key=True))
for _name in (
    "__iter__", "__len__", "__eq__", "__ne__", "__or__", "__ror__", "__repr__", "__reversed__",
    "__reduce_ex__", "keys", "values", "items", "copy", "popitem",
):  # fmt: skip
    setattr(_Meta, _name, _noting(getattr(dict, _name), by_key=False))


class _Headers(HttpHeaders):
    """``headers``; reading anything but the free ones is noticed."""

    record: Record

    @classmethod
    def of(cls, record: Record) -> _Headers:
        found = cls.__new__(cls)
        found.record = record
        return found

    def __getitem__(self, key: str) -> str:
        if key.lower() in self.record.free_headers:
            return str(self.record.plain.META[f"HTTP_{key.upper()}"])  # else all headers are read for one
        return super().__getitem__(key)

    @property
    def _store(self) -> Any:  # type: ignore[override]
        self.record.note(Level.CONNECTION)
        return self.record.plain.headers._store


class RecordedHttpRequest(HttpRequest):
    """A Django request that answers as another one and notices what it is asked.

    What code sets on it stays on it, and may be read again: it was made of what has been noticed.
    """

    def __init__(self, record: Record) -> None:
        _own(self)[SLOT] = record

    def __getattribute__(self, name: str) -> Any:
        own = _own(self)
        record: Record = own[SLOT]
        if name == "user":
            record.note_user()
            return own.get(name, record.user)
        if name == "auth":
            record.note(Level.CONNECTION)
            return own.get(name, record.auth)
        if name in own:
            return own[name]
        if name in FREE:
            return getattr(record.plain, name)
        if name in {"META", "headers", "build_absolute_uri"}:
            return getattr(record, name.lower())
        if name == "__class__":
            return type(record.plain)
        record.note(Level.CONNECTION)
        if name == "__dict__":
            return {**vars(record.plain), "user": record.user, "auth": record.auth, **own}
        return getattr(record.plain, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _own(self)[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del _own(self)[name]
        except KeyError:
            raise AttributeError(name) from None

    def __copy__(self) -> Any:
        return _twin(self)


class RecordedRequest(Request):
    """A DRF request over a recorded Django request; set as the class of one that DRF has made."""

    def __getattribute__(self, name: str) -> Any:
        own = _own(self)
        record: Record = _own(own["_request"])[SLOT]
        if name in {"user", "_user"}:
            record.note_user()
            return own.get("_user", record.user)
        if name in {"auth", "_auth"}:
            record.note(Level.CONNECTION)
            return own.get("_auth", record.auth)
        if name in own:
            return own[name]
        if name in FREE_OF_DRF:
            return super().__getattribute__(name)
        if name == "_authenticator":
            super().__getattribute__("_authenticate")()
        if name == "__dict__":
            record.note(Level.CONNECTION)
            return {"_user": record.user, "_auth": record.auth, **own}
        if hasattr(Request, name):
            record.note(Level.CONNECTION)
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(_own(self)["_request"], name)

    def __copy__(self) -> Any:
        return _twin(self)

    def __deepcopy__(self, memo: Any) -> Any:
        return _twin(self)


def _own(request: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(request, "__dict__")
    return found


def _twin(request: Any) -> Any:
    """Return a copy that is recorded with the original."""
    twin = object.__new__(type(request))
    _own(twin).update(_own(request))
    return twin
