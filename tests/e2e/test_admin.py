"""Two open pages of the admin, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.demo.process import Demo
from tests.e2e.conftest import Person, Todo, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Page

    MakePerson = Callable[..., Person]

pytestmark = [pytest.mark.browser, pytest.mark.services("chromium"), pytest.mark.timeout(90)]

REFUSED = "This object was changed while this page was open, so nothing was saved."


@pytest.fixture
def boss(person: MakePerson) -> Person:
    """Somebody who is logged in to the admin."""
    boss = person("admin")
    page = boss.context.new_page()
    page.goto(f"{boss.origin}/admin/login/?next=/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
    page.close()
    return boss


def opened(boss: Person, path: str) -> Page:
    page = boss.context.new_page()
    page.goto(f"{boss.origin}/admin/{path}")
    return page


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_the_second_of_two_open_pages(boss: Person, todo: Todo, demo: Demo) -> None:
    pk = todo.add("Bread", notes="one")
    path = f"todolist/task/{pk}/change/"
    first, second = opened(boss, path), opened(boss, path)
    first.get_by_label("Text").fill("Rye bread")
    save(first)
    expect(first.locator(".messagelist .success")).to_be_visible()
    with demo.client("guido") as guido:
        assert guido.patch(f"/api/tasks/{pk}/", json={"done": True}).status_code == 200

    second.get_by_label("Notes").fill("typed <i>here</i>")
    save(second)
    said = second.locator(".errorlist.nonfield")
    expect(said).to_contain_text(f"{REFUSED} Last changed by: guido. What changed: Text, Done.")
    expect(second.get_by_label("Notes")).to_have_value("typed <i>here</i>")
    expect(second.locator("input[name=concord_tag]")).to_be_hidden()
    photograph(second, "admin-changed-meanwhile")
    (task,) = todo.read()
    assert (task["text"], task["done"], task["notes"]) == ("Rye bread", True, "one")

    with boss.context.expect_page() as new:
        said.get_by_role("link", name="See it as it is now").click()
    expect(new.value.get_by_label("Text")).to_have_value("Rye bread")
    expect(second.get_by_label("Notes")).to_have_value("typed <i>here</i>")

    save(second)
    expect(second.locator(".messagelist .success")).to_be_visible()
    (task,) = todo.read()
    assert (task["text"], task["done"], task["notes"]) == ("Bread", False, "typed <i>here</i>")


def test_the_second_of_two_open_lists(boss: Person, todo: Todo) -> None:
    bread, butter = todo.add("Bread"), todo.add("Butter")
    path = f"todolist/task/?list__id__exact={todo.pk}"
    first, second = opened(boss, path), opened(boss, path)
    line = second.locator("#result_list tbody tr")
    first.locator("#id_form-0-done").check()
    save(first)
    expect(first.locator(".messagelist .success")).to_be_visible()

    # the line that only the other page changed stays as it was left there
    second.locator("#id_form-1-done").check()
    save(second)
    expect(second.locator(".messagelist .success")).to_be_visible()
    assert {task["id"]: task["done"] for task in todo.read()} == {bread: True, butter: True}

    todo.change(butter, notes="from elsewhere")
    second.locator("#id_form-1-done").uncheck()
    save(second)
    expect(line.filter(has_text=REFUSED)).to_contain_text("What changed: Notes.")
    photograph(second, "admin-list-changed-meanwhile")
    assert {task["id"]: task["done"] for task in todo.read()} == {bread: True, butter: True}
    save(second)
    expect(second.locator(".messagelist .success")).to_be_visible()
    assert {task["id"]: task["done"] for task in todo.read()} == {bread: True, butter: False}
