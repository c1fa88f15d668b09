"""The tables of the package, and the base classes a project's models build on."""

from __future__ import annotations

import functools
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.db import connections, models, router, transaction
from django.db.models import F
from django.db.models.expressions import DatabaseDefault, Expression
from django.db.models.functions import Greatest
from django.db.models.sql import InsertQuery
from django.utils.translation import gettext_lazy as _

from . import rows, statements
from .fields import DatabaseClock, VersionField
from .protocol import locks as rules
from .transports import announce_on_commit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Answered",
    "Change",
    "Lock",
    "Lockable",
    "Log",
    "Mark",
    "NextVersion",
    "Versioned",
    "VersionedQuerySet",
    "parents",
]

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
                _lock_parents(self, using)
                self.version = self._version_to_write(using)
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

    def _version_to_write(self, using: str) -> Any:
        entry = rows.entered(type(self), self.pk, using)
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


def _transaction(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    # Not atomic(savepoint=False) in a transaction: that would end it for a caller who catches the refusal.
    return nullcontext() if connection.in_atomic_block else transaction.atomic(using=connection.alias)


def parents(obj: models.Model, using: str | None = None) -> list[tuple[type[models.Model], Any]]:
    """Return the rows that a write to this object touches, those touched by others of them first.

    Locked in this order, two writers who come by different ways do not wait for each other. On SQLite there
    are none to lock: a writer has the whole database.
    """
    using = using or router.db_for_write(type(obj), instance=obj)
    if connections[using].vendor == "sqlite":
        return []
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
    return [found[name] for name in sorted(found, key=lambda name: (_height(found[name][0]), name))]


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
    if obj.touches and rows.entered(type(obj), obj.pk, using) is None:
        above = parents(obj, using)
        if not obj._state.adding or len(above) > 1:  # nobody can wait for a row that is not there yet
            rows.lock(above, using=using)


class Lockable(models.Model):
    """A model whose ``save()`` and ``delete()`` respect the locks taken on the object."""

    class Meta:
        abstract = True

    def save(self, *, using: str | None = None, **kwargs: Any) -> None:
        """Save unless a lock forbids it.

        Raises:
            ObjectLocked: somebody else's lock, or a freeze, covers ``update``.
        """
        using = using or router.db_for_write(type(self), instance=self)
        pk = _key_to_write(self, kwargs.get("force_insert", False))
        if pk is None:
            super().save(using=using, **kwargs)
            return
        with _unlocked(self, pk, "update", using):
            super().save(using=using, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete unless a lock forbids it; returns what Django's ``delete()`` returns.

        Raises:
            ObjectLocked: somebody else's lock, or a freeze, covers ``destroy``.
        """
        if self.pk is None:
            return super().delete(using=using, keep_parents=keep_parents)  # Django says what is wrong
        using = using or router.db_for_write(type(self), instance=self)
        with _unlocked(self, self.pk, "destroy", using) as entry:
            deleted = super().delete(using=using, keep_parents=keep_parents)
            Lock.forget(entry)
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]


def _key_to_write(obj: models.Model, force_insert: Any) -> Any:
    """Return the key of the row that ``save()`` may overwrite, or None where it can only insert."""
    root = rows.identity(type(obj))
    pk = obj.pk if obj.pk is not None else getattr(obj, root._meta.pk.attname)
    if not obj._state.adding or root is not obj._meta.concrete_model:
        return pk  # with multi-table inheritance a new child may be put on a parent that is there
    # A new object with a key of its own choice replaces the row that has it, unless Django only inserts.
    return None if force_insert or root._meta.pk.has_default() or root._meta.pk.has_db_default() else pk


def _unlocked(
    instance: models.Model, pk: Any, operation: str, using: str
) -> AbstractContextManager[rows.Entry]:
    entered = rows.entered(type(instance), pk, using)
    # The gate asked with the operation's own name, and a save is part of any; a delete has to be asked for.
    if entered is not None and entered.cleared and operation in {"update", *entered.cleared}:
        return nullcontext(entered)

    @contextmanager
    def guarded() -> Iterator[rows.Entry]:
        with rows.enter(type(instance), pk, using=using, first=parents(instance, using)) as entry:
            rows.ask(entry, operation)
            entry.cleared.add(operation)
            yield entry

    return guarded()


class Lock(models.Model):
    """The lock on one object; the row stays after release, so that ``generation`` never restarts.

    Times are microseconds since the epoch, by the database's clock.
    """

    concord_routes: ClassVar[Collection[str] | None] = ("model", "object_pk")  # whose lock it is

    model = models.CharField(_("model"), max_length=255)
    object_pk = models.CharField(_("object"), max_length=255)
    generation = models.BigIntegerField(_("generation"), default=0)
    mode = models.CharField(_("mode"), max_length=8, blank=True, default="")
    holder = models.CharField(_("holder"), max_length=255, null=True, blank=True)  # noqa: DJ001
    client = models.CharField(_("client"), max_length=64, null=True, blank=True)  # noqa: DJ001
    token_hash = models.CharField(max_length=64, null=True, blank=True, editable=False)  # noqa: DJ001
    scope = models.TextField(_("scope"), blank=True, default="")
    reason = models.CharField(_("reason"), max_length=255, blank=True, default="")
    acquired_at = models.BigIntegerField(_("acquired at"), default=0)
    renewed_at = models.BigIntegerField(_("renewed at"), default=0)
    expires_at = models.BigIntegerField(_("expires at"), null=True, blank=True)
    broken = models.BooleanField(_("broken"), default=False)

    class Meta:
        verbose_name = _("lock")
        verbose_name_plural = _("locks")
        constraints = [models.UniqueConstraint(fields=["model", "object_pk"], name="concord_lock_object")]
        indexes = [models.Index(fields=["holder"], name="concord_lock_holder")]
        permissions = [
            ("freeze", _("Can freeze objects")),
            ("break", _("Can break other people's locks")),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.object_pk}"

    def value(self) -> rules.Lock:
        """Return the lock as the rules see it."""
        return rows.lock_value([getattr(self, name) for name in statements.LOCK_COLUMNS.split(", ")])

    @classmethod
    def forget(cls, entry: rows.Entry) -> None:
        """End the lock of an object that was deleted; a row created later under its key starts unlocked."""
        label, pk = entry.identity
        if entry.lock.mode is not None:
            live = cls._base_manager.using(entry.using).filter(model=label, object_pk=pk)
            live.update(mode="", holder=None, client=None, token_hash=None, expires_at=None)
            entry.lock = rules.Lock(generation=entry.lock.generation)


class Change(models.Model):
    """One changed row, written by a trigger in the transaction that changed it: a reference, not a payload.

    On PostgreSQL the table has one more column, ``xid``, the transaction that wrote the change.
    """

    id = models.BigAutoField(primary_key=True)
    nonce = models.BigIntegerField()
    model = models.CharField(max_length=255)
    pk_text = models.TextField(db_column="pk")
    op = models.CharField(max_length=1)
    version = models.BigIntegerField(null=True)
    previous = models.BigIntegerField(null=True)
    columns = models.TextField(null=True)  # noqa: DJ001
    routes = models.TextField(null=True)  # noqa: DJ001
    actor = models.TextField(null=True)  # noqa: DJ001
    at = models.BigIntegerField()

    class Meta:
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.op} {self.model} {self.pk_text}"


class Log(models.Model):
    """The one row about the log itself: its epoch, and on SQLite who writes just now."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.CharField(max_length=32)
    actor = models.TextField(null=True)  # noqa: DJ001
    via = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.epoch


class Mark(models.Model):
    """A position of the log and the time it was taken: pruning goes by these, in microseconds."""

    at = models.BigIntegerField(db_index=True)
    cursor = models.TextField()
    pruned = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.cursor


class Answered(models.Model):
    """The answer to a write that its client may send again under the same key.

    ``at`` is in microseconds since the epoch; ``claim`` is of the request that was first.
    """

    user = models.CharField(max_length=255)
    key = models.CharField(max_length=128)
    claim = models.CharField(max_length=22)
    fingerprint = models.CharField(max_length=64)
    at = models.BigIntegerField(db_index=True)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.TextField(default="")
    etag = models.TextField(default="")

    class Meta:
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("user", "key"), name="concord_answered_user_key"),)

    def __str__(self) -> str:
        return self.key
