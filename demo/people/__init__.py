"""The users of the demo, over a websocket."""

from __future__ import annotations
