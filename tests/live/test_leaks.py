"""Owners, groups and permissions change at random while changes flow, and users come and go.

Nothing is sent that a GET would not show.
``CONCORD_STEPS`` makes the run as long as wanted.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth.models import Group, Permission
from django.test import override_settings
from django.urls import include, path
from rest_framework.permissions import BasePermission
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.live import RealtimeMixin
from drf_concord.testing import APICommunicator, async_test, get_headers_for_user, settle
from drf_concord.websocket import RealtimeRouter
from tests.app import models, views
from tests.websocket.cases import SocketCase, database

STEPS = int(os.environ.get("CONCORD_STEPS", "15"))
SINGLES = (1, 2)


class MayView(BasePermission):
    """Has the permission, by himself or by a group."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.user.has_perm("app.view_note"))


class Notes(RealtimeMixin, views.NoteViewSet):
    permission_classes = [MayView]


class Items(RealtimeMixin, views.ItemViewSet):
    """An object with an owner is his alone."""


class Mine(RealtimeMixin, views.MineViewSet):
    queryset = models.Item.objects.none()


router, mine = RealtimeRouter(), RealtimeRouter()
router.register_all([Notes, Items])
mine.register(Mine)
application = AuthMiddlewareStack(URLRouter([path("ws/", router.consumer), path("mine/", mine.consumer)]))
routes = SimpleRouter()
for _name, _view in {"notes": Notes, "items": Items, "mine": Mine}.items():
    routes.register(_name, _view, basename=_name)
urlpatterns = [path("", include(routes.urls))]


class Follower:
    """What one subscription of one user was sent, and what a GET by him shows."""

    def __init__(self, person: Any, where: str, frame: Any, address: str, client: APIClient) -> None:
        self.person, self.where, self.client = person, where, client
        self.frame, self.address = frame, address
        self.socket: Any = None
        self.active = True  # a socket whose user was deactivated stays nobody's, and has to be opened again
        self.copy: dict[Any, Any] = {}
        self.states: list[dict[Any, Any] | None] = [{}]  # what a GET showed after each step not yet compared
        self.follows = False
        self.told = 0

    def shown(self) -> dict[Any, Any] | None:
        """Return what a GET shows, by key; None when it is refused."""
        answer = self.client.get(self.address)
        if answer.status_code in {401, 403} and "value" not in self.frame:
            return None
        if answer.status_code in {401, 403, 404}:
            return {}
        found = answer.json()
        return {row["id"]: row for row in (found if isinstance(found, list) else [found])}

    def take(self, frame: Any, shown: list[dict[Any, Any] | None]) -> None:
        """Take in a frame; every object in it has to be one that a GET showed just so after a step."""
        if frame["type"] in {"error", "end"}:
            assert None in shown or not self.active, f"who may follow was sent away: {frame}"
            self.follows = False
        elif frame["type"] == "subscribed":
            self.follows = True
        elif frame["type"] == "snapshot":
            self.copy = {}
            for row in frame["items"]:
                self.put(row, shown)
        elif frame["type"] == "changes":
            for change in frame["changes"]:
                self.told += 1
                if change["action"] == "DELETED":
                    assert change["pk"] in self.copy, "told that something is gone that was never shown"
                    del self.copy[change["pk"]]
                else:
                    self.put(change, shown)

    def put(self, row: Any, shown: list[dict[Any, Any] | None]) -> None:
        known = [state.get(row["pk"]) for state in shown if state is not None]
        assert row["instance"] in known, f"a GET showed {known}, sent was {row}"
        self.copy[row["pk"]] = row["instance"]


