"""The router of the demo's API."""

from __future__ import annotations

from typing import Any

from rest_framework import routers

__all__ = ["Router"]


class Router(routers.DefaultRouter):
    """Routes every address, also of extra actions, with and without the trailing slash."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trailing_slash = "/?"
