"""Prepare the demo and serve it: `make demo`, or `.venv/bin/python demo/run.py`.

PORT, WORKERS, DATABASE_URL and REDIS_URL are read from the environment. Until it has been checked,
this file imports the standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OLDEST = (3, 11)
NEEDED = ("django", "rest_framework", "drf_concord", "uvicorn")


class CannotStart(Exception):
    """The demo cannot run; the text is what to tell the person who started it."""


def main() -> int:
    """Check, prepare, tell where it is, and serve until Ctrl-C."""
    try:
        check_python()
        # the package is `demo`, so its parent belongs on the path, and this folder does not
        sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry) != HERE)]
        os.environ["DJANGO_SETTINGS_MODULE"] = "demo.settings"
        workers = number("WORKERS", 1, 1, 64)
        sockets = bind(number("PORT", 8000, 0, 65535))
        check_packages()
        data = prepare()
        listen(sockets)

        from demo import serving

        port = sockets[0].getsockname()[1]
        return serving.serve("demo.asgi:application", sockets, workers, lambda: tell(port, data))
    except KeyboardInterrupt:
        return 130
    except CannotStart as problem:
        sys.stderr.write(f"The demo cannot start: {problem}\n")
        return 1


def check_python() -> None:
    """Refuse a Python that is too old, before anything that it could not read is imported."""
    if sys.version_info < OLDEST:
        needed, found = (".".join(map(str, pair)) for pair in (OLDEST, sys.version_info[:2]))
        raise CannotStart(f"it needs Python {needed} or newer, and this is {found}.")


def number(name: str, default: int, lowest: int, highest: int) -> int:
    """Return a whole number of the environment."""
    text = os.environ.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
        raise CannotStart(f"{name} is {text!r}; it is a number from {lowest} to {highest}.")
    return int(text)


def bind(port: int) -> list[socket.socket]:
    """Take the port on 127.0.0.1, and on ::1 where there is one, as localhost may mean either."""
    sockets = [_bound(socket.AF_INET, "127.0.0.1", port)]
    # on a machine without IPv6 localhost can only mean 127.0.0.1
    with contextlib.suppress(OSError):
        sockets.append(_bound(socket.AF_INET6, "::1", sockets[0].getsockname()[1]))
    return sockets


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    # a server that has just stopped leaves its port in a state that only this option gets past
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        _explain(error, port)
        raise
    return sock


def _explain(error: OSError, port: int) -> None:
    if error.errno == errno.EADDRINUSE:
        raise CannotStart(
            f"port {port} is taken by another program. Stop that one, or choose another port:"
            f" make demo PORT={port + 1 if port < 65535 else 8000}"
        ) from None
    if error.errno == errno.EACCES:
        raise CannotStart(
            f"port {port} is not open to this user. Choose a higher one: make demo PORT=8000"
        ) from None


def check_packages() -> None:
    """Refuse an environment in which the demo's packages are missing."""
    from importlib.util import find_spec

    needed = [*NEEDED, *(["channels_redis"] if os.environ.get("REDIS_URL") else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise CannotStart(
            f"this Python ({sys.executable}) lacks {', '.join(missing)}."
            " `make demo` installs what is needed into .venv."
        )


def prepare() -> str:
    """Migrate, create the sample data in an empty database, and describe that database."""
    from demo import database

    try:
        chosen = database.from_url(os.environ.get("DATABASE_URL", ""))
        database.verify(chosen)
    except database.DatabaseProblem as problem:
        raise CannotStart(str(problem)) from None

    import django
    from django.core.management import call_command
    from django.db import OperationalError, ProgrammingError, connection

    django.setup()
    from demo import sample

    try:
        call_command("migrate", interactive=False, verbosity=0)
        sample.create()
    except (OperationalError, ProgrammingError) as error:
        reason = str(error).splitlines()[0]
        raise CannotStart(f"{database.describe(chosen)} could not be prepared: {reason}.") from error
    connection.close()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    return database.describe(chosen)


def listen(sockets: list[socket.socket]) -> None:
    """Open the port: whoever comes before the workers are ready waits instead of failing."""
    for sock in sockets:
        try:
            sock.listen(2048)
        except OSError as error:
            # another program bound it too, and was faster
            _explain(error, sock.getsockname()[1])
            raise


def tell(port: int, data: str) -> None:
    """Print the addresses and the logins."""
    sys.stdout.write(f"""
  drf-concord demo

  The boards  http://127.0.0.1:{port}/   or http://localhost:{port}/
  Machines    http://127.0.0.1:{port}/machines/
  The story   http://127.0.0.1:{port}/story/   in commands to paste
  The API     http://127.0.0.1:{port}/api/
  The admin   http://127.0.0.1:{port}/admin/

  Logins      admin / admin   guido / guido   ada / ada
  Data        {data}

  Ctrl-C stops it; the data stays.

""")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
