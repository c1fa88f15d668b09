"""The page about the client says what there is, and its examples run."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drf_concord.client import Client, cli, errors
from drf_concord.client.cli import Exit

pytestmark = pytest.mark.sqlite

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def test_every_command_and_option_is_documented() -> None:
    found = dict(commands(cli._parser()))

    assert set(found) == {"get", "patch", "lock", "unlock", "locks", "watch"}
    for name, parser in found.items():
        assert f"| `{name} URL" in TEXT
        options = {option for action in parser._actions for option in action.option_strings} - {
            "-h",
            "--help",
        }
        assert {option for option in options if option not in TEXT} == set()


def test_every_exit_status_and_error_is_documented() -> None:
    assert [code for code in Exit if f"\n| {code.value} | " not in TEXT] == []
    names = [name for name in errors.__all__ if name != "refusal"]
    assert [name for name in names if f"`{name}`" not in TEXT] == []


def here(example: str, api: str) -> str:
    return example.replace("http://127.0.0.1:8000/api/", api)


def test_the_first_example_runs(api: str, guido: Client) -> None:
    exec(here(EXAMPLES[0], api), {})  # noqa: S102

    assert guido.resource("tasks/").get(1)["notes"] == "At length."


def test_the_second_example_runs(api: str, guido: Client) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", here(EXAMPLES[1], api)], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
            guido.resource("tasks/").create({"text": "seen", "list": 1})
            assert process.stdout.readline().startswith("CREATED Item({")
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["httpx", "websockets"])
def test_without_the_extra_it_says_what_to_install(name: str) -> None:
    code = f"import sys; sys.modules[{name!r}] = None; import drf_concord.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"The client needs {name}: pip install drf-concord[client]" in done.stderr
