"""For the tests of projects."""

from __future__ import annotations

from ...testing import APICommunicator, async_test, get_headers_for_user

__all__ = ["APICommunicator", "async_test", "get_headers_for_user"]
