"""Operations played against answers that are written down: what is sent, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

from drf_concord.client.requests import Answer, Pause, Request

__all__ = ["Played", "answer", "play"]


class Played:
    """An operation at its end.

    Attributes:
        sent: the requests that it made.
        pauses: how long it waited between them, in seconds.
        result: what it returned.
        error: what it raised.
    """

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.pauses: list[float] = []
        self.result: Any = None
        self.error: Exception | None = None


def answer(status: int = 200, body: Any = None, **headers: str) -> Answer:
    """Return an answer; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, b"" if body is None else json.dumps(body).encode())


def play(operation: Any, *answers: Answer | Exception) -> Played:
    """Drive an operation with these answers, one for each request."""
    played, waiting = Played(), list(answers)
    try:
        step = next(operation)
        while True:
            if isinstance(step, Pause):
                played.pauses.append(step.seconds)
                step = operation.send(None)
                continue
            played.sent.append(step)
            given = waiting.pop(0)
            step = operation.throw(given) if isinstance(given, Exception) else operation.send(given)
    except StopIteration as stop:
        played.result = stop.value
    except Exception as error:
        if isinstance(error, IndexError):
            raise
        played.error = error
    assert waiting == []
    return played
