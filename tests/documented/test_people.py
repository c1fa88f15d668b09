"""The frames that one types into a browser's console, at the demo's consumer of users."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.test import TransactionTestCase
from django.urls import re_path

from demo.people.consumers import UserConsumer
from drf_concord.testing import APICommunicator, async_test, get_headers_for_user
from tests.websocket.cases import database

User = get_user_model()
NOW = 1732181234567  # new Date().getTime()
application = AuthMiddlewareStack(URLRouter([re_path(r"^ws/users/$", UserConsumer.as_asgi())]))


class People(TransactionTestCase):
    reset_sequences = True

    async def asyncSetUp(self) -> None:
        self.admin = await database(User.objects.create_superuser)("admin", "admin@example.org")
        for number in (2, 3, 4):
            await database(User.objects.create_user)(f"user {number}", f"{number}@example.org", "first")
        self.socket = await self.opened(self.admin)

    async def asyncTearDown(self) -> None:
        await self.socket.disconnect()

    async def opened(self, user: Any) -> APICommunicator:
        socket = APICommunicator(application, "/ws/users/", await get_headers_for_user(user))
        connected, _ = await socket.connect()
        assert connected
        return socket

    async def asked(self, socket: APICommunicator | None = None, **frame: Any) -> tuple[int, Any]:
        socket = socket or self.socket
        await socket.send_json_to({**frame, "request_id": NOW})
        reply = await socket.receive_json_from()
        assert (reply["action"], reply["request_id"]) == (frame["action"], NOW)
        return reply["response_status"], reply["data"]

    @staticmethod
    def knows(pk: int, password: str) -> bool:
        return bool(User.objects.get(pk=pk).check_password(password))

    @async_test
    async def test_the_frames_of_a_console(self) -> None:
        status, found = await self.asked(action="list")
        assert (status, [user["id"] for user in found]) == (200, [1, 2, 3, 4])
        second = {"id": 2, "username": "user 2", "email": "2@example.org"}
        assert await self.asked(action="retrieve", pk=2) == (200, second)
        second["email"] = "42@example.org"
        assert await self.asked(action="patch", pk=2, data={"email": "42@example.org"}) == (200, second)
        second["username"] = "user 2 too"
        assert await self.asked(action="update", pk=2, data={"username": "user 2 too"}) == (200, second)
        data = {"username": "new user 4", "email": "new@example.org", "password1": "abc", "password2": "abc"}
        made = {"id": 5, "username": "new user 4", "email": "new@example.org"}
        assert await self.asked(action="create", data=data) == (201, made)
        assert await self.asked(action="delete", pk=4) == (204, None)
        assert await self.asked(action="retrieve", pk=4) == (404, None)
        assert await database(self.knows)(5, "abc")
        assert await database(self.knows)(2, "first")

    @async_test
    async def test_passwords_are_hashed_however_they_come_in(self) -> None:
        for number, frame in enumerate(
            (
                {"action": "patch", "data": {"password": "1"}},
                {"action": "update", "data": {"username": "u", "password1": "2", "password2": "2"}},
            ),
            start=1,
        ):
            status, shown = await self.asked(pk=3, **frame)
            assert (status, sorted(shown)) == (200, ["email", "id", "username"])
            assert await database(self.knows)(3, str(number))

    @async_test
    async def test_it_is_for_staff(self) -> None:
        socket = await self.opened(await database(User.objects.get)(pk=2))
        assert await self.asked(socket, action="list") == (403, None)
        await socket.disconnect()
