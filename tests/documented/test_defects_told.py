"""Defects of former systems, each in its own scenario: what was told wrongly, twice, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.db import connection, transaction
from django.urls import path

from drf_concord.live import RealtimeMixin
from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import (
    GenericAsyncAPIConsumer,
    ObserverModelInstanceMixin,
    RealtimeRouter,
    action,
    model_observer,
)
from tests.app import views
from tests.app.models import Folder, Item
from tests.concurrency.threads import PATIENCE, Call
from tests.websocket.cases import SocketCase, database


class Items(RealtimeMixin, views.ItemViewSet):
    group_by_fields = ["pk", "folder_id"]


class ItemConsumer(ObserverModelInstanceMixin, GenericAsyncAPIConsumer):
    queryset = Item.objects.order_by("pk")
    serializer_class = views.serializer_for(Item, ["id", "text"])

    @model_observer(Item)
    async def news(self, message: Any, action: Any) -> None:
        await self.send_json({"action": str(action).upper() + "D", "instance": message})

    @news.serializer
    def news(self, instance: Item, **kwargs: Any) -> Any:
        return {"id": instance.pk, "text": instance.text}

    @action()
    async def follow(self, **kwargs: Any) -> Any:
        await self.news.subscribe()
        return None, 201


router = RealtimeRouter()
router.register(Items)


class Held:
    """Writes in a transaction of another connection that stays open until it is told how to end."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._written, self._end = threading.Event(), threading.Event()
        self._commit = True
        self._call = Call(self._run)

    def _run(self) -> None:
        with transaction.atomic():
            self._write()
            self._written.set()
            assert self._end.wait(PATIENCE)
            transaction.set_rollback(not self._commit)

    def written(self) -> None:
        assert self._written.wait(PATIENCE)

    def end(self, *, commit: bool) -> None:
        self._commit = commit
        self._end.set()
        self._call.result()