class World:
    """Everything that changes, and a way to change some of it."""

    def __init__(self, people: list[Any], chance: random.Random) -> None:
        self.people, self.chance = people, chance
        self.group = Group.objects.create(name="readers")
        self.permission = Permission.objects.get(codename="view_note")

    def step(self) -> Any:
        """Change something; return the person who was deactivated or activated, if anybody was."""
        chance, items, notes = self.chance, models.Item.objects, models.Note.objects
        person, text = chance.choice(self.people), str(chance.random())
        owner = chance.choice([None, *self.people])
        some = items.filter(pk__in=chance.sample(range(1, 6), 2))
        note = notes.filter(pk=chance.randint(1, 4))
        acts = [
            lambda: items.update_or_create(pk=chance.randint(1, 5), defaults={"text": text, "owner": owner}),
            lambda: some.update(owner=owner),
            lambda: some.update(text=text),
            some.delete,
            lambda: notes.update_or_create(pk=chance.randint(1, 4), defaults={"text": text}),
            note.delete,
            lambda: self._toggle(person.groups, self.group),
            lambda: self._toggle(person.user_permissions, self.permission),
            lambda: self._toggle(self.group.permissions, self.permission),
        ]
        if chance.random() < 0.07:
            type(person).objects.filter(pk=person.pk).update(is_active=chance.random() < 0.8)
            return person
        chance.choice(acts)()
        return None

    def _toggle(self, relation: Any, obj: Any) -> None:
        (relation.remove if relation.filter(pk=obj.pk).exists() else relation.add)(obj)


@override_settings(ROOT_URLCONF=__name__)
class Leaks(SocketCase):
    """Two people, each with a list of his own, a list that takes a permission, and single objects."""

    async def follower(self, person: Any, number: int) -> list[Follower]:
        client = APIClient()
        await database(client.force_login)(person)
        found = []
        for where, name, model, value in (
            ("/mine/", "mine", "app.Item", None),
            ("/ws/", "notes", "app.Note", None),
            *(("/ws/", "items", "app.Item", pk) for pk in SINGLES),
        ):
            frame = {"action": "subscribe", "request_id": number, "model": model, "snapshot": True}
            address = f"/{name}/"
            if value is not None:
                frame, address = {**frame, "group_by": "pk", "value": value}, f"/{name}/{value}/"
            found.append(Follower(person, where, frame, address, client))
        return found

    async def open_again(self, follower: Follower) -> None:
        if follower.socket is not None:
            await follower.socket.disconnect()
            self.opened.remove(follower.socket)
        headers = await get_headers_for_user(follower.person)
        socket = APICommunicator(application, follower.where, headers, subprotocols=["concord.v1"])
        assert (await socket.connect())[0]
        self.opened.append(socket)
        follower.socket, follower.active, follower.follows, follower.copy = socket, True, False, {}

    async def run_with(self, seed: int) -> int:
        chance = random.Random(seed)
        people = [await self.person(f"person{seed}{n}") for n in range(2)]
        followers = [f for n, person in enumerate(people) for f in await self.follower(person, n)]
        world = await database(World)(people, chance)
        for follower in followers:
            follower.states = [await database(follower.shown)()]
        for _ in range(STEPS):
            for follower in followers:
                if follower.socket is None or not follower.active:
                    await self.open_again(follower)
                if not follower.follows and follower.states[-1] is not None:
                    await follower.socket.send_json_to(follower.frame)
            await self.compare(followers)
            for _ in range(chance.choice([1, 1, 2, 4])):
                person = await database(world.step)()
                for follower in followers:
                    follower.active = follower.active and follower.person is not person
                    follower.states.append(await database(follower.shown)())
            await self.compare(followers)
        return sum(follower.told for follower in followers)

    async def compare(self, followers: list[Follower]) -> None:
        await settle()
        for follower in followers:
            shown, states = follower.states[-1], follower.states
            follower.states = [shown]
            while not follower.socket.output_queue.empty():
                sent = follower.socket.output_queue.get_nowait()
                assert sent["type"] == "websocket.send", sent
                frame = json.loads(sent["text"])
                follower.take(frame, states)
                if frame["type"] == "ping":
                    await follower.socket.send_json_to({"action": "pong"})
                if "seq" in frame:
                    await follower.socket.send_json_to({"action": "ack", "seq": frame["seq"]})
            if follower.follows and shown is not None and follower.active:
                assert follower.copy == shown, (follower.address, follower.copy, shown)
            if shown is None:
                assert not follower.follows, "who may see nothing still follows"

    @async_test
    async def test_nothing_is_sent_that_a_get_would_not_show(self) -> None:
        assert await self.run_with(1) > STEPS // 3, "too little was sent: the run is void"

    @async_test
    async def test_nor_by_another_course_of_things(self) -> None:
        assert await self.run_with(3) > STEPS // 3, "too little was sent: the run is void"
