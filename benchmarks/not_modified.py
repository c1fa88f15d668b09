"""An unchanged object and an unchanged list: a 304 against the 200 of plain DRF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .calls import call
from .measure import Bar, Row, interleave, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .databases import Database

__all__ = ["run"]

TOPIC = "unchanged, times as fast as plain DRF's 200"
FASTER = Bar(1.30, at_least=True)

DETAIL = {
    "plain DRF 200": ("/plain/50/", False),
    "drf-extensions 304": ("/extensions/50/", True),
    "drf-concord 200": ("/guarded/50/", False),
    "drf-concord 304": ("/guarded/50/", True),
}
LIST = {
    "plain DRF 200": ("/plain/", False),
    "drf-extensions 304": ("/extensions/", True),
    "drf-concord 200": ("/guarded/", False),
    "drf-concord 304 by content": ("/guarded/", True),
}


def run(database: Database, seconds: float) -> list[Row]:
    """Return how many times as fast as plain DRF's 200 each answer is."""
    return [
        *_compare("detail", DETAIL, seconds=seconds * 0.4, per_round=50, bar=FASTER),
        # the bar of lists is one for `list_etag = "log"`: a digest of the content spares the transfer only
        *_compare("100 rows", LIST, seconds=seconds * 0.6, per_round=8, bar=None),
    ]


def _compare(
    what: str, calls: dict[str, tuple[str, bool]], *, seconds: float, per_round: int, bar: Bar | None
) -> list[Row]:
    ways = {name: _get(path, again=again) for name, (path, again) in calls.items()}
    rounds = interleave(ways, seconds=seconds, per_round=per_round)
    return [
        row(
            TOPIC,
            f"{what}: {name}",
            rounds.ratios("plain DRF 200", name),
            bar=bar if name == "drf-concord 304" else None,
            note=rounds.milliseconds(name),
        )
        for name in ways
    ]


def _get(path: str, *, again: bool) -> Callable[[], float]:
    headers = {"HTTP_IF_NONE_MATCH": call("GET", path).headers["ETag"]} if again else {}

    def get() -> float:
        answer = call("GET", path, **headers)
        assert answer.status == (304 if again else 200), answer
        return answer.seconds

    return get
