"""The router of views that can be followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...websocket.application import Application
from ...websocket.router import RealtimeRouter as ConcordRouter
from ...websocket.socket import UNAUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["RealtimeRouter"]

FORMER_UNAUTHENTICATED = 4003
"""The code with which a socket of nobody is refused."""


class RealtimeRouter(ConcordRouter):
    """Views to follow over one websocket; its arguments may be positional."""

    def __init__(self, public: bool = True, uid: str = "default") -> None:
        super().__init__(public=public, uid=uid)
        self.consumer = _Application(self)


class _Application(Application):
    def _refusal(self, scope: MutableMapping[str, Any]) -> int | None:
        code = super()._refusal(scope)
        return FORMER_UNAUTHENTICATED if code == UNAUTHENTICATED else code
