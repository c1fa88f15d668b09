"""The state an object had before an operators' lock, kept on its ``Lock`` row until the lock ends.

Whoever ends the lock, and by whichever way, the object gets that state back in the same transaction.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.apps import apps

from .models import Lock as LockRow

if TYPE_CHECKING:
    from django.db.models import Model

    from . import rows

__all__ = ["LOCKED", "keep", "restore"]

LOCKED = "locked"
"""What the state is called while the lock lasts."""


def keep(entry: rows.Entry, obj: Model, name: str) -> None:
    """Show in a field of an object that it is locked, and keep what the field held.

    Args:
        entry: the stay in the gate, in which the lock was taken.
        obj: the object, as its locked row is.
        name: the field.
    """
    field: Any = obj._meta.get_field(name)
    value = getattr(obj, field.attname)
    kept = {
        "model": obj._meta.label,
        "field": name,
        "value": None if value is None else field.value_to_string(obj),
    }
    _row(entry).update(former=json.dumps(kept))
    _save(entry, obj, field, LOCKED)


def restore(entry: rows.Entry) -> None:
    """Give an object its former state back, unless somebody gave it another one meanwhile."""
    row = _row(entry)
    text = row.values_list("former", flat=True).first()
    if text is None:
        return
    row.update(former=None)
    kept = json.loads(text)
    model = apps.get_model(kept["model"])
    field: Any = model._meta.get_field(kept["field"])
    obj = model._base_manager.using(entry.using).filter(pk=entry.identity[1]).first()
    if obj is not None and getattr(obj, field.attname) == LOCKED:
        _save(entry, obj, field, None if kept["value"] is None else field.to_python(kept["value"]))


def _row(entry: rows.Entry) -> Any:
    label, pk = entry.identity
    return LockRow._base_manager.using(entry.using).filter(model=label, object_pk=pk)


def _save(entry: rows.Entry, obj: Any, field: Any, value: Any) -> None:
    setattr(obj, field.attname, value)
    # A change of the lock itself: no lock stands against it, and no rule of the project's, which would keep
    # operators from what it locks, and what it locked meanwhile from ever being unlocked.
    entry.cleared.add("update")
    entry.excused = obj
    try:
        obj.save(using=entry.using)
    finally:
        entry.excused = None
