"""A live collection without an event loop."""

from __future__ import annotations

import threading

import pytest

from drf_concord.client import Client, ConnectionFailed, NotFoundError
from tests.transports.proxy import free_port

pytestmark = pytest.mark.sqlite


@pytest.fixture
def group(guido: Client) -> int:
    made = int(guido.resource("lists/").create({"name": "watched"})["id"])
    guido.resource("tasks/").create({"text": "a task", "list": made})
    return made


def test_what_is_there_and_what_changes(guido: Client, group: int) -> None:
    tasks = guido.resource("tasks/", "todolist.Task")
    with guido.watch(tasks, group_by="list_id", value=group) as watch:
        (first,) = watch.items
        assert first["text"] == "a task"
        tasks.patch(first, {"text": "changed"})
        change = next(watch)
        assert (change.action, change.item) == ("UPDATED", {**first, "text": "changed"})
        tasks.delete(first.pk or 0)
        assert next(watch).action == "DELETED"
        assert watch.items == []


def test_a_loop_in_another_thread_ends_with_the_watch(guido: Client, group: int) -> None:
    seen: list[str] = []
    with guido.watch("todolist.Task", query={"list": group}) as watch:
        loop = threading.Thread(target=lambda: seen.extend(change.action for change in watch))
        loop.start()
    loop.join(20)

    assert not loop.is_alive()
    watch.close()  # once more changes nothing


def test_a_watch_that_is_not_open_has_nothing(guido: Client) -> None:
    watch = guido.watch("todolist.Task")

    with pytest.raises(ConnectionFailed, match="not open"):
        _ = watch.items
    watch.close()


def test_what_cannot_be_followed(guido: Client) -> None:
    with pytest.raises(NotFoundError), guido.watch("todolist.Nothing"):
        pass
    with pytest.raises(ConnectionFailed), guido.watch("a.B", url=f"ws://127.0.0.1:{free_port()}/ws/"):
        pass
