"""The command line against a real server: what it prints, and what its exit status says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from drf_concord.client import Client
from drf_concord.client.cli import Exit, main
from tests.transports.proxy import free_port

pytestmark = pytest.mark.sqlite

GUIDO = ["--user", "guido:guido"]
ADA = ["--user", "ada:ada"]
COMMAND = [sys.executable, "-m", "drf_concord.client"]


@pytest.fixture
def url(guido: Client, api: str) -> str:
    """The address of a new task."""
    made = guido.resource("tasks/").create({"text": "new", "list": 1})
    return f"{api}tasks/{made.pk}/"


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; return its exit status, what it printed, and its complaints."""

    def out(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return out


def test_get(out: Any, url: str, api: str) -> None:
    status, text, _ = out("get", url)
    assert status == Exit.OK
    assert "text: new\n" in text
    assert '\netag: "' in text

    found = json.loads(out("get", url, "--json")[1])
    assert found["data"]["text"] == "new"
    assert found["etag"] in text
    assert '"text":"new"' in out("get", f"{api}tasks/?list=1")[1]


def test_a_terminal_obeys_nobody_else(out: Any, url: str, guido: Client) -> None:
    pk = url.rstrip("/").rpartition("/")[2]
    guido.resource("tasks/").patch(pk, {"notes": "\x1b[2J\nid: 7"})

    text = out("get", url)[1]
    assert "\x1b" not in text
    assert "notes: \\u001b[2J\\u000aid: 7\n" in text
    assert json.loads(out("get", url, "--json")[1])["data"]["notes"] == "\x1b[2J\nid: 7"


def test_patch(out: Any, url: str) -> None:
    status, text, _ = out("patch", url, "done=true", "text=hello there", 'notes="5"', *GUIDO)
    assert status == Exit.OK
    assert "done: true" in text
    assert "text: hello there" in text
    assert "notes: 5" in text

    changed = out("patch", url, "--data", '{"text": "other"}', "--json", *GUIDO)[1]
    assert json.loads(changed)["data"]["text"] == "other"


def test_a_conflict_is_shown(out: Any, url: str) -> None:
    tag = json.loads(out("get", url, "--json")[1])["etag"]
    out("patch", url, "text=hers", *ADA)

    status, _, complaint = out("patch", url, "text=mine", "--if-match", tag, *GUIDO)
    assert status == Exit.CONFLICT
    assert '"mine"  "hers"  changed by others' in complaint
    # a shell may have taken the quotes
    assert out("patch", url, "text=mine", "--if-match", tag.strip('"'), *GUIDO)[0] == Exit.CONFLICT
    body = json.loads(out("patch", url, "text=mine", "--if-match", tag, "--json", *GUIDO)[2])
    assert (body["status"], body["code"]) == (412, "version_mismatch")
    assert out("patch", url, "text=mine", "--force", *GUIDO)[0] == Exit.OK


def test_a_lock(out: Any, url: str, api: str) -> None:
    status, text, _ = out("lock", url, "--ttl", "60", "--reason", "tea", *GUIDO)
    assert status == Exit.OK
    assert "reason: tea" in text
    token = next(line for line in text.splitlines() if line.startswith("token: ")).removeprefix("token: ")

    status, _, complaint = out("patch", url, "text=hers", *ADA)
    assert status == Exit.LOCKED
    assert "holder: guido" in complaint
    assert out("lock", url, *ADA)[0] == Exit.LOCKED
    assert "reason: tea" in out("locks", api, "--model", "todolist.Task", *GUIDO)[1]
    assert out("patch", url, "text=x", "--lock-token", token, *GUIDO)[0] == Exit.OK
    assert out("patch", url, "text=x", "--lock-token", "another", *GUIDO)[0] == Exit.CONFLICT

    assert out("unlock", url, *ADA)[0] == Exit.REFUSED
    assert out("unlock", url, "--lock-token", token, *GUIDO) == (Exit.OK, "unlocked\n", "")
    assert out("locks", api, *ADA)[1] == "no locks\n"


def test_freeze_and_break(out: Any, url: str, api: str) -> None:
    boss = ["--user", "admin:admin"]
    assert out("lock", url, "--freeze", *GUIDO)[0] == Exit.REFUSED
    frozen = json.loads(out("lock", url, "--freeze", "--json", *boss)[1])
    assert (frozen["state"], frozen["expires_at"]) == ("frozen", None)
    assert out("unlock", url, "--break", "--user", "mina:mina")[0] == Exit.REFUSED
    assert url.rstrip("/").rpartition("/")[2] in out("locks", api, "--all", "--json", *boss)[1]
    assert out("unlock", url, "--break", "--reason", "done", *boss)[0] == Exit.OK


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["get", "{api}tasks/99999/"], Exit.NOT_FOUND),
        (["patch", "{api}tasks/1/", "text=x"], Exit.REFUSED),
        (["patch", "{api}tasks/1/", "text=x", "--user", "guido:wrong"], Exit.REFUSED),
        (["patch", "{api}tasks/1/", "text=", *GUIDO], Exit.ERROR),
        (["patch", "{api}tasks/1/", *GUIDO], Exit.USAGE),
        (["patch", "{api}tasks/1/", "text", *GUIDO], Exit.USAGE),
        (["patch", "{api}tasks/1/", "--data", "[1]", *GUIDO], Exit.USAGE),
        (["patch", "{api}tasks/1/?a=b", "text=x", *GUIDO], Exit.USAGE),
        (["get", "tasks/1/"], Exit.USAGE),
        (["get", "http://127.0.0.1:{free}/"], Exit.NO_CONNECTION),
        (["watch", "{api}", "--model", "todolist.Nothing"], Exit.NOT_FOUND),
        (["watch", "{api}", "--model", "todolist.Task", "--group-by", "list_id"], Exit.USAGE),
        (["watch", "http://127.0.0.1:{free}/", "--model", "a.B"], Exit.NO_CONNECTION),
    ],
)
def test_the_exit_status(out: Any, api: str, arguments: list[str], status: int) -> None:
    given = [text.replace("{api}", api).replace("{free}", str(free_port())) for text in arguments]
    found = out(*given)

    assert found[0] == status
    assert found[1] == ""
    assert found[2].strip()
    assert "Traceback" not in found[2]


