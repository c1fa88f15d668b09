"""Observers of models, signals and single objects, as independent suites test them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import Signal

from drf_concord.compat.djangochannelsrestframework.consumers import AsyncAPIConsumer
from drf_concord.compat.djangochannelsrestframework.decorators import action
from drf_concord.compat.djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from drf_concord.compat.djangochannelsrestframework.mixins import ListModelMixin, RetrieveModelMixin
from drf_concord.compat.djangochannelsrestframework.observer import model_observer, observer
from drf_concord.compat.djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from drf_concord.compat.djangochannelsrestframework.observer.model_observer import Action
from drf_concord.compat.djangochannelsrestframework.permissions import BasePermission
from drf_concord.testing import APICommunicator
from tests.app.models import Folder, Item, Tag, Watched
from tests.app.views import serializer_for

from .plain import WebsocketCommunicator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("hub_stops"),
]

WatchedSerializer = serializer_for(Watched, ["id", "text"])
create = database_sync_to_async(Watched.objects.create)


def answer(action: Any, data: Any, status: int = 200, request_id: Any = 1, errors: Any = ()) -> Any:
    return {
        "action": action,
        "errors": list(errors),
        "response_status": status,
        "request_id": request_id,
        "data": data,
    }


async def opened(consumer: Any) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(consumer, "/testws/")
    connected, _ = await communicator.connect()
    assert connected
    return communicator


async def ask(communicator: WebsocketCommunicator, frame: dict[str, Any]) -> Any:
    await communicator.send_json_to(frame)
    return await communicator.receive_json_from()


# ------------------------------------------------------------------------------ @model_observer


async def test_subscribed_when_accepted() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.text_change.subscribe()

        @model_observer(Watched)
        async def text_change(self, message: Any, action: Any, message_type: str, **kwargs: Any) -> None:
            await self.send_json({"body": message, "action": action, "type": message_type})

    communicator = await opened(TestConsumer())
    row = await create(text="a")
    assert await communicator.receive_json_from() == {
        "action": "create",
        "body": {"pk": row.pk},
        "type": "text.change",
    }
    pk = row.pk
    await database_sync_to_async(row.delete)()
    assert await communicator.receive_json_from() == {
        "action": "delete",
        "body": {"pk": pk},
        "type": "text.change",
    }
    await communicator.disconnect()


async def test_subscribed_when_connected() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def connect(self) -> None:
            await super().connect()
            await TestConsumer.text_change.subscribe(self)

        @model_observer(Watched)
        async def text_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json(message)

    communicator = await opened(TestConsumer())
    row = await create(text="a")
    assert await communicator.receive_json_from() == {"pk": row.pk}
    await communicator.disconnect()


async def test_subscribed_by_websocket_connect() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def websocket_connect(self, message: Any) -> None:
            await super().websocket_connect(message)
            await self.text_change.subscribe()

        @model_observer(Watched, serializer_class=WatchedSerializer)
        async def text_change(self, message: Any, action: Action, **kwargs: Any) -> None:
            await self.send_json({"data": message, "action": action.value})

    communicator = await opened(TestConsumer())
    row = await create(text="a")
    assert await communicator.receive_json_from() == {
        "data": {"id": row.pk, "text": "a"},
        "action": "create",
    }
    row.text = "b"
    await database_sync_to_async(row.save)()
    assert await communicator.receive_json_from() == {
        "data": {"id": row.pk, "text": "b"},
        "action": "update",
    }
    await communicator.disconnect()


class Follower(AsyncAPIConsumer):
    @model_observer(Watched, serializer_class=WatchedSerializer)
    async def text_change(
        self,
        message: Any,
        action: Any = None,
        subscribing_request_ids: Any = None,
        **kwargs: Any,
    ) -> None:
        for request_id in subscribing_request_ids or [None]:
            await self.reply(data=message, action=action, request_id=request_id)

    @action()
    async def follow(self, request_id: Any, **kwargs: Any) -> Any:
        await self.text_change.subscribe(request_id=request_id)
        return {}, 201

    @action()
    async def leave(self, request_id: Any, **kwargs: Any) -> Any:
        await self.text_change.unsubscribe(request_id=request_id)
        return {}, 204


async def test_subscribing_request_ids() -> None:
    communicator = await opened(Follower())
    assert await ask(communicator, {"action": "follow", "request_id": 5}) == answer("follow", {}, 201, 5)
    row = await create(text="a")
    expected = answer("create", {"id": row.pk, "text": "a"}, request_id=5)
    assert await communicator.receive_json_from() == expected
    await ask(communicator, {"action": "follow", "request_id": 6})
    row.text = "b"
    await database_sync_to_async(row.save)()
    frames = [await communicator.receive_json_from() for _ in range(2)]
    assert sorted(frame["request_id"] for frame in frames) == [5, 6]
    await communicator.disconnect()


async def test_unsubscribed() -> None:
    communicator = await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 5})
    response = await ask(communicator, {"action": "leave", "request_id": 5})
    assert response == answer("leave", {}, 204, 5)
    await create(text="a")
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_nobody_is_told_who_did_not_subscribe() -> None:
    communicator, other = await opened(Follower()), await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 1})
    await create(text="a")
    assert (await communicator.receive_json_from())["action"] == "create"
    assert await other.receive_nothing()
    for each in (communicator, other):
        await each.disconnect()


async def test_all_subscribers_are_told() -> None:
    sockets = [await opened(Follower()) for _ in range(3)]
    for number, socket in enumerate(sockets):
        await ask(socket, {"action": "follow", "request_id": number})
    row = await create(text="a")
    for number, socket in enumerate(sockets):
        expected = answer("create", {"id": row.pk, "text": "a"}, request_id=number)
        assert await socket.receive_json_from() == expected
        await socket.disconnect()


async def test_a_transaction_is_told_after_its_commit() -> None:
    @transaction.atomic
    def write() -> int:
        row = Watched.objects.create(text="a")
        row.text = "b"
        row.save()
        return row.pk

    communicator = await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 1})
    pk = await database_sync_to_async(write)()
    expected = answer("create", {"id": pk, "text": "b"})
    assert await communicator.receive_json_from() == expected
    await communicator.disconnect()


async def test_what_is_rolled_back_is_not_told() -> None:
    def write() -> None:
        with transaction.atomic():
            Watched.objects.create(text="gone")
            transaction.set_rollback(True)

    communicator = await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 1})
    await database_sync_to_async(write)()
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_serializer_function() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.text_change.subscribe()

        @model_observer(Watched)
        async def text_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json(message)

        @text_change.serializer
        def text_change(self, instance: Any, action: Action, **kwargs: Any) -> Any:
            return {"text": instance.text, "action": action.value}

    communicator = await opened(TestConsumer())
    await create(text="a")
    assert await communicator.receive_json_from() == {"text": "a", "action": "create"}
    await communicator.disconnect()


async def test_groups() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @model_observer(Watched)
        async def text_change(self, message: Any, group: Any = None, **kwargs: Any) -> None:
            await self.send_json(message)

        @text_change.groups_for_signal
        def text_change(self, instance: Watched, **kwargs: Any) -> Any:
            yield f"-text__{instance.text}"
            yield f"-pk__{instance.pk}"

        @text_change.groups_for_consumer
        def text_change(self, text: Any = None, pk: Any = None, **kwargs: Any) -> Any:
            if text is not None:
                yield f"-text__{text}"
            if pk is not None:
                yield f"-pk__{pk}"

        @action()
        async def follow(self, request_id: Any, text: Any = None, pk: Any = None, **kwargs: Any) -> Any:
            await self.text_change.subscribe(text=text, pk=pk, request_id=request_id)
            return {}, 201

        @action()
        async def leave(self, request_id: Any, text: Any = None, **kwargs: Any) -> Any:
            await self.text_change.unsubscribe(text=text, request_id=request_id)
            return {}, 204

    communicator = await opened(TestConsumer())
    await ask(communicator, {"action": "follow", "text": "blue", "request_id": 1})
    await create(text="red")
    assert await communicator.receive_nothing()
    row = await create(text="blue")
    assert await communicator.receive_json_from() == {"pk": row.pk}
    await ask(communicator, {"action": "leave", "text": "blue", "request_id": 1})
    await create(text="blue")
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_moving_from_group_to_group() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @model_observer(Item)
        async def item_change(self, message: Any, action: Any, **kwargs: Any) -> None:
            await self.send_json({"body": message, "action": action})

        @item_change.groups
        def item_change(self, folder: Any, **kwargs: Any) -> Any:
            yield f"-folder__{getattr(folder, 'folder_id', folder)}"

        @action()
        async def follow(self, folder: int, request_id: Any, **kwargs: Any) -> Any:
            await self.item_change.subscribe(folder, request_id=request_id)
            return {}, 201

    first, second = [await database_sync_to_async(Folder.objects.create)() for _ in range(2)]
    communicator = await opened(TestConsumer())
    await ask(communicator, {"action": "follow", "folder": first.pk, "request_id": 1})
    item = await database_sync_to_async(Item.objects.create)(folder=first)
    assert await communicator.receive_json_from() == {"body": {"pk": item.pk}, "action": "create"}
    item.folder = second
    await database_sync_to_async(item.save)()
    assert await communicator.receive_json_from() == {"body": {"pk": item.pk}, "action": "delete"}
    item.folder = first
    await database_sync_to_async(item.save)()
    assert await communicator.receive_json_from() == {"body": {"pk": item.pk}, "action": "create"}
    await communicator.disconnect()


async def test_many_to_many() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.item_change.subscribe()

        @model_observer(Item, many_to_many=True)
        async def item_change(self, message: Any, action: Any, **kwargs: Any) -> None:
            await self.send_json({"body": message, "action": action})

    tag = await database_sync_to_async(Tag.objects.create)(name="t")
    item = await database_sync_to_async(Item.objects.create)()
    communicator = await opened(TestConsumer())
    await database_sync_to_async(item.tags.add)(tag)
    assert await communicator.receive_json_from() == {"body": {"pk": item.pk}, "action": "update"}
    await communicator.disconnect()


async def test_two_observers_on_one_consumer() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.watched_change.subscribe()
            await self.item_change.subscribe()

        @model_observer(Watched)
        async def watched_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json({"watched": message["pk"]})

        @model_observer(Item)
        async def item_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json({"item": message["pk"]})

    communicator = await opened(TestConsumer())
    row = await create(text="a")
    assert await communicator.receive_json_from() == {"watched": row.pk}
    item = await database_sync_to_async(Item.objects.create)()
    assert await communicator.receive_json_from() == {"item": item.pk}
    await communicator.disconnect()


async def test_bulk_writes_are_told() -> None:
    rows = [await create(text="a") for _ in range(2)]
    communicator = await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 1})
    await database_sync_to_async(Watched.objects.filter(pk__in=[r.pk for r in rows]).update)(text="b")
    told = [await communicator.receive_json_from() for _ in rows]
    assert sorted(frame["data"]["id"] for frame in told) == [row.pk for row in rows]
    assert {frame["action"] for frame in told} == {"update"}
    await communicator.disconnect()


async def test_subscribe_returns_the_groups() -> None:
    class TestConsumer(AsyncAPIConsumer):
        @model_observer(Watched)
        async def text_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json(message)

        @action()
        async def follow(self, **kwargs: Any) -> Any:
            return len(list(await self.text_change.subscribe())), 200

        @action()
        async def leave(self, **kwargs: Any) -> Any:
            return len(list(await self.text_change.unsubscribe())), 200

    communicator = await opened(TestConsumer())
    assert await ask(communicator, {"action": "follow", "request_id": 1}) == answer("follow", 1)
    assert await ask(communicator, {"action": "leave", "request_id": 1}) == answer("leave", 1)
    await communicator.disconnect()


# ------------------------------------------------------------------------------------ @observer


async def test_observer_of_a_signal() -> None:
    signal = Signal()

    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.handle_signal.subscribe()

        @observer(signal)
        async def handle_signal(self, message: Any, **kwargs: Any) -> None:
            await self.send_json({"message": message, "type": kwargs["message_type"]})

        @handle_signal.serializer
        def handle_signal(self, *args: Any, **kwargs: Any) -> Any:
            return {"n": kwargs["n"]}

    communicator = await opened(TestConsumer())
    await database_sync_to_async(signal.send)(sender=object, n=3)
    assert await communicator.receive_json_from() == {"message": {"n": 3}, "type": "handle.signal"}
    await communicator.disconnect()


async def test_observer_of_post_save() -> None:
    class TestConsumer(AsyncAPIConsumer):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await TestConsumer.handle_save.subscribe(self)

        @observer(post_save, sender=Tag)
        async def handle_save(self, message: Any, observer: Any = None, **kwargs: Any) -> None:
            await self.send_json({"name": message["name"]})

        @handle_save.serializer
        def handle_save(self, sender: Any, instance: Any, created: bool = False, **kwargs: Any) -> Any:
            return {"name": instance.name}

        @handle_save.groups_for_signal
        def handle_save(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
            if instance.name != "hidden":
                yield "names"

        @handle_save.groups_for_consumer
        def handle_save(self, *args: Any, **kwargs: Any) -> Any:
            yield "names"

    communicator = await opened(TestConsumer())
    await database_sync_to_async(Tag.objects.create)(name="hidden")
    await database_sync_to_async(Watched.objects.create)(text="other")
    await database_sync_to_async(Tag.objects.create)(name="seen")
    assert await communicator.receive_json_from() == {"name": "seen"}
    await communicator.disconnect()


# ----------------------------------------------------------------------- ObserverModelInstanceMixin


class Instances(ObserverModelInstanceMixin, ListModelMixin, GenericAsyncAPIConsumer):
    queryset = Watched.objects.all()
    serializer_class = WatchedSerializer


async def test_retrieve_comes_with_it() -> None:
    row = await create(text="a")
    communicator = await opened(Instances())
    response = await ask(communicator, {"action": "retrieve", "pk": row.pk, "request_id": 1})
    assert response == answer("retrieve", {"id": row.pk, "text": "a"})
    response = await ask(communicator, {"action": "list", "request_id": 2})
    assert response == answer("list", [{"id": row.pk, "text": "a"}], request_id=2)
    await communicator.disconnect()


async def test_subscribe_instance() -> None:
    first, second = await create(text="a"), await create(text="z")
    communicator = await opened(Instances())
    response = await ask(communicator, {"action": "subscribe_instance", "pk": first.pk, "request_id": 4})
    assert response == answer("subscribe_instance", None, 201, 4)
    second.text = "other"
    await database_sync_to_async(second.save)()
    first.text = "b"
    await database_sync_to_async(first.save)()
    expected = answer("update", {"id": first.pk, "text": "b"}, request_id=4)
    assert await communicator.receive_json_from() == expected
    pk = first.pk
    await database_sync_to_async(first.delete)()
    assert await communicator.receive_json_from() == answer("delete", {"pk": pk}, 204, 4)
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_subscribe_to_what_is_not_there() -> None:
    communicator = await opened(Instances())
    response = await ask(communicator, {"action": "subscribe_instance", "pk": 10**6, "request_id": 4})
    assert response == answer("subscribe_instance", None, 404, 4, ["Not found"])
    await communicator.disconnect()


async def test_unsubscribe_instance() -> None:
    row = await create(text="a")
    communicator = await opened(Instances())
    await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": 4})
    response = await ask(communicator, {"action": "unsubscribe_instance", "pk": row.pk, "request_id": 4})
    assert response == answer("unsubscribe_instance", None, 204, 4)
    row.text = "b"
    await database_sync_to_async(row.save)()
    assert await communicator.receive_nothing()
    await communicator.disconnect()


async def test_two_requests_follow_one_instance() -> None:
    row = await create(text="a")
    communicator = await opened(Instances())
    for request_id in (1, 2):
        await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": request_id})
    row.text = "b"
    await database_sync_to_async(row.save)()
    told = [await communicator.receive_json_from() for _ in range(2)]
    assert sorted(frame["request_id"] for frame in told) == [1, 2]
    await communicator.disconnect()


async def test_handle_observed_action_of_its_own() -> None:
    class TestConsumer(Instances):
        async def handle_observed_action(self, action: Any, group: Any, **kwargs: Any) -> None:
            await self.send_json({"observed": str(action)})
            await super().handle_observed_action(action, group, **kwargs)

    row = await create(text="a")
    communicator = await opened(TestConsumer())
    await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": 1})
    row.text = "b"
    await database_sync_to_async(row.save)()
    assert await communicator.receive_json_from() == {"observed": "update"}
    assert await communicator.receive_json_from() == answer("update", {"id": row.pk, "text": "b"})
    await communicator.disconnect()


async def test_lookup_field_of_instances() -> None:
    class TestConsumer(Instances):
        lookup_field = "text"

    row = await create(text="a")
    communicator = await opened(TestConsumer())
    response = await ask(communicator, {"action": "subscribe_instance", "text": "a", "request_id": 1})
    assert response["response_status"] == 201
    await database_sync_to_async(row.save)()
    await communicator.disconnect()


async def test_queryset_of_the_user() -> None:
    class TestConsumer(Instances):
        def get_queryset(self, **kwargs: Any) -> Any:
            return super().get_queryset(**kwargs).exclude(text="secret")

    row = await create(text="a")
    communicator = await opened(TestConsumer())
    await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": 1})
    row.text = "secret"
    await database_sync_to_async(row.save)()
    frame = await communicator.receive_json_from()
    assert (frame["response_status"], frame["errors"], frame["data"]) == (404, ["Not found"], None)
    await communicator.disconnect()


async def test_permissions_are_asked_about_subscriptions() -> None:
    asked = []

    class Asking(BasePermission):
        async def has_permission(self, scope: Any, consumer: Any, action: str, **kwargs: Any) -> bool:
            asked.append(action)
            return action != "subscribe_instance"

    class TestConsumer(Instances):
        permission_classes = [Asking]

    row = await create(text="a")
    communicator = await opened(TestConsumer())
    response = await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": 1})
    assert response["response_status"] == 403
    assert asked == ["subscribe_instance"]
    await communicator.disconnect()


async def test_instance_and_model_observer_together() -> None:
    class TestConsumer(Instances, RetrieveModelMixin):
        async def accept(self, **kwargs: Any) -> None:
            await super().accept(**kwargs)
            await self.text_change.subscribe()

        @model_observer(Watched)
        async def text_change(self, message: Any, **kwargs: Any) -> None:
            await self.send_json({"changed": message["pk"]})

    row = await create(text="a")
    communicator = await opened(TestConsumer())
    await ask(communicator, {"action": "subscribe_instance", "pk": row.pk, "request_id": 1})
    row.text = "b"
    await database_sync_to_async(row.save)()
    frames = [await communicator.receive_json_from() for _ in range(2)]
    assert {"changed": row.pk} in frames
    assert answer("update", {"id": row.pk, "text": "b"}) in frames
    await communicator.disconnect()


async def test_actions_of_observers() -> None:
    assert [each.value for each in Action] == ["create", "update", "delete"]
    assert Action("create") is Action.CREATE


async def test_after_a_test_with_the_other_communicator() -> None:
    """Its stepping is for its own event loop: suites of both kinds run in one process."""

    async def other() -> Any:
        socket = APICommunicator(Follower.as_asgi(), "/testws/")
        assert (await socket.connect())[0]
        await socket.disconnect()
        return asyncio.get_running_loop()

    loop = await asyncio.to_thread(asyncio.run, other())
    communicator = await opened(Follower())
    await ask(communicator, {"action": "follow", "request_id": 1})
    await create(text="a")
    assert (await communicator.receive_json_from())["action"] == "create"
    await communicator.disconnect()
    assert loop.is_closed()
