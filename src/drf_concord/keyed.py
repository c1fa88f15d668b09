"""The row of a key, read by a statement that the ORM has written once.

A write whose address names its row reads it in the moment it locks it. What that costs is the building of a
queryset and of its SQL, again for each request; here both are kept, and only the key changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from django.db.models.sql import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

    from .statements import Statement

__all__ = ["Select", "is_everything", "read", "select"]

# What may differ: which rows they are is asked elsewhere, or does not depend on it.
STATE = {"_query", "_result_cache", "_for_write", "_deferred_filter"}
ORDER = {"order_by", "extra_order_by", "standard_ordering", "default_ordering"}
# How a project's querysets may differ from Django's: what has these names only writes, or only describes.
WRITES = {"update", "bulk_create", "bulk_update", "create", "delete", "get_or_create", "update_or_create"}
DESCRIBED = {
    "__doc__", "__module__", "__orig_bases__", "__parameters__", "__firstlineno__", "__static_attributes__",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """How one row of a model is read on one connection.

    Attributes:
        sql: with one parameter, the key.
    """

    sql: str
    _compiler: Any
    _names: list[str]
    _converters: Any

    def free(self, connection: BaseDatabaseWrapper, pk: Any) -> Statement:
        """Return the statement that reads and locks the row of a key; it finds none where another has it."""
        # NO KEY: rows that only reference this one by a foreign key need not wait.
        lock = " FOR NO KEY UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
        return self.sql + lock, [self.key(connection, pk)]

    def key(self, connection: BaseDatabaseWrapper, pk: Any) -> Any:
        """Return a key as the database has it."""
        return self._compiler.query.model._meta.pk.get_db_prep_value(pk, connection)

    def instance(self, row: Sequence[Any]) -> Model:
        """Return the object that a row stands for, as a queryset would."""
        compiler = self._compiler
        if self._converters:
            (row,) = compiler.apply_converters([row], self._converters)
        obj: Model = compiler.query.model.from_db(compiler.using, self._names, row)
        return obj


def select(connection: BaseDatabaseWrapper, model: type[Model], pk: Any) -> Select | None:
    """Return how a row of a model is read, written once for each connection; None where a key is not enough.

    Args:
        connection: where to read; kept in what is returned, and that on the connection.
        model: the model of the row.
        pk: a key, which the statement is not about: any other of its type will do.
    """
    known: dict[type[Model], Select | None] = connection.__dict__.setdefault("_concord_selects", {})
    if model not in known:
        try:
            known[model] = _written(connection, model, pk)
        except EmptyResultSet:  # no row can have this key, which says nothing of others
            return None
    return known[model]


def read(connection: BaseDatabaseWrapper, model: type[Model], pk: Any) -> Model | None:
    """Return the object of a key; None where there is none, or none that a key alone would find."""
    whole = select(connection, model, pk)
    if whole is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(whole.sql, [whole.key(connection, pk)])
        row = cursor.fetchone()
    return None if row is None else whole.instance(row)


def _written(connection: BaseDatabaseWrapper, model: type[Model], pk: Any) -> Select | None:
    lookup: Any = model._meta.pk.get_lookup("exact")
    if not lookup.__module__.startswith("django."):
        return None  # it may ask for something else than the key that it is given
    query = QuerySet(model, using=connection.alias).filter(pk=pk).order_by().query
    compiler = query.get_compiler(connection=connection)
    compiler.using = connection.alias
    sql, parameters = compiler.as_sql()
    if len(parameters) != 1:
        return None
    columns = [column for column, _, _ in compiler.select]
    names = [column.target.attname for column in columns]
    return Select(sql, compiler, names, compiler.get_converters(columns))


def is_everything(queryset: QuerySet[Any]) -> bool:
    """Return whether a queryset is all rows of its model as they are, so that a key finds the same in it.

    It is compared with one that is just that. Whatever this knows nothing of, in a later Django too, makes it
    something else.
    """
    model = queryset.model
    alike = _alike(queryset, QuerySet(model), STATE) and _alike(queryset.query, Query(model), ORDER)
    return alike and type(queryset.query) is Query and _reads_as_django(type(queryset))


def _alike(given: object, plain: object, but: set[str]) -> bool:
    missing = object()
    return all(getattr(plain, n, missing) == value for n, value in vars(given).items() if n not in but)


def _reads_as_django(kind: type[Any]) -> bool:
    own = {name for c in kind.__mro__[: kind.__mro__.index(QuerySet)] for name in vars(c)}
    return not any(hasattr(QuerySet, name) for name in own - WRITES - DESCRIBED)
