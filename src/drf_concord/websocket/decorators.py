"""Decorators for consumers."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["action"]

Method = TypeVar("Method", bound="Callable[..., Any]")


def action(
    name: str | None = None, *, detached: bool = False, atomic: bool | None = None
) -> Callable[[Method], Method]:
    """Offer a method of a consumer to clients; it returns ``(data, status)``.

    The method gets the members of the frame as keyword arguments. Synchronous ones run in a thread, where
    they may use the database.

    Args:
        name: what clients call it; the method's name when None.
        detached: do not keep the socket's order waiting for it; asynchronous methods only.
        atomic: run it in a transaction; synchronous methods only. None: as ATOMIC_REQUESTS says.

    Raises:
        ValueError: an asynchronous method cannot be atomic, a synchronous one not detached.
        TypeError: the parentheses are missing.
    """
    if callable(name):
        raise TypeError(f"Write @action(), with parentheses, over {name.__name__}().")

    def declare(method: Method) -> Method:
        asynchronous = inspect.iscoroutinefunction(method)
        if asynchronous and atomic:
            raise ValueError(f"{method.__name__} is asynchronous and cannot run in a transaction.")
        if detached and not asynchronous:
            raise ValueError(f"{method.__name__} is synchronous and cannot be detached.")
        method.concord_action = (name or method.__name__, detached, atomic)  # type: ignore[attr-defined]
        return method

    return declare


@lru_cache(maxsize=512)
def actions_of(cls: Any) -> dict[str, tuple[str, bool, bool | None]]:
    """Return what clients may call of a class: name -> (method, detached, atomic)."""
    found = {}
    for attribute in dir(cls):
        declared = getattr(inspect.getattr_static(cls, attribute), "concord_action", None)
        if declared is not None:
            found[declared[0]] = (attribute, declared[1], declared[2])
    return found
