"""Observers of Django's signals: handlers of consumers that are called when a signal is sent."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, transaction

from ..live.hub import hub_of_loop
from .followings import Notice
from .observing import ALL, BaseObserver, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.dispatch import Signal

__all__ = ["Observer", "observer"]

logger = logging.getLogger("drf_concord")


class Observer(BaseObserver):
    """Observes a signal, of this process.

    What is sent in a transaction is told after its commit, and not at all when it is rolled back.

    Args:
        handler: is called with ``(consumer, message, **more)``.
        signal: the signal.
        **connect: for ``signal.connect()``, such as ``sender``.
    """

    def __init__(self, handler: Callable[..., Any], signal: Signal, **connect: Any) -> None:
        super().__init__(handler)
        self.signal = signal
        self._ticks = itertools.count()
        signal.connect(self._received, weak=False, **connect)

    async def _begin(self) -> int:
        try:
            await hub_of_loop().start()  # it hears of accounts that change
        except Exception as error:
            logger.warning("The log cannot be read (%s): accounts are read again in time only.", error)
        return -1

    def _received(self, sender: Any = None, signal: Any = None, **given: Any) -> None:
        loops = {loop: table for loop, table in list(self._tables.items()) if table.groups()}
        if not loops:
            return
        try:
            told = {"sender": sender, "signal": signal, **given}
            groups = [ALL]
            if self._of_signal is not None:
                groups = [str(group) for group in call(self._of_signal, self, **told) or ()]
            message = {} if self._serializer is None else call(self._serializer, self, **told)
        except Exception:
            # whoever sent the signal goes on
            logger.exception("The groups or the message of %s failed.", self.handler.__qualname__)
            return
        notices = [Notice(group, None, message) for group in dict.fromkeys(groups)]
        tick = next(self._ticks)  # permissions are asked once for each

        def tell() -> None:
            for loop, table in loops.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(table.tell, notices, tick)

        transaction.on_commit(tell, using=given.get("using") or DEFAULT_DB_ALIAS, robust=True)


def observer(signal: Signal, **connect: Any) -> Callable[[Callable[..., Any]], Observer]:
    """Make a method of a consumer a handler of a signal.

    The method is called with the message and, as far as it takes them, ``observer``, ``message_type``,
    ``subscribing_request_ids`` and ``group``. The functions for groups and for the message get what the
    signal was sent with. Only signals of this process are seen.

    Args:
        signal: the signal.
        **connect: for ``signal.connect()``, such as ``sender``.
    """

    def declare(handler: Callable[..., Any]) -> Observer:
        return Observer(handler, signal, **connect)

    return declare
