"""Subscriptions: who is told what, in plain mode and in session mode."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import connection, transaction
from django.test import override_settings

from drf_concord import changes
from drf_concord.live import cohorts, hub, looks
from drf_concord.testing import async_test, settle
from tests.app import models

from .cases import SocketCase, database

ITEM = "app.Item"


def item(**fields: Any) -> models.Item:
    return models.Item.objects.create(**fields)


class Plain(SocketCase):
    """The frames of the documented form."""

    async def follow(self, **frame: Any) -> None:
        await self.socket.send_json_to({"request_id": 1, "model": ITEM, **frame})
        assert await self.socket.receive_nothing()

    @async_test
    async def test_created_updated_deleted(self) -> None:
        await self.follow(value="1")
        await database(item)(pk=1, text="x")
        assert await self.socket.receive_json_from() == {
            "type": "broadcast",
            "request_id": 1,
            "model": ITEM,
            "action": "CREATED",
            "instance": {"id": 1, "text": "x", "count": 0, "notes": "", "folder": None},
        }
        await database(models.Item.objects.filter(pk=1).update)(text="y")
        frame = await self.socket.receive_json_from()
        assert (frame["action"], frame["instance"]["text"]) == ("UPDATED", "y")
        await database(models.Item.objects.all().delete)()
        frame = await self.socket.receive_json_from()
        assert (frame["action"], frame["instance"]) == ("DELETED", {"pk": 1, "id": 1})

    @async_test
    async def test_only_the_object_that_was_asked_for(self) -> None:
        await self.follow(value=1)
        await database(item)(pk=2, text="other")
        assert await self.socket.receive_nothing()

    @async_test
    async def test_what_was_written_before_is_no_news(self) -> None:
        await database(item)(pk=1, text="x")
        await self.follow(value=1)
        await database(item)(pk=2, text="x")
        await self.follow(value=2, request_id=2)

    @async_test
    async def test_a_move_from_one_group_to_another(self) -> None:
        first = await database(models.Folder.objects.create)(name="first")
        second = await database(models.Folder.objects.create)(name="second")
        await self.follow(group_by="folder_id", value=str(first.pk))
        await self.follow(group_by="folder_id", value=second.pk, request_id=2)
        await database(item)(pk=1, text="x", folder=first)
        await database(models.Item.objects.filter(pk=1).update)(folder=second)
        frames = await self.all_from()
        assert [(f["request_id"], f["action"]) for f in frames if f["request_id"] == 1] == [
            (1, "DELETED")
        ] or [(f["request_id"], f["action"]) for f in frames] == [(2, "CREATED")]
        assert frames[-1]["action"] in {"CREATED", "DELETED"}

    @async_test
    async def test_raw_sql_a_cascade_and_a_rollback(self) -> None:
        folder = await database(models.Folder.objects.create)(name="f")
        await database(item)(pk=1, text="x", folder=folder)
        await self.follow(group_by="folder_id", value=folder.pk)

        def raw() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE app_item SET text = 'raw' WHERE id = 1")

        await database(raw)()
        assert (await self.socket.receive_json_from())["instance"]["text"] == "raw"

        def rolled_back() -> None:
            with transaction.atomic():
                models.Item.objects.filter(pk=1).update(text="never")
                transaction.set_rollback(True)

        await database(rolled_back)()
        assert await self.socket.receive_nothing()
        await database(folder.delete)()
        assert (await self.socket.receive_json_from())["action"] == "DELETED"

    @async_test
    async def test_unsubscribe(self) -> None:
        await self.follow(value=1)
        await self.socket.send_json_to({"request_id": 1, "action": "unsubscribe"})
        await database(item)(pk=1, text="x")
        assert await self.socket.receive_nothing()
        frame = await self.ask({"request_id": 1, "action": "unsubscribe"})
        assert (frame["type"], frame["code"]) == ("error", 404)

    @async_test
    async def test_errors(self) -> None:
        for frame, code in (
            ({"model": ITEM}, 400),
            ({"model": "app.Nothing", "value": 1}, 404),
            ({"model": ITEM, "group_by": "text", "value": 1}, 400),
            ({"model": ITEM, "value": "x"}, 400),
            ({"model": ITEM, "value": {"a": 1}}, 400),
            ({"model": ITEM, "value": True}, 400),
            ({"model": "app.Pair", "value": 1}, 403),
            ({"model": 1, "value": 1}, 400),
        ):
            answer = await self.ask({**frame, "request_id": 9})
            assert (answer["type"], answer["request_id"], answer["code"]) == ("error", 9, code), frame
        await self.follow(value=1)
        assert (await self.ask({"request_id": 1, "model": ITEM, "value": 2}))["code"] == 400

    @async_test
    async def test_a_failed_subscription_frees_its_request_id(self) -> None:
        await self.ask({"request_id": 1, "model": ITEM, "value": "x"})
        await self.follow(value=1)

    @async_test
    async def test_keys_that_are_no_numbers(self) -> None:
        keyed = models.Keyed(text="a")
        await self.follow(model="app.Keyed", value=str(keyed.pk).upper())
        await database(keyed.save)()
        assert (await self.socket.receive_json_from())["instance"]["id"] == str(keyed.pk)

    @async_test
    async def test_a_lookup_field_names_what_is_gone(self) -> None:
        obj = await database(models.Texted.objects.create)(code="k", text="a")
        await self.follow(model="app.Texted", value="k")
        await database(obj.delete)()
        assert (await self.socket.receive_json_from())["instance"] == {"pk": "k", "id": "k", "code": "k"}

    @async_test
    async def test_a_view_that_fails_ends_that_subscription_only(self) -> None:
        obj = await database(models.Texted.objects.create)(code="k", text="a")
        await self.follow(model="app.Texted", value="k")
        await self.follow(value=1, request_id=2)

        def spoil() -> None:
            obj.text = "bad"
            obj.save()

        await database(spoil)()
        with self.assertLogs("drf_concord", "ERROR"):
            frame = await self.socket.receive_json_from()
        assert (frame["type"], frame["request_id"], frame["code"]) == ("error", 1, 500)
        await database(item)(pk=1, text="x")
        assert (await self.socket.receive_json_from())["request_id"] == 2

    @async_test
    async def test_one_query_and_one_encoding_for_all(self) -> None:
        sockets = [await self.open(await self.person(f"p{n}")) for n in range(5)]
        for socket in sockets:
            await socket.send_json_to({"request_id": 1, "model": ITEM, "value": 1})
            assert await socket.receive_nothing()
        real = looks.look
        with mock.patch.object(cohorts, "look", side_effect=real) as looked:
            await database(item)(pk=1, text="x")
            await settle()
        assert looked.call_count == 1
        for socket in sockets:
            assert (await socket.receive_json_from())["action"] == "CREATED"

    @async_test
    async def test_no_cohort_is_asked_that_a_change_cannot_concern(self) -> None:
        folders = [await database(models.Folder.objects.create)(name=str(n)) for n in range(3)]
        for folder in folders:
            await self.follow(group_by="folder_id", value=folder.pk, request_id=folder.pk)
        with mock.patch.object(cohorts, "look", side_effect=looks.look) as looked:
            await database(item)(pk=1, text="x", folder=folders[1])
            await settle()
        assert looked.call_count == 1

    @async_test
    async def test_too_many_objects(self) -> None:
        await database(models.Item.objects.bulk_create)([models.Item(text=str(n)) for n in range(5)])
        with override_settings(CONCORD={"MAX_LIST": 3, "CAPTURE": ["app.Watched"]}):
            folder = await database(models.Folder.objects.create)(name="f")
            await database(models.Item.objects.update)(folder=folder)
            answer = await self.ask(
                {"request_id": 1, "model": ITEM, "group_by": "folder_id", "value": folder.pk}
            )
        assert answer["code"] == 400
        assert "too_large" in answer["message"]


class Permissions(SocketCase):
    """Nothing is sent that a GET by that user would not show."""

    @async_test
    async def test_a_view_that_looks_at_the_user_answers_each(self) -> None:
        ada = await self.person("ada")
        sockets = [await self.open(user, "/mine/") for user in (self.user, ada)]
        for socket in sockets:
            await socket.send_json_to({"request_id": 1, "model": ITEM, "value": 1})
            assert await socket.receive_nothing()
        await database(item)(pk=1, text="x", owner=ada)
        assert await sockets[0].receive_nothing()
        assert (await sockets[1].receive_json_from())["action"] == "CREATED"
        await database(models.Item.objects.update)(owner=self.user)
        assert (await sockets[0].receive_json_from())["action"] == "CREATED"
        gone = await sockets[1].receive_json_from()
        assert (gone["action"], gone["instance"]) == ("DELETED", {"pk": 1, "id": 1})
        await database(models.Item.objects.update)(text="y")
        assert await sockets[1].receive_nothing()

    @async_test
    async def test_object_permissions(self) -> None:
        ada = await self.person("ada")
        await self.socket.send_json_to({"request_id": 1, "model": ITEM, "value": 1})
        assert await self.socket.receive_nothing()
        await database(item)(pk=1, text="x", owner=ada)
        assert await self.socket.receive_nothing()
        await database(models.Item.objects.update)(owner=None)
        assert (await self.socket.receive_json_from())["action"] == "CREATED"
        await database(models.Item.objects.update)(owner=ada)
        assert (await self.socket.receive_json_from())["action"] == "DELETED"
        await database(models.Item.objects.update)(text="secret")
        assert await self.socket.receive_nothing()
        await database(models.Item.objects.all().delete)()
        assert await self.socket.receive_nothing()

    @async_test
    async def test_losing_a_permission_ends_the_subscription_at_once(self) -> None:
        boss = await self.person("boss", is_staff=True)
        socket = await self.open(boss)
        await socket.send_json_to({"request_id": 1, "model": "app.Pair", "value": 1})
        assert await socket.receive_nothing()
        await database(models.Pair.objects.create)(pk=1, left=1, right=1)
        assert (await socket.receive_json_from())["action"] == "CREATED"

        def demote() -> None:
            type(boss).objects.filter(pk=boss.pk).update(is_staff=False)
            models.Pair.objects.filter(pk=1).update(left=2)

        await database(demote)()
        frames = await self.all_from(socket)
        assert [f["type"] for f in frames] == ["error"]
        assert frames[0]["code"] == 403

    @async_test
    async def test_a_deactivated_user_follows_nothing_any_more(self) -> None:
        socket = await self.open(self.user)
        await socket.send_json_to({"request_id": 1, "model": "app.Note", "value": 1})
        assert await socket.receive_nothing()

        def deactivate() -> None:
            type(self.user).objects.filter(pk=self.user.pk).update(is_active=False)

        await database(deactivate)()
        assert [f["code"] for f in await self.all_from(socket)] in ([401], [403])
        await database(models.Note.objects.create)(pk=1, text="x")
        assert await socket.receive_nothing()


class Sessions(SocketCase):
    """Session mode: snapshot, stream, resume."""

    async def snapshot(self, socket: Any, **frame: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
        await socket.send_json_to(
            {"action": "subscribe", "request_id": 8, "model": ITEM, "snapshot": True, **frame}
        )
        subscribed = await socket.receive_json_from()
        assert subscribed["type"] == "subscribed"
        copy: dict[Any, Any] = {}
        while True:
            page = await socket.receive_json_from()
            assert page["type"] == "snapshot"
            copy.update({i["pk"]: i["instance"] for i in page["items"]})
            if not page["more"]:
                return subscribed, copy

    def apply(self, copy: dict[Any, Any], frames: list[Any]) -> dict[Any, Any]:
        for frame in frames:
            for change in frame.get("changes", ()):
                if change["action"] == "DELETED":
                    copy.pop(change["pk"], None)
                else:
                    copy[change["pk"]] = change["instance"]
        return copy

    async def fresh(self) -> dict[Any, Any]:
        reply = await self.ask({"action": "list", "model": ITEM})
        return {i["id"]: i for i in reply["data"]}

    def mess(self) -> None:
        """Write in every way there is."""
        models.Item.objects.bulk_create([models.Item(pk=n, text=str(n)) for n in range(10, 20)])
        models.Item.objects.filter(pk__lt=15).update(text="bulk")
        folder = models.Folder.objects.create(name="f")
        models.Item.objects.create(pk=30, text="cascade", folder=folder)
        folder.delete()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE app_item SET count = 5 WHERE id IN (1, 2)")
            cursor.execute("DELETE FROM app_item WHERE id = 3")
        with transaction.atomic():
            models.Item.objects.create(pk=40, text="rolled back")
            transaction.set_rollback(True)

    @async_test
    async def test_snapshot_and_stream_equal_a_fresh_get(self) -> None:
        await database(models.Item.objects.bulk_create)([models.Item(pk=n, text=str(n)) for n in range(1, 6)])
        socket = await self.open(self.user, session=True)
        _, copy = await self.snapshot(socket)
        assert copy == await self.fresh()
        await database(self.mess)()
        assert self.apply(copy, await self.all_from(socket)) == await self.fresh()

    @async_test
    async def test_resume_after_everything_happened_equals_a_fresh_get(self) -> None:
        await database(models.Item.objects.bulk_create)([models.Item(pk=n, text=str(n)) for n in range(1, 6)])
        socket = await self.open(self.user, session=True)
        subscribed, copy = await self.snapshot(socket)
        await socket.disconnect()
        self.opened.remove(socket)
        await database(self.mess)()
        socket = await self.open(self.user, session=True)
        since = {"epoch": subscribed["epoch"], "position": subscribed["position"]}
        frames = [
            await self.ask(
                {
                    "action": "subscribe",
                    "request_id": 8,
                    "model": ITEM,
                    "since": since,
                    "have": list(copy),
                },
                socket,
            ),
            *await self.all_from(socket),
        ]
        assert frames[0]["how"] == "resumed"
        assert self.apply(copy, frames) == await self.fresh()

    @async_test
    async def test_a_transaction_is_one_frame(self) -> None:
        socket = await self.open(self.user, session=True)
        await self.snapshot(socket)

        def write() -> None:
            with transaction.atomic():
                item(pk=1, text="a")
                item(pk=2, text="b")

        await database(write)()
        [frame] = await self.all_from(socket)
        assert [c["pk"] for c in frame["changes"]] == [1, 2]
        assert frame["more"] is False

    @async_test
    async def test_a_pushed_object_carries_the_tag_that_writes_it_back(self) -> None:
        socket = await self.open(self.user, session=True)
        await self.snapshot(socket)
        await database(item)(pk=1, text="a")
        [frame] = await self.all_from(socket)
        call = {"action": "patch", "model": ITEM, "pk": 1, "data": {"text": "b"}}
        etag = frame["changes"][0]["etag"]
        assert (await self.ask({**call, "if_match": etag}))["response_status"] == 200
        assert (await self.ask({**call, "if_match": etag}))["response_status"] == 412

    @async_test
    async def test_a_position_of_another_log_is_reset(self) -> None:
        await database(item)(pk=1, text="a")
        socket = await self.open(self.user, session=True)
        subscribed, _ = await self.snapshot(socket)
        for number, since in enumerate(
            (
                {"epoch": "other", "position": subscribed["position"]},
                {"epoch": subscribed["epoch"], "position": "garbage"},
            )
        ):
            frame = {
                "action": "subscribe",
                "request_id": number,
                "model": ITEM,
                "since": since,
                "have": [1, 9],
            }
            frames = [await self.ask(frame, socket), *await self.all_from(socket)]
            assert [f["type"] for f in frames] == ["reset", "subscribed", "snapshot"]

    @async_test
    async def test_a_pruned_position_is_reset(self) -> None:
        await database(item)(pk=1, text="a")
        socket = await self.open(self.user, session=True)
        subscribed, _ = await self.snapshot(socket)
        await database(item)(pk=2, text="b")

        def prune() -> None:
            from drf_concord.rows import now

            changes.prune("default")
            item(pk=3, text="c")
            changes.prune("default", now=now("default") + 3 * 3600 * 1_000_000)

        await database(prune)()
        await settle()
        since = {"epoch": subscribed["epoch"], "position": subscribed["position"]}
        frame = {"action": "subscribe", "request_id": 9, "model": ITEM, "since": since, "have": [1]}
        await socket.send_json_to(frame)
        frames = [f for f in await self.all_from(socket) if f.get("request_id") == 9]
        assert [f["type"] for f in frames] == ["reset", "subscribed", "snapshot"]

    @async_test
    async def test_without_have_there_is_a_snapshot(self) -> None:
        await database(item)(pk=1, text="a")
        socket = await self.open(self.user, session=True)
        subscribed, _ = await self.snapshot(socket)
        since = {"epoch": subscribed["epoch"], "position": subscribed["position"]}
        again, copy = await self.snapshot(socket, request_id=9, since=since)
        assert again["how"] == "snapshot"
        assert list(copy) == [1]

    @async_test
    async def test_a_mark_says_where_everything_was_sent(self) -> None:
        socket = await self.open(self.user, session=True)
        subscribed, _ = await self.snapshot(socket)
        await database(item)(pk=1, text="a")
        await settle()
        hub.hub_of_loop().beat()
        frames = await self.all_from(socket)
        assert [f["type"] for f in frames] == ["changes", "mark"]
        assert frames[1]["position"] != subscribed["position"]
        hub.hub_of_loop().beat()
        # on PostgreSQL the position moves with the transactions of others, too
        assert {f["type"] for f in await self.all_from(socket)} <= {"mark"}

    @async_test
    async def test_what_left_meanwhile_is_told_and_nothing_that_was_never_seen(self) -> None:
        ada = await self.person("ada")
        await database(item)(pk=1, text="mine", owner=self.user)
        await database(item)(pk=2, text="hers", owner=ada)
        socket = await self.open(self.user, "/mine/", session=True)
        subscribed, copy = await self.snapshot(socket)
        assert list(copy) == [1]
        await socket.disconnect()
        self.opened.remove(socket)
        await database(models.Item.objects.update)(owner=ada)
        socket = await self.open(self.user, "/mine/", session=True)
        since = {"epoch": subscribed["epoch"], "position": subscribed["position"]}
        frame = {"action": "subscribe", "request_id": 8, "model": ITEM, "since": since, "have": [1]}
        frames = [await self.ask(frame, socket), *await self.all_from(socket)]
        assert [(c["action"], c["pk"], c["reason"]) for c in frames[1]["changes"]] == [("DELETED", 1, "left")]
