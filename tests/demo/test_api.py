"""The addresses of the demo, its people and its records."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.admin.pages import fill
from tests.demo.process import Demo

# fixed, as in the documentation: commands with them can be pasted
UUID = "8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a11"
ANOTHER = "8b0c1c1e-5d5e-4c38-9f3a-6a1f0c8f2a12"
ADDRESSES = [
    "/api/lists",
    "/api/lists/1",
    "/api/tasks",
    "/api/tasks/1",
    "/api/documents",
    "/api/documents/2",
    "/api/documents/2/lock",
    "/api/instances",
    f"/api/instances/{UUID}",
    f"/api/instances/{UUID}/lock",
    "/api/locks",
]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_answers_with_and_without_the_slash(
    guido: httpx.Client, address: str, slash: str
) -> None:
    assert guido.get(address + slash, params={"mine": "1"}).status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
def test_writes_and_locks_need_no_slash_either(guido: httpx.Client, slash: str) -> None:
    document = f"/api/documents/2{slash}"
    tag = guido.get(document).headers["ETag"]
    written = guido.patch(document, json={"text": "Upstairs."}, headers={"If-Match": tag})
    assert written.status_code == 200
    lock = f"/api/documents/2/lock{slash}"
    assert guido.post(lock, json={"ttl": 60}).status_code == 201
    assert guido.delete(lock).status_code == 204


def test_anonymous_may_read_and_is_asked_for_a_login_on_a_write(nobody: httpx.Client) -> None:
    read = nobody.get("/api/documents/2/")
    assert read.status_code == 200
    assert read.headers["ETag"]
    refused = nobody.patch("/api/documents/2/", json={"text": "x"})
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", [{"Sec-Fetch-Mode": "cors"}, {"Accept": "text/html,*/*"}])
def test_no_browser_opens_a_dialog(nobody: httpx.Client, header: dict[str, str]) -> None:
    refused = nobody.patch("/api/documents/2/", json={"text": "x"}, headers=header)
    assert refused.status_code == 401
    assert not refused.headers["WWW-Authenticate"].startswith("Basic")


def test_a_session_is_a_login_too(nobody: httpx.Client) -> None:
    nobody.get("/api-auth/login/")
    form = {"username": "ada", "password": "ada"} | csrf(nobody)
    assert nobody.post("/api-auth/login/", data=form).status_code == 302
    protected = {"X-CSRFToken": nobody.cookies["concord_demo_csrf"]}
    assert nobody.patch("/api/tasks/1/", json={"done": True}).status_code == 403
    written = nobody.patch("/api/tasks/1/", json={"done": True}, headers=protected)
    assert written.status_code == 200


def test_a_list_shows_its_tasks_and_its_tag_moves_with_theirs(guido: httpx.Client) -> None:
    before = guido.get("/api/lists/2/")
    task = before.json()["tasks"][0]
    assert set(task) == {"id", "text", "done", "notes", "list"}
    assert guido.patch(f"/api/tasks/{task['id']}/", json={"notes": "Two."}).status_code == 200
    after = guido.get("/api/lists/2/")
    assert after.json()["tasks"][0]["notes"] == "Two."
    assert after.headers["ETag"] != before.headers["ETag"]
    stale = guido.patch("/api/lists/2/", json={"name": "Food"}, headers={"If-Match": before.headers["ETag"]})
    assert stale.status_code == 412


def test_tasks_of_one_list(nobody: httpx.Client) -> None:
    some = nobody.get("/api/tasks/?list=2").json()
    assert some
    assert {task["list"] for task in some} == {2}
    assert len(nobody.get("/api/tasks/").json()) > len(some)
    assert nobody.get("/api/tasks/?list=999999").json() == []
    assert nobody.get("/api/tasks/?list=groceries").status_code == 400


def test_an_instance_is_known_by_its_uuid_and_keeps_it(guido: httpx.Client) -> None:
    address = f"/api/instances/{UUID}/"
    assert guido.get(address).json()["name"] == "web-1"
    changed = guido.patch(address, json={"uuid": ANOTHER, "state": "stopped"})
    assert (changed.status_code, changed.json()["uuid"]) == (200, UUID)
    assert changed.json()["state"] == "stopped"
    assert guido.get("/api/instances/no-uuid/").status_code == 404


def test_the_admin_has_its_styles_and_lets_only_admin_in(demo: Demo) -> None:
    for name, status in (("admin", 302), ("guido", 200)):
        with demo.client() as browser:
            browser.get("/admin/login/")
            assert browser.get("/static/admin/css/base.css").status_code == 200
            form = {"username": name, "password": name} | csrf(browser)
            assert browser.post("/admin/login/", data=form).status_code == status
            if name == "admin":
                for page in ("", "todolist/task/", "documents/document/2/change/", "machines/instance/"):
                    assert browser.get(f"/admin/{page}").status_code == 200


def test_a_change_in_the_admin_moves_the_tags(demo: Demo, nobody: httpx.Client) -> None:
    before = {path: nobody.get(path).headers["ETag"] for path in ("/api/tasks/5/", "/api/lists/2/")}
    with demo.client() as admin:
        admin.get("/admin/login/")
        form = {"username": "admin", "password": "admin"}
        admin.post("/admin/login/", data=form | csrf(admin))
        page = "/admin/todolist/task/5/change/"
        saved = admin.post(page, data=fill(admin.get(page), text="Rye bread"))
        assert saved.status_code == 302
    assert nobody.get("/api/tasks/5/").json()["text"] == "Rye bread"
    for path, tag in before.items():
        assert nobody.get(path).headers["ETag"] != tag


def csrf(browser: httpx.Client) -> dict[str, str]:
    """Return the field that a form of the browser carries."""
    return {"csrfmiddlewaretoken": browser.cookies["concord_demo_csrf"]}


def test_foreign_hosts_and_unknown_addresses_are_refused(nobody: httpx.Client) -> None:
    assert nobody.get("/", headers={"Host": "example.com"}).status_code == 400
    assert nobody.get("/nowhere/").status_code == 404


def test_the_pages_load_nothing_from_elsewhere(demo: Demo, nobody: httpx.Client) -> None:
    seen, waiting = set(), {"/", "/machines/", "/story/"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = nobody.get(path)
        assert answer.status_code == 200, path
        # the name of a markup language is no address, the story names this server, and comments name nobody
        named = set(re.findall(r"https?://([^/'\"\s)]+)", answer.text)) - {"www.w3.org"}
        assert named <= {f"127.0.0.1:{demo.port}"}, path
        loaded = re.findall(r"""(?:src="|stylesheet" href="|from "|@import "|url\(")([^"]+)""", answer.text)
        waiting |= {str(answer.url.join(found).path) for found in loaded} - seen
    assert {"/board/guido/", "/static/demo/board.js", "/static/drf_concord/concord.js"} <= seen


def test_only_the_demo_itself_shows_a_board_in_a_frame(nobody: httpx.Client) -> None:
    frames = {
        path: nobody.get(path).headers["X-Frame-Options"] for path in ("/", "/board/ada/", "/machines/")
    }
    assert frames == {"/": "DENY", "/board/ada/": "SAMEORIGIN", "/machines/": "DENY"}
    for path in ("/board/mina/", "/machines/?as=mina"):
        assert nobody.get(path).status_code == 404
