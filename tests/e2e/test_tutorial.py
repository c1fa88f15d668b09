"""The page of the tutorial, in two windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.documented.tutorial import PAGE, PASSWORD, Tutorial
from tests.e2e.conftest import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.services("chromium"), pytest.mark.timeout(90)]

Open = Callable[[str], "Page"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    """The tutorial after its last line, with the server running."""
    tutorial = Tutorial(PAGE.read_text(), tmp_path_factory.mktemp("tutorial"))
    with tutorial.read():
        yield tutorial


@pytest.fixture
def window(browser: Browser, done: Tutorial) -> Iterator[Open]:
    """Open somebody's window, logged in and live; at the end no console may have an error in it."""
    contexts = []
    complaints: list[str] = []

    def open_window(name: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(done.origin)
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("status")).to_have_text("open", timeout=PATIENCE)
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def task(done: Tutorial) -> str:
    """The text of a task of this test's own."""
    made = httpx.post(f"{done.origin}/api/tasks/", auth=("ada", PASSWORD), json={"text": "tea"})
    assert made.status_code == 201, made.text
    return "tea"


def test_two_windows_follow_each_other_and_nothing_is_lost(window: Open, task: str) -> None:
    ada, guido = window("ada"), window("guido")
    for page in (ada, guido):
        expect(page.get_by_role("listitem").filter(has_text=task)).to_be_visible()

    ada.get_by_label("New task").fill("jam")
    ada.get_by_role("button", name="Add").click()
    guido.get_by_label("jam").check()
    expect(ada.get_by_label("jam")).to_be_checked()

    for page in (ada, guido):
        page.get_by_role("listitem").filter(has_text=task).get_by_role("button", name="Edit").click()
    text = [page.get_by_label("Text", exact=True) for page in (ada, guido)]
    text[1].fill("green tea")
    guido.get_by_role("button", name="Save").click()
    expect(ada.get_by_label("green tea")).to_be_visible()
    text[0].fill("black tea")
    ada.get_by_role("button", name="Save").click()
    alert = ada.get_by_role("alert")
    expect(alert).to_contain_text("guido changed text. It is “green tea” now")
    expect(guido.get_by_label("green tea")).to_be_visible()

    ada.get_by_role("button", name="Save").click()
    expect(guido.get_by_label("black tea")).to_be_visible()
    expect(alert).to_be_empty()
    expect(text[0]).to_be_hidden()
