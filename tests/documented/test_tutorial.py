"""The tutorial does what it says, from an empty folder to what a follower is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.documented.tutorial import PAGE, PASSWORD, PATIENCE, Tutorial

pytestmark = pytest.mark.sqlite


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    """The tutorial after its last line, with the server running."""
    tutorial = Tutorial(PAGE.read_text(), tmp_path_factory.mktemp("tutorial"))
    with tutorial.read():
        yield tutorial


@pytest.fixture
def ada(done: Tutorial) -> Iterator[httpx.Client]:
    """Ada's browser, in which she logged in where the page sent her."""
    with httpx.Client(base_url=done.origin, follow_redirects=True, timeout=PATIENCE) as browser:
        form = browser.get("/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        assert token is not None, form.text
        data = {"username": "ada", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/"}
        shown = browser.post(form.url, data=data)
        assert (shown.status_code, shown.url.path) == (200, "/")
        yield browser


def test_every_file_and_answer_is_as_printed(done: Tutorial) -> None:
    # what differs stops the reading; this says that nothing was passed over
    assert done.files == [
        "website/settings.py",
        "todo/models.py",
        "todo/serializers.py",
        "todo/views.py",
        "website/urls.py",
        "website/asgi.py",
        "todo/templates/todo/page.html",
    ]
    assert done.statuses == [201, 200, 412, 200]


def test_the_page_and_its_module_are_served(ada: httpx.Client) -> None:
    page = ada.get("/").text
    assert "{%" not in page
    found = re.search(r'from "(/static/[^"]+concord\.js)"', page)
    assert found is not None, page
    assert "export function connect" in ada.get(found[1]).text


def test_a_follower_is_told_of_what_http_changed(done: Tutorial, ada: httpx.Client) -> None:
    headers = {"Cookie": f"sessionid={ada.cookies['sessionid']}", "Origin": done.origin}
    address = done.origin.replace("http", "ws", 1) + "/ws/"
    with (
        httpx.Client(base_url=f"{done.origin}/api/tasks/", auth=("guido", PASSWORD)) as guido,
        connect(address, additional_headers=headers, subprotocols=[Subprotocol("concord.v1")]) as socket,
    ):
        made = guido.post("", json={"text": "cheese"}).json()
        request = {"action": "subscribe", "request_id": 1, "model": "todo.Task", "snapshot": True}
        socket.send(json.dumps(request))
        shown = receive(socket, "snapshot")["items"]
        assert made in [item["instance"] for item in shown]
        assert guido.patch(f"{made['id']}/", json={"done": True}).status_code == 200
        (change,) = receive(socket, "changes")["changes"]
    assert (change["action"], change["instance"]) == ("UPDATED", made | {"done": True})


def receive(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next frame of a kind."""
    while True:
        frame: dict[str, Any] = json.loads(socket.recv(timeout=PATIENCE))
        assert frame.get("type") in {"welcome", "subscribed", "snapshot", "mark", "changes", "ping"}, frame
        if frame["type"] == kind:
            return frame


SHORT = """
```sh
curl -i -u ada:correct-horse -X GET http://127.0.0.1:8000/api/tasks/1/ -H 'Accept: application/json'
```

```http
HTTP/1.1 200 OK
ETag: "printed"

{"id": 1}
```
"""


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("", ""),
        ("200 OK", "201 Created"),
        ('"id": 1', '"id": 2'),
        ('"id": 1', '"missing": null'),
        ("{", '{"id": 1}\n```\n\n```http\nHTTP/1.1 200 OK\n\n{'),
        ("```http", "```python"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(done: Tutorial, tmp_path: Path, was: str, becomes: str) -> None:
    short = Tutorial(SHORT.replace(was, becomes, 1), tmp_path, done.origin)
    expected = pytest.raises(AssertionError) if was else nullcontext()
    with expected, short.read():
        assert list(short.tags) == ['"printed"']


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="nothing"),
        Tutorial("```sh\npython nothing.py\n```\n", tmp_path).read(),
    ):
        pass
