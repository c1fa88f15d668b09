"""Who is told that the lock on an object changed, and what he is told of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from unittest import mock

from django.test import override_settings

from drf_concord import locks, rows
from drf_concord.live import locknews
from drf_concord.live.hub import hub_of_loop
from drf_concord.models import Lock
from drf_concord.protocol.claims import Claim
from drf_concord.protocol.locks import Lock as Value
from drf_concord.protocol.locks import Mode
from drf_concord.testing import async_test
from tests.app import models
from tests.websocket.cases import SocketCase, database

ITEM = "app.Item"


def take(obj: Any, user: Any, **claim: Any) -> None:
    with rows.enter(type(obj), obj.pk, using="default", actor=locks.actor_for(user)) as entry:
        locks.acquire(entry, Claim(holder=str(user.pk), **claim))


def change(obj: Any, user: Any, act: Any, *args: Any, **kwargs: Any) -> None:
    with rows.enter(type(obj), obj.pk, using="default", actor=locks.actor_for(user)) as entry:
        act(entry, *args, **kwargs)


class News(SocketCase):
    """What comes over a socket in session mode."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.ada = await self.person("ada")
        self.item = await database(models.Item.objects.create)(text="one")
        self.session = await self.follow(self.user)

    async def follow(
        self, user: Any = None, path: str = "/ws/", headers: Sequence[Any] = (), **frame: Any
    ) -> Any:
        socket = await self.open(user, path, session=True, headers=headers)
        asked = {"action": "subscribe", "request_id": 1, "model": ITEM, "snapshot": True, **frame}
        await socket.send_json_to(asked)
        frames = await self.all_from(socket)
        assert "subscribed" in {frame["type"] for frame in frames}, frames
        return socket

    async def news(self, socket: Any = None) -> list[Any]:
        """Return (action, lock) of each change; everything else is the business of others."""
        frames = await self.all_from(socket or self.session)
        return [(c["action"], c.get("lock")) for f in frames if f["type"] == "changes" for c in f["changes"]]

    @async_test
    async def test_taken_renewed_and_released(self) -> None:
        await database(take)(self.item, self.ada, ttl=60, reason="editing")
        ((action, lock),) = await self.news()
        assert action == "LOCKED"
        assert (lock["state"], lock["mode"], lock["reason"]) == ("held", "hold", "editing")
        assert lock["mine"] is False
        until = lock["expires_at"]

        await database(change)(self.item, self.ada, locks.renew, 600)
        ((action, lock),) = await self.news()
        assert action == "LOCKED"
        assert lock["expires_at"] > until

        await database(change)(self.item, self.ada, locks.release)
        ((action, lock),) = await self.news()
        assert (action, lock["state"], lock["holder"]) == ("UNLOCKED", "free", None)

    @async_test
    async def test_who_is_known_by_a_header_alone_is_told_as_himself(self) -> None:
        await database(self.ada.set_password)("secret")
        await database(self.ada.save)()
        login = base64.b64encode(b"ada:secret")
        hers = await self.follow(headers=[(b"authorization", b"Basic " + login)])
        await database(take)(self.item, self.user, ttl=60)
        ((_, lock),) = await self.news(hers)
        assert (lock["mine"], lock["holder"]) == (False, self.user.get_username())

        await database(change)(self.item, self.user, locks.release)
        await database(take)(self.item, self.ada, ttl=60)
        (_, lock) = (await self.news(hers))[-1]
        assert (lock["mine"], lock["holder"]) == (True, "ada")

    @async_test
    async def test_the_envelope_carries_the_object_and_no_version(self) -> None:
        await database(take)(self.item, self.ada, ttl=60)
        (frame,) = await self.all_from(self.session)
        (told,) = frame["changes"]
        assert (told["pk"], told["etag"], told["version"]) == (self.item.pk, None, None)
        assert "instance" not in told

    @async_test
    async def test_broken_now_and_after_a_while(self) -> None:
        await database(take)(self.item, self.ada, ttl=60)
        await self.news()
        await database(change)(self.item, self.user, locks.break_lock, 30)
        ((action, lock),) = await self.news()
        assert (action, lock["state"]) == ("BROKEN", "held")
        await database(change)(self.item, self.user, locks.break_lock, 0)
        ((action, lock),) = await self.news()
        assert (action, lock["state"]) == ("BROKEN", "free")

    @async_test
    async def test_frozen(self) -> None:
        await database(locks.freeze)(self.item, by=self.ada, reason="moving")
        ((action, lock),) = await self.news()
        assert (action, lock["state"], lock["expires_at"]) == ("LOCKED", "frozen", None)

    @async_test
    async def test_who_is_robbed_is_told_so_and_others_of_the_new_lock(self) -> None:
        hers = await self.follow(self.ada)
        boss = await self.person("boss", is_superuser=True)
        for rob in (
            lambda: locks.freeze(self.item, by=boss),
            lambda: (change(self.item, boss, locks.break_lock, 0), take(self.item, boss, ttl=60)),
        ):
            await database(Lock.objects.all().delete)()
            await database(take)(self.item, self.ada, ttl=60)
            await self.news(hers), await self.news()
            await database(rob)()
            assert [action for action, _ in await self.news(hers)][-1] == "BROKEN"
            (action, lock) = (await self.news())[-1]
            assert (action, lock["holder"]) == ("LOCKED", "boss")

    @async_test
    async def test_who_hands_his_lock_over_is_not_robbed(self) -> None:
        hers = await self.follow(self.ada)
        await database(take)(self.item, self.ada, ttl=60)
        await database(change)(self.item, self.ada, locks.hand_over, str(self.user.pk))
        assert {action for action, _ in await self.news(hers)} == {"LOCKED"}

    @async_test
    async def test_it_says_whose_it_is_to_the_holder_and_to_who_may_know(self) -> None:
        mine, nobody = await self.follow(self.ada), await self.follow()
        await database(take)(self.item, self.ada, ttl=60)
        told = {
            name: (await self.news(socket))[0][1]
            for name, socket in {"mine": mine, "editor": self.session, "nobody": nobody}.items()
        }
        assert {name: (t["mine"], t["holder"]) for name, t in told.items()} == {
            "mine": (True, "ada"),
            "editor": (False, "ada"),
            "nobody": (False, None),
        }

    @async_test
    async def test_disclosure_is_a_setting(self) -> None:
        anonymous = await self.follow()
        for disclosure, seen in (("everyone", "ada"), ("nobody", None)):
            with override_settings(CONCORD={"DISCLOSURE": disclosure, "CAPTURE": ["app.Watched"]}):
                await database(take)(self.item, self.ada, ttl=60)
                assert [lock["holder"] for _, lock in await self.news(anonymous)] == [seen]
                assert [lock["holder"] for _, lock in await self.news()] == [seen]

    @async_test
    async def test_nobody_is_told_of_what_he_is_not_shown(self) -> None:
        hers = await database(models.Item.objects.create)(text="hers", owner=self.ada)
        await self.all_from(self.session)
        session = await self.follow(self.user, "/mine/")
        single = await self.follow(self.user, value=hers.pk)
        other = await self.follow(self.ada, value=self.item.pk)
        await database(take)(hers, self.ada, ttl=60)
        assert await self.news(session) == []
        assert await self.news(single) == []
        assert await self.news(other) == []

    @async_test
    async def test_plain_mode_hears_nothing(self) -> None:
        await self.socket.send_json_to({"request_id": 1, "model": ITEM, "value": self.item.pk})
        assert await self.socket.receive_nothing()
        await database(take)(self.item, self.ada, ttl=60)
        assert await self.socket.receive_nothing()

    @async_test
    async def test_an_end_that_nobody_writes_is_told_when_it_comes(self) -> None:
        await database(take)(self.item, self.ada, ttl=60)
        await self.news()
        with mock.patch.object(locknews.time, "time", return_value=2e10):  # this machine's clock is ahead
            hub_of_loop().beat()
            assert [action for action, _ in await self.news()] == ["LOCKED"]
        with (
            mock.patch.object(locknews.time, "time", return_value=2e10),
            mock.patch.object(rows, "now", return_value=int(2e16)),
        ):
            hub_of_loop().beat()
            assert [action for action, _ in await self.news()] == ["EXPIRED"]
            hub_of_loop().beat()
            assert await self.news() == []

    @async_test
    async def test_a_lock_of_an_object_that_goes_is_no_news(self) -> None:
        await database(take)(self.item, self.ada, ttl=60)
        await self.news()
        await database(self.item.delete)()
        assert [action for action, _ in await self.news()] == ["DELETED"]

    @async_test
    async def test_a_failure_is_told_to_the_log_and_ends_nothing(self) -> None:
        with (
            mock.patch.object(locknews, "_read", side_effect=RuntimeError("broken")),
            self.assertLogs("drf_concord", "ERROR"),
        ):
            await database(take)(self.item, self.ada, ttl=60)
            assert await self.news() == []
        await database(change)(self.item, self.ada, locks.release)
        assert [action for action, _ in await self.news()] == ["UNLOCKED"]


def test_every_state_has_its_word() -> None:
    over = {"expires_at": 5, "acquired_at": 1}
    assert locknews._action(Value(), 9) == "UNLOCKED"
    assert locknews._action(Value(mode=Mode.HOLD, **over), 4) == "LOCKED"  # type: ignore[arg-type]
    assert locknews._action(Value(mode=Mode.HOLD, **over), 9) == "EXPIRED"  # type: ignore[arg-type]
    assert locknews._action(Value(mode=Mode.HOLD, broken=True, **over), 4) == "BROKEN"  # type: ignore[arg-type]
    assert locknews._action(Value(mode=Mode.HOLD, broken=True, **over), 9) == "BROKEN"  # type: ignore[arg-type]
    assert locknews._action(Value(mode=Mode.FREEZE, **over), 9) == "EXPIRED"  # type: ignore[arg-type]
    assert Lock._meta.label == locknews.LABEL
