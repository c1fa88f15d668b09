"""The base class of models whose rows carry a version, and the rows that a write to one of them touches."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.db import connections, models, router, transaction
from django.db.models import F
from django.db.models.expressions import DatabaseDefault, Expression
from django.db.models.functions import Greatest
from django.db.models.sql import InsertQuery
from django.utils.translation import gettext_lazy as _

from . import asking, rows
from .fields import DatabaseClock, VersionField
from .transports import announce_on_commit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from contextlib import AbstractContextManager

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["NextVersion", "Versioned", "VersionedQuerySet", "parents"]

M = TypeVar("M", bound=models.Model)


class NextVersion(Expression):
    """The version after the one a row has, and the first one where a row is inserted.

    Which it will be is not known when ``save()`` begins: it inserts what it finds no row to update for.
    """

    output_field = models.BigIntegerField()

    def resolve_expression(self, query: Any = None, *args: Any, **kwargs: Any) -> Any:
        clock = DatabaseClock()
        first = isinstance(query, InsertQuery)
        value = DatabaseDefault(clock, clock.output_field) if first else Greatest(F("version") + 1, clock)
        return value.resolve_expression(query, *args, **kwargs)


class VersionedQuerySet(models.QuerySet[M]):
    """A queryset whose bulk writes move the version forward, also where no trigger does."""

    def update(self, **kwargs: Any) -> int:
        """Update the rows and their versions; ``bulk_update()`` comes through here too."""
        self._for_write = True
        kwargs.setdefault("version", NextVersion())
        rows.forget_version(self.db)
        changed = super().update(**kwargs)
        announce_on_commit(self.db)
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        """Create rows with versions of now, also from objects that carry an old one."""
        objs = list(objs)
        for obj in objs:
            obj.version = NextVersion()  # type: ignore[attr-defined]
        if kwargs.get("update_fields"):
            kwargs["update_fields"] = {*kwargs["update_fields"], "version"}
        created = super().bulk_create(objs, *args, **kwargs)
        announce_on_commit(self.db)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]


class Versioned(models.Model):
    """A model whose rows carry a version: the tag that guards writes, and the order of their states.

    ``touches`` names foreign keys whose target renders this row: when it is written, their version moves too.
    """

    touches: ClassVar[Collection[str]] = ()
    concord_routes: ClassVar[Collection[str] | None] = None
    """Columns whose old and new values the log keeps; None for all foreign keys."""

    version = VersionField(_("version"))

    objects = VersionedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save, and leave the version that was written in memory."""
        using = using or router.db_for_write(type(self), instance=self)
        if update_fields is not None:
            update_fields = set(update_fields)
            if not update_fields:
                return  # as Django does: nothing is saved, nobody is told
            update_fields |= {"version"}
        before = self.__dict__.get("version")
        connection = connections[using]
        try:
            with _transaction(connection):
                if self.touches:
                    _lock_parents(self, using)
                self.version = self._version_to_write(using, connection)
                super().save(
                    force_insert=force_insert,
                    force_update=force_update,
                    using=using,
                    update_fields=update_fields,
                )
                # The version is read back in the transaction that wrote it: after the commit it could be
                # another's. With multi-table inheritance a second statement touched the row again.
                if hasattr(self.version, "resolve_expression") or self._meta.parents:
                    self.read_version(using)
                announce_on_commit(using, connection)
        except BaseException:
            if before is None:
                self.__dict__.pop("version", None)
            else:
                self.version = before
            raise

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete as Django does, after locking what the row touches."""
        using = using or router.db_for_write(type(self), instance=self)
        if not self.touches:
            return super().delete(using=using, keep_parents=keep_parents)
        with _transaction(connections[using]):
            _lock_parents(self, using)
            return super().delete(using=using, keep_parents=keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]

    def _version_to_write(self, using: str, connection: BaseDatabaseWrapper) -> Any:
        entry = rows.entered(type(self), self.pk, using, connection)
        if entry is None or entry.version is None:
            return NextVersion()
        # The gate holds the row and knows its version: a number spares reading the expression back.
        entry.version = max(entry.version + 1, entry.now)
        return entry.version

    def read_version(self, using: str | None = None) -> int | None:
        """Read the row's version from the database into this object; None when the row is gone."""
        alias = using or router.db_for_write(type(self), instance=self)
        rows_of_model = type(self)._base_manager.using(alias)
        found: int | None = rows_of_model.filter(pk=self.pk).values_list("version", flat=True).first()
        if found is not None:
            self.version = found
        return found


_OPEN = nullcontext()


def _transaction(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    # Not atomic(savepoint=False) in a transaction: that would end it for a caller who catches the refusal.
    return _OPEN if connection.in_atomic_block else transaction.atomic(using=connection.alias)


def parents(obj: models.Model, using: str | None = None) -> list[tuple[type[models.Model], Any]]:
    """Return the rows that a write to this object touches, those touched by others of them first.

    Locked in this order, two writers who come by different ways do not wait for each other. On SQLite there
    are none to lock: a writer has the whole database.
    """
    using = using or router.db_for_write(type(obj), instance=obj)
    if connections[using].vendor == "sqlite":
        return []
    above = asking.rows_asked_by(obj, using)
    found: dict[tuple[str, str], tuple[type[models.Model], Any]] = {}
    pending: list[tuple[type[models.Model], Any, models.Model | None]] = [(type(obj), obj.pk, obj)]
    while pending:
        model, pk, instance = pending.pop()
        for field in _touching(model):
            value = (
                getattr(instance, field.attname) if instance is not None else _read(model, pk, field, using)
            )
            if value is not None and field.target_field.primary_key:
                found[rows.key(field.related_model, value)] = (field.related_model, value)
                pending.append((field.related_model, value, None))
    touched = [found[name] for name in sorted(found, key=lambda name: (_height(found[name][0]), name))]
    return above + [row for row in touched if row not in above]


def _read(model: type[models.Model], pk: Any, field: Any, using: str) -> Any:
    return model._base_manager.using(using).filter(pk=pk).values_list(field.attname, flat=True).first()


def _touching(model: type[models.Model]) -> list[Any]:
    names = model.touches if issubclass(model, Versioned) else ()
    return [model._meta.get_field(name) for name in names]


@functools.cache
def _height(model: type[models.Model]) -> int:
    """Return how many steps of ``touches`` lead up from a model at the most."""
    return max((1 + _height(field.related_model) for field in _touching(model)), default=0)


def _lock_parents(obj: Versioned, using: str) -> None:
    # The triggers write the row first and what it touches afterwards; the gate comes from above. Whoever
    # saves past the gate locks in its order, or the two wait for each other.
    if rows.entered(type(obj), obj.pk, using) is None:
        above = parents(obj, using)
        if not obj._state.adding or len(above) > 1:  # nobody can wait for a row that is not there yet
            rows.lock(above, using=using)
