"""Work inside of the project's middleware."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.test import RequestFactory, override_settings
from django.utils import translation

from drf_concord.live.middleware import within


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
