"""The frames of later releases, on a router's plain socket."""

from __future__ import annotations

from typing import Any

from drf_concord.testing import async_test
from tests.app import models

from .cases import SocketCase, database


class Dialect(SocketCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.item = await database(models.Item.objects.create)(text="a")
        self.pk = self.item.pk

    @staticmethod
    def asked(action: Any = "list", **more: Any) -> dict[str, Any]:
        return {"type": "subscribe", "id": 1337, "model": "app.Item", "action": action, **more}

    async def begin(self, *frames: Any) -> None:
        for frame in frames:
            await self.socket.send_json_to(frame)
        assert await self.socket.receive_nothing()

    async def update(self, text: str, pk: Any = None) -> None:
        await database(models.Item.objects.filter(pk=pk or self.pk).update)(text=text)

    @async_test
    async def test_an_object(self) -> None:
        await self.begin(self.asked("retrieve", lookup_by=str(self.pk)))
        other = await database(models.Item.objects.create)(text="other")
        await self.update("b")
        (frame,) = await self.all_from()
        assert list(frame) == ["type", "id", "model", "action", "instance"]
        assert (frame["type"], frame["id"], frame["action"]) == ("broadcast", 1337, "UPDATED")
        assert frame["instance"]["text"] == "b"
        await self.update("b", other.pk)
        await database(self.item.delete)()
        (frame,) = await self.all_from()
        assert (frame["action"], frame["instance"]) == ("DELETED", {"pk": self.pk, "id": self.pk})

    @async_test
    async def test_a_list(self) -> None:
        await self.begin(self.asked(query_params={"q": 1}, view_kwargs={"a": 1}))
        made = await database(models.Item.objects.create)(text="other")
        await self.update("b")
        frames = await self.all_from()
        assert [(f["id"], f["action"], f["instance"]["id"]) for f in frames] == [
            (1337, "CREATED", made.pk),
            (1337, "UPDATED", self.pk),
        ]

    @async_test
    async def test_another_lookup_field(self) -> None:
        await database(models.Texted.objects.create)(code="one", text="x")
        frame = {
            "type": "subscribe",
            "id": "a",
            "model": "app.Texted",
            "action": "retrieve",
            "lookup_by": "one",
        }
        await self.begin(frame)
        await database(models.Texted.objects.filter(pk="one").update)(text="y")
        assert [f["instance"]["shown"] for f in await self.all_from()] == ["y"]

    @async_test
    async def test_it_ends(self) -> None:
        await self.begin(self.asked(), {"type": "unsubscribe", "id": 1337})
        await self.update("b")
        assert await self.all_from() == []
        frame = await self.ask({"type": "unsubscribe", "id": 1337})
        assert (frame["type"], frame["id"], frame["code"]) == ("error", 1337, 404)

    @async_test
    async def test_its_ids_are_not_the_request_ids(self) -> None:
        own = {"request_id": 1337, "model": "app.Item", "value": self.pk}
        await self.begin(own, self.asked())
        await self.update("b")
        assert sorted(list(frame)[1] for frame in await self.all_from()) == ["id", "request_id"]
        refused = await self.ask(self.asked())
        assert (refused["id"], refused["code"]) == (1337, 400)
        await self.begin({"type": "unsubscribe", "id": 1337})
        await self.update("c")
        assert [list(frame)[1] for frame in await self.all_from()] == ["request_id"]

    @async_test
    async def test_refusals(self) -> None:
        for frame, code in (
            (self.asked("retrieve", lookup_by=0), 404),
            (self.asked("retrieve", lookup_by="x"), 404),
            (self.asked("retrieve", lookup_by=[1]), 404),
            (self.asked("retrieve"), 404),
            (self.asked("fly"), 400),
            (self.asked(["list"]), 400),
            (self.asked(model="app.Nothing"), 404),
            (self.asked(model=7), 400),
            (self.asked(view_kwargs=[1]), 400),
            (self.asked(query_params="x"), 400),
            (self.asked(model="app.Pair"), 403),
            ({"type": "fly", "id": 1337}, 400),
        ):
            reply = await self.ask(frame)
            assert list(reply) == ["type", "id", "code", "message"], frame
            assert (reply["type"], reply["id"], reply["code"]) == ("error", 1337, code), frame
        # nothing was left behind
        await self.begin(self.asked())

    @async_test
    async def test_an_object_that_may_not_be_seen_is_unknown(self) -> None:
        ada = await self.person("ada")
        await database(models.Item.objects.filter(pk=self.pk).update)(owner=ada)
        assert (await self.ask(self.asked("retrieve", lookup_by=self.pk)))["code"] == 404
        await self.update("secret")
        assert await self.all_from() == []

    @async_test
    async def test_what_is_no_frame_of_it(self) -> None:
        reply = await self.ask(
            {"action": "retrieve", "model": "app.Item", "pk": self.pk, "type": "x", "id": 1}
        )
        assert reply["response_status"] == 200
        assert (await self.ask('{"type": "subscribe"'))["response_status"] == 400
        session = await self.open(self.user, session=True)
        reply = await self.ask(self.asked(), session)
        assert (reply.get("action"), reply.get("response_status")) == ("list", 200)
