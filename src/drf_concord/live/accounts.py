"""User rows and sessions, read again as an HTTP request would read them."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.db.models import Model
from django.utils.crypto import constant_time_compare
from django.utils.functional import LazyObject, cached_property, empty

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

__all__ = ["LAZY", "beyond_row", "carried", "copied", "is_plain", "nobody", "row_of", "unwrapped", "user_of"]

LAZY = functools.cached_property, cached_property

OF_EVERY_USER = {
    "_state", "_password", "backend", "_prefetched_objects_cache",
    "_perm_cache", "_user_perm_cache", "_group_perm_cache",
}  # fmt: skip
"""What Django itself puts on a user besides the columns of its row."""


def beyond_row(obj: Model) -> set[str]:
    """Return the attributes of a model instance that do not come from its row alone."""
    columns = {column.attname for column in obj._meta.concrete_fields}
    rest = vars(obj).keys() - columns - OF_EVERY_USER
    return {name for name in rest if not isinstance(inspect.getattr_static(type(obj), name, None), LAZY)}


def is_plain(user: Any) -> bool:
    """Tell whether a user is no more than its key says: a row of the user model, or nobody."""
    if isinstance(user, Model):
        return type(user) is get_user_model() and not beyond_row(user)
    return user is None or (type(user) is type(nobody()) and not vars(user))


def unwrapped(value: Any) -> Any:
    """Return what is in a lazy object, or the value itself."""
    if isinstance(value, LazyObject):
        if value._wrapped is empty:
            value._setup()
        return value._wrapped
    return value


def nobody() -> Any:
    """Return an anonymous user: an instance, never the class."""
    from django.contrib.auth.models import AnonymousUser  # needs the app registry

    return AnonymousUser()


def copied(value: Any) -> Any:
    """Return a copy of a model instance, for one call; any other value as it is."""
    if not isinstance(value, Model):
        return value
    twin = type(value).__new__(type(value))
    vars(twin).update(vars(value))
    twin._state = copy.copy(value._state)
    twin._state.fields_cache = dict(value._state.fields_cache)
    return twin


def row_of(user: Model) -> Any:
    """Return the user as its row is now, or None."""
    return type(user)._default_manager.filter(pk=user.pk).first()


def carried(user: Model, row: Any) -> Any:
    """Return a row read again, with what authentication had put on the user; None when it is out."""
    if row is None or row.pk != user.pk or not getattr(row, "is_active", True):
        return None
    vars(row).update({name: vars(user)[name] for name in beyond_row(user)})
    return row


def user_of(session: SessionBase) -> Any:
    """Return the user of a session as Django's `get_user`, but without writing to the session."""
    try:
        pk, path, known = session[SESSION_KEY], session[BACKEND_SESSION_KEY], session[HASH_SESSION_KEY]
    except KeyError:
        return None
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    user: Any = load_backend(path).get_user(get_user_model()._meta.pk.to_python(pk))
    if user is None or not hasattr(user, "get_session_auth_hash"):
        return user
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return user if any(constant_time_compare(known, each) for each in hashes) else None
