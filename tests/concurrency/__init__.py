"""Several writers at once: threads that stop where a test says, and real processes."""

from __future__ import annotations
