"""Reading `text/event-stream`, and keeping a copy by it, as a client does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Copy", "Event", "parsed"]


@dataclass
class Event:
    """One event as a client reads it; ``id`` None where the event has none."""

    kind: str = ""
    data: Any = None
    id: str | None = None
    retry: int | None = None


def parsed(text: str) -> list[Event]:
    """Read a stream by the rules of the format; comments are events without a kind."""
    found = []
    for block in text.split("\n\n")[:-1]:
        event = Event()
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                event.kind = value
            elif name == "data":
                event.data = json.loads(value)
            elif name == "id":
                event.id = value
            elif name == "retry":
                event.retry = int(value)
            else:
                assert name == "", line
        found.append(event)
    return found


@dataclass
class Copy:
    """What a client holds, by the rules of the protocol."""

    objects: dict[Any, Any] = field(default_factory=dict)
    versions: dict[Any, int] = field(default_factory=dict)
    last: str = ""
    resets: int = 0
    named: set[Any] = field(default_factory=set)

    def take(self, events: list[Event]) -> Copy:
        for event in events:
            self.last = self.last if event.id is None else event.id
            if event.kind == "reset" or (event.kind == "subscribed" and event.data["how"] == "snapshot"):
                self.resets += event.kind == "reset"
                self.objects, self.versions = {}, {}
            elif event.kind == "snapshot":
                self.put("CREATED", event.data["items"])
            elif event.kind == "changes":
                for change in event.data["changes"]:
                    self.put(change["action"], [change])
        return self

    def put(self, action: str, items: list[Any]) -> None:
        for item in items:
            pk, version = item["pk"], item["version"]
            self.named.add(pk)
            if version is not None and version < self.versions.get(pk, 0):
                continue
            self.versions[pk] = version or 0
            if action == "DELETED":
                self.objects.pop(pk, None)
            elif "instance" in item:
                self.objects[pk] = item["instance"]
