"""Lists that are followed over HTTP: who may, what is streamed, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import json
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.db.backends.signals import connection_created
from django.test import override_settings
from django.urls import include, path, re_path
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from drf_concord.live import RealtimeMixin, streams
from drf_concord.live import places as counting
from drf_concord.live.draining import drain, sockets_of_loop
from drf_concord.live.hub import hub_of_loop
from drf_concord.rest import feed, viewsets
from drf_concord.testing import async_test, settle
from tests.app.models import Bare, Folder, Item
from tests.app.sockets import Staff
from tests.app.views import ItemSerializer
from tests.eventstreams import Copy, Event, parsed

from .events import EventCase, EventClient, database

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]


class Items(viewsets.ReadOnlyModelViewSet):
    """Filtered by a parameter, and each user's own or nobody's."""

    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    def filter_queryset(self, queryset: Any) -> Any:
        user, wanted = self.request.user, self.request.query_params.get("count")
        queryset = super().filter_queryset(queryset)
        queryset = queryset.filter(models.Q(owner=None) | models.Q(owner_id=user.pk))
        return queryset if wanted is None else queryset.filter(count=wanted)


class StaffItems(Items):
    permission_classes = [IsAuthenticated, Staff]


class ByHeader(BaseAuthentication):
    """A token of a kind, which the session knows nothing of."""

    def authenticate(self, request: Any) -> Any:
        found = get_user_model().objects.filter(username=request.META.get("HTTP_X_USER")).first()
        return None if found is None else (found, "a token")


class Once(BasePermission):
    """Says yes once."""

    left = 1

    def has_permission(self, request: Any, view: Any) -> bool:
        Once.left -= 1
        return Once.left >= 0


class OnceItems(Items):
    permission_classes = [Once]


class TokenItems(Items):
    authentication_classes = [ByHeader]
    permission_classes = [IsAuthenticated]

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Looks at the user early, as projects do."""
        assert request.user is not None
        super().initial(request, *args, **kwargs)


class Preparing(Items):
    """Sets what its class has, as projects do; it is set for the stream as well."""

    page_size = 1

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.page_size = 2


class ByHost(Items):
    """A tenant for each host."""

    def get_queryset(self) -> Any:
        return Item.objects.filter(text=self.request.get_host())


class Since(Items):
    """Has a filter of this name, as projects do."""

    def filter_queryset(self, queryset: Any) -> Any:
        given = self.request.query_params.get("since")
        return queryset.filter(count__gte=given) if given else queryset


class Off(Items):
    changes_over_http = False


class OwnList(viewsets.ReadOnlyModelViewSet):
    """Its list hides what its queryset has."""

    queryset = Item.objects.order_by("pk")
    serializer_class = ItemSerializer

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(ItemSerializer(Item.objects.filter(owner=None), many=True).data)


class OwnListSaid(OwnList):
    changes_over_http = True


class OwnListLive(RealtimeMixin, OwnList):
    """Says it by what it is."""


class Hiding(serializers.ListSerializer):
    """Leaves objects out."""


class HidingSerializer(ItemSerializer):
    class Meta(ItemSerializer.Meta):
        list_serializer_class = Hiding


class Hidden(Items):
    serializer_class = HidingSerializer


class Chosen(Items):
    """Chooses that serializer itself."""

    def get_serializer_class(self) -> Any:
        return HidingSerializer


