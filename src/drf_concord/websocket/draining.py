"""Sending every client of a process away before it stops: the names of `drf_concord.live.draining`."""

from __future__ import annotations

from ..live.draining import TIMEOUT, Sockets, drain, lifespan, return_after, sockets_of_loop

__all__ = ["TIMEOUT", "Sockets", "drain", "lifespan", "return_after", "sockets_of_loop"]
