"""The tables of the package, and the base classes a project's models build on."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connections, models, router
from django.utils.translation import gettext_lazy as _

from . import asking, rows, statements
from .protocol import locks as rules
from .protocol.errors import ObjectLocked
from .versioned import NextVersion, Versioned, VersionedQuerySet, parents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

__all__ = [
    "Answered",
    "Change",
    "Lock",
    "Lockable",
    "LockableModel",
    "Log",
    "Mark",
    "NextVersion",
    "Versioned",
    "VersionedQuerySet",
    "parents",
]


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
        with _unlocked(self, pk, "update", using, kwargs.get("update_fields")):
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

    def _ask_own_rules(
        self, pk: Any, operation: str, using: str, names: Collection[str] | None, held: Collection[rows.Row]
    ) -> None:
        """Ask what the project says about locks; a ``Lockable`` leaves that to its ``Lock`` row."""


class LockableModel(Lockable):
    """A model that says itself when it is locked, beside the locks taken on it.

    ``is_locked()`` may ask a parent. It is asked of the row as it is in the database while that is locked,
    when the object is saved or deleted, and never when it is loaded.
    """

    class Meta:
        abstract = True

    def save(self, *, using: str | None = None, **kwargs: Any) -> None:
        """Save unless the row is locked in the database.

        An object that was loaded locked and was unlocked in memory may be saved, with whatever else changed.

        Raises:
            ObjectLocked: the row is locked, by ``is_locked()`` or by a lock that was taken on it.
        """
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = list(kwargs["update_fields"])
        super().save(using=using, **kwargs)
        self._note_loaded(kwargs.get("update_fields"), using or self._state.db)

    save.alters_data = True  # type: ignore[attr-defined]

    def is_locked(self) -> bool:
        """Return whether the object is locked; to be defined."""
        raise NotImplementedError(f"Define {type(self).__name__}.is_locked(): it is asked before each write.")

    def set_locked(self, value: bool) -> None:
        """Lock or unlock the object in memory, without saving it; to be defined where that is possible."""
        raise NotImplementedError(f"Define {type(self).__name__}.set_locked(value) to lock it this way.")

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **kwargs: Any) -> Any:
        """Keep what was loaded: whether it was locked then is found out when somebody has to know."""
        new = super().from_db(db, field_names, values, **kwargs)
        new.__dict__["_concord_loaded"] = asking.values_of(field_names, values)
        return new

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        """Reload as Django does; what was reloaded counts as loaded."""
        fields = None if fields is None else list(fields)
        super().refresh_from_db(using, fields, from_queryset)
        self._note_loaded(fields, using or self._state.db)

    def _note_loaded(self, names: Iterable[str] | None, using: str | None) -> None:
        loaded = dict(asking.loaded(self) or {})
        for field in self._meta.concrete_fields:
            if names is not None and field.name not in names and field.attname not in names:
                continue
            value = self.__dict__.get(field.attname, models.DEFERRED)
            loaded.pop(field.attname, None)
            if value is not models.DEFERRED and not hasattr(value, "resolve_expression"):
                loaded |= asking.values_of([field.attname], [value])
        asking.note(self, loaded, using)

    def _ask_own_rules(
        self, pk: Any, operation: str, using: str, names: Collection[str] | None, held: Collection[rows.Row]
    ) -> None:
        row = _row_to_write(type(self), pk, using)
        if row is None:
            return
        locked = row.is_locked()
        more = [above for above in asking.asked(row) if above not in held]
        if more and connections[using].vendor != "sqlite":
            # What the answer stands on is kept from changing, and asked again; next time it is locked first.
            asking.remember(type(self))
            rows.lock(more, using=using)
            self._ask_own_rules(pk, operation, using, names, [*held, *more])
            return
        if locked and (operation != "update" or not self._was_unlocked_here(row, names)):
            raise ObjectLocked

    def _was_unlocked_here(self, row: LockableModel, names: Collection[str] | None) -> bool:
        past = asking.as_loaded(self)
        loaded = None if past is None else past.__dict__.get(self._meta.pk.attname)
        if loaded is None or rows.key(type(self), loaded) != rows.key(type(row), row.pk):
            return False  # never loaded, or from another row
        unknown = past.get_deferred_fields()
        if not past.is_locked() or self.is_locked():
            return False
        if past.get_deferred_fields() != unknown:
            return False  # it was asked of what was never loaded, which is read from the row of now
        if names is None:
            return True
        # A save of some columns has to unlock the row by these.
        for field in self._meta.concrete_fields:
            if field.name in names or field.attname in names:
                setattr(row, field.attname, getattr(self, field.attname))
        return not row.is_locked()


def _row_to_write(model: type[models.Model], pk: Any, using: str) -> Any:
    """Return the row a write replaces, as it is; with multi-table inheritance perhaps only the parent's."""
    for owner in dict.fromkeys((model, rows.identity(model))):
        row = owner._base_manager.using(using).filter(pk=pk).first()
        if row is not None:
            return row if isinstance(row, LockableModel) else None
    return None


def _key_to_write(obj: models.Model, force_insert: Any) -> Any:
    """Return the key of the row that ``save()`` may overwrite, or None where it can only insert."""
    root = rows.identity(type(obj))
    pk = obj.pk if obj.pk is not None else getattr(obj, root._meta.pk.attname)
    if not obj._state.adding or root is not obj._meta.concrete_model:
        return pk  # with multi-table inheritance a new child may be put on a parent that is there
    # A new object with a key of its own choice replaces the row that has it, unless Django only inserts.
    return None if force_insert or root._meta.pk.has_default() or root._meta.pk.has_db_default() else pk


def _unlocked(
    instance: Lockable, pk: Any, operation: str, using: str, names: Collection[str] | None = None
) -> AbstractContextManager[rows.Entry]:
    entered = rows.entered(type(instance), pk, using)
    # The gate asked with the operation's own name, and a save is part of any; a delete has to be asked for.
    if entered is not None and entered.cleared and operation in {"update", *entered.cleared}:
        if entered.excused is instance:
            entered.excused = None  # this save, and none that its signals do
        else:
            instance._ask_own_rules(pk, operation, using, names, ())
        return nullcontext(entered)

    @contextmanager
    def guarded() -> Iterator[rows.Entry]:
        first = parents(instance, using)
        with rows.enter(type(instance), pk, using=using, first=first) as entry:
            rows.ask(entry, operation)
            instance._ask_own_rules(pk, operation, using, names, first)
            entry.cleared.add(operation)
            yield entry

    return guarded()


class Lock(models.Model):
    """The lock on one object; the row stays after release, so that ``generation`` never restarts.

    Times are microseconds since the epoch, by the database's clock.
    """

    concord_routes: ClassVar[Collection[str] | None] = ("model", "object_pk", "holder")  # of what, and whose

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
    former = models.TextField(null=True, editable=False)  # noqa: DJ001

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
            live.update(mode="", holder=None, client=None, token_hash=None, expires_at=None, former=None)
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
