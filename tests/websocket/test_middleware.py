"""The project's middleware round what is pushed: tenants, languages, refusals."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from channels.auth import AuthMiddlewareStack
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import override_settings
from django.utils import translation
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission

from drf_concord import locks
from drf_concord.live import RealtimeMixin
from drf_concord.rest import viewsets
from drf_concord.testing import APICommunicator, async_test
from drf_concord.websocket import RealtimeRouter
from tests.app import models

from .cases import SocketCase, database

tenant = threading.local()


class TenantMiddleware:
    """Names the tenant, as packages for that do: on the request, and in the thread until it is answered."""

    refused: ClassVar[set[str]] = set()

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        name = request.headers["X-Tenant"]
        if name in self.refused:
            return HttpResponse(status=402)
        if name == "elsewhere":
            return HttpResponse(status=302)
        request.tenant = tenant.name = name
        try:
            return self.get_response(request)
        finally:
            del tenant.name


def language_middleware(get_response: Any) -> Any:
    """Choose a language, and leave it again."""

    def respond(request: Any) -> Any:
        with translation.override(request.headers["Accept-Language"]):
            return get_response(request)

    return respond


def refused_afterwards(get_response: Any) -> Any:
    """Let the view work, and refuse what came of it."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        return (
            HttpResponse(status=451) if request.headers["X-Tenant"] in TenantMiddleware.refused else response
        )

    return respond


class OfTheTenant(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.tenant == tenant.name)

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return bool(request.tenant == tenant.name) and obj.notes != "secret"


class ItemSerializer(serializers.ModelSerializer):
    said = serializers.SerializerMethodField()

    class Meta:
        model = models.Item
        fields = ["id", "text", "said"]

    def get_said(self, item: Any) -> str:
        return translation.gettext("Monday")


class Items(RealtimeMixin, viewsets.ModelViewSet):
    queryset = models.Item.objects.order_by("pk")
    serializer_class = ItemSerializer
    permission_classes = [OfTheTenant]
    asked = 0

    def get_permissions(self) -> Any:
        assert tenant.name
        return super().get_permissions()

    def get_queryset(self) -> Any:
        Items.asked += 1
        return super().get_queryset().filter(text__startswith=tenant.name)


class ItemsOfTenants(Items):
    def visibility_key(self, request: Any) -> Any:
        return request.tenant


class ItemsByLanguage(RealtimeMixin, viewsets.ModelViewSet):
    queryset = models.Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    def visibility_key(self, request: Any) -> Any:
        return translation.get_language()


class TokenOfTheTenant(BaseAuthentication):
    """Knows who calls by a token that is good for one tenant."""

    def authenticate(self, request: Any) -> Any:
        user = get_user_model().objects.get(username=f"of {tenant.name}")
        return user, request.headers["X-Tenant"]


class ItemsByToken(Items):
    authentication_classes = [TokenOfTheTenant]


class AnybodysItems(RealtimeMixin, viewsets.ModelViewSet):
    queryset = models.Item.objects.order_by("pk")
    serializer_class = ItemSerializer


def inside(*names: str) -> Any:
    known = {"tenant": TenantMiddleware, "language": language_middleware, "afterwards": refused_afterwards}
    paths = [f"{__name__}.{known[name].__name__}" for name in names]
    return override_settings(CONCORD={**settings.CONCORD, "SOCKET_MIDDLEWARE": paths})


def said(frames: list[list[Any]]) -> list[str]:
    """Return what the sockets were told is said of the first object that changed."""
    return [f["changes"][0]["instance"]["said"] for each in frames for f in each if f["type"] == "changes"]


