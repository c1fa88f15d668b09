"""The documents say what the code does: settings, errors, checks, links, and the example of the README."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import drf_concord
from drf_concord.conf import Settings
from drf_concord.protocol import errors
from drf_concord.rest.mixins import ConditionalMixin

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
KEYS = [name for name in vars(Settings) if name.isupper()]
ERRORS = [getattr(errors, name) for name in errors.__all__]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_is_documented_with_its_default(key: str) -> None:
    row = next(line for line in (REFERENCE / "settings.md").read_text().splitlines() if f"| `{key}`" in line)
    default = vars(Settings)[key]
    written = f'"{default}"' if isinstance(default, str) else str(default)
    assert f"`{written}`".replace("'", '"') in row.replace("'", '"')


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[errors.ConcordError]) -> None:
    text = (REFERENCE / "errors.md").read_text()
    assert f"`{error.code}`" in text
    assert f"`{error.__name__}`" in text
    if error is not errors.ConcordError:
        row = next(line for line in text.splitlines() if f"`{error.code}` |" in line)
        assert row.startswith(f"| {error.status} ")
    assert getattr(drf_concord, error.__name__) is error


def test_every_check_and_command_is_documented() -> None:
    text = (REFERENCE / "commands.md").read_text()
    sources = [path.read_text() for path in (ROOT / "src/drf_concord").rglob("*.py")]
    ids = {each for source in sources for each in re.findall(r"concord\.[EW]\d{3}", source)}
    assert {"concord.E001", "concord.E016"} <= ids
    assert {each for each in ids if f"`{each}`" not in text} == set()
    commands = (ROOT / "src/drf_concord/management/commands/concord.py").read_text()
    for option in re.findall(r'"(--[a-z]+)"', commands):
        assert option in text
    for name in re.findall(r'add_parser\("([a-z]+)"', commands):
        assert f"concord {name}" in text


ATTRIBUTES = [
    name for name, value in vars(ConditionalMixin).items() if name[0] != "_" and not callable(value)
]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_of_a_view_is_documented_with_its_default(name: str) -> None:
    row = next(line for line in (REFERENCE / "models.md").read_text().splitlines() if f"| `{name}`" in line)
    assert row.split(" | ")[1] == f"`{getattr(ConditionalMixin, name)}`"


ROW = re.compile(r"^\| `(drf_concord[\w.]*)` \| (.*?) \| (.*?)\|", re.MULTILINE)
LISTED = {
    module: (re.findall(r"`(\w+)`", names), re.findall(r"`(\w+)`", inside))
    for module, names, inside in ROW.findall((REFERENCE / "names.md").read_text())
}
IMPORTS = re.compile(r"^ *from (drf_concord[\w.]*) import ([\w, ]+)", re.MULTILINE)
IMPORTED = {
    (module, name)
    for page in PAGES
    for module, names in IMPORTS.findall(page.read_text())
    for name in re.findall(r"\w+", names)
}


@pytest.mark.parametrize("module", LISTED)
def test_every_name_of_a_public_module_is_listed_once(module: str) -> None:
    names, inside = LISTED[module]
    assert sorted(names + inside) == sorted(import_module(module).__all__)


@pytest.mark.parametrize(("module", "name"), sorted(IMPORTED))
def test_what_the_pages_import_is_listed(module: str, name: str) -> None:
    assert f"{module}.{name}" in LISTED or name in LISTED[module][0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "drf_concord", "app"
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3",
             "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL;"}}}
ROOT_URLCONF = "app.code"
ALLOWED_HOSTS = ["testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
STORY = """
import django
django.setup()
from django.core.management import call_command
call_command("makemigrations", "app", verbosity=0)
call_command("migrate", verbosity=0)
call_command("check", databases=["default"], fail_level="WARNING", verbosity=0)
from rest_framework.test import APIClient
client = APIClient()
made = client.post("/tasks/", {"text": "milk"}, format="json")
assert made.status_code == 201, made.content
tag = made["ETag"]
done = client.patch("/tasks/1/", {"text": "milk, bread"}, format="json", HTTP_IF_MATCH=tag)
assert done.status_code == 200, done.content
late = client.patch("/tasks/1/", {"done": True}, format="json", HTTP_IF_MATCH=tag)
assert late.status_code == 412, late.content
body = late.json()
assert body["code"] == "version_mismatch"
assert (body["changed_fields"], body["conflicting_fields"]) == (["text"], [])
again = client.patch("/tasks/1/", {"done": True}, format="json", HTTP_IF_MATCH=body["current_etag"])
assert again.json() == {"id": 1, "text": "milk, bread", "done": True}
assert client.get("/tasks/1/", HTTP_IF_NONE_MATCH=again["ETag"]).status_code == 304
"""


@pytest.mark.sqlite
def test_the_example_of_the_readme_runs_in_an_empty_project(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    example = next(block for block in blocks if block.startswith("# models.py"))
    models, rest = example.split("# views.py")
    app = tmp_path / "app"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(models)
    (app / "code.py").write_text("from app.models import Task\n" + rest)
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "story.py").write_text(textwrap.dedent(STORY))
    found = subprocess.run(
        [sys.executable, "story.py"],
        cwd=tmp_path,
        env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
