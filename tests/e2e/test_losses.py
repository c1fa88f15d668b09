"""What somebody has typed is never lost without a word: late answers, deleted tasks, bad networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Person, Todo
from tests.e2e.proxy import Proxy
from tests.e2e.test_board import cut_off, open_task, row, save

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Locator, Page

    MakePerson = Callable[..., Person]

pytestmark = [pytest.mark.browser, pytest.mark.services("chromium"), pytest.mark.timeout(90)]

# while `late` is an array, what the server says waits in it: a slow network
SLOW = """{
  const { set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
  Object.defineProperty(WebSocket.prototype, "onmessage", { set(hear) {
    set.call(this, (event) => (window.late ? window.late.push([event, hear]) : hear(event)));
  } });
}"""
NOW = "() => { const late = window.late; window.late = null; late.forEach(([event, hear]) => hear(event)); }"
ANSWERED = "() => window.late.some(([{ data }]) => data.includes('response_status'))"


def slow(person: MakePerson, name: str) -> Person:
    somebody = person(name)
    somebody.context.add_init_script(SLOW)
    return somebody


def hold_back(page: Page) -> None:
    page.evaluate("() => { window.late = []; }")


def let_through(page: Page) -> None:
    page.wait_for_function(ANSWERED)
    page.evaluate(NOW)


def edit(page: Page, notes: str, text: str = "Bread") -> Locator:
    editor = open_task(page, text)
    editor.get_by_label("Notes").fill(notes)
    return editor


def toast(page: Page, text: str) -> Locator:
    return page.locator(".toast", has_text=text)


# ------------------------------------------------------------------------------------- late answers


def test_what_is_typed_while_it_is_saved_stays(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = slow(person, "ada").board(todo.pk, hold=False)
    hers = edit(ada, "first")
    hold_back(ada)
    save(ada)
    hers.get_by_label("Notes").fill("first and second")
    let_through(ada)
    expect(hers.locator(".banner")).to_contain_text("what you typed since then is not yet")
    expect(hers.get_by_label("Notes")).to_have_value("first and second")
    assert todo.read()[0]["notes"] == "first"
    save(ada)
    expect(hers).not_to_be_visible()
    assert todo.read()[0]["notes"] == "first and second"


def test_the_answer_to_a_save_leaves_a_later_opening_alone(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = slow(person, "ada").board(todo.pk, hold=False)
    hers = edit(ada, "first")
    hold_back(ada)
    save(ada)
    ada.keyboard.press("Escape")
    expect(toast(ada, "It is being saved")).to_be_visible()
    open_task(ada, "Bread")
    hers.get_by_label("What").fill("Dark bread")
    let_through(ada)
    expect(toast(ada, "Saved")).to_be_visible()
    expect(hers.get_by_label("What")).to_have_value("Dark bread")


@pytest.mark.parametrize("refused", [True, False])
def test_the_answer_to_a_delete_leaves_another_task_alone(
    person: MakePerson, todo: Todo, refused: bool
) -> None:
    pk = todo.add("Bread")
    todo.add("Butter")
    ada = slow(person, "ada").board(todo.pk, hold=False)
    hers = open_task(ada, "Bread")
    hold_back(ada)
    if refused:
        todo.change(pk, notes="changed")
    hers.get_by_role("button", name="Delete").click()
    ada.keyboard.press("Escape")
    open_task(ada, "Butter")
    let_through(ada)
    expect(toast(ada, "Not deleted" if refused else "Deleted")).to_be_visible()
    expect(hers.get_by_label("What")).to_have_value("Butter")


def test_a_refusal_that_comes_late_is_told_and_leads_back(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    todo.add("Butter")
    ada = slow(person, "ada").board(todo.pk, hold=False)
    hers = edit(ada, "a long story")
    hers.get_by_label("What").fill("")
    hold_back(ada)
    save(ada)
    ada.keyboard.press("Escape")
    open_task(ada, "Butter")
    let_through(ada)
    expect(toast(ada, "Not saved:")).to_be_visible()
    ada.keyboard.press("Escape")
    toast(ada, "Not saved:").get_by_role("button", name="Open").click()
    expect(hers.get_by_label("Notes")).to_have_value("a long story")


# ------------------------------------------------------------------- what others did, and taking it back


def test_nothing_of_the_other_is_undone(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread", notes="one")
    ada = slow(person, "ada").board(todo.pk, hold=False)
    hers = edit(ada, "three")
    todo.change(pk, notes="two")
    save(ada)
    for name in ("Take all of theirs", "Save this"):
        ada.locator("#conflict").get_by_role("button", name=name).click()
    expect(toast(ada, "What the other one saved stands")).to_be_visible()
    expect(ada.get_by_role("button", name="Undo")).to_have_count(0)

    open_task(ada, "Bread")
    hers.get_by_label("What").fill("Dark bread")
    hold_back(ada)
    todo.change(pk, notes="four")
    save(ada)
    ada.wait_for_function(ANSWERED)
    ada.evaluate(NOW)
    expect(hers).not_to_be_visible()
    ada.get_by_role("button", name="Undo").click()
    expect(toast(ada, "As it was before")).to_be_visible()
    assert [(task["text"], task["notes"]) for task in todo.read()] == [("Bread", "four")]


@pytest.mark.parametrize("how", ["locked", "deleted", "escape"])
def test_what_was_written_for_both_is_kept(person: MakePerson, todo: Todo, how: str) -> None:
    pk = todo.add("Bread", notes="one")
    ada = person("ada").board(todo.pk, hold=False)
    hers = edit(ada, "three")
    todo.change(pk, notes="two")
    save(ada)
    asked = ada.locator("#conflict")
    asked.get_by_label("Notes, from both").fill("two, three and a long story")
    if how == "escape":
        ada.keyboard.press("Escape")
    else:
        if how == "deleted":
            todo.delete(pk)
        else:
            assert todo.api.post(f"/api/tasks/{pk}/lock/", json={"ttl": 30}).status_code == 201
        asked.get_by_role("button", name="Save this").click()
        said = "deleted" if how == "deleted" else "Admin is editing"
        expect(hers.locator(".banner")).to_contain_text(said)
    expect(hers.get_by_label("Notes")).to_have_value("two, three and a long story")


def test_what_cannot_be_made_again_stays(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk, hold=False)
    hers = edit(ada, "a long story")
    hers.get_by_label("What").fill("")
    todo.delete(pk)
    again = hers.get_by_role("button", name="Make it again")
    again.click()
    expect(hers.locator("#edit-text-error")).to_contain_text("may not be blank")
    expect(hers.get_by_label("Notes")).to_have_value("a long story")
    hers.get_by_label("What").fill("Bread")
    again.dblclick()
    expect(row(ada, "Bread").locator(".notes")).to_have_text("a long story")
    assert todo.texts() == ["Bread"]


def test_a_draft_outlives_its_task(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    ada = person("ada").board(todo.pk, hold=False)
    edit(ada, "a long story")
    ada.keyboard.press("Escape")
    todo.delete(pk)
    expect(toast(ada, "“Bread” was deleted. Your unsaved changes of it are kept.")).to_be_visible()
    ada.reload()
    toast(ada, "was deleted").get_by_role("button", name="Look at it").click()
    expect(ada.locator("#editor").get_by_label("Notes")).to_have_value("a long story")
    ada.locator("#editor").get_by_role("button", name="Discard changes").click()
    expect(ada.locator(".toast")).to_have_count(0)


def test_a_task_whose_list_is_deleted_or_that_is_moved(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread")
    other = todo.api.post("/api/lists/", json={"name": "Another"}).json()["id"]
    ada = person("ada").board(todo.pk, hold=False)
    hers = edit(ada, "typed")
    todo.change(pk, list=other)
    expect(hers.locator(".banner")).to_contain_text("in another list now")
    save(ada)
    expect(hers).not_to_be_visible()
    assert todo.api.get(f"/api/tasks/{pk}/").json()["notes"] == "typed"
    todo.change(pk, list=todo.pk)
    edit(ada, "typed again")
    assert todo.api.delete(f"/api/lists/{todo.pk}/").status_code == 204
    expect(hers.locator(".banner")).to_contain_text("Somebody deleted this task")
    expect(hers.get_by_label("Notes")).to_have_value("typed again")


def test_news_are_told_beside_the_hold_and_after_a_refusal(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread", notes="one")
    ada = slow(person, "ada").board(todo.pk)
    badge = row(ada, "Bread").locator(".badge.mine")
    hers = edit(ada, "mine")
    expect(badge).to_be_attached()
    ada.keyboard.press("Escape")
    expect(badge).to_have_count(0)
    todo.change(pk, notes="theirs")
    expect(row(ada, "Bread").locator(".notes")).to_have_text("theirs")
    open_task(ada, "Bread")
    expect(badge).to_be_attached()
    expect(hers.locator(".banner")).to_contain_text("Somebody saved this task")


# -------------------------------------------------------------------- storage, tabs, the way back


def test_closing_the_tab_with_something_typed_asks(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = person("ada").board(todo.pk)
    open_task(ada, "Bread").get_by_label("Notes").press_sequentially("a story")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    ada.on("dialog", stay)
    with ada.expect_event("dialog"):
        ada.close(run_before_unload=True)
    assert asked == ["beforeunload"]


@pytest.mark.parametrize("storage", ["full", "forbidden"])
def test_without_storage_the_page_itself_remembers(person: MakePerson, todo: Todo, storage: str) -> None:
    full = 'Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };'
    forbidden = """for (const name of ["sessionStorage", "localStorage"]) {
      Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
    }"""
    todo.add("Butter")
    todo.add("Bread")
    somebody = person("ada")
    somebody.context.add_init_script(full if storage == "full" else forbidden)
    ada = somebody.board(todo.pk)
    edit(ada, "a long story")
    ada.keyboard.press("Escape")
    expect(row(ada, "Bread").locator(".draft")).to_be_visible()
    expect(toast(ada, "they are kept here")).to_be_visible()
    expect(open_task(ada, "Bread").get_by_label("Notes")).to_have_value("a long story")


def test_a_copy_of_a_tab_has_no_part_in_its_hold(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = person("ada").board(todo.pk)
    open_task(ada, "Bread")
    expect(row(ada, "Bread").locator(".badge.mine")).to_be_attached()
    known_by = "async () => (await import('/static/demo/drafts.js')).tab()"
    name = ada.evaluate(known_by)
    with ada.expect_popup() as opened:
        ada.evaluate("() => void open(location.href)")  # as "Duplicate tab": the storage is copied
    copy = opened.value
    expect(copy.locator("#editor .banner")).to_contain_text("You are editing this in another tab")
    assert copy.evaluate(known_by) != name
    ada.reload()
    assert ada.evaluate(known_by) == name


def test_back_and_forward_while_asked(person: MakePerson, todo: Todo) -> None:
    pk = todo.add("Bread", notes="one")
    butter = todo.add("Butter")
    ada = person("ada").board(todo.pk, hold=False)
    hers = edit(ada, "three")
    todo.change(pk, notes="two")
    save(ada)
    expect(ada.locator("#conflict")).to_be_visible()
    ada.go_back()
    expect(hers).not_to_be_visible()
    expect(ada.locator("#conflict")).not_to_be_visible()
    ada.go_forward()
    expect(hers.get_by_label("Notes")).to_have_value("three")
    ada.evaluate("(pk) => { location.hash = location.hash.replace(/task=\\d+/, `task=${pk}`); }", butter)
    expect(hers.get_by_label("What")).to_have_value("Butter")


def test_one_line_about_one_draft(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = person("ada").board(todo.pk, hold=False)
    for notes in ("a", "b"):
        edit(ada, notes)
        ada.keyboard.press("Escape")
        expect(toast(ada, "not saved yet")).to_have_count(1)
    ada.get_by_role("button", name="Discard").click()
    expect(row(ada, "Bread").locator(".badge")).to_have_count(0)


# ----------------------------------------------------------------------------- networks and accounts


def test_a_save_that_waits_longer_than_the_hold(person: MakePerson, todo: Todo, proxy: Proxy) -> None:
    pk = todo.add("Bread")
    somebody = person("ada")
    ada = somebody.board(todo.pk)
    hers = edit(ada, "typed")
    expect(row(ada, "Bread").locator(".badge.mine")).to_be_attached()
    proxy.cut(down=True)
    expect(ada.locator("#connection")).to_contain_text("Not connected")
    save(ada)
    # meanwhile the hold ends, as it would after half a minute
    assert todo.api.post(f"/api/tasks/{pk}/lock/break/", json={}).status_code == 202
    proxy.heal()
    ada.evaluate("() => dispatchEvent(new Event('online'))")
    expect(hers).not_to_be_visible()
    assert todo.read()[0]["notes"] == "typed"
    cut_off(somebody)


def test_a_task_is_opened_while_there_is_no_connection(person: MakePerson, todo: Todo, proxy: Proxy) -> None:
    todo.add("Bread")
    somebody = person("ada")
    ada = somebody.board(todo.pk)
    proxy.cut(down=True)
    expect(ada.locator("#connection")).to_contain_text("Not connected")
    hers = edit(ada, "typed")
    expect(hers.locator(".offline")).to_be_visible()
    proxy.heal()
    ada.evaluate("() => dispatchEvent(new Event('online'))")
    expect(row(ada, "Bread").locator(".badge.mine")).to_be_attached()
    save(ada)
    expect(row(ada, "Bread").locator(".notes")).to_have_text("typed")
    cut_off(somebody)


def test_what_is_no_longer_followed_does_not_look_live(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    somebody = person("ada")
    somebody.context.add_init_script("""{
      const send = WebSocket.prototype.send;
      window.asked = [];
      WebSocket.prototype.send = function (text) {
        window.asked.push([this, JSON.parse(text)]);
        send.call(this, text);
      };
    }""")
    ada = somebody.board(todo.pk)
    end = """(code) => {
      const [socket, { request_id }] = window.asked.findLast(([, frame]) => frame.group_by === "list_id");
      socket.onmessage({ data: JSON.stringify({ type: "end", request_id, code }) });
    }"""
    # a token that was refused: another one is fetched, and the list followed again
    ada.evaluate(end, 401)
    todo.add("Butter")
    expect(row(ada, "Butter")).to_be_visible()
    ada.evaluate(end, 403)
    expect(ada.locator("#connection")).to_contain_text("reload the page")
    expect(toast(ada, "not up to date any more")).to_be_visible()


def test_a_hold_that_was_asked_for_and_left_is_given_back(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    guido, ada = (person(name).board(todo.pk) for name in ("guido", "ada"))
    ada.evaluate(
        # the name first: who leaves before it is known asks for nothing
        """async () => {
          await (await import("/static/demo/drafts.js")).tab();
          document.querySelector("#tasks .open").click();
          setTimeout(() => document.querySelector("#editor").close());
        }"""
    )
    expect(guido.locator("#live")).to_contain_text("Ada is editing Bread")
    expect(row(guido, "Bread").locator(".held")).to_have_count(0)


def test_on_a_page_of_plain_http(person: MakePerson, todo: Todo) -> None:
    somebody = person("ada")
    somebody.context.add_init_script("delete Crypto.prototype.randomUUID")
    ada = somebody.board(todo.pk)
    ada.get_by_label("New task").fill("Bread")
    ada.get_by_label("New task").press("Enter")
    edit(ada, "typed")
    save(ada)
    expect(row(ada, "Bread").locator(".notes")).to_have_text(re.compile("^typed$"))


def test_ticking_keeps_the_focus_and_is_no_news_to_who_did_it(person: MakePerson, todo: Todo) -> None:
    todo.add("Bread")
    ada = person("ada").board(todo.pk)
    box = row(ada, "Bread").get_by_role("checkbox")
    box.focus()
    ada.keyboard.press("Space")
    expect(row(ada, "Bread")).to_have_class(re.compile("done"))
    expect(box).to_be_focused()
    expect(row(ada, "Bread")).not_to_have_attribute("aria-busy", "true")
    todo.add("Butter")
    expect(ada.locator("#live")).to_have_text("New: Butter.")
