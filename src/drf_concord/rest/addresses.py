"""The row that the address of a request names, as far as that can be told without reading it.

A row that is known before it is read can be locked before it is read, and then one read is enough.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import IntegerField, Model

from .. import asking, keyed
from ..models import Versioned
from . import tags

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

__all__ = ["Address", "address_of", "finds_by_key", "read_by_key"]

SMALL = 64 * 1024
"""Bytes of a body that is read before it is known whether the caller may see the object at all."""
FITS = 32767  # the largest number that a column of any kind of integer can hold
FINDERS = ("get_object", "get_queryset", "filter_queryset")
VENDORS = {"sqlite", "postgresql"}  # which can be asked for a row without waiting for it


class Address(NamedTuple):
    """A row: the model, its primary key and the database alias it is written to."""

    model: type[Model]
    pk: Any
    using: str


def address_of(view: Any) -> Address | None:
    """Return the row that a request to one object will most likely write, or None.

    It is a guess: whoever locks that row has to see for himself that the view finds this one and no other.
    None stands for all that needs a look at the object first: a lookup by something else than the key, an own
    ``get_object()`` that may hold a state from before, parents that are locked before their children, a large
    body.
    """
    model, view_class = _model_of(view), cast("Any", type(view))
    if model is None or not _plain(view_class) or "get_object" in vars(view) or not _small(view.request):
        return None
    using = router.db_for_write(model)
    connection, meta = connections[using], model._meta
    if connection.vendor not in VENDORS or meta.parents:
        return None
    if connection.vendor != "sqlite" and (_touches(model) or asking.derives(model)):
        return None
    pk = _key_of(view, meta.pk, connection)
    return None if pk is None else Address(model, pk, using)


def finds_by_key(view: Any, using: str) -> bool:
    """Return whether a view's ``get_object()`` is known to find every row, as it is, by its key alone."""
    queryset = view.queryset
    if queryset is None or view.filter_backends or router.routers or using != DEFAULT_DB_ALIAS:
        return False
    view_class = cast("Any", type(view))
    return _finds_all(view_class) and not tags.own(view, FINDERS) and _is_everything(queryset)


def read_by_key(view: Any) -> Model | None:
    """Return the object that a request names, where the key alone finds it.

    None where the view has to be asked: for all that `finds_by_key` does not know, and for what is not there.
    """
    if not finds_by_key(view, DEFAULT_DB_ALIAS):
        return None
    model, connection = view.queryset.model, connections[DEFAULT_DB_ALIAS]
    pk = _key_of(view, model._meta.pk, connection)
    return None if pk is None else keyed.read(connection, model, pk)


@functools.cache
def _finds_all(view: Any) -> bool:
    return not any(tags.redefines(view, name) for name in FINDERS)


# A view's queryset is one object as long as its class is; those that live shorter leave the cache with it.
_everything: WeakKeyDictionary[QuerySet[Any], bool] = WeakKeyDictionary()


def _is_everything(queryset: QuerySet[Any]) -> bool:
    known = _everything.get(queryset)
    if known is None:
        known = _everything[queryset] = keyed.is_everything(queryset)
    return known


def _touches(model: type[Model]) -> bool:
    return issubclass(model, Versioned) and bool(model.touches)


def _model_of(view: Any) -> type[Model] | None:
    if view.queryset is not None:
        return view.queryset.model  # type: ignore[no-any-return]
    return getattr(getattr(view.serializer_class, "Meta", None), "model", None)


@functools.cache
def _plain(view: Any) -> bool:
    return not tags.redefines(view, "get_object")


def _small(request: Request) -> bool:
    meta = request.META
    length = meta.get("CONTENT_LENGTH") or "0"
    return "HTTP_TRANSFER_ENCODING" not in meta and length.isdecimal() and int(length) <= SMALL


def _key_of(view: Any, field: Any, connection: Any) -> Any:
    """Return the key in the address; None where it names objects by something else, or is none."""
    if view.lookup_field not in ("pk", field.name):
        return None
    value = view.kwargs.get(view.lookup_url_kwarg or view.lookup_field)
    try:
        pk = field.to_python(value)
        field.get_prep_value(pk)
    except (
        TypeError,
        ValueError,
        ValidationError,
    ):  # all that REST framework takes for "there is no such key"
        return None
    while field.remote_field is not None:
        field = field.target_field
    if pk is None or (isinstance(pk, str) and "\0" in pk):
        return None
    if isinstance(field, IntegerField) and not 0 <= pk <= FITS:
        low, high = connection.ops.integer_field_range(field.get_internal_type())
        if not (low is None or low <= pk) or not (high is None or pk <= high):
            return None
    return pk
