"""How the demo starts, what it says when it cannot, and how it stops."""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from demo import run as program
from tests.demo.conftest import MakeDatabase
from tests.demo.process import PATIENCE, ROOT, Demo, environment, run


def test_what_people_changed_is_there_after_a_restart(make_database: MakeDatabase) -> None:
    url = make_database()
    with Demo(url) as demo:
        with demo.client("guido") as guido:
            assert guido.patch("/api/tasks/2/", json={"text": "Changed"}).status_code == 200
            assert guido.delete("/api/tasks/3/").status_code == 204
            # the keys that were chosen for the sample are not given out again
            assert guido.post("/api/documents/", json={"text": "New"}).json()["id"] == 3
            before = guido.get("/api/tasks/").json()
        assert demo.interrupt() == 0
    with Demo(url) as demo, demo.client() as nobody:
        assert nobody.get("/api/tasks/").json() == before


def test_the_people_have_the_keys_of_the_examples(make_database: MakeDatabase) -> None:
    url = make_database()
    with Demo(url) as demo:
        demo.interrupt()
    ask = (
        "from django.contrib.auth.models import User as U; import json;"
        "print(json.dumps([[u.pk, u.username, u.is_staff, u.has_perm('todolist.change_task'),"
        " u.check_password(u.username)] for u in U.objects.order_by('pk')]))"
    )
    people = json.loads(manage(url, "shell", "-v0", "-c", ask))
    assert people[0] == [1, "admin", True, True, True]
    assert [person[0] for person in people] == [1, 2, 3, 4, 5, 6]
    assert people[4:] == [[5, "guido", False, True, True], [6, "ada", False, True, True]]
    assert [person[2:] for person in people[1:4]] == [[False, False, True]] * 3


def manage(url: str, *arguments: str) -> str:
    """Run a management command of the demo from another directory and return what it printed."""
    return subprocess.run(
        [sys.executable, str(ROOT / "demo" / "manage.py"), *arguments],
        cwd=Path(sys.executable).parent,
        env=environment(DATABASE_URL=url),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


def test_migrations_are_complete_and_no_check_complains(make_database: MakeDatabase) -> None:
    url = make_database()
    assert "No changes" in manage(url, "makemigrations", "--check", "--dry-run")
    manage(url, "migrate", "-v0")
    manage(url, "check", "--database", "default", "--fail-level", "WARNING")


def test_an_old_python_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 14, "final", 0))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "demo" / "run.py"), run_name="__main__")
    assert ended.value.code == 1
    assert sentence(capsys.readouterr().err) == "it needs Python 3.11 or newer, and this is 3.10."


def sentence(text: str) -> str:
    """Return what a demo that cannot start says, which is one line."""
    (line,) = text.splitlines()
    assert line.startswith("The demo cannot start: ")
    return line.removeprefix("The demo cannot start: ")


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_taken_port_is_named(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run(PORT=str(port))
    assert ended.returncode == 1
    said = sentence(ended.stderr)
    assert f"port {port} is taken" in said
    assert "make demo PORT=" in said


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PORT": "http"}, "PORT is 'http'"),
        ({"PORT": "65536"}, "from 0 to 65535"),
        ({"WORKERS": "0"}, "WORKERS is '0'"),
        ({"DATABASE_URL": "oracle://x/y"}, "DATABASE_URL is not one the demo understands"),
        ({"DATABASE_URL": "postgres://localhost"}, "DATABASE_URL is not one"),
        ({"DATABASE_URL": "postgres://[x/y"}, "DATABASE_URL cannot be read"),
        ({"DATABASE_URL": "postgres://a:b@127.0.0.1:1/x"}, "PostgreSQL at 127.0.0.1:1"),
        ({"DATABASE_URL": "sqlite:///no/such/folder/x"}, "not a folder"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(variables: dict[str, str], said: str) -> None:
    ended = run(**({"PORT": "0"} | variables))
    assert ended.returncode == 1
    assert said in sentence(ended.stderr)
    assert ended.stdout == ""


@pytest.mark.postgresql
def test_a_database_that_is_missing_comes_with_the_command_that_creates_it(
    make_database: MakeDatabase,
) -> None:
    ended = run(PORT="0", DATABASE_URL=f"{make_database()}%20or%20not")
    assert ended.returncode == 1
    said = sentence(ended.stderr)
    assert "has no database" in said
    assert "Create it with: createdb -h" in said
    assert said.endswith(" or not'")


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "NEEDED", ("django", "a_package_nobody_has"))
    with pytest.raises(program.CannotStart, match=r"lacks a_package_nobody_has\..*make demo"):
        program.check_packages()


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_it_at_once(make_database: MakeDatabase, workers: int) -> None:
    with Demo(make_database(), workers) as demo, demo.client() as client:
        # the connection stays open, as a browser's does
        assert client.get("/").status_code == 200
        # half a second of grace, and time for a machine that is busy with other tests
        assert demo.interrupt(within=5) == 0
        assert demo.complaints() == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(demo.address())


def test_it_answers_as_localhost_whichever_address_that_is(demo: Demo) -> None:
    with demo.client() as client:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert client.get(demo.address(host=host)).status_code == 200


def test_it_tells_where_it_is_and_who_may_log_in(demo: Demo) -> None:
    for word in (
        demo.address(),
        demo.address("/machines/"),
        demo.address("/story/"),
        demo.address("/api/"),
        "guido / guido",
        "ada / ada",
    ):
        assert word in demo.said
    assert os.environ.get("PGPASSWORD") or ":@" not in demo.said
