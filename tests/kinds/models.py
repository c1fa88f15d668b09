"""The shapes a model can have; without migrations, as nothing here is ever altered."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from drf_concord.models import Lockable, LockableModel, Versioned, VersionedQuerySet


class Root(Versioned):
    """Renders its branches, which render their leaves."""

    name = models.CharField(max_length=40, default="")


class Branch(Versioned):
    touches = ("root",)

    name = models.CharField(max_length=40, default="")
    root = models.ForeignKey(Root, on_delete=models.CASCADE, related_name="branches")


class Leaf(Versioned):
    touches = ("branch",)

    name = models.CharField(max_length=40, default="")
    branch = models.ForeignKey(Branch, null=True, on_delete=models.CASCADE, related_name="leaves")


class Remark(models.Model):
    """Refers to a root that does not show it."""

    root = models.ForeignKey(Root, on_delete=models.CASCADE, related_name="remarks")


class Sheet(Versioned, Lockable):
    """Guards itself, and touches what it hangs on."""

    touches = ("root",)

    text = models.CharField(max_length=40, default="")
    root = models.ForeignKey(Root, null=True, on_delete=models.CASCADE, related_name="sheets")


class LockedFirst(Lockable, Versioned):
    """The bases of a note, the other way round."""

    text = models.CharField(max_length=40, default="")


class Locked(Lockable):
    """Has locks, and no version."""

    text = models.CharField(max_length=40, default="")


class Area(Versioned, Lockable):
    name = models.CharField(max_length=40, default="")


class Garden(Area):
    trees = models.IntegerField(default=0)


class Orchard(Garden):
    fruit = models.CharField(max_length=40, default="")


class Yard(Garden):
    """A garden by another name."""

    class Meta:
        proxy = True


class Animal(Versioned):
    """Has a routing column in each of the tables of a child."""

    name = models.CharField(max_length=40, default="")
    area = models.ForeignKey(Area, null=True, related_name="+", on_delete=models.SET_NULL)


class Dog(Animal):
    kennel = models.ForeignKey(Garden, null=True, related_name="+", on_delete=models.SET_NULL)


class Badge(Versioned):
    """Has the key of another row as its own."""

    root = models.OneToOneField(Root, primary_key=True, on_delete=models.CASCADE)
    text = models.CharField(max_length=40, default="")


class Keyed(Versioned, Lockable):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.CharField(max_length=40, default="")


class Texted(Versioned, Lockable):
    code = models.CharField(primary_key=True, max_length=20)
    text = models.CharField(max_length=40, default="")


class Book(models.Model):
    book_id = models.AutoField(primary_key=True)
    title = models.CharField(max_length=40, default="")


class Article(models.Model):
    article_id = models.AutoField(primary_key=True)
    headline = models.CharField(max_length=40, default="")


class Review(Book, Article):
    """Two bases, each with keys of its own."""

    stars = models.IntegerField(default=0)


class BusyManager(models.Manager.from_queryset(VersionedQuerySet)):  # type: ignore[misc]
    """A manager of a project's own that filters."""

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(idle=False)


class Managed(Versioned):
    text = models.CharField(max_length=40, default="")
    idle = models.BooleanField(default=False)

    busy = BusyManager()
    everything = models.Manager()


class Stamped(models.Model):
    """An abstract base that computes a column in ``save()``."""

    stamp = models.CharField(max_length=40, default="")

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.stamp = "stamped"
        super().save(*args, **kwargs)


class Base(Versioned, Lockable):
    class Meta:
        abstract = True


class Chained(Base, Stamped):
    """Ours first, a project's base behind, and a ``save()`` of its own before."""

    text = models.CharField(max_length=40, default="")

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.text = self.text.strip()
        super().save(*args, **kwargs)


class Report(LockableModel):
    """Locks itself by a column."""

    title = models.CharField(max_length=40, default="", blank=True)
    sealed = models.BooleanField(default=False)
    marks = models.JSONField(default=dict, blank=True)

    def is_locked(self) -> bool:
        return self.sealed or bool(self.marks.get("sealed"))

    def set_locked(self, value: bool) -> None:
        self.sealed = value


class Annual(Report):
    """With multi-table inheritance."""

    year = models.IntegerField(default=0)


class Paragraph(LockableModel):
    """Is locked with its report, and cannot be locked by itself."""

    text = models.CharField(max_length=40, default="")
    report = models.ForeignKey(Report, on_delete=models.CASCADE, related_name="paragraphs")

    def is_locked(self) -> bool:
        return self.report.is_locked()


class Footnote(LockableModel):
    """Two steps below what locks it."""

    text = models.CharField(max_length=40, default="")
    paragraph = models.ForeignKey(Paragraph, on_delete=models.CASCADE)

    def is_locked(self) -> bool:
        return self.paragraph.is_locked()


class Contract(Versioned, LockableModel):
    """Has a version, and locks itself by its state."""

    text = models.CharField(max_length=40, default="")
    state = models.CharField(max_length=10, default="draft")

    def is_locked(self) -> bool:
        return self.state == "signed"

    def set_locked(self, value: bool) -> None:
        self.state = "signed" if value else "draft"


class Undefined(LockableModel):
    """Says nothing of its locks."""

    text = models.CharField(max_length=40, default="")


class Post(models.Model):
    """Knows nothing of locks: views decide."""

    text = models.CharField(max_length=40, default="")
    closed = models.BooleanField(default=False)


class Machine(Versioned):
    """What operators lock for maintenance."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=40, default="")
    state = models.CharField(max_length=10, default="active")
    note = models.CharField(max_length=10, null=True, default=None, blank=True)  # noqa: DJ001


class Clause(Versioned, LockableModel):
    """Is locked with its contract, and has a version, by which one sees which was first."""

    text = models.CharField(max_length=40, default="")
    contract = models.ForeignKey(Contract, on_delete=models.CASCADE)

    def is_locked(self) -> bool:
        return self.contract.is_locked()
