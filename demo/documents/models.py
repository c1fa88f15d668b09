"""Documents."""

from __future__ import annotations

from django.db import models
from django.utils.text import Truncator

from drf_concord.models import Versioned

__all__ = ["Document"]


class Document(Versioned):
    """A text that several people write."""

    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return Truncator(self.text).chars(60)
