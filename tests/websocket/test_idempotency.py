"""A write that is sent again under its ``idempotency_key``: done once, answered the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection
from django.db.models import QuerySet
from django.http import HttpResponse, JsonResponse
from django.test import override_settings
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.versioning import QueryParameterVersioning

from drf_concord.models import Answered
from drf_concord.protocol.errors import Busy, IdempotencyMismatch
from drf_concord.protocol.frames import Call
from drf_concord.testing import async_test
from drf_concord.websocket import idempotency
from drf_concord.websocket.dispatch import methods_of
from drf_concord.websocket.idempotency import Once, fingerprint
from tests.app import models
from tests.app.sockets import FailingSerializer, LiveItems, LiveMine
from tests.concurrency.threads import Call as Thread
from tests.concurrency.threads import others_wait

from .cases import SocketCase, database


def create(text: str, key: str | None = "one", **more: Any) -> dict[str, Any]:
    return {"action": "create", "model": "app.Item", "data": {"text": text}, "idempotency_key": key, **more}


def patch(text: str, key: str = "one", **more: Any) -> dict[str, Any]:
    frame = {"action": "patch", "model": "app.Item", "pk": 900_001, "data": {"text": text}}
    return {**frame, "idempotency_key": key, **more}


def too_old(number: int) -> None:
    many = (Answered(user="7", key=str(n), claim="", fingerprint="", at=-1) for n in range(number))
    Answered.objects.bulk_create(many)


def texts() -> list[str]:
    return list(models.Item.objects.order_by("pk").values_list("text", flat=True))


class Again(SocketCase):
    """What the same client sends once more."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.session = await self.open(self.user, session=True)

    async def twice(self, frame: dict[str, Any], other: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Send a frame, and on another socket of the same user once more."""
        first = await self.ask({**frame, "request_id": 1}, self.session)
        again = await self.open(self.user, session=True)
        return first, {**await self.ask({**(other or frame), "request_id": 1}, again), "request_id": 1}

    async def statuses(self, *frames: dict[str, Any]) -> list[int]:
        return [(await self.ask(frame))["response_status"] for frame in frames]

    @async_test
    async def test_a_create_makes_one_object(self) -> None:
        first, again = await self.twice(create("a"))
        assert first["response_status"] == 201
        assert first["etag"]
        assert again == first
        assert await database(texts)() == ["a"]

    @async_test
    async def test_a_patch_of_a_state_that_it_changed_itself(self) -> None:
        item = await database(models.Item.objects.create)(pk=900_001, text="a")
        tag = (await self.ask({"action": "retrieve", "model": "app.Item", "pk": item.pk}, self.session))[
            "etag"
        ]
        first, again = await self.twice(patch("b", if_match=tag))
        assert first["response_status"] == 200
        assert again == first
        assert (await self.ask(patch("c", key="two", if_match=again["etag"])))["response_status"] == 200

    @async_test
    async def test_a_delete(self) -> None:
        await database(models.Item.objects.create)(pk=900_001, text="a")
        frame = {"action": "delete", "model": "app.Item", "pk": 900_001, "idempotency_key": "one"}
        first, again = await self.twice(frame)
        assert first["response_status"] == 204
        assert again == first

    @async_test
    async def test_an_own_action(self) -> None:
        await database(models.Item.objects.create)(pk=900_001, text="a")
        frame = {"action": "publish", "model": "app.Item", "pk": 900_001, "idempotency_key": "one"}
        first, again = await self.twice(frame)
        version = (await database(models.Item.objects.get)()).version
        assert first["data"]["notes"] == "published"
        assert again == first
        assert (await database(models.Item.objects.get)()).version == version

    @async_test
    async def test_how_the_json_is_written_does_not_matter(self) -> None:
        head = '"action":"create","model":"app.Item","idempotency_key":"one"'
        for frame in (
            f'{{{head},"data":{{"text":"a","count":1}}}}',
            f'{{"data": {{"count": 1, "text": "\\u0061"}}, {head}}}',
        ):
            assert (await self.ask(frame))["response_status"] == 201
        assert await database(texts)() == ["a"]

    @async_test
    async def test_a_key_is_of_one_request(self) -> None:
        assert await self.statuses(create("a"), create("b"), patch("c")) == [201, 422, 404]
        assert (await self.ask(create("b"), self.session))["code"] == "idempotency_mismatch"
        assert await database(texts)() == ["a"]
        assert await self.statuses(create("b", key="two"), create("c", key=None)) == [201, 201]

    @async_test
    async def test_keys_of_two_users_are_two_keys(self) -> None:
        ada = await self.open(await self.person("ada"))
        assert (await self.ask(create("a")))["response_status"] == 201
        assert (await self.ask(create("b"), ada))["response_status"] == 201
        assert await database(texts)() == ["a", "b"]

    @async_test
    async def test_what_was_refused_is_tried_again(self) -> None:
        assert await self.statuses(patch("b")) == [404]
        await database(models.Item.objects.create)(pk=900_001, text="a")
        ada = await self.open(await self.person("ada"))
        lock = {"action": "lock", "model": "app.Item", "pk": 900_001}
        assert (await self.ask(lock, ada))["response_status"] < 300
        assert await self.statuses(patch("b"), patch("x" * 200)) == [409, 409]
        assert not await database(Answered.objects.exists)()
        assert (await self.ask({**lock, "action": "unlock"}, ada))["response_status"] == 204
        assert await self.statuses(patch("x" * 200), patch("b"), patch("x" * 200)) == [400, 200, 422]

    @async_test
    async def test_a_view_that_fails_has_done_nothing_and_kept_nothing(self) -> None:
        frame = {**create("a"), "model": "app.Texted", "data": {"code": "a"}}
        with mock.patch.object(FailingSerializer, "get_shown", side_effect=RuntimeError):
            assert await self.statuses(frame) == [500]
        assert not await database(models.Texted.objects.exists)()
        assert not await database(Answered.objects.exists)()
        assert await self.statuses(frame) == [201]

    @async_test
    async def test_who_is_not_logged_in_has_no_keys(self) -> None:
        nobody = await self.open()
        reply = await self.ask(create("a"), nobody)
        assert reply["response_status"] == 400
        assert "logged in" in reply["errors"][0]
        assert await database(texts)() == []

    @async_test
    async def test_who_may_not_write_any_more_is_not_told_the_old_answer(self) -> None:
        frame = {**create("a"), "model": "app.Pair", "data": {"left": 1, "right": 2}}
        everybody = get_user_model().objects
        await database(everybody.update)(is_staff=True)
        assert await self.statuses(frame, frame) == [201, 201]
        await database(everybody.update)(is_staff=False)
        assert await self.statuses(frame) == [403]
        await database(everybody.update)(is_staff=True, is_active=False)
        assert await self.statuses(frame) == [403]

    @async_test
    async def test_after_ten_minutes_it_is_another_request(self) -> None:
        assert await self.statuses(create("a")) == [201]
        await database(Answered.objects.update)(at=0)
        await database(too_old)(idempotency.PRUNED)  # so many that this one is not deleted yet
        assert await self.statuses(create("b"), create("b"), create("a")) == [201, 201, 422]
        assert await database(texts)() == ["a", "b"]

    @async_test
    async def test_each_write_deletes_some_of_what_is_too_old(self) -> None:
        await database(too_old)(idempotency.PRUNED + 10)
        for left in (10, 0, 0):
            assert await self.statuses(create("a", key=f"left{left}")) == [201]
            assert await database(Answered.objects.filter(user="7").count)() == left

    @async_test
    async def test_reads_and_locks_have_no_use_for_a_key(self) -> None:
        await database(models.Item.objects.create)(pk=900_001, text="a")
        for name in ("retrieve", "lock", "renew", "unlock"):
            frame = {"action": name, "model": "app.Item", "pk": 900_001, "idempotency_key": "one"}
            assert (await self.ask(frame))["response_status"] < 300, name
        assert not await database(Answered.objects.exists)()

    @async_test
    async def test_keys_that_are_none(self) -> None:
        for key in ("", "x" * 129, "a b", "\0", "ä", 7, ["one"]):
            reply = await self.ask(create("a", key=key))  # type: ignore[arg-type]
            assert reply["response_status"] == 400, key
            assert "idempotency_key" in reply["errors"][0]
        assert await self.statuses(create("a", key="x" * 128)) == [201]
        assert await database(texts)() == ["a"]

    @async_test
    async def test_a_second_attempt_reads_the_same_body(self) -> None:
        failing = mock.Mock(side_effect=[Deadlock.error(), None])
        save = LiveItems.perform_create

        def perform_create(view: Any, serializer: Any) -> None:
            failing()
            save(view, serializer)

        with mock.patch.multiple(LiveItems, perform_create=perform_create, parser_classes=[Streamed]):
            assert await self.statuses(create("a")) == [201]
        assert await database(texts)() == ["a"]

    @async_test
    async def test_middleware_stands_round_it(self) -> None:
        paths = ["django.middleware.locale.LocaleMiddleware"]
        with override_settings(CONCORD={"SOCKET_MIDDLEWARE": paths}):
            first, again = await self.twice(create("a"))
            other = await self.ask(create("b"), self.session)
        assert first["response_status"] == 201
        assert again == first
        assert (other["response_status"], other["code"]) == (422, "idempotency_mismatch")

    @async_test
    async def test_an_own_action_whose_name_begins_like_those_of_locks(self) -> None:
        def lock_door(view: Any, request: Any) -> Response:
            models.Item.objects.create(text="door")
            return Response({})

        frame = {"action": "lock_door", "model": "app.Item", "idempotency_key": "one"}
        with mock.patch.object(
            LiveItems, "lock_door", action(detail=False, methods=["post"])(lock_door), create=True
        ):
            methods_of.cache_clear()
            assert await self.statuses(frame, frame) == [200, 200]
        methods_of.cache_clear()
        assert await database(texts)() == ["door"]

    @async_test
    async def test_the_same_frame_for_another_view_is_another_request(self) -> None:
        mine = await self.open(self.user, "/mine/")
        assert (await self.ask(create("a"), self.session))["response_status"] == 201
        assert (await self.ask(create("a"), mine))["response_status"] == 422

    @async_test
    async def test_who_may_not_see_the_object_any_more_is_not_shown_it(self) -> None:
        await database(models.Item.objects.create)(pk=900_001, text="a")
        ada = await self.person("ada")
        assert await self.statuses(patch("b"), patch("b")) == [200, 200]
        await database(models.Item.objects.update)(owner=ada)
        assert await self.statuses(patch("b")) == [403]
        await database(models.Item.objects.all().delete)()
        assert await self.statuses(patch("b")) == [404]

    @async_test
    async def test_the_view_refuses_in_its_own_words(self) -> None:
        patched = {"versioning_class": QueryParameterVersioning}
        with mock.patch.multiple(LiveItems, **patched):
            assert await self.statuses(create("a", query={"version": "9"})) == [200 + 1]
            with mock.patch.object(QueryParameterVersioning, "allowed_versions", ["1"]):
                assert await self.statuses(create("b", query={"version": "9"})) == [404]

    @async_test
    async def test_a_projects_own_way_to_answer_exceptions(self) -> None:
        def handler(error: Exception, context: Any) -> JsonResponse:
            return JsonResponse({"no": 1}, status=403)

        assert await self.statuses(create("a")) == [201]
        denied = {"permission_classes": [IsAdminUser], "get_exception_handler": lambda view: handler}
        with mock.patch.multiple(LiveItems, **denied):
            assert await self.statuses(create("a"), create("b", key="two")) == [403, 403]

    @async_test
    async def test_a_number_that_no_number_can_hold(self) -> None:
        frame = (
            '{"action":"create","model":"app.Item","idempotency_key":"one","data":{"text":"a","count":1e400}}'
        )
        assert (await self.ask(frame))["response_status"] == 400

    @async_test
    async def test_a_view_is_entered_once_for_what_is_done_once(self) -> None:
        entered = []
        initial = LiveItems.initial

        def counted(view: Any, request: Any, *args: Any, **kwargs: Any) -> None:
            entered.append(connection.in_atomic_block)
            initial(view, request, *args, **kwargs)

        with mock.patch.object(LiveItems, "initial", counted):
            assert await self.statuses(create("a")) == [201]
        assert entered == [True]


class Streamed(BaseParser):
    """Takes the body from the stream, where there is one as long as nobody has."""

    media_type = "application/json"

    def parse(self, stream: Any, *_: Any, **__: Any) -> Any:
        return json.load(stream)


def once(user: Any, key: str = "one", asked: str = "a") -> Once:
    return Once(user, key, asked, "default", conditional=False)


def always(_: Answered, answer: Callable[[], Any]) -> Any:
    """Let everybody have an answer that was kept."""
    return answer()


def making(text: str) -> Callable[[], HttpResponse]:
    def perform() -> HttpResponse:
        models.Item.objects.create(text=text)
        return HttpResponse(f'"{text}"', status=201)

    return perform


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    """Two requests of one key in two transactions; on SQLite one writer has the whole database."""

    @pytest.fixture
    def user(self) -> Any:
        return get_user_model().objects.create_user("guido")

    @pytest.fixture
    def first(self, user: Any) -> Any:
        """The first, which has made its object and not committed yet."""
        begun, go = threading.Event(), threading.Event()

        def perform() -> HttpResponse:
            response = making("a")()
            begun.set()
            assert go.wait(20)
            return response if self.succeeds else HttpResponse(status=409)

        self.succeeds = True
        thread = Thread(lambda: once(user).respond(perform, always))
        assert begun.wait(20)

        def end(*, succeeds: bool = True) -> Any:
            self.succeeds = succeeds
            go.set()
            return thread.result()

        return end

    def test_the_second_waits_and_has_the_same_answer(self, user: Any, first: Any) -> None:
        second = Thread(lambda: once(user).respond(making("b"), always))
        others_wait()
        assert first().content == second.result().content == b'"a"'
        assert texts() == ["a"]

    def test_the_second_does_it_where_the_first_was_refused(self, user: Any, first: Any) -> None:
        second = Thread(lambda: once(user).respond(making("b"), always))
        others_wait()
        assert first(succeeds=False).status_code == 409
        assert second.result().status_code == 201
        assert texts() == ["b"]

    def test_another_request_under_the_same_key_waits_for_the_decision_too(
        self, user: Any, first: Any
    ) -> None:
        second = Thread(lambda: once(user, asked="b").respond(making("b"), always))
        others_wait()
        first()
        with pytest.raises(IdempotencyMismatch):
            second.result()
        assert texts() == ["a"]

    def test_nobody_waits_for_longer_than_for_a_row(self, user: Any, first: Any) -> None:
        with override_settings(CONCORD={"LOCK_TIMEOUT": 0.01}), pytest.raises(Busy):
            once(user).respond(making("b"), always)
        first()
        assert texts() == ["a"]

    @pytest.fixture
    def old(self) -> None:
        too_old(1)

    def test_nobody_waits_for_what_another_one_prunes(self, old: None, user: Any, first: Any) -> None:
        with override_settings(CONCORD={"LOCK_TIMEOUT": 0.01}):
            once(user, key="two").respond(making("b"), always)  # and not for the other key either
        first()
        assert sorted(texts()) == ["a", "b"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_that_is_pruned_while_it_is_looked_for(times: int) -> None:
    user = get_user_model().objects.create_user("guido")
    assert once(user).respond(making("a"), always).status_code == 201
    inserting = QuerySet.bulk_create
    pruned = []

    def bulk_create(queryset: Any, objs: Any, **options: Any) -> Any:
        created = inserting(queryset, objs, **options)
        if queryset.model is Answered and len(pruned) < times:
            pruned.append(queryset.all().delete())
        return created

    with mock.patch.object(QuerySet, "bulk_create", bulk_create):
        if times == 1:
            assert once(user).respond(making("b"), always).status_code == 201
        else:
            with pytest.raises(Busy):
                once(user).respond(making("b"), always)
    assert texts() == ["a", "b"][: 3 - times]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_what_the_view_waits_for_is_its_own_affair() -> None:
    user = get_user_model().objects.create_user("guido")
    seen = []

    def perform() -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            seen.append(cursor.fetchone()[0])
        return HttpResponse("{}")

    once(user).respond(perform, always)
    assert seen == ["0"]


@pytest.mark.django_db(transaction=True)
def test_what_another_transaction_spoiled_is_tried_again_as_a_whole() -> None:
    user = get_user_model().objects.create_user("guido")
    attempts = []

    def perform() -> HttpResponse:
        attempts.append(1)
        if len(attempts) == 1:
            raise Deadlock.error()
        return making("a")()

    assert once(user).respond(perform, always).status_code == 201
    assert (len(attempts), texts()) == (2, ["a"])
    assert once(user).respond(perform, always).content == b'"a"'
    assert len(attempts) == 2


class Deadlock(Exception):
    """What a driver raises, as far as it is asked."""

    sqlstate = "40P01"

    @classmethod
    def error(cls) -> IntegrityError:
        error = IntegrityError("deadlock detected")
        error.__cause__ = cls()
        return error


def test_what_makes_a_request_another_one() -> None:
    base = {"action": "patch", "model": "app.Item", "pk": 1}
    more = [
        {},
        {"pk": 2},
        {"pk": "1"},
        {"action": "update"},
        {"model": "app.Note"},
        {"query": {"a": 1}},
        {"arguments": {"a": 1}},
        {"if_match": '"a"'},
        {"if_none_match": "*"},
        {"lock_token": "a"},
        {"merge": True},
    ]
    found = [fingerprint(Call(**{**base, **each}), LiveItems) for each in more]  # type: ignore[arg-type]
    found.append(fingerprint(Call(**base), LiveMine))  # type: ignore[arg-type]
    assert len(set(found)) == len(more) + 1
