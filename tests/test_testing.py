"""The testing kit, where a test goes wrong: it ends with what went wrong first."""

from __future__ import annotations

import unittest

import pytest

from drf_concord.testing import async_test

from .websocket.cases import SocketCase


class Waiting(SocketCase):
    @async_test
    async def test_a_frame_that_does_not_come(self) -> None:
        with pytest.raises(TimeoutError):
            await self.socket.receive_json_from(timeout=0.01)
        await self.socket.disconnect()

    def test_it_is_what_the_test_ends_with(self) -> None:
        async def waits(self: SocketCase) -> None:
            await self.socket.receive_json_from(timeout=0.01)

        case = type("Case", (SocketCase,), {"test_waits": async_test(waits)})("test_waits")
        result = unittest.TestResult()
        case(result)
        ((_, traceback),) = result.errors
        assert "TimeoutError" in traceback
        assert "CancelledError\n" not in traceback.rpartition("Traceback")[2]
