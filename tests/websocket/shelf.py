"""A consumer that follows items by folder, and a case with a socket on it."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.db import OperationalError
from django.urls import path
from rest_framework.permissions import BasePermission

from drf_concord.testing import APICommunicator
from drf_concord.websocket import Action, AsyncAPIConsumer, action, model_observer
from tests.app import models, views

from .cases import SocketCase, database


class NotBanned(BasePermission):
    """Asks the user's row, and of objects their owner."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user.last_name != "banned"

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return getattr(obj, "owner_id", None) in {None, request.user.pk}


class Shelf(AsyncAPIConsumer):
    """Follows items by folder or one by one, and watched rows all together."""

    permission_classes: Any = [NotBanned]
    read = 0

    @model_observer(models.Item)
    async def item_news(
        self,
        message: Any,
        observer: Any,
        message_type: str,
        subscribing_request_ids: Any,
        group: str,
        **more: Any,
    ) -> None:
        if message.get("text") == "explode":
            raise RuntimeError("secret of the server")
        told = {"body": message, "action": more["action"], "ids": subscribing_request_ids}
        await self.send_json(
            {**told, "type": message_type, "group": group, "own": observer is Shelf.item_news}
        )

    @item_news.serializer
    def item_news(self, instance: Any, action: Action, **kwargs: Any) -> Any:
        Shelf.read += 1
        if instance.text == "no message":
            raise RuntimeError
        if instance.text == "no database":
            raise OperationalError
        return {"pk": instance.pk, "folder": instance.folder_id, "text": instance.text}

    @item_news.groups_for_signal
    def item_news(self, instance: Any, **kwargs: Any) -> Any:
        yield f"folder-{instance.folder_id}"
        yield f"item-{instance.pk}"

    @item_news.groups_for_consumer
    def item_news(self, folder: Any = None, item: Any = None, **kwargs: Any) -> Any:
        if folder is not None:
            yield f"folder-{folder}"
        if item is not None:
            yield f"item-{item}"

    @model_observer(models.Item, many_to_many=True)
    async def tag_news(self, message: Any, action: Action) -> None:
        await self.send_json({"tags": message, "action": action})

    @model_observer(models.Watched, serializer_class=views.serializer_for(models.Watched))
    async def watched_news(self, message: Any, action: Action) -> None:
        await self.send_json({"watched": message, "action": action})

    @model_observer(models.Item)
    async def place_news(self, message: Any, action: Action) -> None:
        await self.send_json({"place": message, "action": action})

    @place_news.serializer
    def place_news(self, instance: Any, **kwargs: Any) -> Any:
        return {"pk": instance.pk, "folder": instance.folder_id}

    @action()
    async def follow(
        self, request_id: Any = None, folder: Any = None, item: Any = None, **kwargs: Any
    ) -> Any:
        return await self.item_news.subscribe(folder=folder, item=item, request_id=request_id), 201

    @action()
    async def unfollow(self, request_id: Any = None, every: bool = False, **kwargs: Any) -> Any:
        named = {name: kwargs[name] for name in ("folder", "item") if name in kwargs}
        return await self.item_news.unsubscribe(request_id=None if every else request_id, **named), 200

    @action()
    async def follow_all(self, what: str, request_id: Any = None) -> Any:
        return await getattr(self, what).subscribe(request_id=request_id), 201


class ShelfCase(SocketCase):
    """One socket on the shelf; each test writes as somebody else would."""

    application = AuthMiddlewareStack(URLRouter([path("shelf/", Shelf.as_asgi())]))
    path = "/shelf/"

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        Shelf.read = 0
        self.folders = [await database(models.Folder.objects.create)(name=str(n)) for n in range(2)]

    async def shelf(self, user: Any = None) -> APICommunicator:
        return await self.open(user or self.user, "/shelf/")

    async def follow(self, socket: APICommunicator | None = None, request_id: Any = 1, **what: Any) -> Any:
        reply = await self.ask({"action": "follow", "request_id": request_id, **what}, socket)
        assert reply["response_status"] == 201, reply
        return reply["data"]

    async def news(self, socket: APICommunicator | None = None) -> list[tuple[Any, ...]]:
        return [(f["action"], f["group"], f["body"]["pk"]) for f in await self.all_from(socket)]
