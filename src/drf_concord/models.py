"""The tables of the package, and the base classes a project's models build on."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.db import models, router, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils.translation import gettext_lazy as _

from . import rows
from .fields import DatabaseClock, VersionField
from .protocol import locks as rules
from .protocol.errors import ObjectLocked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["Change", "Lock", "Lockable", "Log", "Mark", "Versioned", "VersionedQuerySet"]

M = TypeVar("M", bound=models.Model)


class VersionedQuerySet(models.QuerySet[M]):
    """A queryset whose bulk writes move the version forward, also where no trigger does."""

    def update(self, **kwargs: Any) -> int:
        """Update the rows and their versions; ``bulk_update()`` comes through here too."""
        kwargs.setdefault("version", _next_version())
        rows.forget_version(self.db)
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]


def _next_version() -> Greatest:
    return Greatest(F("version") + 1, DatabaseClock())


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
        before = self.__dict__.get("version")
        if update_fields is not None:
            update_fields = set(update_fields)
            if update_fields:
                update_fields |= {"version"}
        # The version is read back in the transaction that wrote it: after the commit it could be another's.
        with transaction.atomic(using=using, savepoint=False):
            if not self._state.adding:
                self.version = self._version_to_write(using)
            try:
                super().save(
                    force_insert=force_insert,
                    force_update=force_update,
                    using=using,
                    update_fields=update_fields,
                )
                # A statement on a second table touched the row again: multi-table inheritance.
                if hasattr(self.version, "resolve_expression") or self._meta.parents:
                    self.read_version(using)
            except BaseException:
                if before is None:
                    self.__dict__.pop("version", None)
                else:
                    self.version = before
                raise

    save.alters_data = True  # type: ignore[attr-defined]

    def _version_to_write(self, using: str) -> Any:
        entry = rows.entered(type(self), self.pk, using)
        if entry is None or entry.version is None:
            return _next_version()
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
        if self._state.adding:
            super().save(using=using, **kwargs)
            return
        with _unlocked(self, "update", using):
            super().save(using=using, **kwargs)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete unless a lock forbids it; returns what Django's ``delete()`` returns.

        Raises:
            ObjectLocked: somebody else's lock, or a freeze, covers ``destroy``.
        """
        using = using or router.db_for_write(type(self), instance=self)
        with _unlocked(self, "destroy", using) as entry:
            deleted = super().delete(using=using, keep_parents=keep_parents)
            Lock.forget(entry)
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]


def _unlocked(instance: models.Model, operation: str, using: str) -> AbstractContextManager[rows.Entry]:
    open_entry = rows.entered(type(instance), instance.pk, using)
    if open_entry is not None and open_entry.cleared:
        return nullcontext(open_entry)  # the gate has asked already, with the operation's own name

    @contextmanager
    def guarded() -> Iterator[rows.Entry]:
        with rows.enter(type(instance), instance.pk, using=using) as entry:
            actor = entry.actor
            if rules.refuses(
                entry.lock,
                operation,
                actor.holder,
                actor.token_hash,
                entry.now,
                need_token=actor.need_token,
            ):
                raise ObjectLocked
            entry.cleared = True
            yield entry

    return guarded()


class Lock(models.Model):
    """The lock on one object; the row stays after release, so that ``generation`` never restarts.

    Times are microseconds since the epoch, by the database's clock.
    """

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
        return rows.lock_value([getattr(self, name) for name in rows.LOCK_COLUMNS.split(", ")])

    @classmethod
    def forget(cls, entry: rows.Entry) -> None:
        """End the lock of an object that was deleted; a row created later under its key starts unlocked."""
        label, pk = entry.identity
        if entry.lock.mode is not None:
            live = cls._base_manager.using(entry.using).filter(model=label, object_pk=pk)
            live.update(mode="", holder=None, client=None, token_hash=None, expires_at=None)


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
