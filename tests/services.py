"""The services that tests may need: whether each one answers, and what to say when it does not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "MARIADB",
    "POSTGRESQL",
    "REDIS",
    "SERVICES",
    "STANDBY",
    "Service",
    "chromium",
    "missing",
    "server_programs",
]

CONNECT_TIMEOUT = 3.0
SERVER_PROGRAMS = "/usr/lib/postgresql/*/bin"
NEEDED_PROGRAMS = ("initdb", "pg_basebackup", "pg_ctl")
SERVER_USER = "postgres"
# the first draws nothing on a screen, for half the work
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
OLDEST_NODE = (20, 10)


@dataclass(frozen=True, slots=True)
class Service:
    """One service, where it is expected, and the command that starts it."""

    title: str
    host: str
    port: int
    start: str
    probe: Callable[[Service], None]

    @property
    def line(self) -> str:
        """What to tell a person when the service does not answer."""
        where = self.host if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"{self.title} is not reachable at {where}: start it with `{self.start}`"


def _postgresql(service: Service) -> None:
    import psycopg

    psycopg.connect(
        host=service.host,
        port=service.port,
        user=os.environ.get("PGUSER", "postgres"),
        password=os.environ.get("PGPASSWORD", ""),
        dbname="postgres",
        connect_timeout=int(CONNECT_TIMEOUT),
    ).close()


def _mariadb(service: Service) -> None:
    import pymysql

    pymysql.connect(
        host=service.host, port=service.port, user="root", connect_timeout=int(CONNECT_TIMEOUT)
    ).close()


def _redis(service: Service) -> None:
    with socket.create_connection((service.host, service.port), CONNECT_TIMEOUT) as connection:
        connection.sendall(b"PING\r\n")
        if not connection.recv(64).startswith(b"+PONG"):
            raise ConnectionError(service.title)


def _standby(service: Service) -> None:
    server_programs()


def server_programs() -> tuple[Path, str | None]:
    """Return where PostgreSQL's own programs are, and the user to run them as; None for the present one.

    Raises:
        LookupError: they are not here, or nobody is who may run them: they refuse to run as root.
    """
    versions = [path for path in Path("/").glob(SERVER_PROGRAMS[1:]) if path.parent.name.isdecimal()]
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    candidates = [*sorted(versions, key=lambda path: int(path.parent.name), reverse=True), *on_path]
    folder = next((c for c in candidates if all((c / name).exists() for name in NEEDED_PROGRAMS)), None)
    if folder is None:
        raise LookupError(f"no {', '.join(NEEDED_PROGRAMS)} there")
    if os.geteuid() != 0:
        return folder, None
    import pwd

    if SERVER_USER not in {entry.pw_name for entry in pwd.getpwall()}:
        raise LookupError(f"they do not run as root, and there is no user {SERVER_USER}")
    return folder, SERVER_USER


def _chromium(service: Service) -> None:
    chromium()
    import playwright  # noqa: F401


def chromium() -> Path:
    """Return where a Chromium or Chrome is.

    Raises:
        LookupError: there is none.
    """
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise LookupError(f"no {', '.join(BROWSERS)} there")


def _node(service: Service) -> None:
    node = shutil.which("node")
    if node is None:
        raise LookupError("no node there")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, said.strip().removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        raise LookupError(f"it is {said.strip()}")


POSTGRESQL = Service(
    "PostgreSQL",
    os.environ.get("PGHOST", "127.0.0.1"),
    int(os.environ.get("PGPORT", "5432")),
    "pg_ctlcluster --skip-systemctl-redirect 15 main start",
    _postgresql,
)
MARIADB = Service(
    "MariaDB",
    os.environ.get("MARIADB_HOST", "127.0.0.1"),
    int(os.environ.get("MARIADB_PORT", "3306")),
    "start-stop-daemon --start --oknodo --background --exec /usr/sbin/mariadbd",
    _mariadb,
)
REDIS = Service(
    "Redis",
    os.environ.get("REDIS_HOST", "127.0.0.1"),
    int(os.environ.get("REDIS_PORT", "6379")),
    'redis-server --daemonize yes --bind 127.0.0.1 --save "" --appendonly no',
    _redis,
)
STANDBY = Service(
    "PostgreSQL for a primary and a standby of the tests' own",
    SERVER_PROGRAMS,
    0,
    "apt-get install postgresql",
    _standby,
)

CHROMIUM = Service("Chromium", "/usr/bin", 0, "apt-get install chromium-headless-shell", _chromium)
NODE = Service("Node.js 20.10 or newer", "/usr/bin", 0, "apt-get install nodejs npm", _node)

SERVICES = {
    "postgresql": POSTGRESQL,
    "mariadb": MARIADB,
    "redis": REDIS,
    "standby": STANDBY,
    "chromium": CHROMIUM,
    "node": NODE,
}


@cache
def missing(name: str) -> str | None:
    """Say in one line why a service cannot be used, or return None when it answers.

    Args:
        name: a key of `SERVICES`; any other name, as `sqlite`, needs no service.
    """
    service = SERVICES.get(name)
    if service is None:
        return None
    try:
        service.probe(service)
    except Exception as error:
        # the first line of a driver's message is enough to tell refused from forbidden
        detail = str(error).splitlines() or [type(error).__name__]
        return f"{service.line} ({detail[0]})"
    return None
