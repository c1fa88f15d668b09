"""What is published: the source archive, and the wheel that is built from nothing but it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import drf_concord

# nothing here asks a database
pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# an import must work without these: no settings, and no path to the sources
CLEAN = {
    name: value for name, value in os.environ.items() if name not in {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with one source archive and one wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, env=CLEAN, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which only the wheel was installed."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, env=CLEAN)
    return target


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {"drf_concord"}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "drf_concord").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert names(wheel) == sources
    assert "drf_concord/py.typed" in sources
    assert any(name.startswith("drf_concord/migrations/0001") for name in sources)


def test_importing_the_wheel_needs_no_settings(installed: Path) -> None:
    code = (
        "import sys, drf_concord; from django.conf import settings; "
        "assert not settings.configured; print(drf_concord.__file__)"
    )
    environment = CLEAN | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-W", "error", "-c", code]
    output = subprocess.check_output(command, text=True, env=environment, cwd=installed)

    assert Path(output.strip()).is_relative_to(installed)


def test_django_finds_the_migrations_of_the_wheel(installed: Path) -> None:
    code = (
        "import django; from django.conf import settings; from django.core.management import *; "
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', "
        "'django.contrib.auth', 'drf_concord'], DATABASES={'default': {"
        "'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}); "
        "django.setup(); call_command('migrate', verbosity=0); "
        "call_command('makemigrations', 'concord', check=True, dry_run=True)"
    )
    environment = CLEAN | {"PYTHONPATH": str(installed)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=installed,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_the_source_archive_can_be_built_and_tested_elsewhere(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "LICENSE", "tests/conftest.py", "tests/settings.py"} <= inside
    for folder in ("spec", "docs"):
        expected = any(path.is_file() for path in (ROOT / folder).rglob("*"))
        assert any(name.startswith(f"{folder}/") for name in inside) == expected
    assert not any(part.startswith(".venv") for name in inside for part in name.split("/"))


def test_the_version_is_said_once_and_the_same_everywhere(wheel: Path) -> None:
    assert drf_concord.__version__ == PROJECT["version"]
    assert wheel.name.startswith(f"drf_concord-{PROJECT['version']}-")


def test_the_readme_is_the_description() -> None:
    assert PROJECT.get("readme") == ("README.md" if (ROOT / "README.md").exists() else None)
