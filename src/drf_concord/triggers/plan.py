"""Which tables are captured, and what their triggers must know."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.db import models, router

from ..conf import settings
from ..fields import version_field
from ..models import Lock, Versioned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Column",
    "Columns",
    "Table",
    "Touch",
    "account_labels",
    "captured_models",
    "is_part",
    "known_names",
    "moved_by_others",
    "plan",
    "present",
]

Columns = dict[str, dict[str, str]]
"""What a database has: for each table its columns, and the type of each."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and its type in the database's words, once that is known."""

    name: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Touch:
    """A row elsewhere whose version moves with this table: ``target.key`` is the value of ``column``.

    ``via`` is the field under which the target shows this row. None says that this row is a part of the
    target's object (multi-table inheritance): then the target changed in the columns this row changed in.
    """

    column: str
    target: str
    key: str
    version: str
    via: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """One table to be captured.

    Attributes:
        recorded: every change of its rows is recorded under its label.
        bounds: only that a row comes and goes is. It is a part of an object (multi-table inheritance), and
            what changes in it is recorded as a change of the row with the version; but of an object that is
            gone, nobody could tell by that row whether it had this part.
    """

    label: str
    name: str
    pk: Column
    version: str | None
    columns: tuple[Column, ...]
    routes: tuple[Column, ...]
    touches: tuple[Touch, ...]
    recorded: bool = True
    bounds: bool = False

    @property
    def digest(self) -> str:
        """A short name for objects whose names have a length limit; the label's, as tables are renamed."""
        return hashlib.sha256(self.label.encode()).hexdigest()[:16]

    @property
    def parts(self) -> tuple[Touch, ...]:
        """Its touches of the object that this row is a part of."""
        return tuple(t for t in self.touches if t.via is None)

    @property
    def shown(self) -> tuple[Touch, ...]:
        """Its touches of objects that show this row."""
        return tuple(t for t in self.touches if t.via is not None)

    @property
    def touched_tables(self) -> frozenset[str]:
        """The tables this one's triggers write to."""
        return frozenset(t.target for t in self.touches)


def captured_models() -> list[type[models.Model]]:
    """Return the models whose changes are recorded, in a stable order.

    Every ``Versioned`` model, locks, the tables that say who may do what, and those of ``CAPTURE``. A model
    with a composite primary key is not among them: a change names one value.

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
    kept = (m for m in found.values() if not m._meta.proxy and not m._meta.swapped and m._meta.pk.column)
    return sorted(kept, key=lambda m: m._meta.label)


def account_labels() -> frozenset[str]:
    """Return the models that say who may do what: users, groups, permissions and the tables between them."""
    if not apps.is_installed("django.contrib.auth"):
        return frozenset()
    return _account_labels(django_settings.AUTH_USER_MODEL)


@functools.cache
def _account_labels(user_label: str) -> frozenset[str]:
    related = [apps.get_model(label) for label in (user_label, "auth.Group", "auth.Permission")]
    throughs = [f.remote_field.through for m in related for f in m._meta.local_many_to_many]
    return frozenset(m._meta.label for m in (*related, *throughs))


def plan(connection: BaseDatabaseWrapper) -> list[Table]:
    """Return every table to be captured on a database, touching tables included, as the code has them."""
    alias = connection.alias
    tables: dict[str, Table] = {}
    for model in captured_models():
        if not router.allow_migrate_model(alias, model):
            continue
        for table in _tables_of(model):
            known = tables.get(table.name)
            tables[table.name] = table if known is None else _merge(known, table)
    return sorted(tables.values(), key=lambda t: t.name)


def present(table: Table, columns: Columns) -> Table | None:
    """Return what there is of a table in a database; None when there is nothing to capture.

    The code may be ahead of the database, or behind it: of an app that is not migrated yet, or was migrated
    back. A trigger that named a column which is not there would stop every write.
    """
    own = columns.get(table.name, {})
    if table.pk.name not in own or (table.version and table.version not in own):
        return None
    touches = tuple(
        touch
        for touch in table.touches
        if touch.column in own and {touch.key, touch.version} <= columns.get(touch.target, {}).keys()
    )
    if not table.recorded and not table.bounds and not touches:
        return None
    return replace(
        table,
        columns=tuple(Column(c.name, own[c.name]) for c in table.columns if c.name in own),
        routes=tuple(Column(c.name, own[c.name]) for c in table.routes if c.name in own),
        touches=touches,
    )


def _merge(one: Table, other: Table) -> Table:
    """Join what two models say of one table: a many-to-many table may be captured itself as well."""
    main, extra = (one, other) if one.recorded else (other, one)
    touches = tuple(dict.fromkeys((*main.touches, *extra.touches)))
    return replace(main, touches=touches, bounds=one.bounds or other.bounds)


def _tables_of(model: type[models.Model]) -> Iterator[Table]:
    home = _home(model)
    if home is None:
        yield _table(model)
        return
    # One object, one version: the other tables of an inheriting model move the row that has the column.
    link = _key_of_home(model, home)
    if link is None:
        yield _table(model, recorded=False, bounds=True)
        return
    part = [] if home is model else [_touch(link.column, home, _column_of_pk(home), None)]
    yield _table(model, *part, recorded=home is model, bounds=home is not model)
    if link.primary_key:
        for field in model._meta.local_many_to_many:
            through: Any = field.remote_field.through
            source = through._meta.get_field(field.m2m_field_name())
            touch = _touch(source.column, home, _column_of_pk(home), field.name)
            yield _table(through, touch, recorded=False)
    for field in _touching(model):
        target, via = _home(field.related_model), _shown_as(field)
        if target is not None and (key := _key_column(field, target)) is not None:
            touch = _touch(field.column, target, key, via)
            yield _table(field.model, touch, recorded=False)


def _home(model: type[models.Model]) -> type[models.Model] | None:
    """Return the model whose table has the version of this model's objects."""
    field = version_field(model)
    return None if field is None else field.model


