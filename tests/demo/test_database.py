"""DATABASE_URL and REDIS_URL as settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo import database
from tests.demo.process import PATIENCE, ROOT, environment

pytestmark = pytest.mark.sqlite  # nothing is connected to: once is enough


def test_without_a_url_the_data_is_beside_the_demo() -> None:
    chosen = database.from_url("")
    assert chosen["NAME"] == str(ROOT / "demo" / "db.sqlite3")
    assert "WAL" in chosen["OPTIONS"]["init_command"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_every_part_of_a_url_is_decoded(scheme: str) -> None:
    chosen = database.from_url(f"{scheme}://a%40b:p%2Fw%3A@db.example.com:5433/na%20me?sslmode=require")
    assert chosen["ENGINE"] == "django.db.backends.postgresql"
    assert (chosen["USER"], chosen["PASSWORD"], chosen["NAME"]) == ("a@b", "p/w:", "na me")
    assert (chosen["HOST"], chosen["PORT"]) == ("db.example.com", "5433")
    assert chosen["OPTIONS"]["sslmode"] == "require"
    assert chosen["OPTIONS"]["pool"]["max_size"] > 1
    assert "p/w:" not in database.describe(chosen)


def test_a_url_without_a_server_means_the_local_socket() -> None:
    chosen = database.from_url("postgres:///name")
    assert (chosen["HOST"], chosen["PORT"], chosen["USER"]) == ("", "", "")


def test_a_file_may_be_named(tmp_path: Path) -> None:
    assert database.from_url(f"sqlite:///{tmp_path}/a%20b")["NAME"] == f"{tmp_path}/a b"


@pytest.mark.parametrize(
    ("variables", "layers"),
    [
        ({}, None),
        ({"REDIS_URL": "redis://127.0.0.1:6379/3"}, {"hosts": ["redis://127.0.0.1:6379/3"]}),
    ],
)
def test_redis_url_gives_a_channel_layer(variables: dict[str, str], layers: object) -> None:
    ask = (
        "import json; from demo import settings;"
        "print(json.dumps(getattr(settings, 'CHANNEL_LAYERS', {}).get('default', {}).get('CONFIG')))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(asked.stdout) == layers
