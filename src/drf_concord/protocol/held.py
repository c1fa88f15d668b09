"""What a client holds, as a few bytes that it can keep for us: how an HTTP client resumes that says no keys.

The digest of a set is the exclusive or of its members' fingerprints. From the objects that a client must
hold, those that it may hold, and the digest, it follows which of the latter it does hold: that is a system
of linear equations over bits, which has one solution while there are fewer unknowns than bits.
"""

from __future__ import annotations

import hmac
from array import array
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import blake2b
from operator import xor

from .changes import Change, Op
from .errors import PositionLost
from .positions import MAX_POSITION, Position

__all__ = ["UNCERTAIN", "Held", "Seal", "held_of", "subset"]

WIDTH = 64
"""The length of a fingerprint, in bytes."""
UNCERTAIN = 448
"""How many objects may be uncertain; with 64 bits to spare, a wrong solution does not happen by chance."""
SIGNATURE = 16
"""The length of the signature, in bytes."""
PRIOR = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs what clients keep, so that nobody can ask about objects that he was not shown.

    Attributes:
        key: secret, and another one for each caller and each list, 64 bytes at the most.
    """

    key: bytes

    def fingerprint(self, pk: str) -> int:
        """Return a number that stands for an object."""
        return int.from_bytes(blake2b(pk.encode(), digest_size=WIDTH, key=self.key).digest())

    def close(self, position: Position, digest: int) -> str:
        """Return a position and the digest of what is held there as one word of visible ASCII."""
        text = f"{position.encode()}.{_word(digest.to_bytes(WIDTH))}"
        return f"{text}.{self._signature(text)}"

    def open(self, text: str) -> tuple[Position, int]:
        """Read what `close` returned.

        Raises:
            PositionLost: it is none of ours, or was given to another caller or for another list.
        """
        signed, _, signature = text[: 2 * MAX_POSITION].rpartition(".")
        if not text.isascii() or not hmac.compare_digest(signature, self._signature(signed)):
            raise PositionLost(reason="epoch")
        position, _, digest = signed.partition(".")
        return Position.decode(position), int.from_bytes(urlsafe_b64decode(digest + "=="))

    def _signature(self, text: str) -> str:
        return _word(blake2b(text.encode(), digest_size=SIGNATURE, key=self.key, person=b"resume").digest())


def _word(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


class Held:
    """The objects that one client holds: eight bytes for each, and the digest of all."""

    __slots__ = ("_seal", "_traces", "digest")

    def __init__(self, seal: Seal, pks: Iterable[str] = ()) -> None:
        prints = [seal.fingerprint(pk) for pk in pks]
        self._seal = seal
        self._traces = array("Q", sorted(each & PRIOR for each in prints))
        self.digest = reduce(xor, prints, 0)

    def __len__(self) -> int:
        return len(self._traces)

    def put(self, pk: str, *, there: bool) -> None:
        """Note that the client holds an object now, or does not."""
        found = self._seal.fingerprint(pk)
        place = bisect_left(self._traces, found & PRIOR)
        known = self._traces[place : place + 1] == array("Q", [found & PRIOR])
        if known == there:
            return
        self.digest ^= found
        if there:
            self._traces.insert(place, found & PRIOR)
        else:
            del self._traces[place]


def held_of(
    seal: Seal, digest: int, visible: Collection[str], concerned: Mapping[str, Sequence[Change]]
) -> list[str] | None:
    """Return the objects that a client holds.

    Args:
        seal: that made the digest.
        digest: of what the client holds.
        visible: the objects that it may see now.
        concerned: what has changed since its position, by object; "" stands for all objects.

    Returns:
        Their keys, or None where nobody can tell.
    """
    certain = [pk for pk in visible if pk not in concerned]
    rest = reduce(xor, map(seal.fingerprint, certain), digest)
    prints = {pk: seal.fingerprint(pk) for pk in concerned if pk}
    if len(prints) <= UNCERTAIN:
        solved = subset(rest, list(prints.values()))
        return None if solved is None else certain + [pk for i, pk in enumerate(prints) if i in solved]
    # too many for the equations, as after a bulk update: it may be as simple as it looks
    known = [pk for pk in prints if concerned[pk][0].op is not Op.INSERT]
    for guess in (known, [pk for pk in known if pk in visible]):
        if reduce(xor, (prints[pk] for pk in guess), rest) == 0:
            return certain + guess
    return None


def subset(target: int, numbers: Sequence[int]) -> set[int] | None:
    """Return the indices of the numbers whose exclusive or is the target; None without one sure answer."""
    basis: dict[int, tuple[int, int]] = {}  # by its highest bit: a number, and which of those given are in it
    for index, number in enumerate(numbers):
        left, used = _reduced(number, 1 << index, basis)
        if not left:
            return None  # two subsets would do
        basis[left.bit_length()] = left, used
    left, used = _reduced(target, 0, basis)
    return None if left else {i for i in range(len(numbers)) if used >> i & 1}


def _reduced(number: int, used: int, basis: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    while number and number.bit_length() in basis:
        other, more = basis[number.bit_length()]
        number, used = number ^ other, used ^ more
    return number, used
