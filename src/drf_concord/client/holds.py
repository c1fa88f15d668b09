"""A lock that is held: when it has to be renewed, and how it is noticed that it is lost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from .errors import ClientError, LockLostError
from .operations import Operations
from .requests import Operation
from .values import Item, Pk

__all__ = ["Hold", "Scope"]

Scope = str | list[str]

# after these the lock is somebody else's, or nobody's; after others it may still be renewed in time
FINAL = frozenset({400, 401, 403, 404, 409, 412})


class Hold:
    """A lock, taken or about to be; the clients' locks add what waits and what runs beside.

    Attributes:
        pk: of the object.
        token: what proves it; empty while the lock is not held.
        state: what the server said of the lock last.
        problem: why the lock was lost, if it was.
    """

    def __init__(
        self,
        operations: Operations,
        pk: Pk | Item,
        *,
        ttl: float | None,
        reason: str,
        mode: str,
        scope: Scope | None,
    ) -> None:
        self.pk = operations.key(pk)
        self.token = ""
        self.state: Mapping[str, Any] = {}
        self.problem: ClientError | None = None
        self._operations = operations
        self._claim = {"ttl": ttl, "reason": reason, "mode": mode, "scope": scope}
        self._ttl = ttl if mode == "hold" else None
        self._ends = float("inf")

    def __repr__(self) -> str:
        # without the token: it opens the lock for whoever reads a log
        return f"<lock of {self.pk}: {'held' if self.token and not self.over() else 'not held'}>"

    @property
    def generation(self) -> int | None:
        """The number that grows each time the lock is taken: for systems that must refuse a late write."""
        return self.state.get("generation")

    def left(self) -> float:
        """Return how long the lock lasts if it is not renewed, in seconds."""
        return max(0.0, self._ends - time.monotonic())

    def over(self) -> bool:
        """Tell whether the lock was lost, or may have been: nobody renewed it in time."""
        return self.problem is not None or time.monotonic() >= self._ends

    def taking(self) -> Operation[float | None]:
        """Take the lock; return after how many seconds it has to be renewed, None for never."""
        claim = {name: value for name, value in self._claim.items() if value not in (None, "")}
        began = time.monotonic()
        # a name for this very claim: a request that is sent again gets the same lock
        claim["id"] = str(uuid.uuid4())
        self.token, self.state = yield from self._operations.take(self.pk, claim)
        self.problem = None
        if self._ttl is None:
            self._ends = float("inf")
            return None
        self._ends = began + self._ttl
        return self._ttl / 3

    def renewing(self) -> Operation[float | None]:
        """Renew the lock; return after how many seconds to do so again, None when it is lost."""
        ttl = self._ttl or 0.0
        began = time.monotonic()
        left = self._ends - began
        if left <= 0:
            return self.lose(None)
        try:
            self.state = yield from self._operations.renew(self.pk, self.token, ttl, min(ttl / 3, left))
        except ClientError as error:
            left = self._ends - time.monotonic()
            if error.status in FINAL or left <= 0:
                return self.lose(error)
            return min(ttl / 10, left)
        self._ends = began + ttl
        return ttl / 3

    def releasing(self) -> Operation[None]:
        """Give the lock back; one that cannot be given back ends by itself, or has ended already."""
        token, self.token = self.token, ""
        if token and not self.over():
            try:
                yield from self._operations.release(self.pk, token)
            except ClientError as error:
                gone = error.status in {404, 412}
                if self._ttl is None and not gone:
                    raise  # a freeze does not end by itself

    def writing(
        self, method: str, data: Mapping[str, Any] | None, if_match: Any, target: Pk | Item | None
    ) -> Operation[Item | None]:
        """Write the object with the token.

        Raises:
            LockLostError: the lock is not held, so that nothing was sent; or the server says so.
        """
        if not self.token:
            raise LockLostError("The lock is not held: use it in a with statement, or take() it.")
        if self.over():
            raise LockLostError(
                "The lock was lost, so nothing was written: read the object again, and lock it again.",
                code="lock_lost",
            ) from self.problem
        target = self.pk if target is None else target
        try:
            return (yield from self._operations.write(method, target, data, if_match, self.token))
        except LockLostError as error:
            self.lose(error)
            raise

    def lose(self, error: ClientError | None) -> float | None:
        """Take note that the lock is not held any more; return None, as nothing is to be renewed."""
        if self.problem is None:
            self.problem = error or LockLostError(
                "The lock ended before it could be renewed.", code="lock_lost"
            )
            self.told()
        return None

    def told(self) -> None:
        """Tell that the lock is lost; called once."""
