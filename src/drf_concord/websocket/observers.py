"""Observers: handlers of consumers that are called when rows of a model change, whoever changed them.

They are fed from the change log, in its order and after the commit; a row is read once for all followers.
"""

from __future__ import annotations

import functools
import logging
import weakref
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db import DatabaseError

from ..live.feeds import Feed, Moment, feed_of
from ..live.hub import hub_of_loop
from ..protocol.changes import Op
from ..triggers.plan import captured_models
from .followings import Notice, Table
from .observing import ALL, BaseObserver, call
from .signals import Observer, observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django.db.models import Model

    from .consumers import AsyncAPIConsumer

__all__ = ["Action", "ModelObserver", "Observer", "model_observer", "observer", "observers"]

logger = logging.getLogger("drf_concord")

observers: weakref.WeakSet[ModelObserver] = weakref.WeakSet()
"""Every observer of a model in this process, for the system checks."""


class Action(StrEnum):
    """What happened to a row, as the followers of a group see it."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class ModelObserver(BaseObserver):
    """Observes the rows of a model.

    Args:
        handler: is called with ``(consumer, message, **more)``.
        model: whose rows.
        serializer_class: makes the message; ``{"pk": ...}`` without it.
        many_to_many: whether the handler is told when only a many-to-many field changed.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        model: type[Model],
        serializer_class: Any = None,
        many_to_many: bool = False,
    ) -> None:
        super().__init__(handler)
        self.model = model
        self.serializer_class = serializer_class
        self.many_to_many = many_to_many
        observers.add(self)

    async def _begin(self) -> int:
        if (self.model._meta.concrete_model or self.model) not in captured_models():
            label = self.model._meta.label
            raise ImproperlyConfigured(
                f'Add "{label}" to CONCORD["CAPTURE"] and migrate: its changes are not recorded.'
            )
        hub = hub_of_loop()
        await hub.start()
        await hub.catch_up()  # what was written before is no news
        return hub.tick

    def _table(self) -> Table:
        return ModelTable(self, feed_of(hub_of_loop(), self.model))

    # In a thread

    def notices(self, moment: Moment, wanted: Table) -> Iterator[Notice]:
        """Yield what the followers of the groups of a row are told of a change, each group once."""
        change = moment.change
        if change.op is Op.TRUNCATE:
            for group in wanted.groups():
                yield Notice(group, Action.DELETE, {"pk": None})
            return
        if not self.many_to_many and change.op is Op.UPDATE and self._only_relations(change.columns):
            return
        new = self._groups_told(moment.after)
        old = self._groups_told(moment.before) if moment.after is None or _moved(moment) else new
        now = new if moment.now is moment.after else self._groups_told(moment.now)
        for group in dict.fromkeys((*old, *new)):
            if group not in wanted:
                continue
            if group not in new:
                action, obj = Action.DELETE, moment.before
            elif group not in now:
                continue  # it has moved on: what it is now is none of theirs, and that it left is told next
            else:
                action, obj = (Action.UPDATE if group in old else Action.CREATE), moment.now
            gone = moment.after is None
            if action is Action.DELETE and not gone:
                message: Any = {"pk": moment.pk}  # the columns it has now are none of theirs
            else:
                message = moment.once.result(
                    (self, action), functools.partial(self._message, obj, action, gone)
                )
            yield Notice(group, action, message, obj, moment)

    def _only_relations(self, columns: Sequence[str]) -> bool:
        names = {field.name for field in self.model._meta.many_to_many}
        return bool(columns) and names.issuperset(columns)

    def _groups_told(self, instance: Any) -> list[str]:
        if instance is None:
            return []
        if self._of_signal is None:
            return [ALL]
        return [str(group) for group in call(self._of_signal, self, instance) or ()]

    def _message(self, instance: Any, action: Action, gone: bool) -> Any:
        if self._serializer is not None:
            try:
                return call(self._serializer, self, instance, action=action)
            except ObjectDoesNotExist:
                if not gone:
                    raise
        elif self.serializer_class is not None and not gone:
            return self.serializer_class(instance).data
        return {"pk": instance.pk}


class ModelTable(Table):
    """The followers of an observer of a model, as its feed knows them."""

    def __init__(self, observer: ModelObserver, feed: Feed) -> None:
        super().__init__(observer._call)
        self.observer = observer
        self.feed = feed

    def add(self, consumer: AsyncAPIConsumer, groups: Iterable[str], request_id: Any, since: int) -> None:
        """Let a consumer follow some groups."""
        super().add(consumer, groups, request_id, since)
        self.feed.watchers[self] = None

    def idle(self) -> None:
        """Observe no more."""
        self.feed.watchers.pop(self, None)

    def prepare(self, moments: Sequence[Moment]) -> list[Notice]:
        """Make notices of changes; one that cannot be told stops no other.

        Raises:
            DatabaseError: nobody can say what is missing then.
        """
        found: list[Notice] = []
        for moment in moments:
            try:
                found += self.observer.notices(moment, self)
            except DatabaseError:
                raise
            except Exception:
                logger.exception(
                    "The groups or the message of %s failed for %s %s.",
                    self.observer.handler.__qualname__,
                    moment.change.model,
                    moment.change.pk,
                )
        return found

    def deliver(self, prepared: list[Notice], tick: int) -> None:
        """Tell the followers."""
        self.tell(prepared, tick)

    def missed(self) -> None:
        """Tell the followers that they may have missed something."""
        self.tell_all(410, "Changes may have been missed. Read what you show, and subscribe again.")


def model_observer(
    model: type[Model], serializer_class: Any = None, many_to_many: bool = False, partition: str = "*"
) -> Callable[[Callable[..., Any]], ModelObserver]:
    """Make a method of a consumer a handler of changes of a model's rows.

    The method is called with the message and, as far as it takes them, ``observer``, ``message_type``,
    ``subscribing_request_ids``, ``group`` and ``action`` (`Action`).

    Args:
        model: whose rows; recorded as every model that is followed.
        serializer_class: makes the message; ``{"pk": ...}`` without it, and of rows that are gone.
        many_to_many: whether to tell when only a many-to-many field changed.
        partition: has no meaning here: one log is read for all.
    """

    def declare(handler: Callable[..., Any]) -> ModelObserver:
        return ModelObserver(handler, model, serializer_class, many_to_many)

    return declare


def _moved(moment: Moment) -> bool:
    return moment.before is None or any(old != new for old, new in moment.change.routes.values())
