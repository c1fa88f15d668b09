"""What a server may send."""

from __future__ import annotations

from typing import Any

import pytest

from drf_concord.client.frames import BadFrame, Mark, Welcome, read

pytestmark = pytest.mark.sqlite

WELCOME = {"type": "welcome", "connection": "c", "ping": 25, "pong": 8, "window": 1000, "max_frame": 500}


def test_members_and_types_that_nobody_knows_are_passed_over() -> None:
    assert read({**WELCOME, "weather": "fine"}) == Welcome(25.0, 8.0, 1000, 500)
    assert read({"type": "weather"}) is None
    assert read({"type": ["mark"]}) is None
    assert read({"response_status": 200, "request_id": 1}) is None
    assert read({"type": "mark", "seq": 1, "epoch": "e", "position": "p"}) == Mark(1, "e", "p")


@pytest.mark.parametrize(
    "frame", [[], None, "mark", {"type": "mark", "seq": 1}, {**WELCOME, "window": "x"}, {"type": "bye"}]
)
def test_what_breaks_the_protocol_is_said(frame: Any) -> None:
    with pytest.raises(BadFrame):
        read(frame)
