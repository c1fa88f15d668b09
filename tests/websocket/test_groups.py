"""Messages from groups of a Channels layer."""

from __future__ import annotations

from typing import Any
from unittest import mock

from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import path

from drf_concord.live.hub import hub_of_loop
from drf_concord.testing import APICommunicator, async_test, settle
from drf_concord.websocket import AsyncAPIConsumer, action, groups, inbox
from tests.app import models

from .cases import SocketCase, until

LAYERS = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "other": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}


class Room(AsyncAPIConsumer):
    permission_classes: Any = []
    groups: Any = ["everybody"]

    @action()
    async def join(self, group: str) -> Any:
        await self.add_group(group)
        return sorted(self.groups), 200

    @action()
    async def leave(self, group: str) -> Any:
        await self.remove_group(group)
        return sorted(self.groups), 200

    async def chat_message(self, message: Any) -> None:
        if message["text"] == "explode":
            raise RuntimeError
        await self.send_json({"said": message["text"], "to": self.action})

    def chat_count(self, message: Any) -> None:
        self.counted = models.Note.objects.count()

    async def _private(self, message: Any) -> None:
        await self.send_json({"said": "what is not for others"})


class Elsewhere(Room):
    groups: Any = ()
    channel_layer_alias = "other"


@override_settings(CHANNEL_LAYERS=LAYERS)
class Rooms(SocketCase):
    application = URLRouter([path("room/", Room.as_asgi()), path("else/", Elsewhere.as_asgi())])
    path = "/room/"

    async def say(
        self, text: str, group: str = "everybody", kind: str = "chat.message", alias: str = "default"
    ) -> None:
        await get_channel_layer(alias).group_send(group, {"type": kind, "text": text})

    async def heard(self, socket: APICommunicator | None = None) -> str:
        frame = await (socket or self.socket).receive_json_from()
        assert frame.get("to") == ""  # it is not at the action in which it joined
        said: str = frame["said"]
        return said

    @async_test
    async def test_groups_from_the_beginning_and_later(self) -> None:
        other = await self.open()
        await self.say("hello")
        assert [await self.heard(), await self.heard(other)] == ["hello", "hello"]
        assert (await self.ask({"action": "join", "group": "few"}))["data"] == ["everybody", "few"]
        await self.say("psst", "few")
        await self.say("all")
        assert [await self.heard(), await self.heard(), await self.heard(other)] == ["psst", "all", "all"]
        for _ in range(2):  # what it is not in is none to leave
            assert (await self.ask({"action": "leave", "group": "few"}))["data"] == ["everybody"]
        await self.say("psst", "few")
        await self.say("all")
        assert await self.heard() == "all"

    @async_test
    async def test_another_layer(self) -> None:
        socket = await self.open(path="/else/")
        await self.ask({"action": "join", "group": "everybody"}, socket)
        await self.say("here", alias="other")
        assert await self.heard(socket) == "here"

    @async_test
    async def test_what_a_handler_raises_stops_no_other_message(self) -> None:
        await self.say("explode")
        await self.say("?", kind="no.such")
        await self.say("?", kind="_private")
        await self.say("x", kind="chat.count")
        await self.say("still here")
        assert await self.heard() == "still here"
        (presence,) = hub_of_loop().listeners
        for text in ("explode", "at once"):
            presence.consumer._inbox.put_message({"type": "chat.message", "text": text})
        assert await self.heard() == "at once"

    @async_test
    async def test_a_socket_that_is_gone_is_in_no_group(self) -> None:
        layer = get_channel_layer()
        assert len(layer.groups["everybody"]) == 1
        await self.socket.disconnect()
        self.opened.remove(self.socket)
        assert "everybody" not in layer.groups

    @async_test
    async def test_a_layer_that_fails_and_is_back(self) -> None:
        layer, socket = get_channel_layer(), await self.open(path="/else/")
        with (
            mock.patch.object(layer, "receive", side_effect=OSError),
            mock.patch.object(groups, "delay") as delay,
        ):
            delay.return_value = 0.0
            other = await self.open()
            await until(lambda: delay.called)
            layer.groups.clear()  # as one that is started anew
            calls = delay.call_count
            await until(lambda: delay.call_count > calls + 1)
        await self.say("back")
        assert await self.heard(other) == "back"
        assert await socket.receive_nothing()

    @async_test
    async def test_how_many_groups(self) -> None:
        for number in range(groups.GROUPS - 1):
            await self.ask({"action": "join", "group": f"g{number}"})
        assert (await self.ask({"action": "join", "group": "more"}))["response_status"] == 500
        assert (await self.ask({"action": "join", "group": "g1"}))["response_status"] == 200

    @async_test
    async def test_a_consumer_that_does_not_keep_up_is_closed(self) -> None:
        (presence,) = hub_of_loop().listeners
        for number in range(inbox.LIMIT + 1):
            presence.consumer._inbox.put_message({"type": "chat.message", "text": str(number)})
        await settle()
        assert await self.socket.receive_output(5) == {"type": "websocket.close", "code": 4508}


class NoLayer(SocketCase):
    application = URLRouter([path("else/", Elsewhere.as_asgi())])
    path = "/else/"

    @async_test
    async def test_without_a_layer_an_action_says_so(self) -> None:
        with override_settings(CHANNEL_LAYERS={}):
            assert (await self.ask({"action": "join", "group": "x"}))["response_status"] == 500
        assert (await self.ask({"action": "leave", "group": "x"}))["data"] == []