def _key_of_home(model: type[models.Model], home: type[models.Model]) -> Any:
    """Return the field of a model that holds the key of the row with its version.

    None when there is none: on the way to a second base with keys of its own.
    """
    if model is home:
        return model._meta.pk
    link: Any = model._meta.get_ancestor_link(home)
    step = link.related_model
    while step is not home:
        further: Any = step._meta.get_ancestor_link(home)
        if not further.primary_key:
            return None
        step = further.related_model
    return link


def _key_column(field: Any, target: type[models.Model]) -> str | None:
    """Return the column of ``target`` that a foreign key refers to; None when it is in another table."""
    key = field.target_field
    if key.model is target:
        return str(key.column)
    if not key.primary_key or _key_of_home(field.related_model, target) is not field.related_model._meta.pk:
        return None
    return _column_of_pk(target)


def _touching(model: type[models.Model]) -> list[Any]:
    names = model.touches if issubclass(model, Versioned) else ()
    return [model._meta.get_field(name) for name in names]


def _touch(column: str, target: type[models.Model], key: str, via: str | None) -> Touch:
    version: Any = version_field(target)
    return Touch(column, target._meta.db_table, key, version.column, via)


def _table(model: type[models.Model], *touches: Touch, recorded: bool = True, bounds: bool = False) -> Table:
    meta: Any = model._meta
    version = version_field(model)
    local = version is not None and version.model is model
    own = [f for f in meta.local_concrete_fields if not f.primary_key and f is not version]
    return Table(
        label=meta.label,
        name=meta.db_table,
        pk=Column(meta.pk.column),
        version=version.column if version is not None and local else None,
        columns=tuple(Column(f.column) for f in own if f.column),
        routes=tuple(Column(f.column) for f in routed(model)),
        touches=touches,
        recorded=recorded,
        bounds=bounds,
    )


@functools.cache
def is_part(model: type[models.Model]) -> bool:
    """Tell whether changes of a model's rows are recorded as changes of the rows that have their version."""
    return _home(model) not in {None, model._meta.concrete_model}


def _column_of_pk(model: type[models.Model]) -> str:
    return model._meta.pk.column or ""


def routed(model: type[models.Model]) -> list[Any]:
    """Return the fields of a model whose old and new values the log keeps."""
    declared = getattr(model, "concord_routes", None)
    fields = model._meta.local_concrete_fields
    if declared is None:
        return [f for f in fields if f.is_relation and not f.primary_key]
    return [f for f in fields if f.column in declared or f.name in declared]


@functools.cache
def moved_by_others(model: type[models.Model]) -> bool:
    """Tell whether statements on other tables can move the version of this model's rows."""
    home = _home(model)
    if model._meta.parents or model._meta.many_to_many:
        return True
    others = [m for m in apps.get_models() if m._meta.concrete_model is not model._meta.concrete_model]
    return any(
        _home(other) is home or any(_home(f.related_model) is home for f in _touching(other))
        for other in others
        if issubclass(other, Versioned)
    )


@functools.cache
def known_names(model: type[models.Model]) -> frozenset[str] | None:
    """Return the names under which a change of an object of this model can be recorded today.

    Columns of all its tables, and the fields under which it shows rows of others. None for a model with a
    table that its version does not follow.
    """
    home = _home(model)
    tables = {f.model for f in model._meta.concrete_fields}
    if home is None or any(_home(t) is not home or _key_of_home(t, home) is None for t in tables):
        return None
    names: set[str] = set()
    for other in apps.get_models():
        if _home(other) is home:
            names.update(f.column or "" for f in other._meta.local_concrete_fields)
            names.update(f.name for f in other._meta.local_many_to_many)
        for field in _touching(other):
            if _home(field.related_model) is home:
                names.add(_shown_as(field))
    return frozenset(names)


def _shown_as(field: Any) -> str:
    """Return the name under which a foreign key's target knows its rows; the key's own if it does not."""
    accessor = field.remote_field.get_accessor_name()
    return str(accessor) if accessor and not accessor.endswith("+") else str(field.name)
