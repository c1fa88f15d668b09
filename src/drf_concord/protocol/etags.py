"""Entity tags: the value, the strict parser of lists of them, and the form of our own.

A lenient parser drops what it cannot read, and so makes a conditional write an unconditional one.
This one refuses: a mistake in a header may cost a request, never somebody's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import MalformedPrecondition

__all__ = [
    "MAX_HEADER",
    "MAX_TAGS",
    "EntityTag",
    "TagList",
    "decode_version",
    "encode_version",
    "parse_tag",
    "parse_tag_list",
    "version_of",
    "version_tag",
]

MAX_TAGS = 64
"""How many tags one header may list."""
MAX_HEADER = 8192
"""The longest header value that is read, in bytes."""

# etagc of RFC 9110 8.8.3: all but controls, space and the quote; comma and backslash are in it
_OPAQUE = re.compile(r"[\x21\x23-\x7e\x80-\xff]*")
_TAG = re.compile(rf'(W/)?"({_OPAQUE.pattern})"')
_OWS = " \t"

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# thirteen digits hold every number below 2**63; without leading zeros, so that each has one form
_VERSION = re.compile(r"0|[1-9a-z][0-9a-z]{0,12}")
_HALVES = re.compile(r"(.*)-([0-9a-z]+)", re.DOTALL)
_END_OF_VERSIONS = 2**63


@dataclass(frozen=True, slots=True)
class EntityTag:
    """A name for one state of one representation (RFC 9110 8.8.3).

    Attributes:
        opaque: what stands between the quotes; a byte above 0x7F is the character of that number.
        weak: whether the state is only promised to be as good as the named one.
    """

    opaque: str
    weak: bool = False

    def __post_init__(self) -> None:
        if not _OPAQUE.fullmatch(self.opaque):
            raise ValueError(f"{self.opaque!r} cannot stand between the quotes of an entity tag")

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'

    def strong_matches(self, other: EntityTag) -> bool:
        """Return whether both are strong and name the same state (RFC 9110 8.8.3.2)."""
        return not self.weak and self == other

    def weak_matches(self, other: EntityTag) -> bool:
        """Return whether both name the same state, weak or not (RFC 9110 8.8.3.2)."""
        return self.opaque == other.opaque

    def halves(self) -> tuple[str, str] | None:
        """Return the write half and the variant of a tag made of the two; None for any other tag.

        They are parted by the last hyphen: a variant consists of digits and lower-case letters.
        """
        match = _HALVES.fullmatch(self.opaque)
        return (match[1], match[2]) if match else None


@dataclass(frozen=True, slots=True)
class TagList:
    """What If-Match and If-None-Match hold: some tags, or `*` for any state (RFC 9110 13.1.1)."""

    tags: tuple[EntityTag, ...] = ()
    any: bool = False


def parse_tag_list(header: str, *, name: str = "If-Match") -> TagList:
    """Read the value of an If-Match or If-None-Match header, or refuse it.

    Empty members, as in `"a",,"b"`, are skipped (RFC 9110 5.6.1.2): merging proxies make them, and
    the length of the header bounds them. A value without any tag is refused: it can match nothing.

    Args:
        header: the field value, decoded as latin-1; several lines of one field joined by commas.
        name: how to call the field in the error.

    Raises:
        MalformedPrecondition: the value is not `*` or a list of tags, or is over a limit.
    """
    if len(header) > MAX_HEADER:
        raise _malformed(name, f"is longer than {MAX_HEADER} bytes")
    text = header.strip(_OWS)
    if text == "*":
        return TagList(any=True)
    if alone := _TAG.fullmatch(text):
        return TagList((EntityTag(alone[2], weak=alone[1] is not None),))
    tags: list[EntityTag] = []
    at, separated = 0, True
    while at < len(text):
        if text[at] == ",":
            at, separated = at + 1, True
        elif text[at] in _OWS:
            at += 1
        else:
            match = _TAG.match(text, at) if separated else None
            if match is None:
                raise _malformed(name, _what_is_wrong(text, at, separated=separated))
            tags.append(EntityTag(match[2], weak=match[1] is not None))
            at, separated = match.end(), False
    if not tags:
        raise _malformed(name, "is empty")
    if len(tags) > MAX_TAGS:
        raise _malformed(name, f"lists more than {MAX_TAGS} tags")
    return TagList(tuple(tags))


def parse_tag(text: str) -> EntityTag:
    """Read one entity tag, as it stands in an ETag header.

    Raises:
        MalformedPrecondition: the text is anything but one tag.
    """
    match = _TAG.fullmatch(text) if len(text) <= MAX_HEADER else None
    if match is None:
        raise MalformedPrecondition('One entity tag is expected, written as "abc" or W/"abc".')
    return EntityTag(match[2], weak=match[1] is not None)


def _malformed(name: str, problem: str) -> MalformedPrecondition:
    form = f'{name}: "abc", W/"def" or {name}: *'
    return MalformedPrecondition(f"{name} {problem}; write it as {form}.", header=name)


def _what_is_wrong(text: str, at: int, *, separated: bool) -> str:
    # the place and not the text: what somebody else put into a header is not repeated to the reader
    place = f"at character {at + 1}"
    if not separated:
        return f"has no comma between two tags {place}"
    if text[at] == "*":
        return f"mixes * with other members {place}"
    if text[at] == '"' or text.startswith('W/"', at):
        return f"has a tag that is not closed, or holds a space or control character, {place}"
    if text[at : at + 2] in ("w/", "W/"):
        return f'has a weak tag that does not begin with W/" {place}'
    return f"has a tag without quotes {place}"


def encode_version(version: int) -> str:
    """Return a version in base 36, lower case, as it stands in tags.

    Raises:
        ValueError: the version is negative.
    """
    if version < 0:
        raise ValueError("a version is never negative")
    digits = ""
    while version >= 36:
        version, digit = divmod(version, 36)
        digits = _DIGITS[digit] + digits
    return _DIGITS[version] + digits


def decode_version(text: str) -> int | None:
    """Return the version a text stands for, or None when it is not one we would have written."""
    version = int(text, 36) if _VERSION.fullmatch(text) else _END_OF_VERSIONS
    return version if version < _END_OF_VERSIONS else None


def version_tag(version: int, variant: str) -> EntityTag:
    """Return the tag of one representation of one version: `"<version>-<variant>"`.

    Args:
        version: of the row.
        variant: digits and lower-case letters that tell its representations apart.

    Raises:
        ValueError: the variant is empty, or holds something else.
    """
    tag = EntityTag(f"{encode_version(version)}-{variant}")
    if version_of(tag) != version:
        raise ValueError(f"{variant!r} is no variant of a tag, or {version} no version")
    return tag


def version_of(tag: EntityTag) -> int | None:
    """Return the version in a tag of ours, weakened on the way or not; None for any other tag."""
    halves = tag.halves()
    return decode_version(halves[0]) if halves else None
