"""Whether a conditional request may go on: RFC 9110 13.1 and 13.2, and RFC 6585 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .dates import format_http_date, parse_http_date
from .etags import EntityTag, TagList, parse_tag_list

__all__ = [
    "Current",
    "Preconditions",
    "Verdict",
    "evaluate",
    "format_http_date",
    "last_modified",
    "parse_http_date",
]

# methods are case-sensitive (RFC 9110 9.1); one we do not know counts as unsafe
_READING = frozenset({"GET", "HEAD"})
# they neither select nor change a representation (RFC 9110 13.2.1)
_UNCONDITIONAL = frozenset({"OPTIONS", "TRACE", "CONNECT"})

_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a request demands of the state it meets.

    Attributes:
        if_match: the states it may be carried out on.
        if_none_match: the states it may not be carried out on, or need not.
        if_unmodified_since: the same as a date, in seconds since the epoch.
        if_modified_since: the same as a date, in seconds since the epoch.
    """

    if_match: TagList | None = None
    if_none_match: TagList | None = None
    if_unmodified_since: int | None = None
    if_modified_since: int | None = None

    @classmethod
    def parse(cls, get: Callable[[str], str | None]) -> Preconditions:
        """Read the preconditions of a request.

        What is no date is ignored, as RFC 9110 13.1.3 and 13.1.4 demand. What is no tag is refused.

        Args:
            get: returns the value of the header of a name, or None.

        Raises:
            MalformedPrecondition: If-Match or If-None-Match is there and cannot be read.
        """
        return cls(
            if_match=_tags(get, "If-Match"),
            if_none_match=_tags(get, "If-None-Match"),
            if_unmodified_since=_date(get, "If-Unmodified-Since"),
            if_modified_since=_date(get, "If-Modified-Since"),
        )

    @property
    def guards(self) -> bool:
        """Whether anything here can stop an unsafe method."""
        return (self.if_match, self.if_none_match, self.if_unmodified_since) != (None, None, None)


def _tags(get: Callable[[str], str | None], name: str) -> TagList | None:
    value = get(name)
    return None if value is None else parse_tag_list(value, name=name)


def _date(get: Callable[[str], str | None], name: str) -> int | None:
    value = get(name)
    return None if value is None else parse_http_date(value.strip(" \t"))


@dataclass(frozen=True, slots=True)
class Current:
    """The state a request meets.

    Attributes:
        tag: of the representation that a GET would return.
        write: the half of the tag that guards writes, equal for all representations of the state.
        variant: the half that tells representations apart; None when the tag is `write` alone.
        modified: when it was last modified, in seconds since the epoch; None when not known.
    """

    tag: EntityTag
    write: str
    variant: str | None
    modified: int | None = None

    def __post_init__(self) -> None:
        if self.variant is None:
            made = self.tag.opaque == self.write
        else:
            made = self.tag.halves() == (self.write, self.variant)
        if not made:
            raise ValueError(f"{self.tag} is not the tag of {self.write!r} and {self.variant!r}")

    def guarded_by(self, tag: EntityTag) -> bool:
        """Return whether a tag names this state well enough to write on it.

        Of a tag of two halves the write half is compared: the client may have read another
        representation of the same state. It may come weakened, as compression on the way does to
        strong tags, since its write half is exact all the same. Any other tag has to match as a
        whole and strongly (RFC 9110 13.1.1).
        """
        if self.variant is None:
            return self.tag.strong_matches(tag)
        halves = tag.halves()
        return halves is not None and halves[0] == self.write


class Verdict(Enum):
    """What becomes of a conditional request."""

    PROCEED = "proceed"
    """Carry it out."""
    NOT_MODIFIED = "not_modified"
    """304: what the client has is current."""
    MISMATCH = "mismatch"
    """412: the state is not the one the request was made for."""
    EXISTS = "exists"
    """412: there is a state, and the request demanded that there is none, or another."""
    REQUIRED = "required"
    """428: the request has to say which state it was made for."""


def evaluate(
    method: str, preconditions: Preconditions, current: Current | None, *, required: bool = False
) -> Verdict:
    """Decide on a request, in the order of RFC 9110 13.2.2.

    To be asked when nothing else stands against the request: permissions and locks come first
    (RFC 9110 13.2.1).

    Args:
        method: of the request.
        preconditions: of the request.
        current: the state it meets; None when there is nothing.
        required: whether a change of what exists has to be conditional (RFC 6585 3).
    """
    if method in _UNCONDITIONAL:
        return Verdict.PROCEED
    reading = method in _READING
    if_match, if_none_match = preconditions.if_match, preconditions.if_none_match
    overtaken = _modified_after(current, preconditions.if_unmodified_since)
    stated = if_match is not None or if_none_match is not None or overtaken is not None
    if required and not stated and not reading and current is not None:
        return Verdict.REQUIRED

    if if_match is not None:
        if not _matched(if_match, current, reading=reading):
            return Verdict.MISMATCH
    elif overtaken:
        return Verdict.MISMATCH

    if if_none_match is not None:
        if _excluded(if_none_match, current, reading=reading):
            return Verdict.NOT_MODIFIED if reading else Verdict.EXISTS
    elif reading and _modified_after(current, preconditions.if_modified_since) is False:
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def _modified_after(current: Current | None, date: int | None) -> bool | None:
    """Whether a state is later than a date.

    None when one of the two is not known; the date is then to be ignored (RFC 9110 13.1.3, 13.1.4).
    """
    if current is None or current.modified is None or date is None:
        return None
    return current.modified > date


def _matched(wanted: TagList, current: Current | None, *, reading: bool) -> bool:
    """Whether If-Match is true (RFC 9110 13.1.1)."""
    if current is None:
        return False
    if wanted.any:
        return True
    matches = current.tag.strong_matches if reading else current.guarded_by
    return any(map(matches, wanted.tags))


def _excluded(unwanted: TagList, current: Current | None, *, reading: bool) -> bool:
    """Whether If-None-Match is false (RFC 9110 13.1.2)."""
    if current is None:
        return False
    if unwanted.any or any(map(current.tag.weak_matches, unwanted.tags)):
        return True
    # for a write every representation of a state is that state, here as in If-Match
    return not reading and any(map(current.guarded_by, unwanted.tags))


def last_modified(version: int, now: int) -> int | None:
    """Return the Last-Modified of a version, in seconds since the epoch.

    Rounded up to a whole second, and withheld until that moment is past: every change still to come
    then has a later date, and If-Unmodified-Since cannot take it for this one.

    Args:
        version: in microseconds since the epoch.
        now: by the clock that makes the versions, in microseconds since the epoch.
    """
    seconds = -(-version // _SECOND)
    return seconds if seconds * _SECOND < now else None
