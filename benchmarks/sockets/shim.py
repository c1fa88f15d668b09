"""What django-rest-live needs to run on today's Channels: a name that Django has taken over since."""

from __future__ import annotations

import sys
from types import ModuleType

from django.core.handlers.asgi import ASGIRequest

__all__ = ["install"]


def install() -> None:
    """Put ``AsgiRequest`` where django-rest-live 0.7 imports it; Channels 3 dropped the module."""
    module: ModuleType = ModuleType("channels.http")
    module.__dict__["AsgiRequest"] = ASGIRequest
    sys.modules.setdefault("channels.http", module)
