"""What must be in no file of the repository: package indexes, and paths of one machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# nothing here asks a database, so one run is enough
pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]

# written in pieces, since this file is searched too
INDEXES = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("debian", "org"),
]
HOMES = ["/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/", ".py" + "env"]


def tracked() -> list[Path]:
    """Every file that is, or would be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def mentions(pattern: re.Pattern[str]) -> list[str]:
    """Where a pattern occurs, as `file:line: text`."""
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def test_no_file_names_the_host_of_a_package_index() -> None:
    hosts = "|".join(rf"{name}\.{top}" for name, top in INDEXES)

    assert mentions(re.compile(rf"\b({hosts})\b")) == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    # where this very run lives, beside the folders in which people usually keep their work
    own = {f"{ROOT}/", f"{Path.home()}/", f"{sys.base_prefix}/"} - {"/", "/usr/"}
    places = [re.escape(place) for place in (*own, *HOMES)]

    assert mentions(re.compile(rf"(?<![\w.])({'|'.join(places)})")) == []


def test_every_requirement_is_pinned_with_a_hash() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        entries = path.read_text().replace("\\\n", " ").splitlines()
        bare = [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
        assert bare == [], path.name


def test_the_demo_and_the_tests_share_one_environment() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text()
        return set(re.findall(r"^([\w.-]+==[^ ]+)", text, re.MULTILINE))

    assert pins("demo.txt") <= pins("test.txt")
