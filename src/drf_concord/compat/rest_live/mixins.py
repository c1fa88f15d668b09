"""The mixin of views that can be followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...live import RealtimeMixin as ConcordMixin
from ...live.callers import Caller
from ...live.requests import http_request
from ...live.views import build

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RealtimeMixin"]


class RealtimeMixin(ConcordMixin):
    """A view that can be followed."""

    @classmethod
    def register_signal_handler(cls, uid: str | None = None) -> None:
        """Say that the view is to be told of changes; it is already, as they are read from the log.

        Args:
            uid: of no meaning, as before.

        Raises:
            ImproperlyConfigured: the view does not say which model it shows.
        """
        cls.get_model_class()

    @classmethod
    def from_scope(
        cls,
        action: str,
        scope: Mapping[str, Any],
        view_kwargs: Mapping[str, Any] | None = None,
        query_params: Mapping[str, object] | None = None,
    ) -> Any:
        """Return the view as it is when who opened a websocket sends a GET.

        Args:
            action: ``retrieve`` or ``list``.
            scope: of the websocket, with its user and session.
            view_kwargs: the keyword arguments of the view's route.
            query_params: the query parameters, values as JSON has them.
        """
        request = http_request(Caller(scope), path="/", query=query_params or {})
        return build(cls, request, action=action, kwargs=view_kwargs or {})
