"""Feeds of models with more than one table: an object begins and ends with the row in its own."""

from __future__ import annotations

from typing import Any
from unittest import skipUnless

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.db import connection, transaction
from django.urls import path

from drf_concord.live import RealtimeMixin
from drf_concord.live.hub import hub_of_loop
from drf_concord.protocol.changes import Change, Op
from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import Action, AsyncAPIConsumer, RealtimeRouter, action, model_observer
from tests.app import models, views
from tests.kinds.models import Animal, Area, Dog, Garden, Orchard
from tests.settings import TEST_DB
from tests.websocket.cases import SocketCase, database

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]


class Reserve(AsyncAPIConsumer):
    permission_classes: Any = []

    @model_observer(models.Restaurant)
    async def restaurants(self, message: Any, action: Action) -> None:
        await self.send_json([action, message["pk"]])

    @model_observer(Garden)
    async def gardens(self, message: Any, action: Action) -> None:
        await self.send_json([action, message["pk"]])

    @model_observer(Dog)
    async def dogs(self, message: Any, action: Action, group: str) -> None:
        await self.send_json([action, message["pk"], group])

    @dogs.groups_for_signal
    def dogs(self, instance: Any, **kwargs: Any) -> Any:
        yield f"{instance.area_id}-{instance.kennel_id}"

    @dogs.groups_for_consumer
    def dogs(self, of: Any = None, **kwargs: Any) -> Any:
        yield of

    @action()
    async def follow(self, what: str, request_id: Any = None, **kwargs: Any) -> Any:
        return await getattr(self, what).subscribe(request_id=request_id, **kwargs), 201


class Restaurants(views.RestaurantViewSet, RealtimeMixin):
    pass


router = RealtimeRouter()
router.register(Restaurants)


