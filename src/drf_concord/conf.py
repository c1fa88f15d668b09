"""The settings: names, types, defaults and their meaning in one place, read late.

A project overrides them in one dictionary, ``CONCORD = {"LOCK_TTL": 60}``. ``override_settings`` works for
each key.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Settings", "settings"]


class Settings:
    """What a project may change, each with its default."""

    RELEASE: str = ""
    """Part of every entity tag: change it when a deploy changes what a serializer shows."""

    REQUIRE_PRECONDITION: bool = False
    """Answer 428 to PUT, PATCH and DELETE without a precondition (``precondition_required`` per view)."""

    LOCKED_STATUS: int = 409
    """HTTP status of a write refused by a lock: 409, or 423 (RFC 4918 section 11.3)."""

    LOCK_HOLDER: str = "user"
    """Who is the holder: "user" (any of the user's requests) or "client" (only with ``Lock-Token``)."""

    LOCK_TTL: int = 30
    """How long a hold lasts when the caller does not say, in seconds."""

    LOCK_MAX_TTL: int = 3600
    """Longest time a hold may be asked for or renewed by, in seconds."""

    LOCK_MAX_HOLD: int = 28800
    """Longest time one hold may last in all, renewals included, in seconds."""

    LOCKS_PER_USER: int = 100
    """How many live locks one user may hold."""

    LOCK_RATE: str | None = "120/min"
    """How often a user may acquire locks, as DRF writes rates; None for no limit."""

    LOCK_TIMEOUT: float | None = 5.0
    """How long a write waits for a row another writer holds before it answers 503, in seconds (PostgreSQL,
    MariaDB; SQLite has its ``timeout`` option); None waits for ever."""

    DISCLOSURE: str = "editors"
    """To whom the holder of a lock is named: "editors" (may change the object), "everyone" or "nobody"."""

    LOCKED_ICON_URL: str = "drf_concord/locked.svg"
    """The icon of locked objects in the admin: a static file, or an address."""

    CAPTURE: Sequence[str] = ()
    """Models, as "app.Model", whose changes are recorded beside those of ``Versioned`` models."""

    RETENTION: int = 3600
    """How long a change is kept in the log, in seconds."""

    RETENTION_ROWS: int = 1_000_000
    """How many changes are kept in the log at the most."""

    HINTS: Sequence[str] = ("memory", "channel_layer", "postgres")
    """How processes tell each other that there are changes to read, each where it is configured; without
    any of them a change arrives later, by polling, but it arrives."""

    SOCKET_THREADS: int = 8
    """How many threads of a process work on the database for its websockets and streams, each with a
    connection."""

    SOCKET_MIDDLEWARE: Sequence[str] = ()
    """Django middleware, as dotted paths, that run round every view called over a websocket."""

    AUTH_REFRESH: int = 60
    """How often a socket's or stream's session or token is read again, in seconds."""

    MAX_LIST: int = 10_000
    """How many objects one subscription may show; more is answered with the error ``too_large``."""

    STREAMS: int = 1_000
    """How many event streams a process serves over HTTP; one more is answered 429 ``too_many_streams``."""

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            overrides = _overrides()
            if name in overrides:
                return overrides[name]
        return super().__getattribute__(name)


@functools.cache
def _overrides() -> Mapping[str, Any]:
    found: object = getattr(django_settings, "CONCORD", None)
    return found if isinstance(found, dict) else {}  # what is none, a system check says


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "CONCORD":
        _overrides.cache_clear()


setting_changed.connect(_forget)
settings = Settings()
