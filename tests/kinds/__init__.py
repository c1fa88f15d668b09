"""Models of every shape: bases in both orders, inheritance over tables, chains of touches, all keys."""

from __future__ import annotations
