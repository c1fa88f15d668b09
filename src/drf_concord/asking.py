"""What a rule written in Python looks at: the object as it was loaded, and the rows ``is_locked()`` asked.

Django keeps in an object the related objects it was asked for. So an answer of ``is_locked()`` tells by
itself on which other rows it stands, and those can be kept from changing before it is relied on.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction

from . import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = [
    "as_loaded",
    "asked",
    "asked_from_afar",
    "derives",
    "loaded",
    "note",
    "noted",
    "remember",
    "rows_asked_by",
    "values_of",
]

MUTABLE = (dict, list, set, bytearray)
_deriving: set[type[models.Model]] = set()


def derives(model: type[models.Model]) -> bool:
    """Return whether ``is_locked()`` of this model was seen to ask other rows in this process."""
    return model in _deriving


def remember(model: type[models.Model]) -> None:
    """Note that ``is_locked()`` of a model asks other rows, so that they are locked before its own."""
    _deriving.add(model)


def rows_asked_by(obj: Any, using: str) -> list[rows.Row]:
    """Return the rows that ``is_locked()`` of an object will ask, looked up before any of them is locked."""
    row = None
    if derives(type(obj)):
        row = type(obj)._base_manager.using(using).filter(pk=obj.pk).first()
    return [] if row is None else asked_from_afar(row, row.is_locked)


def asked_from_afar(obj: models.Model, ask: Callable[[], object]) -> list[rows.Row]:
    """Ask whether an object is locked, before any row is, and return the rows that this came by."""
    before = noted(obj)
    with suppress(ObjectDoesNotExist):  # deleted meanwhile, which will be seen on the locked row
        ask()
    return asked(obj, before)


def noted(obj: models.Model) -> frozenset[str]:
    """Return the names of the relations an object has in memory already."""
    return frozenset(obj._state.fields_cache)


def asked(obj: models.Model, before: Collection[str] = ()) -> list[rows.Row]:
    """Return the rows of other objects that a question to an object came by, the furthest first.

    Args:
        obj: the object that was asked.
        before: relations it had in memory before that; those of them that have locks count all the same.
    """
    found: dict[rows.Identity, rows.Row] = {}
    seen = {id(obj)}

    def walk(one: models.Model, known: Collection[str]) -> None:
        for name, other in one._state.fields_cache.items():
            if not isinstance(other, models.Model) or other.pk is None or id(other) in seen:
                continue
            if name in known and not hasattr(other, "is_locked"):
                continue
            seen.add(id(other))
            walk(other, noted(other) if name in known else ())
            found.setdefault(rows.key(type(other), other.pk), (type(other), other.pk))

    walk(obj, before)
    found.pop(rows.key(type(obj), obj.pk), None)
    return list(found.values())


def values_of(names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    """Return column values as they are now, which later changes in memory leave alone."""
    kept = {}
    for name, value in zip(names, values, strict=True):
        kept[name] = copy.deepcopy(value) if isinstance(value, MUTABLE) else value
    return kept


@dataclass(slots=True)
class _Settle:
    """Waits for the commit of what an object was written with; forgotten with the savepoint round it."""

    obj: Any
    values: dict[str, Any]

    def __call__(self) -> None:
        self.obj.__dict__["_concord_loaded"] = self.values
        self.obj.__dict__.pop("_concord_written", None)


def note(obj: Any, values: dict[str, Any], using: str | None) -> None:
    """Keep what an object was read or written with; in a transaction as long as that is not rolled back."""
    alias = using or DEFAULT_DB_ALIAS
    if connections[alias].in_atomic_block:
        obj.__dict__["_concord_written"] = alias
        transaction.on_commit(_Settle(obj, values), using=alias)
    else:
        obj.__dict__["_concord_loaded"] = values


def loaded(obj: Any) -> dict[str, Any] | None:
    """Return the values an object was last read or written with, or None when it never was."""
    alias = obj.__dict__.get("_concord_written")
    if alias is not None:
        for entry in reversed(connections[alias].run_on_commit):
            waiting = entry[1]
            if isinstance(waiting, _Settle) and waiting.obj is obj:
                return waiting.values
    values: dict[str, Any] | None = obj.__dict__.get("_concord_loaded")
    return values


def as_loaded(obj: Any, made: dict[int, Any] | None = None) -> Any:
    """Return an object as it was when it was last read or written, or None when it never was.

    The related objects it has in memory are taken as they were loaded, too: a parent that was unlocked then
    stays so here, whatever was set on it since.
    """
    then = loaded(obj)
    made = {} if made is None else made
    if then is None or id(obj) in made:
        return made.get(id(obj))
    fields = [f for f in obj._meta.concrete_fields if f.attname in then]
    # deep copies once more: the copy may be changed by who asks it
    values = values_of([f.attname for f in fields], [then[f.attname] for f in fields])
    past = made[id(obj)] = type(obj).from_db(obj._state.db, list(values), list(values.values()))
    columns = {f.name: f for f in fields}
    for name, other in obj._state.fields_cache.items():
        field = columns.get(name)
        if other is not None and field is not None and then[field.attname] != _key(field, other):
            continue  # another one was put in its place since
        past._state.fields_cache[name] = _past(other, made)
    if hasattr(obj, "_prefetched_objects_cache"):
        past._prefetched_objects_cache = obj._prefetched_objects_cache
    return past


def _key(field: Any, other: Any) -> Any:
    return getattr(other, field.target_field.attname)


def _past(other: Any, made: dict[int, Any]) -> Any:
    if not isinstance(other, models.Model):
        return other
    return as_loaded(other, made) or other