class Feeds(SocketCase):
    application = AuthMiddlewareStack(URLRouter([path("ws/", Reserve.as_asgi())]))

    async def following(self, what: str, **more: Any) -> APICommunicator:
        socket = await self.open(self.user)
        reply = await self.ask({"action": "follow", "what": what, "request_id": 1, **more}, socket)
        assert reply["response_status"] == 201
        return socket

    @async_test
    async def test_a_parent_of_another_kind_is_nothing_to_hear_of(self) -> None:
        place = await database(models.Place.objects.create)(name="no restaurant")
        socket = await self.following("restaurants")
        await database(models.Place.objects.update)(name="still none")
        await database(place.delete)()
        other = await database(models.Place.objects.create)(name="nor this")
        assert await self.all_from(socket) == []
        await database(other.delete)()
        assert await self.all_from(socket) == []

    @async_test
    async def test_a_child_is_told_from_its_begin_to_its_end(self) -> None:
        socket = await self.following("restaurants")
        child = await database(models.Restaurant.objects.create)(name="a", stars=1)
        begun = await self.all_from(socket)
        assert begun[0] == ["create", child.pk]
        assert ["create", child.pk] not in begun[1:]
        for change in ({"name": "b"}, {"stars": 2}):
            await database(models.Restaurant.objects.update)(**change)
            assert ["update", child.pk] in await self.all_from(socket)
        await database(models.Restaurant.objects.all().delete)()
        assert await self.all_from(socket) == [["delete", child.pk]]

    @async_test
    async def test_what_came_and_went_unread_is_told_by_neither(self) -> None:
        socket = await self.following("restaurants")

        def both() -> None:
            models.Restaurant.objects.create(name="a").delete()

        await database(both)()
        assert await self.all_from(socket) == []

    @async_test
    async def test_an_object_may_become_one_of_the_kind_and_cease_to_be(self) -> None:
        place = await database(models.Place.objects.create)(name="a")
        socket = await self.following("restaurants")
        child = models.Restaurant(place_ptr=place, name="a")
        await database(child.save)()
        assert ["create", place.pk] in await self.all_from(socket)
        await database(child.delete)(keep_parents=True)
        assert await self.all_from(socket) == [["delete", place.pk]]
        await database(models.Place.objects.all().delete)()
        assert await self.all_from(socket) == []

    @async_test
    async def test_a_model_in_the_middle(self) -> None:
        socket = await self.following("gardens")
        area, garden, orchard = [
            await database(model.objects.create)(name="a") for model in (Area, Garden, Orchard)
        ]
        told = await self.all_from(socket)
        assert {pk for _, pk in told} == {garden.pk, orchard.pk}
        for gone in (area, garden, orchard):
            await database(gone.delete)()
        deleted = [pk for verb, pk in await self.all_from(socket) if verb == "delete"]
        assert deleted == [pk for verb, pk in told if verb == "create"]

    @async_test
    async def test_groups_are_found_by_the_columns_of_all_tables(self) -> None:
        area = await database(Area.objects.create)()
        kennel = await database(Garden.objects.create)()
        group = f"{area.pk}-{kennel.pk}"
        socket = await self.following("dogs", of=group)

        def three_in_one() -> None:
            with transaction.atomic():  # read together, and more than one of them gone by then
                for _ in range(2):
                    Dog.objects.create(area=area, kennel=kennel).delete()
                Animal.objects.create(area=area).delete()

        await database(three_in_one)()
        assert await self.all_from(socket) == []
        dog = await database(Dog.objects.create)(area=area, kennel=kennel)
        assert (await self.all_from(socket))[0] == ["create", dog.pk, group]
        pk = dog.pk
        await database(dog.delete)()
        assert await self.all_from(socket) == [["delete", pk, group]]

    @async_test
    async def test_a_begin_has_the_columns_that_its_parents_row_had_then(self) -> None:
        areas = [await database(Area.objects.create)() for _ in range(2)]
        sockets = [await self.following("dogs", of=f"{area.pk}-None") for area in areas]

        def moving() -> Any:
            dog = Dog.objects.create(area=areas[0])
            Dog.objects.update(area=areas[1])
            return dog.pk

        pk = await database(moving)()
        # where it was first it has moved on before anybody could be told, but that it left
        assert await self.all_from(sockets[0]) == [["delete", pk, f"{areas[0].pk}-None"]]
        told = [verb for verb, *_ in await self.all_from(sockets[1])]
        assert (told[0], told.count("create")) == ("create", 1)

    @skipUnless(TEST_DB == "postgresql", "SQLite empties a table row by row")
    @async_test
    async def test_all_of_them_are_gone_once(self) -> None:
        await database(models.Restaurant.objects.create)(name="a")
        socket = await self.following("restaurants")

        def truncate(tables: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {tables}")

        await database(truncate)("app_place, app_restaurant")
        assert await self.all_from(socket) == [["delete", None]]
        await database(truncate)("app_restaurant")
        assert await self.all_from(socket) == [["delete", None]]


class Views(SocketCase):
    """Who follows a view knows nothing of all this: versions go on as before."""

    application = AuthMiddlewareStack(URLRouter([path("ws/", router.consumer)]))

    @async_test
    async def test_each_change_is_told_once_and_with_a_version(self) -> None:
        socket = await self.open(self.user, session=True)
        asked = {"action": "subscribe", "request_id": 1, "model": "app.Restaurant", "mode": "events"}
        await socket.send_json_to(asked)
        assert [frame["type"] for frame in await self.all_from(socket)] == ["subscribed"]
        hub = hub_of_loop()
        [cohort] = hub._cohorts.values()
        part = Change(1, 1, "app.Restaurant", "1", Op.INSERT, None, None, (), {}, None, 0)
        hub._distribute([part])  # which alone is nothing to tell, and nothing that anybody waits for
        assert cohort.settled == hub.tick
        child = await database(models.Restaurant.objects.create)(name="a")
        changes = [c for f in await self.all_from(socket) for c in f["changes"]]
        assert [c["action"] for c in changes] == ["CREATED", "UPDATED"]
        assert all(c["version"] > 10**15 for c in changes), changes  # a time, and not the id of a change
        await database(child.delete)()
        changes = [c for f in await self.all_from(socket) for c in f["changes"]]
        assert [(c["action"], c["reason"]) for c in changes] == [("DELETED", "deleted")]
        assert changes[0]["version"] > 10**15