def test_a_command_that_is_none(out: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["frobnicate"])
    assert left.value.code == Exit.USAGE


def test_the_password_may_be_in_the_environment(out: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_PASSWORD", "guido")

    assert out("patch", url, "text=x", "--user", "guido")[0] == Exit.OK


def test_the_password_is_asked_for(out: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONCORD_PASSWORD", raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "guido" if prompt == "Password of guido: " else "")

    status, text, complaint = out("patch", url, "text=x", "--user", "guido")
    assert status == Exit.OK
    assert "guido" not in text + complaint


def test_a_password_that_would_be_shown_is_not_asked_for(url: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "CONCORD_PASSWORD"}
    found = subprocess.run(
        [*COMMAND, "patch", url, "text=x", "--user", "guido"],
        input="guido\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,  # without a terminal
    )

    assert found.returncode == Exit.USAGE
    assert "CONCORD_PASSWORD" in found.stderr


class Running:
    """A command that goes on until it is interrupted."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def interrupt(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lock_that_is_kept_is_given_back_at_the_end(url: str, ada: Client, number: int) -> None:
    tasks, pk = ada.resource("tasks/"), url.rstrip("/").rpartition("/")[2]
    with Running("lock", url, "--keep", "--json", "--ttl", "60", *GUIDO) as keeping:
        assert json.loads(keeping.line())["mine"] is True
        assert tasks.lock_state(pk)["state"] == "held"
        assert keeping.interrupt(number) == Exit.OK
    assert tasks.lock_state(pk)["state"] == "free"


def test_a_lock_that_is_kept_may_be_lost(url: str, admin: Client) -> None:
    with Running("lock", url, "--keep", "--json", "--ttl", "1.5", *GUIDO) as keeping:
        keeping.line()
        admin.resource("tasks/").break_lock(url.rstrip("/").rpartition("/")[2])
        assert keeping.process.wait(30) == Exit.CONFLICT


def test_watch(url: str, guido: Client) -> None:
    tasks, pk = guido.resource("tasks/"), int(url.rstrip("/").rpartition("/")[2])
    with Running("watch", url, "--model", "todolist.Task", "--pk", str(pk), "--json", *GUIDO) as watching:
        there = json.loads(watching.line())
        assert (there["action"], there["pk"], there["data"]["text"]) == ("THERE", pk, "new")
        tasks.patch(pk, {"text": "watched"})
        change = json.loads(watching.line())
        assert (change["action"], change["data"]["text"]) == ("UPDATED", "watched")
        tasks.delete(pk)
        assert json.loads(watching.line())["reason"] == "deleted"
        assert watching.interrupt() == Exit.OK


def test_watch_for_people(api: str, guido: Client) -> None:
    group = guido.resource("lists/").create({"name": "watched"}).pk
    made = guido.resource("tasks/").create({"text": "a", "list": group})
    with Running("watch", api, "--model", "todolist.Task", "--group-by", f"list_id={group}") as watching:
        assert watching.line().startswith(f'THERE    {made.pk} {{"id":{made.pk}')
        guido.resource("tasks/").delete(made)
        assert watching.line() == f"DELETED  {made.pk} deleted\n"
