"""One process of a project: `python -m tests.concurrency.worker DATABASE`, told what to do line by line.

Each line of stdin is a JSON object with ``do``; each line of stdout is its answer.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

TIMEOUT = 1.0  # seconds: how long this process waits for a row


def setup(name: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from django.conf import settings

    default = settings.DATABASES["default"]
    default.update(NAME=name, CONN_MAX_AGE=None)
    if "sqlite" in default["ENGINE"]:
        default["OPTIONS"]["timeout"] = TIMEOUT
    settings.ROOT_URLCONF = "tests.concurrency.urls"
    settings.CONCORD = {**settings.CONCORD, "LOCK_TIMEOUT": TIMEOUT, "LOCK_RATE": None}
    settings.DEBUG = False
    import django

    django.setup()


def client(user: int | None) -> Any:
    from django.contrib.auth import get_user_model
    from rest_framework.test import APIClient

    made = APIClient(raise_request_exception=False)
    if user is not None:
        made.force_authenticate(get_user_model()(pk=user, username=f"user{user}", is_superuser=True))
    return made


def request(method: str, path: str, data: Any = None, user: int | None = None, **headers: str) -> Any:
    """Make one request; ``If_Match`` and the like are headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = getattr(client(user), method)(path, data, format="json", headers=named)
    body = answer.data if isinstance(getattr(answer, "data", None), dict) else {}
    return {
        "status": answer.status_code,
        "etag": answer.headers.get("ETag"),
        "token": answer.headers.get("Lock-Token"),
        "retry": answer.headers.get("Retry-After"),
        "generation": body.get("generation"),
        "code": body.get("code"),
    }


def count(path: str, clients: int, writes: int, seconds: float) -> dict[str, Any]:
    """Let several clients read a counter and write the next number, until enough was acknowledged.

    Returns:
        How often each status was answered, and the tag before and after each acknowledged write.
    """
    from django.db import connection

    lock, done = threading.Lock(), threading.Event()
    statuses: dict[str, int] = {}
    steps: list[tuple[str, str]] = []

    def run() -> None:
        mine = client(None)
        while not done.is_set():
            seen = mine.get(path)
            tag = seen.headers.get("ETag", '"none"')
            answer = None
            if seen.status_code == 200:
                data = {"count": seen.data["count"] + 1}
                answer = mine.patch(path, data, format="json", headers={"If-Match": tag})
            status = (answer or seen).status_code
            with lock:
                statuses[str(status)] = statuses.get(str(status), 0) + 1
                if answer is not None and status == 200:
                    steps.append((tag, answer.headers.get("ETag", "")))
                if len(steps) >= writes:
                    done.set()
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    done.wait(seconds)
    done.set()
    for thread in threads:
        thread.join()
    return {"statuses": statuses, "steps": steps}


def save(pk: int, text: str, label: str = "app.Note") -> str:
    """Save an object past every door."""
    from django.apps import apps

    from drf_concord.protocol.errors import ConcordError

    obj: Any = apps.get_model(label)._base_manager.get(pk=pk)
    obj.text = text
    try:
        obj.save()
    except ConcordError as refusal:
        return refusal.code
    return "saved"


def freeze(pk: int) -> int:
    """Freeze a note; returns the generation."""
    from drf_concord import locks
    from tests.app.models import Note

    return locks.freeze(Note(pk=pk)).generation


def stall(pk: int, text: str) -> str:
    """Write an item in the gate and stay there, the row saved and not committed, until a line comes."""
    from tests.app.models import Item, Tag
    from tests.concurrency.threads import gate

    def perform(item: Any) -> str:
        item.text = text
        item.save()
        item.tags.add(Tag.objects.create(name=text))
        answer("inside")
        sys.stdin.readline()
        return "left"

    return gate(Item.objects.get(pk=pk), perform)


def mutate(name: str) -> str:
    """Take a rule out of this process."""
    from drf_concord import rows, statements, writes

    check = writes.check

    def before_the_lock(*args: Any) -> None:
        if not rows._entries.get():
            check(*args)

    def unlocked(*args: Any, **kwargs: Any) -> list[Any]:
        return []

    if name == "the second check":
        writes.check = before_the_lock
    elif name == "the row lock":
        statements.lock_row = unlocked
        rows._claim_sqlite = lambda *args, **kwargs: None
    else:
        raise LookupError(name)
    return name


COMMANDS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (request, count, save, freeze, stall, mutate)
}


def answer(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    setup(sys.argv[1])
    answer("ready")
    for line in sys.stdin:
        command = json.loads(line)
        answer(COMMANDS[command.pop("do")](**command))


if __name__ == "__main__":
    main()
