"""Models of every kind the package meets."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models

from drf_concord.models import Lockable, Versioned


class Tag(models.Model):
    name = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.name


class Folder(Versioned):
    """Renders its items, so they touch it."""

    name = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


class Item(Versioned):
    """The common case: columns, a foreign key, many-to-many, a column that no serializer shows."""

    touches = ("folder",)

    text = models.CharField(max_length=140, default="")
    count = models.IntegerField(default=0)
    notes = models.TextField(default="", blank=True)
    hidden = models.TextField(default="", blank=True)
    folder = models.ForeignKey(Folder, null=True, blank=True, related_name="items", on_delete=models.CASCADE)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag, blank=True)

    def __str__(self) -> str:
        return self.text


class Slugged(Versioned):
    """``save()`` computes a column from another."""

    title = models.CharField(max_length=40)
    slug = models.CharField(max_length=40, editable=False)

    def __str__(self) -> str:
        return self.title

    def save(self, **kwargs: Any) -> None:
        self.slug = self.title.lower().replace(" ", "-")
        super().save(**kwargs)


class Note(Versioned, Lockable):
    """Guards its own ``save()`` and ``delete()``."""

    text = models.CharField(max_length=140, default="")

    def __str__(self) -> str:
        return self.text


class Place(Versioned):
    """The parent of a multi-table inheritance; the version is in its row."""

    name = models.CharField(max_length=40)

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Keyed(Versioned):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    text = models.CharField(max_length=40, default="")

    def __str__(self) -> str:
        return self.text


class Texted(Versioned):
    code = models.CharField(primary_key=True, max_length=20)
    text = models.CharField(max_length=40, default="")

    def __str__(self) -> str:
        return self.text


class Pair(Versioned):
    left = models.IntegerField()
    right = models.IntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["left", "right"], name="pair_unique")]

    def __str__(self) -> str:
        return f"{self.left}/{self.right}"


class Bare(models.Model):
    """Has no version column."""

    text = models.CharField(max_length=40, default="")

    def __str__(self) -> str:
        return self.text


class Watched(models.Model):
    """Has no version column, and is captured by the settings."""

    text = models.CharField(max_length=40, default="")

    def __str__(self) -> str:
        return self.text


class Event(Versioned):
    """Dates that hang together, a column that saves itself, and a file."""

    title = models.CharField(max_length=40, default="")
    start = models.DateTimeField(null=True, blank=True)
    end = models.DateTimeField(null=True, blank=True)
    saved_at = models.DateTimeField(auto_now=True)
    paper = models.FileField(null=True, blank=True)
    secret = models.CharField(max_length=40, default="", blank=True)

    def __str__(self) -> str:
        return self.title
