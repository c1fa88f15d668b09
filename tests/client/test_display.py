"""What people read."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client import ConflictError, Item
from drf_concord.client.display import conflict, describe_lock, lines_of

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ({"id": 1, "text": "a b", "tags": [1]}, ["id: 1", "text: a b", "tags: [1]"]),
        ([{"id": 1}, {"id": 2}], ['{"id":1}', '{"id":2}']),
        ({"count": 1, "results": [{"id": 1}]}, ['{"id":1}']),
        ([], ["nothing"]),
        (None, ["null"]),
    ],
)
def test_an_answer(body: Any, lines: list[str]) -> None:
    assert lines_of(body) == lines


def test_a_conflict_shows_both_sides() -> None:
    error = ConflictError(
        "Changed.",
        mine={"text": "mine", "done": True},
        theirs=Item({"text": "hers", "done": False, "notes": "n" * 50}),
        body={"changed_fields": ["text", "notes"], "current_etag": '"2-0"'},
    )

    assert conflict(error) == [
        "Nothing was changed. Changed.",
        "field  yours   now",
        'text   "mine"  "hers"                                    changed by others',
        "done   true    false",
        f'notes  -       "{"n" * 36}...  changed by others',
        """To write on top of what is there now: --if-match '"2-0"'""",
    ]


def test_a_conflict_of_which_nothing_is_told() -> None:
    assert conflict(ConflictError("Changed.")) == ["Nothing was changed. Changed."]


def test_a_lock() -> None:
    lock = {
        "state": "held",
        "holder": "ada",
        "reason": "",
        "acquired_at": "t",
        "expires_at": None,
        "generation": 2,
    }

    assert describe_lock(lock) == ["state: held", "holder: ada", "since: t", "generation: 2"]
