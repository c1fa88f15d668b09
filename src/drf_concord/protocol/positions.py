"""Where a reader stands in the log: an opaque text for clients, a snapshot for PostgreSQL.

On PostgreSQL the id of a change is no position: ids are given before the commit, so a reader that
has seen 7 may yet meet 5. What a reader has seen there is what one snapshot of the database shows.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec

from .errors import PositionLost

__all__ = ["MAX_POSITION", "Position", "Snapshot"]

MAX_POSITION: Final = 65_536
"""The longest text read as a position, in bytes; a snapshot lists every running transaction."""

_FORM = 1
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Nonce = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_FIELDS = msgspec.json.Decoder(tuple[Literal[1], str, str, _Id, _Nonce, str])

# eighteen digits are below 2**63, and so fit every database
_NUMBER = "(?:0|[1-9][0-9]{0,17})"
_ID = re.compile(_NUMBER)
_SNAPSHOT = re.compile(rf"({_NUMBER}):({_NUMBER}):((?:{_NUMBER}(?:,{_NUMBER})*)?)")


@dataclass(frozen=True, slots=True)
class Position:
    """What a reader has seen of the log.

    Attributes:
        epoch: names the log; another one begins when changes may have passed it unseen.
        cursor: how far the reader got: on SQLite the last id, on PostgreSQL a `Snapshot` as text.
        last_id: the id of the last change seen; 0 for none.
        last_nonce: the nonce of that change, by which a restored or promoted database is noticed.
        timeline: of PostgreSQL, which a failover changes; empty elsewhere.
    """

    epoch: str
    cursor: str
    last_id: int = 0
    last_nonce: int = 0
    timeline: str = ""

    def encode(self) -> str:
        """Return this position as one word of letters, digits, `-` and `_`, for clients to keep."""
        fields = (_FORM, self.epoch, self.cursor, self.last_id, self.last_nonce, self.timeline)
        return urlsafe_b64encode(msgspec.json.encode(fields)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Position:
        """Read a position that a client kept.

        Raises:
            PositionLost: the text is not a position of this form, whatever else it is.
        """
        try:
            raw = text[:MAX_POSITION].encode("ascii")
            fields = _FIELDS.decode(urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)))
            _, epoch, cursor, last_id, last_nonce, timeline = fields
            position = cls(epoch, cursor, last_id, last_nonce, timeline)
            # one text for each position: what can be read only with indulgence is not one of ours
            genuine = position.encode() == text
        except (ValueError, msgspec.DecodeError):
            genuine = False
        if not genuine:
            raise PositionLost(reason="epoch")
        return position

    def cursor_id(self) -> int:
        """Return the cursor as the id of a change, which it is on SQLite.

        Raises:
            PositionLost: it is no id; it comes from a client.
        """
        if not _ID.fullmatch(self.cursor):
            raise PositionLost(reason="epoch")
        return int(self.cursor)

    def check(self, *, epoch: str, timeline: str, nonce: int | None) -> None:
        """Refuse to go on from here unless the log is still the one this position was taken in.

        Args:
            epoch: of the log now.
            timeline: of the database now.
            nonce: of the change with the id `last_id` now; None when there is no such change.

        Raises:
            PositionLost: it is another log, or the last change seen is not in it any more.
        """
        if (epoch, timeline) != (self.epoch, self.timeline):
            raise PositionLost(reason="epoch")
        if self.last_id == 0:
            return
        if nonce is None:
            raise PositionLost(reason="expired")
        if nonce != self.last_nonce:
            raise PositionLost(reason="epoch")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions of PostgreSQL were over at a moment, as `pg_current_snapshot()` tells.

    Attributes:
        xmin: every transaction below was over.
        xmax: no transaction from here on was over.
        xip: those between that were still running, ascending.
    """

    xmin: int
    xmax: int
    xip: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read `xmin:xmax:a,b`.

        Raises:
            PositionLost: the text is no snapshot; it comes from a client.
        """
        match = _SNAPSHOT.fullmatch(text)
        if match is None:
            raise PositionLost(reason="epoch")
        xmin, xmax = int(match[1]), int(match[2])
        xip = tuple(map(int, match[3].split(","))) if match[3] else ()
        ascending = all(a < b for a, b in pairwise((xmin - 1, *xip, xmax)))
        if not ascending:
            raise PositionLost(reason="epoch")
        return cls(xmin, xmax, xip)

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.xip))}"

    def sees(self, xid: int) -> bool:
        """Return whether a transaction was over, so that its changes, if it committed, are seen."""
        at = bisect_left(self.xip, xid)
        return xid < self.xmax and self.xip[at : at + 1] != (xid,)

    def not_before(self, other: Snapshot) -> bool:
        """Return whether this was taken when the other was, or later: it sees all the other sees.

        Snapshots of one primary are in one order, so of two that differ exactly one is later.
        """
        return self.xmax >= other.xmax and not any(map(other.sees, self.xip))