class Slim(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id"]


class Slimmer(Items):
    """Shows little of many."""

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        chosen = Slim if kwargs.get("many") else ItemSerializer
        return chosen(*args, context=self.get_serializer_context(), **kwargs)


class ChosenSaid(Chosen):
    changes_over_http = True


class FewPages(PageNumberPagination):
    """Hides objects."""

    def paginate_queryset(self, queryset: Any, *args: Any, **kwargs: Any) -> Any:
        return super().paginate_queryset(queryset.filter(owner=None), *args, **kwargs)


class Paged(Items):
    pagination_class = FewPages


class Placed(Items):
    """Reads its route: by place, or what a converter made."""

    def get_queryset(self) -> Any:
        if self.args:
            return Item.objects.filter(count=self.args[0])
        return Item.objects.filter(count=self.kwargs["org"].int)


class Unnamed(viewsets.ReadOnlyModelViewSet):
    """Names its model nowhere."""

    def get_queryset(self) -> Any:
        return Item.objects.order_by("pk")

    def get_serializer_class(self) -> Any:
        return ItemSerializer


class Others(Items):
    """Shows another model than it says."""

    queryset = Folder.objects.none()

    def get_queryset(self) -> Any:
        return Item.objects.order_by("pk")


class Values(Items):
    def get_queryset(self) -> Any:
        return Item.objects.values("id", "text", "count", "notes", "folder")


class Bares(viewsets.ReadOnlyModelViewSet):
    queryset = Bare.objects.order_by("pk")
    serializer_class = type(
        "BareSerializer",
        (serializers.ModelSerializer,),
        {"Meta": type("Meta", (), {"model": Bare, "fields": ["id", "text"]})},
    )


router = SimpleRouter()
for name, view in {
    "items": Items,
    "staff": StaffItems,
    "token": TokenItems,
    "once": OnceItems,
    "preparing": Preparing,
    "by-host": ByHost,
    "since": Since,
    "off": Off,
    "own-list": OwnList,
    "said": OwnListSaid,
    "live": OwnListLive,
    "hidden": Hidden,
    "chosen": Chosen,
    "chosen-said": ChosenSaid,
    "slimmer": Slimmer,
    "paged": Paged,
    "unnamed": Unnamed,
    "others": Others,
    "values": Values,
    "bare": Bares,
}.items():
    router.register(name, view, basename=name)
urlpatterns = [
    re_path(r"^placed/(\d+)/$", Placed.as_view({"get": "list"})),
    path("made/<uuid:org>/", Placed.as_view({"get": "list"})),
    path("listed/", Items.as_view({"get": "list"}), {"orgs": [1, 2]}),
    path("given/", Items.as_view({"get": "list"}, queryset=Item.objects.none())),
    path("", include(router.urls)),
]


def shown(path: str, user: Any = None) -> dict[Any, Any]:
    """Return what a fresh GET shows, by key."""
    client = APIClient()
    if user is not None:
        client.force_authenticate(user)
    return {each["id"]: each for each in client.get(path).json()}


def tidy() -> bool:
    """Tell whether no stream has left anything behind."""
    hub = hub_of_loop()
    nobody = not hub.listeners and not hub._cohorts and not sockets_of_loop().open
    return nobody and not len(counting.places)


@override_settings(ROOT_URLCONF=__name__)
class Streams(EventCase):
    """A list as a stream of events."""

    async def make(self, *pks: int, **fields: Any) -> None:
        for pk in pks:
            await database(Item.objects.create)(pk=pk, **{"text": "a", **fields})

    @async_test
    async def test_a_snapshot_and_then_a_change_by_update(self) -> None:
        await self.make(1)
        client = await self.open()
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-cache, private"
        assert client.headers["x-accel-buffering"] == "no"
        assert {"Accept", "Cookie"} <= set(client.headers["vary"].split(", "))
        subscribed, snapshot = await self.events(client)
        assert (subscribed.kind, subscribed.data["how"], subscribed.id) == ("subscribed", "snapshot", "")
        assert (snapshot.kind, snapshot.data["more"]) == ("snapshot", False)
        assert snapshot.data["items"][0]["instance"]["text"] == "a"
        await database(Item.objects.filter(pk=1).update)(text="b")
        (changes,) = await self.events(client)
        (change,) = changes.data["changes"]
        assert (change["action"], change["instance"]["text"]) == ("UPDATED", "b")
        answer = await database(APIClient().get)("/items/1/")
        assert change["etag"].split("-")[0] == answer["ETag"].split("-")[0]

    @async_test
    async def test_who_comes_back_has_what_a_get_shows(self) -> None:
        await self.make(*range(1, 7), count=1)
        client = await self.open("/items/?count=1")
        copy = Copy().take(await self.events(client))
        await client.leave()
        await database(Item.objects.filter(pk=1).delete)()
        await database(Item.objects.filter(pk=2).update)(count=2)  # leaves the filter
        await database(Item.objects.filter(pk=3).update)(text="b")
        await self.make(7, count=1)
        await self.make(8, count=2)
        await database(Item.objects.filter(pk=8).update)(count=1)  # enters it
        await self.make(9, count=2)  # is never seen
        await database(Item.objects.filter(pk=9).update)(text="b")
        client = await self.open("/items/?count=1", last=copy.last)
        events = await self.events(client)
        assert [event.kind for event in events] == ["subscribed", "changes"]
        assert events[0].data["how"] == "resumed"
        told = {c["pk"]: c.get("reason") or c["action"] for c in events[1].data["changes"]}
        assert told == {1: "deleted", 2: "left", 3: "UPDATED", 7: "CREATED", 8: "CREATED"}
        copy.take(events)
        assert copy.objects == await database(shown)("/items/?count=1")
        assert 9 not in copy.named
        # and once more from what it was told now, though no mark came in between
        await client.leave()
        await database(Item.objects.filter(pk__in=[7, 8]).delete)()
        client = await self.open("/items/?count=1", last=copy.last)
        copy.take(await self.events(client))
        assert copy.objects == await database(shown)("/items/?count=1")
        assert copy.resets == 0

    @async_test
    async def test_what_cannot_be_resumed_begins_anew(self) -> None:
        await self.make(1)
        client = await self.open()
        last = Copy().take(await self.events(client)).last
        await client.leave()
        other = await self.open("/items/?count=0")
        foreign = Copy().take(await self.events(other)).last
        mine = await self.open(user=self.user)
        of_another = Copy().take(await self.events(mine)).last
        for id in ("nonsense", last[:-1], foreign, of_another, "a" * 70_000, "\u00e4"):
            client = await self.open(last=id)
            reset, subscribed, snapshot = await self.events(client)
            assert (reset.kind, reset.data, reset.id) == ("reset", {"code": "epoch"}, ""), id
            assert subscribed.data["how"] == "snapshot"
            assert len(snapshot.data["items"]) == 1
            await client.leave()

    @async_test
    async def test_what_the_log_does_not_tell_begins_anew(self) -> None:
        await self.make(1, 2)
        client = await self.open()
        last = Copy().take(await self.events(client)).last
        await client.leave()
        seen = Items.queryset
        try:  # what is shown depends on something that is no row
            Items.queryset = Item.objects.filter(pk=1)
            client = await self.open(last=last)
            reset, _, snapshot = await self.events(client)
            assert reset.data == {"code": "unknown"}
            assert [item["pk"] for item in snapshot.data["items"]] == [1]
        finally:
            Items.queryset = seen

    @async_test
    async def test_the_log_may_have_been_pruned(self) -> None:
        from drf_concord import changes as log

        await self.make(1)
        client = await self.open()
        last = Copy().take(await self.events(client)).last
        await client.leave()
        await self.make(2, 3)
        await database(log.prune)("default", now=2**61)  # leaves a mark
        await self.make(4)
        await database(log.prune)("default", now=2**62)  # deletes up to it
        client = await self.open(last=last)
        reset, _, snapshot = await self.events(client)
        assert reset.data == {"code": "expired"}
        assert len(snapshot.data["items"]) == 4

    @async_test
    async def test_what_is_never_visible_is_never_named(self) -> None:
        await self.make(1)
        await self.make(2, owner=self.user)
        client = await self.open()
        copy = Copy().take(await self.events(client))
        await database(Item.objects.filter(pk=2).update)(text="b")
        await database(Item.objects.filter(pk=2).delete)()
        await database(Item.objects.filter(pk=1).update)(owner=self.user)
        events = await self.events(client)
        copy.take(events)
        assert copy.named == {1}
        assert copy.objects == {}
        await client.leave()
        # nor to somebody who comes back, when it is gone for good
        await database(Item.objects.filter(pk=1).delete)()
        client = await self.open(last=copy.last)
        assert [event.kind for event in await self.events(client)] == ["subscribed"]

    @async_test
    async def test_a_mark_moves_the_position(self) -> None:
        await self.make(1)
        client = await self.open("/items/?count=0")
        copy = Copy().take(await self.events(client))
        await self.make(2, count=3)
        assert await self.events(client) == []
        hub_of_loop().beat()
        (mark,) = await self.events(client)
        assert (mark.kind, set(mark.data)) == ("mark", {"epoch", "position"})
        assert mark.id
        assert mark.id != copy.last

    @async_test
    async def test_a_permission_that_is_lost_ends_it(self) -> None:
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(is_staff=True)
        await self.make(1)
        client = await self.open("/staff/", user=self.user)
        assert client.status == 200
        await self.events(client)
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(is_staff=False)
        await database(Item.objects.filter(pk=1).update)(text="secret")
        (end,) = await self.events(client)
        assert (end.kind, end.data) == ("end", {"code": 403})
        assert client.over
        client = await self.open("/staff/", user=self.user)
        assert client.status == 403

    @async_test
    async def test_a_logout_ends_it(self) -> None:
        from django.contrib.sessions.models import Session

        await self.make(1)
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(is_staff=True)
        client = await self.open("/staff/", user=self.user)
        await self.events(client)
        await database(Session.objects.all().delete)()
        with override_settings(CONCORD={"AUTH_REFRESH": -1}):
            hub_of_loop().beat()
        (end,) = [event for event in await self.events(client) if event.kind != "mark"]
        assert end.data == {"code": 403}

    @async_test
    async def test_who_is_known_by_a_token_is_nobody_without_it(self) -> None:
        client = EventClient("/token/", [(b"accept", b"text/event-stream"), (b"x-user", b"guido")])
        self.opened.append(client)
        assert (await client.begin()).status == 200
        await self.events(client)
        (stream,) = hub_of_loop().listeners
        (member,) = stream.members()
        assert member.view.request.user.pk == self.user.pk
        # what REST framework found is not taken for what the session says
        assert stream.caller.user.is_anonymous
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(username="other")
        (end,) = await self.events(client)
        assert (end.kind, end.data) == ("end", {"code": 403})

    @async_test
    async def test_a_host_that_a_proxy_tells_shares_nothing_with_another(self) -> None:
        await self.make(1, text="a.test")
        await self.make(2, text="b.test")
        with override_settings(USE_X_FORWARDED_HOST=True):
            for host, pk in ((b"a.test", 1), (b"b.test", 2)):
                headers = [(b"accept", b"text/event-stream"), (b"x-forwarded-host", host)]
                client = EventClient("/by-host/", headers)
                self.opened.append(client)
                await client.begin()
                assert set(Copy().take(await self.events(client)).objects) == {pk}

    @async_test
    async def test_what_a_converter_made_of_the_address_is_there(self) -> None:
        await self.make(1, count=7)
        await self.make(2, count=8)
        address = f"/made/{UUID(int=7)}/"
        client = await self.open(address)
        copy = Copy().take(await self.events(client))
        assert set(copy.objects) == {1}
        await client.leave()
        copy.take(await self.events(await self.open(address, last=copy.last)))
        assert copy.resets == 0

    @async_test
    async def test_a_filter_of_the_project_may_have_any_name(self) -> None:
        await self.make(1, count=1)
        await self.make(2, count=2)
        client = await self.open("/since/?since=2")
        assert set(Copy().take(await self.events(client)).objects) == {2}

    @async_test
    async def test_who_may_not_any_more_when_it_begins(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Once, "left", 1)
            client = await self.open("/once/")
            assert client.status == 200
            assert [(e.kind, e.data) for e in await self.events(client)] == [("end", {"code": 403})]
            assert tidy()

    @async_test
    async def test_a_list_that_grew_meanwhile(self) -> None:
        await self.make(1)
        client = await self.open()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "drf_concord.live.looks.settings", SimpleNamespace(MAX_LIST=0, SOCKET_MIDDLEWARE=())
            )
            (end,) = await self.events(client)
        assert (end.kind, end.data) == ("end", {"code": 400})
        assert tidy()

    @async_test
    async def test_the_views_thread_keeps_no_connection(self) -> None:
        made: list[Any] = []

        def note(connection: Any, **_: Any) -> None:
            made.append(connection)

        connection_created.connect(note)
        try:
            client = await self.open()
            assert client.status == 200
            assert made
            assert all(each.connection is None for each in made if each is not connection)
        finally:
            connection_created.disconnect(note)

    @async_test
    async def test_work_beside_a_stream_is_outside_of_its_request(self) -> None:
        of_request: ContextVar[str] = ContextVar("of_request", default="")
        of_request.set("seen")
        found = []

        async def work() -> None:
            found.append(of_request.get())

        await self.events(await self.open())
        (stream,) = hub_of_loop().listeners
        await stream.spawn(work())
        assert found == [""]

    @async_test
    async def test_refusals_are_ordinary_answers(self) -> None:
        for address, status, code in (
            ("/staff/", 403, None),
            ("/off/", 406, None),
            ("/own-list/", 406, "stream_unavailable"),
            ("/hidden/", 406, "stream_unavailable"),
            ("/chosen/", 406, "stream_unavailable"),
            ("/slimmer/", 406, "stream_unavailable"),
            ("/paged/", 406, "stream_unavailable"),
            ("/given/", 406, "stream_unavailable"),
            ("/placed/1/", 406, "stream_unavailable"),
            ("/listed/", 406, "stream_unavailable"),
            ("/bare/", 501, "not_recorded"),
            ("/unnamed/", 501, "not_recorded"),
            ("/others/", 501, "not_recorded"),
            ("/values/", 501, "not_recorded"),
            ("/items/1/", 406, None),
            ("/nowhere/", 404, None),
        ):
            client = await self.open(address)
            assert client.status == status, address
            if address != "/nowhere/":
                assert client.headers["content-type"] == "application/json"
                assert (await client.body()).get("code") == code
        assert tidy()

    @async_test
    async def test_a_log_that_no_hub_reads(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("drf_concord.rest.following.require_log", lambda view: "another database")
            client = await self.open()
        assert (client.status, (await client.body())["code"]) == (501, "not_recorded")

    @async_test
    async def test_a_view_may_say_that_its_list_hides_nothing(self) -> None:
        for address in ("/said/", "/live/", "/preparing/", "/chosen-said/"):
            client = await self.open(address)
            assert client.status == 200
            await client.leave()

    @async_test
    async def test_middleware_that_the_stream_would_not_run_through(self) -> None:
        from django.conf import settings

        own = [*settings.MIDDLEWARE, f"{__name__}.plain_middleware"]
        with override_settings(MIDDLEWARE=own):
            assert (await self.open("/items/")).status == 406
            client = await self.open("/said/")
            assert client.status == 200
            await client.leave()
            with override_settings(CONCORD={"SOCKET_MIDDLEWARE": [own[-1]]}):
                client = await self.open("/items/")  # it runs through that now
                assert client.status == 200
                await client.leave()

    @async_test
    async def test_too_many_objects(self) -> None:
        await self.make(1, 2, 3)
        with override_settings(CONCORD={"MAX_LIST": 2}):
            client = await self.open()
            assert client.status == 400
            assert (await client.body())["code"] == "too_large"
            client = await self.open("/items/?count=7")
            assert client.status == 200

    @async_test
    async def test_too_many_streams(self) -> None:
        with override_settings(CONCORD={"STREAMS": 2}):
            first, second = await self.open(), await self.open()
            third = await self.open(user=self.user)
            assert (third.status, (await third.body())["code"]) == (429, "too_many_streams")
            await first.leave()
            assert (await self.open()).status == 200
            await second.leave()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counting, "PER_CALLER", 1)
            refused = await self.open()
            assert (refused.status, (await refused.body())["code"]) == (429, "too_many_streams")
            assert (await self.open(user=self.user)).status == 200

    @async_test
    async def test_who_leaves_leaves_nothing_behind(self) -> None:
        await self.make(1)
        client = await self.open()
        await self.events(client)
        assert not tidy()
        await client.leave()
        assert tidy()
        # and who leaves before anything was done
        client = await self.open()
        await client.leave()
        await settle()
        assert tidy()

    @async_test
    async def test_a_response_that_nobody_serves_counts_no_more(self) -> None:
        from django.test import AsyncClient

        answer: Any = await AsyncClient().get("/items/", headers={"accept": "text/event-stream"})
        assert answer.status_code == 200
        (stream,) = (each for streams in counting.places._open.values() for each in streams)
        # found out by the view: the hub asks it in the event loop
        assert "_identity" in vars(stream.caller)
        del stream
        answer.close()
        del answer
        gc.collect()
        assert tidy()

    @async_test
    async def test_a_reader_who_does_not_read_is_let_go(self) -> None:
        await self.make(1)
        client = await self.open()
        copy = Copy().take(await self.events(client))
        (stream,) = hub_of_loop().listeners
        assert isinstance(stream, streams.EventStream)
        stream._flow.max_pending = 400
        # the server stands still with the last part: nobody takes the next
        take = stream._flow.take
        stream._flow.take = lambda: None  # type: ignore[method-assign]
        for pk in range(2, 12):
            await self.make(pk)
            await settle()
        assert stream.members() == []
        assert not hub_of_loop()._cohorts
        assert stream._flow._kept == {}
        stream._flow.take = take  # type: ignore[method-assign]
        stream._wake.set()
        assert await self.events(client) == []
        assert client.over
        client = await self.open(last=copy.last)
        copy.take(await self.events(client))
        assert set(copy.objects) == set(range(1, 12))
        assert copy.resets == 0

    @async_test
    async def test_a_comment_now_and_then(self) -> None:
        client = await self.open()
        await self.events(client)
        (stream,) = hub_of_loop().listeners
        stream.beat()
        assert await client.text() == ""
        stream._sent -= streams.SILENCE  # type: ignore[attr-defined]
        stream.beat()
        assert parsed(await client.text()) == [Event()]

    @async_test
    async def test_draining_ends_it(self) -> None:
        await self.make(1)
        client = await self.open()
        copy = Copy().take(await self.events(client))
        await self.make(2)
        await hub_of_loop().drain()
        assert await drain() == 1
        events = await self.events(client)
        # the last mark, where a client has the changes already
        assert [event.kind for event in events] == ["changes", "mark", "bye"]
        assert events[-1].data["reconnect"] is True
        assert events[-1].retry == events[-1].data["after_ms"]
        assert client.over
        assert tidy()
        assert set(copy.take(events).objects) == {1, 2}
        # who comes now is sent away
        late = await self.open()
        assert [event.kind for event in await self.events(late)] == ["bye"]
        assert late.over

    @async_test
    async def test_draining_does_not_wait_for_who_does_not_read(self) -> None:
        client = await self.open()
        await self.events(client)
        (stream,) = hub_of_loop().listeners
        stream._flow.take = lambda: None  # type: ignore[attr-defined]
        await drain(0.01)
        await asyncio.wait([client.future], timeout=5)
        assert client.future.done()
        assert tidy()

    @async_test
    async def test_a_view_that_fails_ends_it(self) -> None:
        await self.make(1)
        client = await self.open()
        await self.events(client)
        seen = Items.serializer_class
        try:
            Items.serializer_class = None  # type: ignore[assignment]
            await database(Item.objects.filter(pk=1).update)(text="b")
            (end,) = await self.events(client)
        finally:
            Items.serializer_class = seen
        assert (end.kind, end.data) == ("end", {"code": 500})

    @async_test
    async def test_another_language_has_a_stream_of_its_own(self) -> None:
        from django.conf import settings

        own = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
        with override_settings(MIDDLEWARE=own, LANGUAGES=[("en-us", "English"), ("de", "German")]):
            client = EventClient("/items/", [(b"accept", b"text/event-stream"), (b"accept-language", b"de")])
            self.opened.append(client)
            await client.begin()
            await client.text()
            (cohort,) = hub_of_loop()._cohorts.values()
            assert cohort.spec.language == "de"
            await self.events(await self.open())
            assert len(hub_of_loop()._cohorts) == 2


