"""Two people with a browser each, on one demo, over a network that can be cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.demo.conftest import MakeDatabase, make_database
from tests.demo.process import Demo
from tests.e2e.proxy import Proxy
from tests.services import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["make_database"]

PATIENCE = 15_000  # milliseconds
SCREENSHOTS = os.environ.get("CONCORD_SCREENSHOTS")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # root may run no sandbox, and a container has little shared memory
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=str(chromium()), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(make_database: MakeDatabase) -> str:
    return make_database()


@pytest.fixture(scope="module")
def demo(url: str) -> Iterator[Demo]:
    with Demo(url) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(demo: Demo) -> Iterator[Proxy]:
    with Proxy(demo.port) as passing:
        yield passing


class Person:
    """Somebody with a browser of his own."""

    def __init__(self, browser: Browser, name: str, origin: str, **options: Any) -> None:
        self.name = name
        self.origin = origin
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"reduced_motion": "reduce", "locale": "en-GB", **options})
        self.context.set_default_timeout(PATIENCE)
        self.context.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def board(self, list_pk: int, *, hold: bool = True) -> Page:
        """Open the board of a list in another tab."""
        page = self.context.new_page()
        page.goto(f"{self.origin}/board/{self.name}/#list={list_pk}")
        page.locator("#connection[data-state=open]").wait_for()
        page.locator("#list[aria-busy=false]").wait_for()
        if not hold:
            page.get_by_label("Hold a task while I edit it").uncheck()
        return page


@pytest.fixture
def person(browser: Browser, proxy: Proxy) -> Iterator[Callable[..., Person]]:
    """Make somebody: `person("guido")`; at the end nobody's console may have an error in it."""
    made: list[Person] = []
    proxy.heal()

    def make(name: str, **options: Any) -> Person:
        made.append(Person(browser, name, f"http://127.0.0.1:{proxy.port}", **options))
        return made[-1]

    yield make
    complaints = [line for somebody in made for line in somebody.complaints]
    for somebody in made:
        somebody.context.close()
    assert not complaints


@pytest.fixture
def todo(demo: Demo) -> Iterator[Todo]:
    """A list of this test's own, as the API has it."""
    with demo.client("admin") as api:
        made = api.post("/api/lists/", json={"name": "Of a test"})
        assert made.status_code == 201, made.text
        yield Todo(api, made.json()["id"])


class Todo:
    """A list behind the pages' backs."""

    def __init__(self, api: Any, pk: int) -> None:
        self.api = api
        self.pk = pk

    def add(self, text: str, **values: Any) -> int:
        answer = self.api.post("/api/tasks/", json={"list": self.pk, "text": text, **values})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def change(self, pk: int, **values: Any) -> None:
        answer = self.api.patch(f"/api/tasks/{pk}/", json=values)
        assert answer.status_code == 200, answer.text

    def delete(self, pk: int) -> None:
        assert self.api.delete(f"/api/tasks/{pk}/").status_code == 204

    def read(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/api/tasks/", params={"list": self.pk}).json()
        return found

    def texts(self) -> list[str]:
        return [task["text"] for task in self.read()]


def photograph(page: Page, name: str) -> None:
    """Keep a picture to look at, where somebody wants one."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
