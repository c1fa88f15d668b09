"""Lists and tasks."""

from __future__ import annotations

from django.db import models

from drf_concord.models import Versioned

__all__ = ["List", "Task"]


class List(Versioned):
    """A to-do list."""

    name = models.CharField(max_length=64)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class Task(Versioned):
    """One thing to do."""

    text = models.CharField(max_length=140)
    done = models.BooleanField(default=False)
    notes = models.TextField(blank=True, default="")
    list = models.ForeignKey(List, related_name="tasks", on_delete=models.CASCADE)

    # a list shows its tasks, so its version moves with theirs
    touches = ["list"]

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text
