"""Rows of one shape, a table for each way to follow them: a peer's signals must not see another's writes."""

from __future__ import annotations

from django.db import models

from drf_concord.models import Versioned

__all__ = ["Live", "Observed", "Ranked"]


class Board(models.Model):
    """What the rows hang on."""

    name = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


class Shape(models.Model):
    """The columns all of them have."""

    text = models.CharField(max_length=400)
    board = models.ForeignKey(Board, on_delete=models.CASCADE, related_name="+")
    owner = models.IntegerField(null=True, db_index=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.text


class Live(Shape, Versioned):
    """Ours."""

    concord_routes = ["board", "owner"]


class Observed(Shape):
    """What djangochannelsrestframework observes."""


class Ranked(Shape):
    """What django-rest-live follows."""
