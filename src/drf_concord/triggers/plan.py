"""Which tables are captured, and what their triggers must know."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.db import models, router

from ..conf import settings
from ..fields import version_field
from ..models import Lock, Versioned

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Column", "Table", "Touch", "account_labels", "captured_models", "moved_by_others", "plan"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and its type in the database's words."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Touch:
    """A row elsewhere whose version moves with this table: ``target.key`` is the value of ``column``.

    ``via`` is the field under which the target shows this row; None stands for the changed columns.
    """

    column: str
    type: str
    target: str
    key: str
    via: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """One table to be captured."""

    label: str
    name: str
    pk: Column
    version: str | None
    columns: tuple[Column, ...]
    routes: tuple[Column, ...]
    touches: tuple[Touch, ...]
    recorded: bool = True

    @property
    def digest(self) -> str:
        """A short name that stays with the label, for objects whose names have a length limit."""
        return hashlib.sha256(f"{self.label}/{self.name}".encode()).hexdigest()[:16]

    @property
    def touched_tables(self) -> frozenset[str]:
        """The tables this one's triggers write to."""
        return frozenset(t.target for t in self.touches)


def captured_models() -> list[type[models.Model]]:
    """Return the models whose changes are recorded, in a stable order.

    Every ``Versioned`` model, locks, the tables that say who may do what, and those of ``CAPTURE``.

    Raises:
        LookupError: ``CAPTURE`` names a model that does not exist.
    """
    found: dict[str, type[models.Model]] = {}
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, Versioned) or model is Lock:
            found[model._meta.label] = model
    for label in (*sorted(account_labels()), *settings.CAPTURE):
        model = apps.get_model(label)
        found[model._meta.label] = model
    kept = (m for m in found.values() if not m._meta.proxy and not m._meta.swapped)
    return sorted(kept, key=lambda m: m._meta.label)


@functools.cache
def account_labels() -> frozenset[str]:
    """Return the models that say who may do what: users, groups, permissions and the tables between them."""
    if not apps.is_installed("django.contrib.auth"):
        return frozenset()
    user = apps.get_model(django_settings.AUTH_USER_MODEL)
    related = [user, *(apps.get_model("auth", name) for name in ("Group", "Permission"))]
    throughs = [f.remote_field.through for m in related for f in m._meta.local_many_to_many]
    return frozenset(m._meta.label for m in (*related, *throughs))


def plan(connection: BaseDatabaseWrapper) -> list[Table]:
    """Return every table to be captured on a database, touching tables included."""
    alias = connection.alias
    tables: dict[str, Table] = {}
    for model in captured_models():
        if not router.allow_migrate_model(alias, model):
            continue
        for table in _tables_of(model, connection):
            known = tables.get(table.name)
            tables[table.name] = table if known is None else _merge(known, table)
    return sorted(tables.values(), key=lambda t: t.name)


def _merge(one: Table, other: Table) -> Table:
    """Join what two models say of one table: a many-to-many table may be captured itself as well."""
    main, extra = (one, other) if one.recorded else (other, one)
    touches = dict.fromkeys((*main.touches, *extra.touches))
    return Table(
        main.label,
        main.name,
        main.pk,
        main.version,
        main.columns,
        main.routes,
        tuple(touches),
        main.recorded or extra.recorded,
    )


def _tables_of(model: type[models.Model], connection: BaseDatabaseWrapper) -> list[Table]:
    version = version_field(model)
    if version is None:
        return [_own_table(model, connection)]
    # One object, one version: the other tables of an inheriting model move the row that has the column.
    home = version.model
    found = []
    if home is model:
        found.append(_own_table(model, connection))
        found += [_through(model, field, connection) for field in model._meta.local_many_to_many]
    ancestors: list[Any] = [model, *model._meta.all_parents]
    for other in ancestors:
        if other is not home and other._meta.local_concrete_fields and not other._meta.proxy:
            link: Any = model._meta.get_ancestor_link(other)
            if link is not None and not link.primary_key:
                continue  # a second base has keys of its own
            pk = other._meta.pk
            key_type = pk.db_type(connection) or ""
            touch = Touch(pk.column, key_type, home._meta.db_table, _pk_column(home), None)
            found.append(_own_table(other, connection, touch))
            found += [_through(other, field, connection, home) for field in other._meta.local_many_to_many]
    return found


def _own_table(
    model: type[models.Model], connection: BaseDatabaseWrapper, touch: Touch | None = None
) -> Table:
    meta: Any = model._meta
    version = version_field(model)
    own = [f for f in meta.local_concrete_fields if not f.primary_key and f is not version]
    local = version is not None and version.model is model
    touches = [touch] if touch is not None else []
    for name in getattr(model, "touches", ()):
        field: Any = meta.get_field(name)
        if field.model is model:
            home = version_field(field.related_model)
            target = home.model if home is not None else field.related_model
            via = field.remote_field.get_accessor_name() or name
            touches.append(_touch(field, target, via, connection))
    return Table(
        label=meta.label,
        name=meta.db_table,
        pk=Column(meta.pk.column, meta.pk.db_type(connection) or ""),
        version=version.column if version is not None and local else None,
        columns=tuple(_column(f, connection) for f in own if f.db_type(connection)),
        routes=tuple(_column(f, connection) for f in _routes(model)),
        touches=tuple(touches),
        recorded=touch is None,
    )


def _through(
    model: type[models.Model],
    field: Any,
    connection: BaseDatabaseWrapper,
    home: type[models.Model] | None = None,
) -> Table:
    through = field.remote_field.through
    source = through._meta.get_field(field.m2m_field_name())
    return _own_table(through, connection, _touch(source, home or model, field.name, connection))


def _touch(field: Any, target: type[models.Model], via: str, connection: BaseDatabaseWrapper) -> Touch:
    key = field.target_field
    column = _pk_column(target) if key.primary_key else key.column
    return Touch(field.column, field.db_type(connection) or "", target._meta.db_table, column, via)


def _pk_column(model: type[models.Model]) -> str:
    return model._meta.pk.column or ""


def _routes(model: type[models.Model]) -> list[Any]:
    declared = getattr(model, "concord_routes", None)
    fields = model._meta.local_concrete_fields
    if declared is None:
        return [f for f in fields if f.is_relation and not f.primary_key]
    return [f for f in fields if f.column in declared or f.name in declared]


def _column(field: Any, connection: BaseDatabaseWrapper) -> Column:
    return Column(field.column, field.db_type(connection) or "")


@functools.cache
def moved_by_others(model: type[models.Model]) -> bool:
    """Tell whether statements on other tables can move the version of this model's rows."""
    meta = model._meta
    if meta.parents or meta.many_to_many:
        return True
    return any(
        meta.concrete_model is other._meta.get_field(name).related_model
        for other in apps.get_models()
        for name in (other.touches if issubclass(other, Versioned) else ())
    )
