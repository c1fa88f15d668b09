"""Calls: the same request through both doors has the same answer."""

from __future__ import annotations

import json
from typing import Any

from django.test import override_settings
from rest_framework.test import APIClient

from drf_concord.testing import async_test
from tests.app import models

from .cases import SocketCase, database

METHODS = {"create": "post", "update": "put", "patch": "patch", "delete": "delete", "publish": "post"}

CASES: list[dict[str, Any]] = [
    {"action": "list"},
    {"action": "list", "query": {"format": "json"}},
    {"action": "retrieve", "pk": 1001},
    {"action": "retrieve", "pk": "1001"},
    {"action": "retrieve", "pk": 999},
    {"action": "retrieve", "pk": "x"},
    {"action": "create", "data": {"text": "new", "unknown": 1}},
    {"action": "create", "data": {"text": "x" * 200}},
    {"action": "create", "data": [1]},
    {"action": "create", "data": "text"},
    {"action": "create", "data": {}},
    {"action": "update", "pk": 1001, "data": {"text": "b", "count": 2}},
    {"action": "update", "pk": 1001, "data": {"count": "many"}},
    {"action": "patch", "pk": 1001, "data": {"text": "c"}},
    {"action": "patch", "pk": 1001, "data": {"text": "c"}, "if_match": '"1-0"'},
    {"action": "patch", "pk": 1001, "data": {"text": "c"}, "if_match": "unquoted"},
    {"action": "patch", "pk": 1001, "data": {"text": "c"}, "if_none_match": "*"},
    {"action": "patch", "pk": 1001, "data": {"text": "c"}, "lock_token": "not-mine"},
    {"action": "patch", "pk": 1002, "data": {"text": "locked by ada"}},
    {"action": "delete", "pk": 1002},
    {"action": "patch", "pk": 1003, "data": {"text": "ada's own"}},
    {"action": "retrieve", "pk": 1003},
    {"action": "publish", "pk": 1001},
    {"action": "publish", "pk": 1002},
    {"action": "publish", "pk": 999},
    {"action": "delete", "pk": 1001},
]


def over_http(client: APIClient, call: dict[str, Any]) -> Any:
    method = METHODS.get(call["action"], "get")
    path = "/items/" if "pk" not in call else f"/items/{call['pk']}/"
    if call["action"] == "publish":
        path += "publish/"
    if call.get("query"):
        path += "?format=json"
    headers = {
        name: call[member]
        for name, member in (
            ("If-Match", "if_match"),
            ("If-None-Match", "if_none_match"),
            ("Lock-Token", "lock_token"),
        )
        if member in call
    }
    data = {"data": json.dumps(call["data"]), "content_type": "application/json"} if "data" in call else {}
    return getattr(client, method)(path, headers=headers, **data)


def same(value: Any) -> Any:
    """Leave out what differs from one moment to the next."""
    if isinstance(value, dict):
        moving = {"current_etag", "modified_at", "since", "expires_at", "expires_in", "acquired_at"}
        return {k: same(v) for k, v in value.items() if k not in moving}
    return [same(v) for v in value] if isinstance(value, list) else value


def expected(response: Any) -> tuple[int, Any, Any]:
    status = response.status_code
    data = response.json() if response.content else None
    if status < 400:
        return status, data, []
    if status == 404:
        return status, None, ["Not found"]
    if isinstance(data, dict) and set(data) == {"detail"}:
        return status, None, [data["detail"]]
    return status, None, data if isinstance(data, list) else [data]


