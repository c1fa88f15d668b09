"""People, clients, and a way to do something between the door and the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from rest_framework.test import APIClient

from drf_concord import rows
from drf_concord.rest import guards

AtTheGate = Callable[[Callable[[], object]], None]


@pytest.fixture(autouse=True)
def _no_one_was_throttled() -> None:
    cache.clear()


@pytest.fixture
def api() -> APIClient:
    """Nobody's client; an exception in a view is a 500 here, as it is to a client."""
    return APIClient(raise_request_exception=False)


@pytest.fixture
def guido(db: None) -> Any:
    return get_user_model().objects.create_user("guido", password="guido")


@pytest.fixture
def ada(db: None) -> Any:
    return get_user_model().objects.create_user("ada", password="ada")


@pytest.fixture
def boss(db: None) -> Any:
    return get_user_model().objects.create_superuser("boss", password="boss")


def client_of(user: Any) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


@pytest.fixture
def as_guido(guido: Any) -> APIClient:
    return client_of(guido)


@pytest.fixture
def as_ada(ada: Any) -> APIClient:
    return client_of(ada)


@pytest.fixture
def as_boss(boss: Any) -> APIClient:
    return client_of(boss)


@pytest.fixture(params=["the row first", "the object first"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let writes lock the row their address names before they look, and then look before they lock."""
    if request.param == "the object first":
        monkeypatch.setattr(guards, "address_of", lambda view: None)
    return str(request.param)


@pytest.fixture
def at_the_gate(monkeypatch: pytest.MonkeyPatch) -> AtTheGate:
    """Do something once, after the door has fetched the object and before the gate locks its row."""

    def plan(act: Callable[[], object]) -> None:
        real = rows.enter

        @contextmanager
        def enter(*args: Any, **kwargs: Any) -> Iterator[Any]:
            monkeypatch.setattr(rows, "enter", real)
            act()
            with real(*args, **kwargs) as entry:
                yield entry

        monkeypatch.setattr(rows, "enter", enter)

    return plan
