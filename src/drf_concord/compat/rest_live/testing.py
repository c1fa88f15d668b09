"""For the tests of projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.test import Client

from ...testing import APICommunicator, async_test, get_headers_for_user

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

__all__ = ["APICommunicator", "async_test", "force_login", "get_headers_for_user"]


async def force_login(user: Any, backend: str | None = None) -> SimpleCookie:
    """Log a user in, in a browser of his own, and return its cookies.

    Args:
        user: who; he need not know his password.
        backend: the path of the authentication backend that finds him again; the first that can when None.
    """
    return await sync_to_async(_cookies_of)(user, backend)


def _cookies_of(user: Any, backend: str | None) -> SimpleCookie:
    browser = Client()
    browser.force_login(user, backend)
    return browser.cookies
