"""The commands of the first page, pasted into bash as they stand there: the page cannot lie."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx
import pytest

from tests.demo.process import PATIENCE, Demo

MARK = "::next::"


@dataclass(slots=True)
class Shown:
    """A command of the page, the statuses that the page promises, and what the command printed."""

    expect: list[str]
    command: str = ""
    printed: str = ""

    @property
    def statuses(self) -> list[str]:
        """The statuses of the answers that were printed."""
        return re.findall(r"^HTTP/1\.1 (\d+)", self.printed, re.MULTILINE)

    @property
    def bodies(self) -> list[dict[str, object]]:
        """The JSON bodies that were printed."""
        return [json.loads(line) for line in self.printed.splitlines() if line.startswith("{")]

    def header(self, name: str) -> list[str]:
        """Return the values of a header in the answers that were printed."""
        return re.findall(rf"^{name}: (.*?)\r?$", self.printed, re.MULTILINE | re.IGNORECASE)


@dataclass
class Page(HTMLParser):
    """Collects the commands of the page, as a browser would show and copy them."""

    shown: list[Shown] = field(default_factory=list)
    inside: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self.shown.append(Shown((dict(attrs).get("data-expect") or "").split()))
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.shown[-1].command += data


def paste(demo: Demo, host: str) -> list[Shown]:
    """Paste the commands of the page into one bash, from top to bottom."""
    page = Page()
    with demo.client() as client:
        page.feed(client.get(demo.address("/story/", host=host)).raise_for_status().text)
    script = "".join(f"{shown.command}\necho {MARK}\n" for shown in page.shown)
    # from stdin, as from a terminal: a command that read it would swallow the next ones
    bash = subprocess.run(
        ["bash", "-u"], input=script, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert bash.stderr == ""
    for shown, printed in zip(page.shown, bash.stdout.split(f"{MARK}\n"), strict=False):
        shown.printed = printed
    return page.shown


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_every_command_shows_what_the_page_says(demo: Demo, host: str) -> None:
    # three hosts, so three times on the same data: it can be pasted as often as one likes
    shown = paste(demo, host)
    assert len(shown) == 11
    assert f"http://{host}:{demo.port}/api/documents/1/" in shown[0].command
    assert [step.statuses for step in shown] == [step.expect for step in shown]


def test_nothing_of_guido_or_ada_is_lost(demo: Demo, ada: httpx.Client) -> None:
    _, read, guido, refused, unchanged, again, hold, held, _, _, asked = paste(demo, "127.0.0.1")

    guidos_tag, adas_tag = re.findall(r'has ("\S+")', read.printed)
    assert guidos_tag == adas_tag

    (conflict,) = refused.bodies
    assert conflict["code"] == "version_mismatch"
    assert conflict["your_etag"] == adas_tag
    assert conflict["current_etag"] == guido.header("etag")[0]
    assert conflict["changed_fields"] == conflict["conflicting_fields"] == ["text"]
    assert conflict["current"] == unchanged.bodies[0] == guido.bodies[0]

    text = str(again.bodies[0]["text"])
    assert text.startswith("Guido: we meet at four")
    assert text.endswith("Ada: I bring the bread.")

    assert hold.bodies[0]["state"] == "held"
    assert hold.bodies[0]["mine"] is True
    assert [body["code"] for body in held.bodies] == ["object_locked", "object_locked"]
    assert [body["reason"] for body in held.bodies] == ["finishing the plan"] * 2
    assert all("guido" in json.dumps(body["holder"]) for body in held.bodies)
    assert all(0 < int(seconds) <= 60 for seconds in held.header("retry-after"))
    assert len(held.header("retry-after")) == 2

    assert asked.bodies == []
    assert "bread, and cake" in ada.get("/api/documents/1/").json()["text"]


def test_the_page_says_how_to_begin_when_there_is_no_document(demo: Demo, guido: httpx.Client) -> None:
    documents = guido.get("/api/documents/").json()
    for document in documents:
        assert guido.delete(f"/api/documents/{document['id']}/").status_code == 204
    try:
        (only,) = paste(demo, "127.0.0.1")
        assert only.statuses == ["201"]
    finally:
        # the story needs a first document, whichever test comes next
        created = guido.post("/api/documents/", json={"text": "Once more."})
        assert created.status_code == 201
