"""The triggers: what they record, and how they live through migrations."""

from __future__ import annotations
