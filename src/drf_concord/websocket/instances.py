"""Following single objects of a consumer over a model."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions

from ..live.accounts import copied
from ..live.pool import pool
from .decorators import action
from .doing import at
from .followings import Following, Notice
from .generics import GenericAsyncAPIConsumer
from .mixins import RetrieveModelMixin
from .observers import Action, ModelObserver, ModelTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model

    from ..live.feeds import Moment
    from .consumers import AsyncAPIConsumer

__all__ = ["ObserverModelInstanceMixin", "followers"]

followers: WeakSet[type[ObserverModelInstanceMixin]] = WeakSet()
"""The consumers with ``subscribe_instance``, for the system check."""

HOOKS = ("get_queryset", "filter_queryset", "get_object")
"""What a class may read an object by; where it has none of its own, one reading does for all sockets."""


class ObserverModelInstanceMixin(GenericAsyncAPIConsumer):
    """``{"action": "subscribe_instance", "pk": 2}`` is answered 201, and each change of the object is told.

    What is told has the form of a reply to that request: ``action`` is ``create``, ``update`` or ``delete``,
    ``data`` the object as ``retrieve`` shows it to this user now.
    """

    observer_many_to_many_relationships: bool = True

    class Gone(Exception):
        """An object is not there any more, where a change of it was to be told."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        followers.add(cls)

    retrieve = RetrieveModelMixin.retrieve  # not by inheritance: it may stand before that mixin, or after

    @action()
    async def subscribe_instance(self, request_id: Any = None, **kwargs: Any) -> tuple[None, int]:
        """Follow an object."""
        obj: Any = await pool.run(partial(self.get_object, **kwargs))
        of: Any = (type(self), type(obj))
        observer: InstanceObserver = _observer_of(*of)
        await observer.subscribe(self, obj.pk, request_id=request_id)
        try:
            # again: what happened to it since was not told
            await pool.run(partial(self.get_object, **kwargs))
        except Exception:
            await observer.unsubscribe(self, obj.pk, request_id=request_id)
            raise
        return None, 201

    @action()
    async def unsubscribe_instance(self, request_id: Any = None, **kwargs: Any) -> tuple[None, int]:
        """Follow an object no more; without ``pk`` whatever the ``request_id`` began, without that all."""
        lookup = self.lookup_url_kwarg or self.lookup_field
        left = []
        followed = [t for t in self._followed if isinstance(t, ModelTable)]
        for table in [t for t in followed if isinstance(t.observer, InstanceObserver)]:
            for group in {g for groups in self._followed[table].values() for g in groups}:
                asked = [f.arguments.get(lookup) for f in table.followings(self, group).values()]
                if lookup not in kwargs or str(kwargs[lookup]) in map(str, asked):
                    left += table.remove(self, [group], request_id)
        if not left:
            raise exceptions.NotFound
        return None, 204

    async def handle_instance_change(
        self, message: Any, *, observer: Any, notice: Notice, following: Following, **kwargs: Any
    ) -> None:
        """Look at an object that changed, as its follower would retrieve it, and tell him; a hook."""
        request_id = following.request_id
        told = partial(self.handle_observed_action, group=notice.group, request_id=request_id)
        if notice.action is Action.DELETE:
            if following.shown:
                following.shown = False
                await told(Action.DELETE, data=message)
            return
        kwargs = {**following.arguments, "action": self.action, "request_id": request_id}
        try:
            data = await pool.run(partial(self._shown, notice.moment, kwargs))
        except self.Gone:
            return  # its end is told next
        except (Http404, exceptions.NotFound) as refusal:
            if following.shown:
                following.shown = False
                await self.handle_exception(refusal, action=str(notice.action), request_id=request_id)
        except (PermissionDenied, exceptions.PermissionDenied) as refusal:
            await observer.unsubscribe(self, notice.moment.pk, request_id=request_id)
            await self.handle_exception(refusal, action=str(notice.action), request_id=request_id)
        else:
            if following not in observer.table().followings(self, notice.group).values():
                return  # it was ended meanwhile
            happened, following.shown = notice.action if following.shown else Action.CREATE, True
            await told(happened, data=data)

    async def handle_observed_action(
        self,
        action: Action,
        group: str | None = None,
        *,
        request_id: Any = None,
        data: Any = None,
        **kwargs: Any,
    ) -> None:
        """Tell the client what happened to an object that it follows; a hook."""
        status = 204 if action is Action.DELETE else 200
        await self.reply(str(action), data=data, status=status, request_id=request_id)

    def _shown(self, moment: Moment, kwargs: dict[str, Any]) -> Any:
        """Return an object as this socket may see it; runs in a thread."""
        cls: Any = type(self)
        if cls.get_object is not GenericAsyncAPIConsumer.get_object:
            return self.get_serializer(self.get_object(**kwargs), action_kwargs=kwargs).data
        alike = all(getattr(cls, name) is getattr(GenericAsyncAPIConsumer, name) for name in HOOKS)
        if alike and not self.filter_backends:
            key = (cls, self.queryset)  # as_asgi() may have been given another
            row = moment.once.result(key, partial(self._row, moment.pk, kwargs))
        else:
            row = self._row(moment.pk, kwargs)
        if row is None:
            known = type(moment.after)._base_manager.filter(pk=moment.pk).exists()
            raise Http404 if known else self.Gone
        row = copied(row)
        self.check_object_permissions(row, **kwargs)
        return self.get_serializer(row, action_kwargs=kwargs).data

    def _row(self, pk: Any, kwargs: dict[str, Any]) -> Any:
        return self.filter_queryset(self.get_queryset(**kwargs), **kwargs).filter(pk=pk).first()


class InstanceObserver(ModelObserver):
    """Observes the objects that sockets of one consumer class follow one by one."""

    def __init__(self, consumer_class: type[ObserverModelInstanceMixin], model: type[Model]) -> None:
        handler = consumer_class.handle_instance_change
        super().__init__(handler, model, None, consumer_class.observer_many_to_many_relationships)
        self.groups(lambda observer, obj: [getattr(obj, "pk", obj)])

    def notices(self, moment: Moment, wanted: Any) -> Iterator[Notice]:
        """Yield what is told of an object; of a table that was emptied, each object's end."""
        for notice in super().notices(moment, wanted):
            if notice.message["pk"] is None:
                notice = replace(notice, message={"pk": self._key(notice.group)})
            yield replace(notice, obj=None)  # the consumer asks, about the object as it reads it

    def _key(self, group: str) -> Any:
        return self.model._meta.pk.to_python(group)

    async def _call(self, consumer: AsyncAPIConsumer, notice: Notice, told: list[Following]) -> None:
        for following in told:
            with at(consumer, "retrieve", following.arguments) as now:
                try:
                    now.permissions = await consumer._asked("retrieve", following.arguments)
                    await self.handler(
                        consumer, notice.message, observer=self, notice=notice, following=following
                    )
                except Exception as error:
                    await consumer.handle_exception(
                        error, action=str(notice.action), request_id=following.request_id
                    )


@lru_cache(maxsize=512)
def _observer_of(consumer_class: Any, model: Any) -> InstanceObserver:
    return InstanceObserver(consumer_class, model)
