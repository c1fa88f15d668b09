"""Rows of one shape: bare, with one more column, and with a version."""

from __future__ import annotations

from django.db import models

from drf_concord.models import Versioned

__all__ = ["Folder", "Guarded", "Numbered", "Plain"]


class Folder(models.Model):
    """What the rows point to, so that they have a foreign key."""

    name = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


class Shape(models.Model):
    """The columns all of them have."""

    text = models.CharField(max_length=140)
    count = models.IntegerField(default=0)
    done = models.BooleanField(default=False)
    notes = models.TextField(blank=True, default="")
    folder = models.ForeignKey(Folder, on_delete=models.CASCADE, related_name="+")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.text


class Plain(Shape):
    """A model as it was before the package came."""


class Numbered(Shape):
    """A plain model with as many columns as a guarded one, and no triggers."""

    version = models.BigIntegerField()


class Guarded(Shape, Versioned):
    """A model with a version, and triggers on its table."""
