"""A logout is recorded as a change of the user, so that sockets in every process read the session again."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.db.models.query import QuerySet
from django.test import Client
from django.utils.functional import SimpleLazyObject

from drf_concord import changes
from drf_concord.live.hub import hub_of_loop
from drf_concord.testing import async_test, settle
from tests.websocket.cases import SocketCase, database

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]


def recorded(since: Any) -> list[tuple[str, str]]:
    _, found = changes.read_after(since, using="default")
    return [(change.model, change.pk) for change in found]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_logout_is_a_change_of_that_user_and_changes_nothing(lazy: bool) -> None:
    user = get_user_model().objects.create_user("ada", password="ada")
    before = get_user_model().objects.values().get()
    since = changes.position("default")
    given = SimpleLazyObject(lambda: user) if lazy else user
    user_logged_out.send(type(user), request=None, user=given)
    assert recorded(since) == [("auth.User", str(user.pk))]
    assert get_user_model().objects.values().get() == before


@pytest.mark.django_db(transaction=True)
def test_nobody_and_somebody_elses_users_are_no_change() -> None:
    since = changes.position("default")
    for nobody in (None, AnonymousUser(), Session(session_key="x")):
        user_logged_out.send(type(nobody), request=None, user=nobody)
    assert recorded(since) == []


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_stops_no_logout(caplog: pytest.LogCaptureFixture) -> None:
    user = get_user_model().objects.create_user("ada", password="ada")
    client = Client()
    client.force_login(user)
    with mock.patch.object(QuerySet, "update", side_effect=DatabaseError):
        client.logout()
    assert not Session.objects.exists()
    assert "could not be told" in caplog.text


class Sockets(SocketCase):
    @async_test
    async def test_a_session_that_goes_after_it_was_told_is_noticed_at_the_next_beat(self) -> None:
        """Django tells of a logout before it ends the session."""
        await self.socket.send_json_to({"request_id": 1, "model": "app.Note", "value": 1})
        assert await self.socket.receive_nothing()
        await database(user_logged_out.send)(type(self.user), request=None, user=self.user)
        assert await self.socket.receive_nothing()
        await database(Session.objects.all().delete)()
        hub_of_loop().beat()
        await settle()
        end = await self.socket.receive_json_from()
        assert (end["type"], end["request_id"], end["code"]) == ("error", 1, 403)

    @async_test
    async def test_one_beat_is_enough(self) -> None:
        await self.socket.send_json_to({"request_id": 1, "model": "app.Note", "value": 1})
        await settle()
        await database(user_logged_out.send)(type(self.user), request=None, user=self.user)
        await settle()
        hub = hub_of_loop()
        with mock.patch.object(hub, "refresh", wraps=hub.refresh) as read:
            for _ in range(3):
                hub.beat()
                await settle()
        assert read.call_count == 1