class BothDoors(SocketCase):
    """Every case is sent over HTTP and over a websocket, from the same state."""

    def prepare(self, ada: Any) -> None:
        models.Item.objects.all().delete()
        models.Item.objects.bulk_create(
            [
                models.Item(pk=1001, text="a"),
                models.Item(pk=1002, text="locked"),
                models.Item(pk=1003, text="ada's", owner=ada),
            ]
        )
        client = APIClient()
        client.force_authenticate(ada)
        assert client.post(
            "/items/1002/lock/", {"id": "6b0b1f7e-0000-4000-8000-000000000000"}
        ).status_code in {
            200,
            201,
        }

    @async_test
    async def test_the_same_answer(self) -> None:
        ada = await self.person("ada")
        client = APIClient(raise_request_exception=False)
        client.force_authenticate(self.user)
        for call in CASES:
            await database(self.prepare)(ada)
            response = await database(over_http)(client, call)
            await database(self.prepare)(ada)
            reply = await self.ask({**call, "model": "app.Item", "request_id": 5})
            status, data, errors = expected(response)
            assert set(reply) == {"action", "errors", "response_status", "request_id", "data"}
            assert (reply["action"], reply["request_id"]) == (call["action"], 5)
            assert reply["response_status"] == status, (reply, response.content)
            if call["action"] == "create" and status == 201:
                data, reply["data"] = {**data, "id": 0}, {**reply["data"], "id": 0}
            assert same(reply["data"]) == same(data), call
            assert same(reply["errors"]) == same(errors), call

    @async_test
    async def test_the_reply_of_session_mode_carries_the_tag_that_writes_back(self) -> None:
        await database(models.Item.objects.create)(pk=1001, text="a")
        socket = await self.open(self.user, session=True)
        call = {"action": "patch", "model": "app.Item", "pk": 1001, "data": {"text": "b"}}
        first = await self.ask(call, socket)
        second = await self.ask({**call, "if_match": first["etag"]}, socket)
        stale = await self.ask({**call, "if_match": first["etag"]}, socket)
        assert [r["response_status"] for r in (first, second, stale)] == [200, 200, 412]
        assert stale["code"] == "version_mismatch"

    @async_test
    async def test_locks(self) -> None:
        await database(models.Item.objects.create)(pk=1001, text="a")
        ada = await self.open(await self.person("ada"))
        about = {"model": "app.Item", "pk": 1001}
        held = await self.ask({**about, "action": "lock", "data": {"ttl": 20}})
        assert held["response_status"] == 201
        assert held["data"]["mine"]
        assert (await self.ask({**about, "action": "lock"}, ada))["response_status"] == 409
        refused = await self.ask({**about, "action": "patch", "data": {"text": "b"}}, ada)
        assert refused["response_status"] == 409
        assert refused["errors"][0]["holder"] == "guido"
        assert (await self.ask({**about, "action": "unlock"}, ada))["response_status"] == 403
        assert (await self.ask({**about, "action": "renew", "data": {"ttl": 30}}))["response_status"] == 200
        read = await self.ask({**about, "action": "lock_state"}, ada)
        assert (read["response_status"], read["data"]["state"], read["data"]["mine"]) == (200, "held", False)
        assert (await self.ask({**about, "action": "unlock"}))["response_status"] == 204
        assert (await self.ask({**about, "action": "patch", "data": {"text": "b"}}, ada))[
            "response_status"
        ] == 200

    @async_test
    async def test_where_a_lock_is_of_one_client_its_token_comes_with_the_answer(self) -> None:
        await database(models.Item.objects.create)(pk=1001, text="a")
        about = {"model": "app.Item", "pk": 1001}
        patch = {**about, "action": "patch", "data": {"text": "b"}}
        with override_settings(CONCORD={"LOCK_HOLDER": "client"}):
            token = (await self.ask({**about, "action": "lock"}))["data"]["lock_token"]
            assert (await self.ask(patch))["response_status"] == 409  # another tab of the same user
            assert (await self.ask({**patch, "lock_token": token}))["response_status"] == 200
            assert (await self.ask({**about, "action": "unlock", "lock_token": token}))[
                "response_status"
            ] == 204

    @async_test
    async def test_a_user_who_was_deactivated_writes_nothing_any_more(self) -> None:
        await database(models.Note.objects.create)(pk=1001, text="a")
        call = {"action": "patch", "model": "app.Note", "pk": 1001, "data": {"text": "b"}}
        assert (await self.ask(call))["response_status"] == 200

        def deactivate() -> None:
            self.user.is_active = False
            self.user.save()

        await database(deactivate)()
        assert (await self.ask(call))["response_status"] in {401, 403}

    @async_test
    async def test_nobody_may_do_what_wants_a_user(self) -> None:
        socket = await self.open(None)
        reply = await self.ask({"action": "list", "model": "app.Note"}, socket)
        assert reply["response_status"] in {401, 403}
        assert reply["data"] is None

    @async_test
    async def test_an_exception_is_answered_without_internals(self) -> None:
        await database(models.Texted.objects.create)(code="k", text="bad")
        with self.assertLogs("drf_concord", "ERROR"):
            reply = await self.ask({"action": "retrieve", "model": "app.Texted", "pk": "k", "request_id": 1})
        assert reply["response_status"] == 500
        assert "secret" not in json.dumps(reply)
        assert (await self.ask({"action": "list", "model": "app.Item"}))["response_status"] == 200

    @async_test
    async def test_unknown_things(self) -> None:
        for frame, status in (
            ({"action": "fly", "model": "app.Item"}, 405),
            ({"action": "list", "model": "app.Nothing"}, 404),
            ({"action": "list"}, 404),
            ({"action": "fly"}, 405),
            ({"action": "retrieve", "model": "app.Item"}, 400),
            ({"action": "http_method_not_allowed", "model": "app.Item"}, 405),
            ({"action": "lock_acquire", "model": "app.Item"}, 405),
            ({"action": "dispatch", "model": "app.Item"}, 405),
        ):
            assert (await self.ask(frame))["response_status"] == status, frame

    @async_test
    async def test_atomic_requests_are_honoured(self) -> None:
        from django.db import connections

        await database(models.Item.objects.create)(pk=1001, text="a")
        connections.settings["default"]["ATOMIC_REQUESTS"] = True
        try:
            call = {"action": "patch", "model": "app.Item", "pk": 1001, "data": {"text": "b"}}
            assert (await self.ask(call))["response_status"] == 200
            assert (await self.ask({**call, "if_match": '"1-0"'}))["response_status"] == 412
        finally:
            connections.settings["default"]["ATOMIC_REQUESTS"] = False

    @async_test
    async def test_socket_middleware_runs_round_views(self) -> None:
        middleware = ["django.middleware.locale.LocaleMiddleware"]
        socket = await self.open(self.user, headers=[(b"accept-language", b"de")])
        call = {"action": "patch", "model": "app.Item", "pk": 1001, "data": {"count": "x"}}
        await database(models.Item.objects.create)(pk=1001, text="a")
        with override_settings(CONCORD={"SOCKET_MIDDLEWARE": middleware, "CAPTURE": ["app.Watched"]}):
            reply = await self.ask(call, socket)
        assert reply["errors"] == [{"count": ["Eine gültige Ganzzahl ist erforderlich."]}]