class Middleware(SocketCase):
    async def asyncTearDown(self) -> None:
        TenantMiddleware.refused.clear()
        await super().asyncTearDown()

    async def follow(self, view: Any, *headers: tuple[bytes, bytes], **more: Any) -> APICommunicator:
        router = RealtimeRouter()
        router.register(view)
        self.application = AuthMiddlewareStack(router.consumer)
        socket = await self.open(self.user, session=True, headers=list(headers))
        await socket.send_json_to({"action": "subscribe", "request_id": 1, "model": "app.Item", **more})
        return socket

    async def told(self, socket: APICommunicator) -> list[Any]:
        """Return what was told: objects by their text, other frames by their type and code."""
        found: list[Any] = []
        for frame in await self.all_from(socket):
            shown = [*frame.get("items", ()), *frame.get("changes", ())]
            found += [each.get("instance", {}).get("text", each.get("reason")) for each in shown]
            if frame["type"] in {"end", "error"}:
                found.append((frame["type"], frame["code"]))
        return found

    @async_test
    async def test_each_is_told_of_his_own_tenants_objects(self) -> None:
        await database(models.Item.objects.create)(text="a1")
        for view in (Items, ItemsOfTenants):
            with inside("tenant"):
                a = await self.follow(view, (b"x-tenant", b"a"), snapshot=True)
                b = await self.follow(view, (b"x-tenant", b"b"), snapshot=True)
                assert [await self.told(a), await self.told(b)] == [["a1"], []]
                two = await database(models.Item.objects.create)(text="b2")
                assert [await self.told(a), await self.told(b)] == [[], ["b2"]]
                await database(models.Item.objects.filter(pk=two.pk).update)(text="a2")
                assert [await self.told(a), await self.told(b)] == [["a2"], ["left"]]
                await database(two.delete)()
                assert [await self.told(a), await self.told(b)] == [["deleted"], []]

    @async_test
    async def test_who_declares_a_key_shares_answers_with_his_tenant(self) -> None:
        with inside("tenant"):
            sockets = [await self.follow(ItemsOfTenants, (b"x-tenant", b"a")) for _ in range(3)]
            assert [await self.told(socket) for socket in sockets] == [[], [], []]
            before = Items.asked
            await database(models.Item.objects.create)(text="a1")
            assert [await self.told(socket) for socket in sockets] == [["a1"], ["a1"], ["a1"]]
            assert Items.asked == before + 1

    @async_test
    async def test_permissions_for_an_object_are_asked_inside(self) -> None:
        item = await database(models.Item.objects.create)(text="a1")
        with inside("tenant"):
            socket = await self.follow(Items, (b"x-tenant", b"a"), value=item.pk, snapshot=True)
            assert await self.told(socket) == ["a1"]
            await database(models.Item.objects.update)(text="a2")
            assert await self.told(socket) == ["a2"]
            await database(models.Item.objects.update)(notes="secret")
            assert await self.told(socket) == ["left"]

    @async_test
    async def test_middleware_that_answers_itself_ends_what_is_followed(self) -> None:
        with inside("tenant"):
            elsewhere = await self.follow(Items, (b"x-tenant", b"elsewhere"))
            assert await self.told(elsewhere) == [("error", 403)]
            a = await self.follow(ItemsOfTenants, (b"x-tenant", b"a"))
            b = await self.follow(ItemsOfTenants, (b"x-tenant", b"b"))
            assert [await self.told(a), await self.told(b)] == [[], []]
            TenantMiddleware.refused.add("a")
            await database(models.Item.objects.bulk_create)([models.Item(text="a1"), models.Item(text="b1")])
            assert [await self.told(a), await self.told(b)] == [[("end", 402)], ["b1"]]
            late = await self.follow(Items, (b"x-tenant", b"a"))
            assert await self.told(late) == [("error", 402)]

    @async_test
    async def test_what_is_pushed_is_in_the_language_that_middleware_finds(self) -> None:
        with inside("language"):
            sockets = [
                await self.follow(AnybodysItems, (b"accept-language", name), snapshot=True)
                for name in (b"de", b"fr", b"en")
            ]
            for socket in sockets:
                await self.all_from(socket)
            await database(models.Item.objects.create)(text="a")
            frames = [await self.all_from(socket) for socket in sockets]
        assert said(frames) == ["Montag", "lundi", "Monday"]

    @async_test
    async def test_who_calls_is_asked_again_inside(self) -> None:
        person = await self.person("of a")
        item = await database(models.Item.objects.create)(text="a1")
        with inside("tenant"):
            socket = await self.follow(ItemsByToken, (b"x-tenant", b"a"), snapshot=True)
            assert await self.told(socket) == ["a1"]
            person.first_name = "Ada"
            await database(person.save)()
            await database(models.Item.objects.update)(text="a2")
            assert await self.told(socket) == ["a2"]
            call = {"action": "patch", "request_id": 2, "model": "app.Item", "pk": item.pk}
            await socket.send_json_to({**call, "data": {"text": "a3"}})
            frames = await self.all_from(socket)
            assert [f["response_status"] for f in frames if "response_status" in f] == [200]
            assert frames[-1]["changes"][0]["instance"]["text"] == "a3"

    @async_test
    async def test_a_key_is_found_out_inside(self) -> None:
        with inside("language"):
            sockets = [
                await self.follow(ItemsByLanguage, (b"accept-language", name)) for name in (b"de", b"fr")
            ]
            for socket in sockets:
                await self.all_from(socket)
            await database(models.Item.objects.create)(text="a")
            frames = [await self.all_from(socket) for socket in sockets]
        assert said(frames) == ["Montag", "lundi"]

    @async_test
    async def test_who_may_know_of_a_lock_is_asked_inside(self) -> None:
        item = await database(models.Item.objects.create)(text="a1")
        ada = await self.person("ada")
        with inside("tenant"):
            socket = await self.follow(Items, (b"x-tenant", b"a"), snapshot=True)
            await self.all_from(socket)
            await database(locks.freeze)(item, by=ada)
            found = [f["changes"] for f in await self.all_from(socket) if f["type"] == "changes"]
            assert [[(c["action"], c["lock"]["holder"]) for c in each] for each in found] == [
                [("LOCKED", "ada")]
            ]
            TenantMiddleware.refused.add("a")
            await database(locks.release_lock)(item)
            await database(locks.freeze)(item, by=ada)
            found = [f["changes"] for f in await self.all_from(socket) if f["type"] == "changes"]
            assert [c["lock"]["holder"] for each in found for c in each][-1] is None

    @async_test
    async def test_middleware_that_refuses_afterwards_ends_what_is_followed(self) -> None:
        with inside("afterwards"):
            a = await self.follow(AnybodysItems, (b"x-tenant", b"a"))
            assert await self.told(a) == []
            TenantMiddleware.refused.add("a")
            await database(models.Item.objects.create)(text="a1")
            assert await self.told(a) == [("end", 451)]
            late = await self.follow(AnybodysItems, (b"x-tenant", b"a"), snapshot=True)
            assert await self.told(late) == [("error", 451)]
