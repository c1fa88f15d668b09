"""Two people at their boards, in real browsers, who try to lose something."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.demo.process import Demo
from tests.e2e.conftest import Person, Todo, photograph
from tests.e2e.proxy import Proxy

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    MakePerson = Callable[..., Person]

pytestmark = [pytest.mark.browser, pytest.mark.services("chromium"), pytest.mark.timeout(90)]

expect.set_options(timeout=15_000)


def row(page: Page, text: str) -> Locator:
    return page.locator("#tasks li", has=page.locator(".text", has_text=re.compile(f"^{re.escape(text)}$")))


def open_task(page: Page, text: str) -> Locator:
    row(page, text).locator(".open").click()
    expect(page.locator("#editor")).to_be_visible()
    return page.locator("#editor")


def save(page: Page) -> None:
    page.locator("#editor button[value=save]").click()


# ------------------------------------------------------------------------------- the story with holds


def test_a_task_that_somebody_edits_is_shown_and_kept_from_others(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    mine = open_task(guido, "Bread")
    expect(row(ada, "Bread").locator(".held")).to_have_text(re.compile(r"^Guido is editing since \d\d:\d\d$"))
    expect(row(guido, "Bread").locator(".badge.mine")).to_be_attached()

    hers = open_task(ada, "Bread")
    expect(hers.locator(".banner")).to_contain_text("Guido is editing this since")
    expect(hers.get_by_label("Notes")).to_have_attribute("readonly", "")
    expect(hers.get_by_role("button", name="Save")).to_be_disabled()
    photograph(ada, "held")

    mine.get_by_label("Notes").fill("The dark one")
    save(guido)
    expect(mine).not_to_be_visible()
    expect(hers.get_by_label("Notes")).to_have_value("The dark one")
    hers.get_by_role("button", name="Edit").click()
    hers.get_by_label("Notes").fill("The dark one, if there is any")
    save(ada)
    expect(row(guido, "Bread").locator(".notes")).to_have_text("The dark one, if there is any")
    expect(row(guido, "Bread").locator(".badge")).to_have_count(0)


def test_who_is_taken_over_keeps_what_he_typed(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    mine = open_task(guido, "Bread")
    mine.get_by_label("Notes").fill("Guido had begun to")
    hers = open_task(ada, "Bread")
    hers.get_by_role("button", name="Take over").click()
    expect(hers.locator(".banner")).to_be_empty()

    expect(mine.locator(".banner")).to_contain_text("Ada is editing this")
    expect(mine.locator(".banner")).to_contain_text("What you typed stays here")
    expect(mine.get_by_label("Notes")).to_have_value("Guido had begun to")
    hers.get_by_label("Notes").fill("Ada was faster")
    save(ada)
    expect(hers).not_to_be_visible()

    mine.get_by_role("button", name="Edit").click()
    save(guido)
    asked = guido.locator("#conflict")
    expect(asked.get_by_role("heading")).to_have_text("Ada saved this task while you were editing it")
    asked.get_by_label("Notes, from both").fill("Ada was faster, Guido had begun")
    asked.get_by_role("button", name="Save this").click()
    expect(row(ada, "Bread").locator(".notes")).to_have_text("Ada was faster, Guido had begun")


def test_a_hold_that_is_gone_in_the_middle_of_typing_loses_nothing(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    guido = person("guido").board(todo.pk)
    mine = open_task(guido, "Bread")
    expect(row(guido, "Bread").locator(".badge.mine")).to_be_attached()
    mine.get_by_label("Notes").press_sequentially("half a sen")
    assert todo.api.post(f"/api/tasks/{pk}/lock/break/", json={}).status_code == 202
    expect(mine.locator(".banner")).to_contain_text("You do not hold this task any more")
    mine.get_by_label("Notes").press_sequentially("tence")
    save(guido)
    expect(mine).not_to_be_visible()
    assert todo.read()[0]["notes"] == "half a sentence"


def test_two_tabs_of_one_person(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    guido = person("guido")
    one, two = guido.board(todo.pk), guido.board(todo.pk)
    first = open_task(one, "Bread")
    expect(row(two, "Bread").locator(".badge.mine")).to_be_attached()
    second = open_task(two, "Bread")
    expect(second.locator(".banner")).to_contain_text("You are editing this in another tab")
    first.get_by_label("Notes").fill("from the first")
    second.get_by_role("button", name="Take over").click()
    expect(second.locator(".banner")).to_be_empty()
    expect(first.locator(".banner")).to_contain_text("in another tab")
    second.get_by_label("Notes").fill("from the second")
    save(two)
    expect(second).not_to_be_visible()
    first.get_by_role("button", name="Edit").click()
    save(one)
    expect(one.locator("#conflict")).to_be_visible()
    assert todo.read()[0]["notes"] == "from the second"


# -------------------------------------------------------------------------------- the story with tags


def test_the_second_to_save_is_asked(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread", notes="one")
    guido, ada = (person(name).board(todo.pk, hold=False) for name in ("guido", "ada"))
    mine, hers = open_task(guido, "Bread"), open_task(ada, "Bread")
    mine.get_by_label("Notes").fill("two")
    hers.get_by_label("Notes").fill("three")
    hers.get_by_label("Done").check()
    save(guido)
    expect(mine).not_to_be_visible()
    expect(hers.locator(".banner")).to_contain_text("Somebody saved this task while you are editing it")
    save(ada)
    asked = ada.locator("#conflict")
    expect(asked.get_by_role("heading")).to_have_text("Guido saved this task while you were editing it")
    expect(asked).to_contain_text("Changed there: Notes.")
    photograph(ada, "conflict")
    # nothing is chosen for what both wrote; what only she changed is hers
    expect(asked.get_by_role("group", name="Notes").get_by_role("radio", checked=True)).to_have_count(0)
    expect(asked.get_by_role("group", name="Done").get_by_role("radio", name="Mine")).to_be_checked()
    asked.get_by_role("button", name="Save this").click()
    expect(asked).to_be_visible()

    asked.get_by_role("button", name="Back to editing").click()
    expect(hers.get_by_label("Notes")).to_have_value("three")
    save(ada)
    asked.get_by_role("group", name="Notes").get_by_role("radio", name="Guido’s").check()
    asked.get_by_role("button", name="Save this").click()
    expect(hers).not_to_be_visible()
    (task,) = todo.read()
    assert (task["notes"], task["done"]) == ("two", True)


@pytest.mark.parametrize(("button", "notes"), [("Keep all of mine", "three"), ("Take all of theirs", "two")])
def test_all_of_one_side(person: MakePerson, todo: Todo, button: str, notes: str) -> None:
    pk = todo.add("Bread", notes="one")
    ada = person("ada").board(todo.pk, hold=False)
    hers = open_task(ada, "Bread")
    hers.get_by_label("Notes").fill("three")
    todo.change(pk, notes="two")
    save(ada)
    ada.locator("#conflict").get_by_role("button", name=button).click()
    ada.locator("#conflict").get_by_role("button", name="Save this").click()
    expect(hers).not_to_be_visible()
    assert todo.read()[0]["notes"] == notes


def test_who_writes_other_fields_is_asked_nothing(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread", notes="one")
    ada = person("ada").board(todo.pk, hold=False)
    hers = open_task(ada, "Bread")
    hers.get_by_label("What").fill("Dark bread")
    todo.change(pk, notes="two")
    expect(hers.get_by_label("Notes")).to_have_value("two")
    save(ada)
    expect(hers).not_to_be_visible()
    (task,) = todo.read()
    assert (task["text"], task["notes"]) == ("Dark bread", "two")


def test_a_save_can_be_undone_until_somebody_else_saves(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk)
    for interfere in (False, True):
        open_task(ada, "Bread").get_by_label("Notes").fill("new")
        save(ada)
        expect(row(ada, "Bread").locator(".notes")).to_have_text("new")
        if interfere:
            todo.change(pk, done=True)
        ada.get_by_role("button", name="Undo").last.click()
        said = "changed again meanwhile" if interfere else "As it was before"
        expect(ada.locator(".toast", has_text=said)).to_be_visible()
    (task,) = todo.read()
    assert (task["notes"], task["done"]) == ("new", True)


# --------------------------------------------------------------------------- deleting, adding, ticking


def test_a_task_that_is_deleted_while_it_is_edited_can_be_made_again(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk, hold=False)
    hers = open_task(ada, "Bread")
    hers.get_by_label("Notes").fill("typed")
    todo.delete(pk)
    expect(hers.locator(".banner")).to_contain_text("Somebody deleted this task")
    hers.get_by_role("button", name="Make it again").click()
    expect(row(ada, "Bread").locator(".notes")).to_have_text("typed")


def test_delete_and_undo(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread", notes="dark", done=True)
    ada = person("ada").board(todo.pk)
    open_task(ada, "Bread").get_by_role("button", name="Delete").click()
    expect(ada.locator("#empty")).to_contain_text("Nothing to do here")
    ada.get_by_role("button", name="Undo").click()
    expect(row(ada, "Bread").locator(".notes")).to_have_text("dark")
    (task,) = todo.read()
    assert (task["text"], task["notes"], task["done"]) == ("Bread", "dark", True)


def test_nobody_deletes_what_has_changed_since_he_looked(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk, hold=False)
    hers = open_task(ada, "Bread")
    hers.get_by_label("Notes").fill("hers")
    todo.change(pk, notes="somebody's")
    expect(hers.locator(".banner")).to_contain_text("Somebody saved this task")
    hers.get_by_role("button", name="Delete").click()
    expect(hers.locator(".banner")).to_contain_text("Somebody saved this task")
    assert todo.texts() == ["Bread"]


def test_a_double_click_adds_one_task(person: MakePerson, todo: Todo) -> None:
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    guido.get_by_label("New task").fill("Bread")
    guido.get_by_role("button", name="Add").dblclick()
    expect(row(ada, "Bread")).to_have_count(1)
    expect(guido.get_by_label("New task")).to_have_value("")
    guido.get_by_label("New task").fill("Butter")
    guido.get_by_label("New task").press("Enter")
    expect(row(ada, "Butter")).to_have_count(1)
    assert todo.texts() == ["Bread", "Butter"]


def test_ticking_off_what_somebody_else_edits(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    row(ada, "Bread").get_by_role("checkbox").check()
    expect(row(guido, "Bread")).to_have_class(re.compile("done"))
    open_task(guido, "Bread")
    expect(row(ada, "Bread").locator(".held")).to_be_visible()
    row(ada, "Bread").get_by_role("checkbox").click()
    expect(ada.locator(".toast")).to_contain_text("Guido is editing this task")
    expect(row(ada, "Bread").get_by_role("checkbox")).to_be_checked()
    assert todo.read()[0]["id"] == pk


def test_a_new_list_is_there_for_both(person: MakePerson, todo: Todo) -> None:
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    guido.get_by_text("New list", exact=True).click()
    name = f"Made at board {todo.pk}"
    guido.get_by_label("Name of the new list").fill(name)
    guido.get_by_role("button", name="Make").click()
    expect(guido.get_by_role("heading", level=2, name=name)).to_be_visible()
    expect(guido.locator("#empty")).to_contain_text("Nothing to do here")
    ada.get_by_role("navigation", name="Lists").get_by_role("button", name=name).click()
    guido.get_by_label("New task").fill("First")
    guido.get_by_label("New task").press("Enter")
    expect(row(ada, "First")).to_be_visible()


def test_an_empty_text_is_refused_beside_the_field(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = person("ada").board(todo.pk)
    hers = open_task(ada, "Bread")
    hers.get_by_label("What").fill("")
    save(ada)
    expect(hers.locator("#edit-text-error")).to_contain_text("may not be blank")
    expect(hers.get_by_label("What")).to_be_focused()
    assert todo.texts() == ["Bread"]


# ----------------------------------------------------------- reload, back, offline, the server is away


def test_what_is_typed_outlives_a_reload_and_the_back_button(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk)
    hers = open_task(ada, "Bread")
    hers.get_by_label("Notes").fill("not saved")
    ada.go_back()
    expect(hers).not_to_be_visible()
    expect(row(ada, "Bread").locator(".draft")).to_have_text("Not saved yet")
    ada.go_forward()
    expect(hers.get_by_label("Notes")).to_have_value("not saved")
    ada.reload()
    expect(ada.locator("#editor").get_by_label("Notes")).to_have_value("not saved")
    expect(ada.locator("#editor .banner")).to_contain_text("unsaved changes")
    # what others did meanwhile is not overwritten
    ada.locator("#editor").get_by_role("button", name="Close").click()
    expect(row(ada, "Bread").locator(".badge.mine")).to_have_count(0)
    todo.change(pk, notes="somebody's")
    expect(row(ada, "Bread").locator(".notes")).to_have_text("somebody's")
    open_task(ada, "Bread")
    save(ada)
    expect(ada.locator("#conflict")).to_be_visible()
    ada.locator("#conflict").get_by_role("button", name="Back").click()
    ada.locator("#editor").get_by_role("button", name="Discard changes").click()
    expect(row(ada, "Bread").locator(".badge")).to_have_count(0)
    assert todo.read()[0]["notes"] == "somebody's"


def cut_off(somebody: Person) -> None:
    """Forget what a browser itself says of a connection that is cut."""
    network = re.compile(r"WebSocket connection to|net::ERR_|Failed to load resource")
    somebody.complaints[:] = [line for line in somebody.complaints if not network.search(line)]


def test_a_cut_connection_heals_while_the_other_writes(person: MakePerson, todo: Todo, proxy: Proxy) -> None:
    keys = [todo.add(f"Task {number}") for number in range(10)]
    somebody = person("ada")
    ada = somebody.board(todo.pk, hold=False)
    hers = open_task(ada, "Task 3")
    hers.get_by_label("Notes").fill("typed before")
    proxy.cut(down=True)
    expect(ada.locator("#connection")).to_contain_text("Not connected")
    photograph(ada, "lost")
    hers.get_by_label("Notes").fill("typed while it was away")
    save(ada)
    expect(hers.get_by_role("button", name="Saving")).to_be_visible()
    for number in range(50):
        if number % 5 == 4:
            todo.delete(keys.pop(0) if keys[0] != keys[3] else keys.pop(1))
            keys.append(todo.add(f"Another {number}"))
        else:
            todo.change(keys[-1], text=f"Changed {number}")
    proxy.heal()
    expect(ada.locator("#connection")).to_have_text(re.compile("Live"))
    expect(ada.locator("#tasks .text")).to_have_text(todo.texts())
    expect(hers).not_to_be_visible() if "Task 3" in todo.texts() else None
    saved = {task["text"]: task["notes"] for task in todo.read()}
    if "Task 3" in saved:
        assert saved["Task 3"] == "typed while it was away"
    else:
        expect(hers.get_by_label("Notes")).to_have_value("typed while it was away")
    cut_off(somebody)


def test_the_server_is_restarted(person: MakePerson, todo: Todo, proxy: Proxy, url: str, demo: Demo) -> None:
    todo.add("Bread")
    somebody = person("guido")
    guido = somebody.board(todo.pk)
    mine = open_task(guido, "Bread")
    mine.get_by_label("Notes").fill("typed")
    with Demo(url) as another:
        proxy.target = another.port
        proxy.cut()
        expect(guido.locator("#connection")).to_have_text(re.compile("Live"))
        save(guido)
        expect(mine).not_to_be_visible()
        assert todo.read()[0]["notes"] == "typed"
        proxy.target = demo.port
    expect(guido.locator("#connection")).to_have_text(re.compile("Live"))
    todo.add("Butter")
    expect(row(guido, "Butter")).to_be_visible()
    cut_off(somebody)


# ------------------------------------------------------------------------------ many tasks, small pages


def test_two_hundred_tasks(person: MakePerson, todo: Todo) -> None:
    for number in range(200):
        todo.add(f"Task {number}")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    expect(guido.locator("#tasks li")).to_have_count(200)
    row(ada, "Task 150").locator(".open").focus()
    row(guido, "Task 199").get_by_role("checkbox").check()
    expect(row(ada, "Task 199")).to_have_class(re.compile("done"))
    expect(row(ada, "Task 150").locator(".open")).to_be_focused()


def test_on_a_phone(person: MakePerson, todo: Todo) -> None:
    todo.add("A task whose text is so long that it needs more than one line on a phone", notes="x" * 120)
    phone = person("guido", viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    guido = phone.board(todo.pk)
    guido.locator("#tasks .open").tap()
    expect(guido.locator("#editor")).to_be_visible()
    photograph(guido, "phone")
    assert guido.evaluate("document.documentElement.scrollWidth") <= 360
    assert guido.locator("#editor").bounding_box()["width"] <= 360
    guido.locator("#editor").get_by_role("button", name="Close").tap()
    small = guido.evaluate(
        """() => [...document.querySelectorAll("button, summary, input")].filter((e) => e.checkVisibility())
            .map((e) => [e.outerHTML, e.getBoundingClientRect().height]).filter(([, h]) => h && h < 18)"""
    )
    assert not small, json.dumps(small)


def test_by_keyboard_alone(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    guido = person("guido").board(todo.pk)
    row(guido, "Bread").get_by_role("checkbox").focus()
    guido.keyboard.press("Space")
    expect(row(guido, "Bread")).to_have_class(re.compile("done"))
    row(guido, "Bread").get_by_role("checkbox").focus()
    guido.keyboard.press("Tab")
    guido.keyboard.press("Enter")
    expect(guido.locator("#editor").get_by_label("What")).to_be_focused()
    guido.keyboard.press("Tab")
    guido.keyboard.type("typed")
    guido.locator("#editor").get_by_label("What").focus()
    guido.keyboard.press("Enter")
    expect(guido.locator("#editor")).not_to_be_visible()
    expect(row(guido, "Bread").locator(".open")).to_be_focused()
    guido.keyboard.press("Enter")
    guido.keyboard.press("Escape")
    expect(guido.locator("#editor")).not_to_be_visible()
    assert todo.read()[0]["notes"] == "typed"


def test_what_was_ticked_off_stays_so_while_the_news_of_it_is_on_its_way(
    person: MakePerson, todo: Todo
) -> None:
    pk = todo.add("Bread")
    guido = person("guido")
    line = Line()
    guido.context.route_web_socket(re.compile("/ws/"), line.through)
    page = guido.board(todo.pk)
    line.held = []
    box = row(page, "Bread").get_by_role("checkbox")
    for done in (True, False, True):
        box.set_checked(done)
        expect(row(page, "Bread")).not_to_have_attribute("aria-busy", "true")
        expect(box).to_be_checked(checked=done)
    assert line.held
    assert todo.read()[0]["done"] is True
    todo.change(pk, done=False)
    line.release()
    expect(box).not_to_be_checked()


class Line:
    """A websocket on which news can be held back."""

    def __init__(self) -> None:
        self.held: list[Any] | None = None

    def through(self, browser: Any) -> None:
        server = browser.connect_to_server()
        self._send = browser.send
        server.on_message(self._said)

    def _said(self, message: Any) -> None:
        if self.held is None or json.loads(message).get("type") != "changes":
            self._send(message)
        else:
            self.held.append(message)

    def release(self) -> None:
        held, self.held = self.held, None
        for message in held or ():
            self._send(message)


def test_news_is_told_to_who_does_not_see_it(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    open_task(guido, "Bread")
    expect(ada.locator("#live")).to_have_text("Guido is editing Bread.")
    guido.keyboard.press("Escape")
    expect(row(ada, "Bread").locator(".held")).to_have_count(0)
    todo.change(pk, text="Dark bread")
    expect(ada.locator("#live")).to_have_text("Changed: Dark bread.")
    # one's own writes are no news
    row(ada, "Dark bread").get_by_role("checkbox").check()
    expect(guido.locator("#live")).to_have_text("Changed: Dark bread.")
