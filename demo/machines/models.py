"""Instances."""

from __future__ import annotations

import uuid

from django.db import models

from drf_concord.models import Versioned

__all__ = ["Instance"]


class Instance(Versioned):
    """A machine, known to the outside by its uuid."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=64)
    state = models.CharField(max_length=16, default="active")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name
