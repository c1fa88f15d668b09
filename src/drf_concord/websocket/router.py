"""The router: which views a websocket offers, by the names of their models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from rest_framework.generics import GenericAPIView

from ..live import RealtimeMixin
from .application import Application

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RealtimeRouter", "routers"]

routers: WeakSet[RealtimeRouter] = WeakSet()
"""Every router of this process, for the system checks."""


class RealtimeRouter:
    """Views to call and to follow over one websocket.

    Mount ``router.consumer`` in a ``URLRouter``, in ``AuthMiddlewareStack`` where users log in by session.
    Views registered later count too.

    Args:
        public: whether sockets of users who are not logged in are accepted.
    """

    def __init__(self, *, public: bool = True, uid: str = "default") -> None:
        self.public = public
        self.uid = uid
        self.views: dict[str, Any] = {}
        # Any, because path() is typed for views, and URLRouter takes ASGI applications there
        self.consumer: Any = Application(self)
        routers.add(self)

    def register(self, view: Any) -> None:
        """Offer a view under its model's label, such as ``todolist.Task``.

        Raises:
            RuntimeError: the view cannot be followed, or another one stands for its model.
            ImproperlyConfigured: it names no model.
        """
        if not (isinstance(view, type) and issubclass(view, RealtimeMixin)):
            raise RuntimeError(f"{view!r} needs RealtimeMixin (drf_concord.live) among its bases.")
        if not issubclass(view, GenericAPIView):
            raise RuntimeError(f"{view.__name__} is no generic view: let it inherit from GenericAPIView.")
        label = view.get_model_class()._meta.label
        known = self.views.get(label)
        if known is not None and known is not view:
            raise RuntimeError(
                f"{known.__name__} stands for {label} already. Register {view.__name__} with another router."
            )
        self.views[label] = view

    def register_all(self, views: Iterable[Any]) -> None:
        """Offer several views."""
        for view in views:
            self.register(view)

    def view(self, label: str) -> Any:
        """Return the view of a model's label, whatever the case it is written in, or None."""
        return self.views.get(label) or next(
            (view for known, view in self.views.items() if known.lower() == label.lower()), None
        )

    def as_consumer(self) -> Any:
        """Return the ASGI application; the same as ``consumer``."""
        return self.consumer

    def as_asgi(self) -> Any:
        """Return the ASGI application; the same as ``consumer``."""
        return self.consumer
