"""Observers of signals."""

from __future__ import annotations

from typing import Any

import pytest
from channels.routing import URLRouter
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.urls import path

from drf_concord.testing import async_test
from drf_concord.websocket import AsyncAPIConsumer, action, observer
from tests.app import models

from .cases import SocketCase, database

rang = Signal()


class Door(AsyncAPIConsumer):
    permission_classes: Any = []

    @observer(rang)
    async def bell(
        self, message: Any, observer: Any, subscribing_request_ids: Any, group: str, **rest: Any
    ) -> None:
        told = {"body": message, "ids": subscribing_request_ids, "group": group}
        await self.send_json({**told, "type": rest["message_type"], "own": observer is Door.bell})

    @bell.serializer
    def bell(self, who: str, **kwargs: Any) -> Any:
        if who == "explode":
            raise RuntimeError
        return {"who": who}

    @bell.groups
    def bell(self, floor: int = 0, **kwargs: Any) -> Any:
        yield f"floor-{floor}"

    @observer(post_save, sender=models.Pair)
    async def pairs(self, message: Any) -> None:
        await self.send_json({"pairs": True})

    @action()
    async def listen(self, floor: int = 0, request_id: Any = None, **kwargs: Any) -> Any:
        return await self.bell.subscribe(floor=floor, request_id=request_id), 201

    @action()
    async def stop(self, request_id: Any = None, **kwargs: Any) -> Any:
        return await self.bell.unsubscribe(request_id=request_id), 200

    @action()
    async def listen_to_pairs(self, **kwargs: Any) -> Any:
        return await self.pairs.subscribe(), 201


class Signals(SocketCase):
    application = URLRouter([path("door/", Door.as_asgi())])
    path = "/door/"

    @async_test
    async def test_groups_and_several_subscriptions(self) -> None:
        await database(rang.send)(None, who="nobody listens")
        for request_id, floor in ((1, 0), (2, 0), (3, 1)):
            assert (await self.ask({"action": "listen", "request_id": request_id, "floor": floor}))[
                "data"
            ] == [f"floor-{floor}"]
        await database(rang.send)(None, who="ada")
        expected = {"body": {"who": "ada"}, "ids": [1, 2], "group": "floor-0", "type": "bell", "own": True}
        assert await self.all_from() == [expected]
        assert (await self.ask({"action": "stop", "request_id": 1}))["data"] == ["floor-0"]
        await database(rang.send)(None, who="ada")
        await database(rang.send)(None, who="bob", floor=1)
        assert [(f["body"]["who"], f["ids"]) for f in await self.all_from()] == [("ada", [2]), ("bob", [3])]

    @async_test
    async def test_what_a_serializer_raises_is_no_business_of_the_sender(self) -> None:
        await self.ask({"action": "listen", "request_id": 1})
        await database(rang.send)(None, who="explode")
        await database(rang.send)(None, who="ada")
        assert [f["body"]["who"] for f in await self.all_from()] == ["ada"]

    def test_a_handler_is_asynchronous(self) -> None:
        with pytest.raises(TypeError, match="async"):
            observer(rang)(lambda consumer, message: None)

    @async_test
    async def test_after_the_commit_and_not_when_it_is_rolled_back(self) -> None:
        await self.ask({"action": "listen_to_pairs"})

        @database
        def write(*, fail: bool) -> None:
            with transaction.atomic():
                models.Pair.objects.create(left=1, right=int(fail))
                if fail:
                    raise RuntimeError

        await write(fail=False)
        assert await self.all_from() == [{"pairs": True}]
        with pytest.raises(RuntimeError):
            await write(fail=True)
        assert await self.all_from() == []
