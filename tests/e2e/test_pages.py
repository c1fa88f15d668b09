"""The pages as a whole: both boards on one, the machine room, and who cannot see or use a mouse."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.demo.process import Demo
from tests.e2e.conftest import Person, Todo, photograph
from tests.js.packages import installed

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

    MakePerson = Callable[..., Person]

pytestmark = [pytest.mark.browser, pytest.mark.services("chromium", "node"), pytest.mark.timeout(90)]


def serious(page: Page | Frame) -> list[Any]:
    """Return what axe finds that is serious or critical."""
    page.evaluate((installed("axe-core") / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run()")
    assert found["passes"], "nothing was looked at"
    return [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("width", [1280, 360])
def test_both_boards_are_on_the_first_page(person: MakePerson, width: int) -> None:
    somebody = person("anybody", viewport={"width": width, "height": 760})
    page = somebody.context.new_page()
    page.goto(f"{somebody.origin}/")
    guido, ada = (page.frame_locator(f"iframe[title='{name}’s board']") for name in ("Guido", "Ada"))
    for pane in (guido, ada):
        expect(pane.locator("#connection")).to_have_text(re.compile("Live"))
    guido.get_by_role("button", name="Borrow the loudspeaker").click()
    expect(ada.locator(".held")).to_contain_text("Guido is editing")
    ada.get_by_role("button", name="Order lemonade").click()
    expect(guido.locator(".held")).to_contain_text("Ada is editing")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    photograph(page, f"boards-{width}")
    for frame in page.frames:
        assert serious(frame) == []
    for pane in (guido, ada):
        pane.locator("#editor").get_by_role("button", name="Close").click()
    for pane in (guido, ada):
        expect(pane.locator(".badge")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_anybody(person: MakePerson, todo: Todo, scheme: str) -> None:
    pk = todo.add("Bread", notes="one")
    todo.add("Butter", done=True)
    guido = person("guido", color_scheme=scheme).board(todo.pk)
    ada = person("ada", color_scheme=scheme).board(todo.pk, hold=False)
    assert serious(guido) == []
    guido.get_by_role("button", name="Bread").click()
    expect(ada.locator(".held")).to_be_visible()
    assert serious(ada) == []
    ada.get_by_role("button", name="Bread").click()
    expect(ada.locator("#editor .banner")).to_contain_text("Guido is editing")
    assert serious(ada) == []
    guido.keyboard.press("Escape")
    ada.locator("#editor").get_by_role("button", name="Edit").click()
    ada.locator("#editor").get_by_label("Notes").fill("two")
    todo.change(pk, notes="three")
    ada.locator("#editor button[value=save]").click()
    expect(ada.locator("#conflict")).to_be_visible()
    assert serious(ada) == []
    ada.locator("#conflict").get_by_role("button", name="Back").click()
    ada.locator("#editor").get_by_role("button", name="Close").click()
    expect(ada.locator(".toast")).to_be_visible()
    assert serious(ada) == []


def test_the_machine_room(person: MakePerson, demo: Demo) -> None:
    operator, guido = person("admin"), person("guido")
    room, his = operator.context.new_page(), guido.context.new_page()
    room.goto(f"{operator.origin}/machines/")
    his.goto(f"{guido.origin}/machines/?as=guido")
    expect(his.get_by_role("button", name="Lock for maintenance")).to_have_count(0)
    room.get_by_role("button", name="Lock for maintenance: web-1").click()
    assert serious(room) == []
    room.get_by_label("Reason").fill("Replacing the disk")
    room.get_by_role("button", name="Lock", exact=True).click()
    expect(his.locator(".held")).to_have_text(re.compile(r"^Admin: Replacing the disk, since \d\d:\d\d$"))

    his.get_by_role("button", name="Delete web-1").click()
    expect(his.locator(".toast")).to_contain_text(
        re.compile("cannot be deleted. Admin locked it at .* the disk")
    )
    photograph(his, "machines")
    assert serious(his) == []
    # the operator himself is refused as well, and a page that is opened later knows it too
    room.get_by_role("button", name="Delete web-1").click()
    expect(room.locator(".toast")).to_contain_text("web-1 cannot be deleted")
    room.reload()
    expect(room.locator(".held")).to_contain_text("Replacing the disk")

    room.get_by_role("button", name="End maintenance: web-1").click()
    expect(his.locator(".held")).to_have_count(0)
    his.get_by_role("button", name="Delete web-1").click()
    expect(room.get_by_role("button", name="Delete web-1")).to_have_count(0)
    his.get_by_role("button", name="Undo").click()
    expect(room.get_by_role("button", name="Delete web-1")).to_have_count(1)