def plain_middleware(get_response: Any) -> Any:
    """Might be anything, as one that chooses a tenant."""
    return get_response


plain_middleware.async_capable = True  # type: ignore[attr-defined]


def test_a_view_may_depend_on_the_site(settings: Any) -> None:
    assert feed._is_harmless()
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.sites.middleware.CurrentSiteMiddleware"]
    assert not feed._is_harmless()


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_without_asgi_there_is_no_stream(api: APIClient) -> None:
    answer = api.get("/items/", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer["Content-Type"]) == (406, "application/json")
    assert answer.json()["code"] == "stream_unavailable"
    assert "changes/" in answer.json()["detail"]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_a_list_that_hides_something_is_not_polled_either(api: APIClient) -> None:
    for address, status in (("chosen", 406), ("slimmer", 406), ("paged", 404), ("chosen-said", 200)):
        assert api.get(f"/{address}/changes/").status_code == status, address


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_what_is_no_list_of_rows_of_its_model_is_not_polled(api: APIClient) -> None:
    for address, status in (("unnamed", 404), ("others", 501), ("values", 501)):
        assert api.get(f"/{address}/changes/").status_code == status, address


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_only_a_get_is_a_stream(api: APIClient) -> None:
    for method in (api.head, api.post):
        assert method("/items/", headers={"accept": "text/event-stream"}).status_code in {405, 406}


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/*, application/json", "application/json, text/event-stream"]
)
def test_who_does_not_ask_for_a_stream_gets_none(api: APIClient, accept: str) -> None:
    answer = api.get("/items/", headers={"accept": accept})
    assert json.loads(answer.content) == []
    assert "ETag" in answer