class Told(SocketCase):
    """One socket follows by the router, another by an observer; both are told the same."""

    application = AuthMiddlewareStack(
        URLRouter([path("ws/", router.consumer), path("items/", ItemConsumer.as_asgi())])
    )

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.folder = await database(Folder.objects.create)(name="f")
        self.observer = await self.open(self.user, "/items/")
        await self.ask({"action": "follow"}, self.observer)
        await self.follow(request_id=1, group_by="folder_id", value=self.folder.pk)

    async def follow(self, **frame: Any) -> None:
        await self.socket.send_json_to({"model": "app.Item", **frame})
        assert await self.socket.receive_nothing()

    def make(self, pk: int, text: str = "old") -> Item:
        return Item.objects.create(pk=pk, text=text, folder=self.folder)

    async def news(self, socket: APICommunicator | None = None) -> list[tuple[str, int, str | None]]:
        frames = await self.all_from(socket)
        return [(f["action"], f["instance"].get("id"), f["instance"].get("text")) for f in frames]

    async def both(self) -> list[tuple[str, int, str | None]]:
        """What was told, which is the same on both sockets."""
        told = await self.news()
        assert [t[0] for t in await self.news(self.observer)] == [t[0] for t in told]
        return told

    @async_test
    async def test_what_is_not_committed_is_not_told(self) -> None:
        """D-6: events came before the commit, with the old text or none, and of what was rolled back."""
        for write, told in (
            (lambda: self.make(1, "new"), ("CREATED", 1, "new")),
            (lambda: Item.objects.filter(pk=1).update(text="newer"), ("UPDATED", 1, "newer")),
        ):
            held = Held(write)
            await database(held.written)()
            assert await self.both() == []
            await database(held.end)(commit=True)
            assert await self.both() == [told]
        held = Held(lambda: Item.objects.get(pk=1).delete())
        await database(held.written)()
        await database(held.end)(commit=False)
        assert await self.both() == []
        await database(Item.objects.filter(pk=1).update)(text="still there")
        assert await self.both() == [("UPDATED", 1, "still there")]

    @async_test
    async def test_an_inner_savepoint_that_is_rolled_back_is_not_told(self) -> None:
        """D-9: the text that was rolled back was sent, and the one that was kept was not."""

        def write() -> None:
            item = Item.objects.get(pk=1)
            with transaction.atomic():
                item.text = "kept"
                item.save()
                with suppress(InterruptedError), transaction.atomic():
                    item.text = "ROLLED BACK"
                    item.save()
                    self.make(2, "ROLLED BACK")
                    raise InterruptedError

        await database(self.make)(1)
        await self.both()
        await database(write)()
        assert await self.both() == [("UPDATED", 1, "kept")]

    @async_test
    async def test_unsubscribing_ends_that_subscription_and_no_other(self) -> None:
        """D-11: it ended others too, or nothing; unknown ones were 204, and those of gone objects 404."""
        socket = await self.open(self.user, "/items/")

        async def asked(what: str, pk: int) -> int:
            reply = await self.ask({"action": f"{what}_instance", "pk": pk, "request_id": pk}, socket)
            status: int = reply["response_status"]
            return status

        for pk in (1, 2, 3):
            await database(self.make)(pk)
            assert await asked("subscribe", pk) == 201
        assert await asked("unsubscribe", 3) == 204  # before there was any event
        await database(Item.objects.update)(text="b")
        assert sorted(f["request_id"] for f in await self.all_from(socket)) == [1, 2]
        assert await asked("unsubscribe", 1) == 204
        await database(Item.objects.update)(text="c")
        assert [f["request_id"] for f in await self.all_from(socket)] == [2]
        assert await asked("unsubscribe", 1) == 404
        await database(Item.objects.all().delete)()
        await self.all_from(socket)
        assert await asked("unsubscribe", 2) == 204

    @async_test
    async def test_a_subscription_that_is_not_concerned_keeps_nothing_from_the_next(self) -> None:
        """D-15: at the first of a socket's subscriptions that did not match the others were forgotten."""
        other = await database(Folder.objects.create)(name="other")
        await self.follow(request_id=2, group_by="folder_id", value=other.pk)
        await self.follow(request_id=3, group_by="folder_id", value=self.folder.pk)
        await self.follow(request_id=4, group_by="folder_id", value=other.pk)
        await database(self.make)(1)
        assert sorted(f["request_id"] for f in await self.all_from()) == [1, 3]
        await database(Item.objects.create)(pk=2, text="x", folder=other)
        assert sorted(f["request_id"] for f in await self.all_from()) == [2, 4]

    @async_test
    async def test_three_hundred_saves_at_once_are_three_hundred_frames(self) -> None:
        """D-16: more than a hundred at a time were dropped, and nobody was told."""

        def write() -> None:
            for pk in range(1, 301):
                self.make(pk)

        await database(write)()
        told = await self.both()
        assert sorted(told) == [("CREATED", pk, "old") for pk in range(1, 301)]

    @async_test
    async def test_writes_that_send_no_signal_are_told(self) -> None:
        """D-17: bulk writes and raw SQL were told nobody."""

        def make() -> None:
            Item.objects.bulk_create(Item(pk=pk, text="a", folder=self.folder) for pk in (1, 2))

        def change() -> None:
            items = list(Item.objects.all())
            for item in items:
                item.text = "c"
            Item.objects.bulk_update(items, ["text"])

        def raw(statement: str) -> Callable[[], None]:
            def write() -> None:
                with connection.cursor() as cursor:
                    cursor.execute(statement)

            return write

        for write, told in (
            (make, ("CREATED", "a")),
            (lambda: Item.objects.update(text="b"), ("UPDATED", "b")),
            (change, ("UPDATED", "c")),
            (raw("UPDATE app_item SET text = 'd'"), ("UPDATED", "d")),
            (raw("DELETE FROM app_item"), ("DELETED", None)),
        ):
            await database(write)()
            action, text = told
            assert sorted(await self.both()) == [(action, 1, text), (action, 2, text)], told

    @async_test
    async def test_what_was_loaded_before_anybody_followed_is_updated_not_created(self) -> None:
        """D-25: who had loaded a row before the observer was there announced its update as a creation."""
        item = await database(self.make)(1)
        await self.both()
        late = await self.open(self.user, "/items/")
        await self.ask({"action": "follow"}, late)
        item.text = "new"
        await database(item.save)()
        assert await self.news(late) == [("UPDATED", 1, "new")]
