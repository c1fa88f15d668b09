"""For the tests of projects: a communicator for websockets, and tests that never sleep."""

from __future__ import annotations

from .cases import async_test, get_headers_for_user
from .communicator import APICommunicator, settle

__all__ = ["APICommunicator", "async_test", "get_headers_for_user", "settle"]
