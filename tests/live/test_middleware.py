"""Work inside of the project's middleware."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils import translation
from rest_framework.exceptions import APIException

from drf_concord.live.middleware import within, wrapped


def inside(*names: str) -> Any:
    paths = [name if "." in name else f"{__name__}.{name}" for name in names]
    return override_settings(CONCORD={**settings.CONCORD, "SOCKET_MIDDLEWARE": paths})


def request(**headers: str) -> Any:
    return RequestFactory().get("/", headers=headers)


def again(get_response: Any) -> Any:
    """Try what failed once more: nothing that this can know, so whatever it was."""
    return lambda request: get_response(request) and get_response(request)


def test_what_middleware_leaves_behind_is_of_its_request_alone() -> None:
    with inside("django.middleware.locale.LocaleMiddleware"), translation.override("en"):
        assert within(request(**{"Accept-Language": "de"}), translation.get_language) == "de"
        assert translation.get_language() == "en"


def test_middleware_may_try_again() -> None:
    tries = iter([ValueError, None])

    def work() -> str:
        failure = next(tries)
        if failure is not None:
            raise failure
        return "done"

    with inside("again"):
        assert within(request(), work) == "done"


class Counting:
    """Counts how often it is made, and what it lets through."""

    made: ClassVar[int] = 0

    def __init__(self, get_response: Any) -> None:
        type(self).made += 1
        self.get_response = get_response
        self.seen = 0

    def __call__(self, request: Any) -> Any:
        self.seen += 1
        return HttpResponse(status=429) if self.seen > 2 else self.get_response(request)


def not_used(get_response: Any) -> Any:
    raise MiddlewareNotUsed


class AsyncOnly:
    """As some are that need an event loop."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    async def __call__(self, request: Any) -> Any:
        request.tenant = "a"
        return await self.get_response(request)


def nothing(get_response: Any) -> None:
    """Forget to return what answers."""


def test_middleware_is_made_once_as_django_does() -> None:
    Counting.made = 0
    with inside("Counting"):
        assert [within(request(), work) for work in (lambda: 1, lambda: 2)] == [1, 2]
        with pytest.raises(APIException) as caught:
            within(request(), lambda: 3)
        assert (caught.value.status_code, Counting.made) == (429, 1)
    with inside("Counting"):  # in a test with other settings it begins anew
        assert within(request(), lambda: 4) == 4


def test_one_request_within_another_comes_to_its_own() -> None:
    said: list[str] = []

    def inner(request: Any) -> HttpResponse:
        said.append("inner")
        return HttpResponse()

    def outer(request: Any) -> Any:
        said.append("outer")
        return wrapped(inner)(request) if len(said) == 1 else HttpResponse()

    with inside("again"):
        wrapped(outer)(request())
    assert said == ["outer", "inner", "inner", "outer"]


def test_middleware_that_is_not_used_is_left_out() -> None:
    with inside("not_used"):
        assert within(request(), lambda: "done") == "done"
        assert wrapped(lambda request: HttpResponse(b"a"))(request()).content == b"a"


def test_middleware_for_event_loops_alone() -> None:
    asked = request()
    with inside("AsyncOnly"):
        assert within(asked, lambda: asked.tenant) == "a"


def test_middleware_that_returns_nothing_is_a_mistake() -> None:
    with inside("nothing"), pytest.raises(ImproperlyConfigured, match="nothing"):
        within(request(), lambda: "done")
