"""What the log cannot see, said by the project: forget what is kept of a user, look at a model again.

It goes through the log, as all news does: one row, in the transaction of the caller, read by every hub. The
row is of no model (`LABEL` has no dot), so that whoever follows or observes rows meets no write that never
was; the user and the model stand in its routes. Each hub takes it for what it asks: of a user for a change of
his account, of a model for the word to compare all that is shown with all that was.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from .. import rows
from ..models import Change as Row
from ..protocol.changes import Change, Op
from ..transports import announce_on_commit
from ..triggers import VENDORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["again", "forgotten", "invalidate"]

LABEL = "invalidate"


def invalidate(*, user: Any = None, model: type[Model] | str | None = None) -> None:
    """Make every process forget what it kept, where an answer depends on what the change log cannot see.

    Of a user: his account is read again at once, and permissions are asked again, as when his row changes.
    Of a model: the live views that show it, or depend on it, look at all they show. Subscribers are told what
    differs from what they were shown; who was shown nothing when he began is told each object once. Observers
    are told nothing: no row was written.

    It counts when the transaction of the caller is committed, and not at all when that is rolled back.

    Args:
        user: an instance of the user model, or its primary key.
        model: a model class, or its label as ``"app.Model"``.

    Raises:
        TypeError: neither is given, or one of them is something else.
        ValueError: the primary key is none of a user, or there is no such model.
        RuntimeError: the database has no log.
    """
    said = {}
    if user is not None:
        said["user"] = [None, _key_of(user)]
    if model is not None:
        said["model"] = [None, _label_of(model)]
    if not said:
        raise TypeError("Name a user, a model, or both: invalidate(user=..., model=...).")
    using = DEFAULT_DB_ALIAS  # where hubs read
    vendor = connections[using].vendor
    if vendor not in VENDORS:
        raise RuntimeError(f"There is no log on {vendor}.")
    Row._base_manager.using(using).create(
        nonce=secrets.randbelow(2**53),
        model=LABEL,
        pk_text="",
        op=Op.TRUNCATE.value,
        routes=json.dumps(said),
        at=rows.now(using),
    )
    announce_on_commit(using)


def _key_of(user: Any) -> str:
    users = get_user_model()
    if isinstance(user, Model):
        if not isinstance(user, users):
            raise TypeError(f"{type(user).__name__} is not the user model, {users._meta.label}.")
        if user.pk is None:
            raise ValueError("This user is not saved: nothing is kept of it.")
        return str(user.pk)
    field: Any = users._meta.pk
    try:
        if isinstance(user, bool):
            raise TypeError
        return str(field.to_python(user))
    except (TypeError, ValueError, OverflowError, ValidationError):
        raise ValueError(f"{user!r} is neither a user nor the primary key of one.") from None


def _label_of(model: Any) -> str:
    if isinstance(model, str):
        try:
            model = apps.get_model(model)
        except (LookupError, ValueError):
            raise ValueError(f'There is no model {model!r}. Write it as "app.Model".') from None
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise TypeError(f'{model!r} is no model. Give its class, or "app.Model".')
    if model._meta.abstract:
        raise ValueError(f"{model.__name__} is abstract: no view shows it. Name the models built on it.")
    label: str = (model._meta.concrete_model or model)._meta.label
    return label


def forgotten(found: Iterable[Change]) -> set[str]:
    """Return the users, by the text of their keys, that some changes say are to be forgotten."""
    return {str(change.routes["user"][1]) for change in found if _says(change, "user")}


def again(found: Iterable[Change]) -> Iterator[Change]:
    """Yield what followers of a model make of each request to look at it again: all of it may differ."""
    for change in found:
        if _says(change, "model"):
            yield replace(change, model=str(change.routes["model"][1]), routes={})


def _says(change: Change, name: str) -> bool:
    return change.model == LABEL and name in change.routes
