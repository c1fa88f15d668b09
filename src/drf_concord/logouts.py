"""A logout, told to every process: the sockets of that user read their session again."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, transaction
from django.db.models import F, Model

from .transports import announce_on_commit
from .triggers.plan import account_labels

__all__ = ["tell"]

logger = logging.getLogger("drf_concord")


def tell(sender: Any, user: Any = None, **_: Any) -> None:
    """Record a change of the user, for which each hub reads his accounts again; receives Django's signal.

    Sessions themselves are not recorded: their keys are secrets, and some projects write them all the time.
    """
    if not isinstance(user, Model) or user._meta.label not in account_labels():
        return
    meta, using = user._meta, user._state.db or DEFAULT_DB_ALIAS
    column = next(field.name for field in meta.local_concrete_fields if not field.primary_key)
    try:
        with transaction.atomic(using=using):
            # an update that changes nothing is recorded as well
            meta.model._base_manager.using(using).filter(pk=user.pk).update(**{column: F(column)})
    except DatabaseError:
        # he is logged out all the same, and his sockets find out when they look by themselves
        logger.exception("A logout could not be told to the user's sockets.")
    else:
        announce_on_commit(using)
