"""Consumers over a model: the frames of the documented table."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from drf_concord.testing import async_test
from tests.app import models

from .cases import SocketCase, database


class Notes(SocketCase):
    """A consumer used like a generic view."""

    path = "/notes/"
    reset_sequences = True  # a new object must not be given a key that is named here

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        await database(models.Note.objects.bulk_create)(
            [models.Note(pk=n, text=f"n{n}") for n in (102, 103, 104)]
        )

    def reply(self, action: Any, status: int, data: Any = None, errors: Any = ()) -> dict[str, Any]:
        return {
            "action": action,
            "errors": list(errors),
            "response_status": status,
            "request_id": 7,
            "data": data,
        }

    @async_test
    async def test_the_table(self) -> None:
        first, second, third = ({"id": n, "text": f"n{n}"} for n in (102, 103, 104))
        for frame, reply in (
            ({"action": "list"}, self.reply("list", 200, [first, second, third])),
            ({"action": "retrieve", "pk": 102}, self.reply("retrieve", 200, first)),
            (
                {"action": "patch", "pk": 102, "data": {"text": "b"}},
                self.reply("patch", 200, {"id": 102, "text": "b"}),
            ),
            (
                {"action": "update", "pk": 102, "data": {"text": "c"}},
                self.reply("update", 200, {"id": 102, "text": "c"}),
            ),
            ({"action": "delete", "pk": 104}, self.reply("delete", 204)),
            ({"action": "retrieve", "pk": 104}, self.reply("retrieve", 404, errors=["Not found"])),
            ({"action": "retrieve", "pk": "x"}, self.reply("retrieve", 404, errors=["Not found"])),
            ({"action": "fly"}, self.reply("fly", 405, errors=['Method "fly" not allowed.'])),
            (
                {},
                self.reply(None, 405, errors=["Unable to find action in message body."]),
            ),
        ):
            assert await self.ask({**frame, "request_id": 7}) == reply, frame

    @async_test
    async def test_create_ignores_unknown_members(self) -> None:
        reply = await self.ask({"action": "create", "data": {"text": "new", "other": 1}})
        assert reply["response_status"] == 201
        assert reply["data"]["text"] == "new"

    @async_test
    async def test_validation(self) -> None:
        reply = await self.ask({"action": "update", "pk": 102, "data": {"text": "x" * 200}})
        assert reply["response_status"] == 400
        assert list(reply["errors"][0]) == ["text"]
        for data in (None, [], "x"):
            reply = await self.ask({"action": "create", "data": data})
            assert reply["response_status"] == 400, data
        assert (await self.ask({"action": "retrieve"}))["response_status"] == 400

    @async_test
    async def test_no_member_of_a_frame_takes_the_place_of_an_argument_of_ours(self) -> None:
        for name in (
            "self",
            "consumer",
            "scope",
            "action_kwargs",
            "serializer",
            "obj",
            "not-a-name",
            "partial",
        ):
            reply = await self.ask({"action": "retrieve", "pk": 102, name: "x"})
            assert reply["response_status"] == 200, name
            reply = await self.ask({"action": "patch", "pk": 102, "data": {"text": "b"}, name: "x"})
            assert reply["response_status"] in {200, 500}, name
        assert (await self.ask({"action": "list"}))["response_status"] == 200

    @async_test
    async def test_bad_frames(self) -> None:
        for text in ("[1]", "x", '"text"', "{", '{"action": ["list"]}'):
            reply = await self.ask(text)
            assert reply["response_status"] in {400, 405}
            assert reply["data"] is None

    @async_test
    async def test_a_lock_and_a_stale_tag_stop_a_patch(self) -> None:
        ada = await self.person("ada")
        client = APIClient()
        client.force_authenticate(ada)
        call = {"action": "patch", "pk": 102, "data": {"text": "b"}}
        stale = await self.ask({**call, "if_match": '"1-0"'})
        assert stale["response_status"] == 412
        current = stale["errors"][0]["current_etag"]
        assert (await self.ask({**call, "if_match": current}))["response_status"] == 200
        await database(client.post)("/notes/102/lock/", {}, format="json")
        for frame in (call, {"action": "update", **call}, {"action": "delete", "pk": 102}):
            refused = await self.ask(frame)
            assert (refused["response_status"], refused["errors"][0]["code"]) == (409, "object_locked")

    @async_test
    async def test_object_permissions_and_one_instance_for_all_sockets(self) -> None:
        ada = await self.person("ada")
        await database(models.Item.objects.create)(pk=101, text="hers", owner=ada)
        hers = await self.open(ada, "/own/")
        his = await self.open(self.user, "/own/")
        for frame in (
            {"action": "retrieve", "pk": 101},
            {"action": "patch", "pk": 101, "data": {"text": "x"}},
        ):
            assert (await self.ask(frame, his))["response_status"] == 403
            assert (await self.ask(frame, hers))["response_status"] == 200
