"""A tutorial that is carried out: its files written, its commands run, their answers compared with it."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["PAGE", "PASSWORD", "PATIENCE", "Tutorial"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-steps.md"
PASSWORD = "correct-horse"
PRINTED = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# the first line of a block that is a file, as a comment of its language
FILE = re.compile(r"(?:# |\{# )(?P<path>[\w./]+\.\w+)(?P<more>, at the end)?(?: #\})?\n")
# what makes the environment, which the tests have
GIVEN = ("python -m venv", ". .venv", "pip install")
# Longer than any start takes on a busy machine; what is measured is only that it ends.
PATIENCE = 60


@dataclass
class Tutorial:
    """One reader, who does what the page says in an empty folder.

    Args:
        page: the text of the tutorial.
        folder: the empty folder.
    """

    page: str
    folder: Path
    origin: str = ""
    files: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    # printed tags, and those that the server gave in their places
    tags: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Do it from the first block to the last; at the end of the context the server stops."""
        blocks = [(match[1], match[2]) for match in BLOCK.finditer(self.page)]
        server: subprocess.Popen[str] | None = None
        answer: httpx.Response | None = None
        try:
            for language, text in blocks:
                if language == "http":
                    assert answer is not None, f"an answer to nothing: {text}"
                    self._compare(answer, text)
                    answer = None
                elif language != "sh":
                    self._write(text)
                for command in _commands(text) if language == "sh" else ():
                    assert answer is None, f"no answer is printed to what comes before {command}"
                    if command.startswith("curl "):
                        answer = self._ask(command)
                    elif command.startswith("uvicorn "):
                        server = self._serve(command)
                    elif not command.startswith(GIVEN):
                        self._run(command)
            assert answer is None, "no answer is printed to the last command"
            yield
        finally:
            if server is not None:
                server.kill()
                server.communicate(timeout=PATIENCE)

    def _write(self, text: str) -> None:
        found = FILE.match(text)
        assert found is not None, f"a block without a file: {text[:60]}"
        path = self.folder / found["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if found["more"] else ""
        path.write_text(before + text)
        self.files.append(found["path"])

    def _run(self, command: str) -> None:
        words = _ours(command)
        if "createsuperuser" in words:
            words.append("--noinput")  # the password comes from the environment, no terminal asks for it
        done = subprocess.run(
            words, cwd=self.folder, env=self._environment(), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _serve(self, command: str) -> subprocess.Popen[str]:
        """Start the server on a free port, and wait until it has said which."""
        server = subprocess.Popen(
            [*_ours(command), "--port", "0"],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.DEVNULL,  # a line for each request
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                self.origin = found[1]
                return server
        server.wait(PATIENCE)
        raise AssertionError(f"the server did not start: {said}")

    def _ask(self, command: str) -> httpx.Response:
        """Send what curl would send."""
        options = argparse.ArgumentParser()
        options.add_argument("-i", action="store_true", required=True)
        options.add_argument("-u", required=True)
        options.add_argument("-X", default="POST")
        options.add_argument("-H", action="append")
        options.add_argument("-d")
        options.add_argument("url")
        given = options.parse_args(shlex.split(command)[1:])
        assert given.url.startswith(PRINTED)
        headers = dict(line.split(": ", 1) for line in given.H)
        if "If-Match" in headers:
            headers["If-Match"] = self.tags[headers["If-Match"]]
        return httpx.request(
            given.X,
            given.url.replace(PRINTED, self.origin),
            headers=headers,
            auth=tuple(given.u.split(":")),
            content=given.d,
            timeout=PATIENCE,
        )

    def _compare(self, answer: httpx.Response, printed: str) -> None:
        """Compare the status, the headers and the members that are printed."""
        head, body = printed.split("\n\n", 1)
        status, *headers = head.splitlines()
        assert status == f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}", answer.text
        for name, value in (line.split(": ", 1) for line in headers):
            assert name == "ETag", "other headers have no rule here"
            assert self.tags.setdefault(value, answer.headers[name]) == answer.headers[name]
        members: dict[str, Any] = json.loads(body)
        real = answer.json()
        assert {name: real[name] for name in members if name in real} == members, answer.text
        self.statuses.append(answer.status_code)

    def _environment(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
        return ours | {"PYTHONPATH": str(ROOT / "src"), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}


def _commands(text: str) -> list[str]:
    return text.replace("\\\n", "").splitlines()


def _ours(command: str) -> list[str]:
    """Return the command with the interpreter and the programs of this environment."""
    program, *words = shlex.split(command)
    modules = {"python": [], "django-admin": ["-m", "django"], "uvicorn": ["-m", "uvicorn"]}
    return [sys.executable, *modules[program], *words]
