"""The refusal of a locked object."""

from __future__ import annotations

from ... import ObjectLocked

__all__ = ["ObjectLocked"]
