"""Existing views as consumers."""

from __future__ import annotations

from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.http import JsonResponse
from django.urls import path
from django.views import View
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from drf_concord.testing import async_test
from drf_concord.websocket import view_as_consumer
from tests.app import models, views

from .cases import SocketCase, database


class Echo(APIView):
    """Says what it was asked."""

    permission_classes = [IsAuthenticated]

    def get(self, request: Any, **kwargs: Any) -> Response:
        asked = {"query": dict(request.query_params.lists()), "kwargs": kwargs, "user": str(request.user)}
        return Response(asked)

    def put(self, request: Any, **kwargs: Any) -> Response:
        if request.data == "fail":
            raise RuntimeError("secret of the server")
        return Response({"data": request.data, "user": str(request.user)}, status=201)


class Django(View):
    """Is none of REST framework."""

    def get(self, request: Any) -> JsonResponse:
        return JsonResponse({"path": request.path})


viewset = views.NoteViewSet.as_view({"get": "list", "post": "create"}, permission_classes=[IsAuthenticated])
detail = views.NoteViewSet.as_view(
    {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
)


class Views(SocketCase):
    application = AuthMiddlewareStack(
        URLRouter(
            [
                path(
                    "echo/", view_as_consumer(Echo.as_view(), {"ask": "get", "say": "PUT", "drop": "delete"})
                ),
                path("django/", view_as_consumer(Django.as_view()).as_asgi()),
                path("notes/", view_as_consumer(viewset)),
                path("note/", view_as_consumer(detail)),
            ]
        )
    )
    path = "/echo/"

    @async_test
    async def test_what_the_view_sees(self) -> None:
        frame = {"action": "ask", "query": {"n": 1, "b": True}, "parameters": {"a": 2, "request": 3}, "pk": 4}
        assert await self.ask({**frame, "request_id": 7}) == {
            "action": "ask",
            "errors": [],
            "response_status": 200,
            "request_id": 7,
            "data": {"query": {"n": ["1"], "b": ["true"]}, "kwargs": {"pk": 4, "a": 2}, "user": "guido"},
        }
        reply = await self.ask({"action": "say", "data": {"x": [1]}, "arguments": {"a": 1}})
        assert (reply["response_status"], reply["data"]) == (201, {"data": {"x": [1]}, "user": "guido"})

    @async_test
    async def test_every_socket_is_answered_as_its_own_user(self) -> None:
        hers = await self.open(await self.person("ada"))
        await self.socket.send_json_to({"action": "say", "data": 1})
        assert (await self.ask({"action": "say", "data": 2}, hers))["data"] == {"data": 2, "user": "ada"}
        assert (await self.socket.receive_json_from())["data"] == {"data": 1, "user": "guido"}

    @async_test
    async def test_refusals(self) -> None:
        nobody = await self.open()
        assert (await self.ask({"action": "ask"}, nobody))["response_status"] == 403
        for frame, status in (
            ({"action": "drop"}, 405),
            ({"action": "list"}, 405),
            ({"action": "ask", "query": [1]}, 400),
            ({"action": "ask", "query": {"a": {}}}, 400),
            ({"action": "ask", "parameters": "x"}, 400),
            ({"action": "say", "data": "fail"}, 500),
        ):
            reply = await self.ask(frame)
            assert reply["response_status"] == status, frame
            assert reply["errors"]
            assert "secret" not in str(reply)
        await database(get_user_model().objects.filter(pk=self.user.pk).update)(is_active=False)
        assert (await self.ask({"action": "say"}))["response_status"] == 403

    @async_test
    async def test_viewsets(self) -> None:
        notes, note = await self.open(self.user, "/notes/"), await self.open(self.user, "/note/")
        made = await self.ask({"action": "create", "data": {"text": "a"}}, notes)
        assert made["response_status"] == 201
        pk = made["data"]["id"]
        assert [n["id"] for n in (await self.ask({"action": "list"}, notes))["data"]] == [pk]
        assert (await self.ask({"action": "delete"}, notes))["response_status"] == 405
        for frame, status in (
            ({"action": "retrieve", "pk": pk}, 200),
            ({"action": "patch", "pk": pk, "data": {"text": "b"}}, 200),
            ({"action": "update", "parameters": {"pk": pk}, "data": {"text": "c"}}, 200),
            ({"action": "delete", "pk": pk}, 204),
            ({"action": "retrieve", "pk": pk}, 404),
        ):
            assert (await self.ask(frame, note))["response_status"] == status, frame
        assert await database(models.Note.objects.count)() == 0

    @async_test
    async def test_views_of_django(self) -> None:
        socket = await self.open(path="/django/")
        assert (await self.ask({"action": "list"}, socket))["data"] == {"path": "/"}

    def test_the_class_of_a_view_is_none(self) -> None:
        with pytest.raises(TypeError, match="as_view"):
            view_as_consumer(Echo)
