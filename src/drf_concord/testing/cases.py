"""Asynchronous test methods for Django's test cases, and headers of a user who is logged in."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["async_test", "get_headers_for_user"]


def async_test(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    """Run an asynchronous test with the case's ``asyncSetUp`` and ``asyncTearDown`` in one event loop."""

    @functools.wraps(method)
    def test(self: Any, *args: Any, **kwargs: Any) -> None:
        async def run() -> None:
            if hasattr(self, "asyncSetUp"):
                await self.asyncSetUp()
            try:
                await method(self, *args, **kwargs)
            finally:
                if hasattr(self, "asyncTearDown"):
                    await self.asyncTearDown()

        async_to_sync(run)()

    return test


async def get_headers_for_user(user: Any) -> list[tuple[bytes, bytes]]:
    """Return the handshake headers of a browser in which this user has logged in."""
    session = await sync_to_async(_session_of)(user)
    cookie = f"{settings.SESSION_COOKIE_NAME}={session}"
    return [(b"cookie", cookie.encode())]


def _session_of(user: Any) -> str:
    store: Any = import_string(f"{settings.SESSION_ENGINE}.SessionStore")()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return str(store.session_key)
