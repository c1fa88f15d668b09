"""The rules, as pure functions: no Django, no IO, no clock, no randomness; time is an argument.

Every module here can be read, tested and ported on its own; `spec/vectors/` holds the same rules as
data, which the JavaScript client is tested with too.
"""

from __future__ import annotations

__all__: list[str] = []
