"""What a view and an admin say of locks: the rules of the model, or their own in the place of those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router

from . import rows
from .models import Lockable, LockableModel
from .protocol.locks import refuses

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LockableMixin", "by_lock_rows", "has_rule", "own_rule", "rule_of", "set_status"]

REMEDY = (
    "{asker} has no rule for locks of {label}: define {asker}.{method}, or let {label} inherit from"
    " drf_concord.models.LockableModel."
)


class LockableMixin:
    """Says whether an object is locked, and locks it, for a view or an admin.

    Where a view or an admin defines the two methods they are asked in the place of the model's; ``save()``
    and ``delete()`` of a ``LockableModel`` still ask the model's own.
    """

    def is_instance_locked(self, obj: Any) -> bool:
        """Return whether an object is locked.

        Raises:
            NotImplementedError: neither this class nor the model says.
        """
        if isinstance(obj, LockableModel):
            return obj.is_locked()
        if isinstance(obj, Lockable):
            return _refuses_update(obj)
        raise NotImplementedError(_remedy(self, obj, "is_instance_locked(obj)"))

    def set_locked_status(self, obj: Any, lock: bool) -> None:
        """Lock or unlock an object in memory; whoever calls this saves it.

        Raises:
            NotImplementedError: neither this class nor the model says how.
        """
        if not isinstance(obj, LockableModel):
            raise NotImplementedError(_remedy(self, obj, "set_locked_status(obj, lock)"))
        obj.set_locked(lock)


def _remedy(asker: Any, obj: Any, method: str) -> str:
    return REMEDY.format(asker=type(asker).__name__, label=obj._meta.label, method=method)


def _refuses_update(obj: Any) -> bool:
    using = router.db_for_write(type(obj), instance=obj)
    actor = rows.current_actor()
    entry = rows.entered(type(obj), obj.pk, using) or rows.peek(type(obj), obj.pk, using=using, actor=actor)
    actor = entry.actor
    return refuses(
        entry.lock, "update", actor.holder, actor.token_hash, entry.now, need_token=actor.need_token
    )


def own_rule(obj: Any) -> bool:
    """Return what a ``LockableModel`` says of itself; other objects have no rule of their own."""
    return isinstance(obj, LockableModel) and obj.is_locked()


def has_rule(rule: Callable[[Any], bool], obj: Any) -> bool:
    """Return whether there is anything to ask ``rule`` about an object."""
    return rule is not own_rule or isinstance(obj, LockableModel)


def by_lock_rows(asker: Any, obj: Any) -> bool:
    """Return whether the locks of an object are ``Lock`` rows alone, as nobody defined another rule."""
    defined = getattr(type(asker), "is_instance_locked", None)
    own = defined is not None and defined is not LockableMixin.is_instance_locked
    return not own and isinstance(obj, Lockable) and not isinstance(obj, LockableModel)


def rule_of(asker: Any) -> Callable[[Any], bool]:
    """Return the rule by which a view or an admin holds objects locked, beside their ``Lock`` rows."""
    ask = getattr(asker, "is_instance_locked", None)
    if ask is None:
        return own_rule
    return lambda obj: not by_lock_rows(asker, obj) and bool(ask(obj))


def set_status(obj: Any, lock: bool, *, ask: Callable[[Any], bool], put: Callable[[Any, bool], None]) -> None:
    """Lock or unlock an object by the rules of a view or an admin, and save it where they did not.

    Args:
        obj: the object, as its locked row is.
        lock: whether to lock it.
        ask: says whether an object is locked.
        put: sets that; it may save, but need not.
    """
    put(obj, lock)
    row = type(obj)._base_manager.using(obj._state.db).filter(pk=obj.pk).first()
    if row is None or bool(ask(row)) != lock:
        obj.save()
    else:  # written already: to save once more would be refused, or take it back
        obj.refresh_from_db(using=obj._state.db)
