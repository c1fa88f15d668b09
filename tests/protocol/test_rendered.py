"""Objects as subscribers are told of them; how a session and a stream send them is tested with those."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drf_concord.protocol.rendered import Rendered, changes_text, items_text, keep, size


def state(pk: int = 1, action: str = "UPDATED", **more: Any) -> Rendered:
    return Rendered(action, str(pk), f'{{"id":{pk}}}', **more)


def test_a_page_and_some_changes() -> None:
    page = json.loads(f"{{{items_text([state(etag='e')], more=True)}}}")
    assert page == {"items": [{"pk": 1, "etag": "e", "version": None, "instance": {"id": 1}}], "more": True}
    text = changes_text([state(version=5), state(2, "DELETED", reason="left")], more=False)
    first, second = json.loads(f"{{{text}}}")["changes"]
    assert first == {"action": "UPDATED", "pk": 1, "etag": None, "version": 5, "instance": {"id": 1}}
    assert second == {"action": "DELETED", "pk": 2, "etag": None, "version": None, "reason": "left"}


def test_a_frame_of_plain_mode_ends_alike_for_all() -> None:
    change = state()
    assert change.plain("app.Item") == ',"model":"app.Item","action":"UPDATED","instance":{"id":1}}'
    assert change.plain("app.Other") is change.plain("app.Item")


@pytest.mark.parametrize(
    ("more", "key"), [({}, "1"), ({"lock": "{}"}, "lock 1"), ({"event": 7}, "7 1"), ({"event": 0}, "0 1")]
)
def test_what_a_later_one_replaces(more: Any, key: str) -> None:
    assert state(**more).key == key


def test_what_is_kept_and_how_much_it_is() -> None:
    kept: dict[str, Rendered] = {}
    more = keep(kept, [state(1, "CREATED"), state(2)])
    more += keep(kept, [state(1, version=5), state(1, "LOCKED", lock="{}")])
    assert [(each.key, each.action) for each in kept.values()] == [
        ("2", "UPDATED"),
        ("1", "CREATED"),
        ("lock 1", "LOCKED"),
    ]
    assert more == sum(size(each.session()) for each in kept.values())


def test_sizes_are_of_bytes() -> None:
    assert (size("a"), size("\u00e4")) == (1, 2)
