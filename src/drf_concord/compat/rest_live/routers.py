"""The router of views that can be followed, and the ASGI application that it offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from ...websocket.application import Application
from ...websocket.router import RealtimeRouter as ConcordRouter
from ...websocket.socket import UNAUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["RealtimeRouter", "SubscriptionConsumer"]

FORMER_UNAUTHENTICATED = 4003
"""The code with which a socket of nobody is refused."""


class SubscriptionConsumer(Application):
    """The sockets of a router; or of a registry, in a subclass that is mounted by ``as_asgi()``."""

    registry: ClassVar[Mapping[str, Any]] = {}
    """Views by the labels of their models."""
    public: ClassVar[bool] = True
    """Whether sockets of users who are not logged in are accepted."""

    def __init__(self, router: ConcordRouter | None = None) -> None:
        super().__init__(_of(type(self)) if router is None else router)
        self.__dict__["as_asgi"] = lambda: self  # of an instance there is nothing to make any more

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if callable(value) and not name.startswith("_"):
                raise ImproperlyConfigured(
                    f"{cls.__name__}.{name}() would never be called: this is no consumer of Channels. For a"
                    " socket with methods of your own there is AsyncAPIConsumer (drf_concord.websocket)."
                )

    @classmethod
    def as_asgi(cls) -> Any:
        """Return the ASGI application.

        Raises:
            RuntimeError: a view cannot be followed, or is registered under another label than its model's.
        """
        return cls()

    def _refusal(self, scope: MutableMapping[str, Any]) -> int | None:
        code = super()._refusal(scope)
        return FORMER_UNAUTHENTICATED if code == UNAUTHENTICATED else code


def _of(consumer: type[SubscriptionConsumer]) -> ConcordRouter:
    router = ConcordRouter(public=consumer.public)
    for label, view in consumer.registry.items():
        router.register(view)
        if label not in router.views:
            raise RuntimeError(f"{view.__name__} is registered as {label}, which is not its model.")
    return router


class RealtimeRouter(ConcordRouter):
    """Views to follow over one websocket; its arguments may be positional."""

    def __init__(self, public: bool = True, uid: str = "default") -> None:
        super().__init__(public=public, uid=uid)
        self.consumer = SubscriptionConsumer(self)
