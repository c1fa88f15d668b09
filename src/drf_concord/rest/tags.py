"""Entity tags of representations: which version, seen how.

A tag is ``"<write half>-<variant>"``. Writes are guarded by the write half alone, so the tag of any
representation guards a write. The variant tells representations of one state apart for caches.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.utils import timezone, translation
from rest_framework import fields, relations, serializers
from rest_framework.renderers import JSONRenderer

from ..conf import settings
from ..fields import version_field
from ..protocol.etags import EntityTag, encode_version
from ..protocol.preconditions import Current, last_modified
from .serializers import ETagField

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import Model, QuerySet
    from rest_framework.request import Request

__all__ = [
    "UNASKED",
    "Source",
    "content_digest",
    "current_of",
    "declared",
    "digest",
    "flat_shape",
    "flat_variant",
    "own",
    "redefines",
    "source_of",
    "text_of",
    "with_version",
]

CLOCK_TOLERANCE = 1_000_000  # microseconds by which this machine's clock may be ahead of the database's
KNOWN = ("rest_framework.", "drf_concord.")  # classes of these modules do what this module knows of them
VIEW_HOOKS = ("retrieve", "get_object", "get_serializer", "finalize_response")
VALIDATION = {
    "create", "default_error_messages", "default_validators", "errors", "get_initial", "get_validators",
    "initial", "is_valid", "run_validation", "run_validators", "save", "to_internal_value", "update",
    "validate", "validate_empty_values", "validated_data", "validators", "_declared_fields",
}  # fmt: skip
# All a subclass may change, except what is only about input: a hook that a later DRF adds counts as well.
SERIALIZER_HOOKS = (
    *(n for n in dir(serializers.ModelSerializer) if not n.startswith("__") and n not in VALIDATION),
    "__init__", "__new__", "__getattribute__", "__getattr__",
)  # fmt: skip
PLAIN = (
    fields.BooleanField, fields.CharField, fields.ChoiceField, fields.DateField, fields.DateTimeField,
    fields.DecimalField, fields.DictField, fields.DurationField, fields.EmailField, fields.FilePathField,
    fields.FloatField, fields.IPAddressField, fields.IntegerField, fields.JSONField, fields.ListField,
    fields.MultipleChoiceField, fields.ReadOnlyField, fields.RegexField, fields.SlugField, fields.TimeField,
    fields.URLField, fields.UUIDField,
    getattr(fields, "BigIntegerField", fields.IntegerField),  # not in every DRF
)  # fmt: skip

# They show a value alike in every language and time zone.
EVERYWHERE = {
    fields.BooleanField, fields.CharField, fields.EmailField, fields.FloatField, fields.IntegerField,
    fields.IPAddressField, fields.RegexField, fields.SlugField, fields.URLField, fields.UUIDField,
    relations.PrimaryKeyRelatedField, ETagField,
    getattr(fields, "BigIntegerField", fields.IntegerField),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Where the write half of an object's tag comes from, for one state of it."""

    write: str
    version: int | None = None  # microseconds since the epoch
    whole: bool = False  # the tag is the write half alone, whatever shows the object: the project computed it

    @property
    def modified(self) -> int | None:
        """When the state was made: whole seconds since the epoch, rounded up; None without a version."""
        return None if self.version is None else -(-self.version // 1_000_000)

    @property
    def shown(self) -> int | None:
        """The same for a ``Last-Modified``; None while it lies in the future."""
        if self.version is None:
            return None
        return last_modified(self.version, time.time_ns() // 1000 - CLOCK_TOLERANCE)

    def tag(self, variant: str) -> EntityTag:
        """Return the tag of a representation."""
        return EntityTag(self.write if self.whole else f"{self.write}-{variant}")

    def current(self, variant: str) -> Current:
        """Return what preconditions are compared with."""
        kept = None if self.whole else variant
        return Current(tag=self.tag(variant), write=self.write, variant=kept, modified=self.modified)


UNASKED = Current(tag=EntityTag("unasked"), write="unasked", variant=None)
"""Stands for the state of an object where nothing is compared with it."""


def digest(*parts: bytes) -> str:
    """Return a short digest of some bytes."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def source_of(view: Any, obj: Model) -> Source:
    """Return the write half of an object's tag as the view's ``etag_from`` says.

    ``"version"`` is the version column, ``"content"`` a digest of what the caller would see, a callable
    ``(view, object)`` returns its own text. None stands for the version where there is one, else the content.
    """
    kind = declared(view)
    field = version_field(type(obj))
    if kind is None:
        kind = "version" if field is not None else "content"
    if kind == "version":
        if field is None:
            raise TypeError(f'etag_from = "version", but {type(obj)._meta.label} has no version column.')
        version = getattr(obj, field.attname)
        return Source(encode_version(version), version)
    if kind == "content":
        return Source(content_digest(view, obj))
    return Source(text_of(kind(view, obj)), whole=True)


def declared(view: Any) -> Any:
    """Return the view's ``etag_from`` as it was written: a function there is not a method."""
    given, view_class = vars(view), cast("Any", type(view))
    return _written(given["etag_from"]) if "etag_from" in given else _declared(view_class)


@functools.lru_cache(maxsize=1024)
def _declared(view: Any) -> Any:
    return _written(inspect.getattr_static(view, "etag_from"))


def _written(kind: Any) -> Any:
    return kind.__func__ if isinstance(kind, staticmethod) else kind


def text_of(value: object) -> str:
    """Return the text of a tag that a project's function computed, or a digest of it.

    Raises:
        TypeError: it is None, as of a function without ``return``: all states would have one tag.
    """
    if value is None:
        raise TypeError("The function that computes the tag returned None; let it return a text.")
    text = str(value)
    try:
        EntityTag(text)
    except ValueError:  # not every text can stand between the quotes of a tag
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return text


def content_digest(view: Any, obj: Model) -> str:
    """Return a digest of an object as the caller would GET it, without query parameters."""
    with view.reading():
        data = view.get_serializer(obj).data
    return hashlib.blake2b(JSONRenderer().render(data), digest_size=16).hexdigest()


def current_of(view: Any, obj: Model, variant: str | None = None) -> Current:
    """Return an object's tag for a write, or with the variant of a representation."""
    return source_of(view, obj).current(variant or "0")


def with_version(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Return a queryset that reads the version with the row: read later, it could be of a later state."""
    field = version_field(queryset.model)
    names, deferred = queryset.query.deferred_loading
    if field is None or not names or (field.name in names) is not deferred:
        return queryset
    if deferred:
        return queryset.defer(None).defer(*(names - {field.name}))
    return queryset.only(*names, field.name)


def flat_variant(view: Any, request: Request) -> str | None:
    """Return the variant of a flat representation, or None when only the rendered body can tell.

    Flat is what holds nothing but columns of the row itself: there the version covers the whole body, and an
    unchanged object can be answered 304 before it is serialized.
    """
    renderer = getattr(request, "accepted_renderer", None)
    if type(renderer) is not JSONRenderer:
        return None  # other renderers may show the user, a form, the time
    if own(view, VIEW_HOOKS):
        return None
    view_class: Any = type(view)
    shown = flat_shape(view_class, view.get_serializer_class())
    if shown is None:
        return None
    place = (translation.get_language(), timezone.get_current_timezone_name()) if shown.differs else ()
    version = str(getattr(request, "version", None))
    return _variant(shown, request.accepted_media_type, version, settings.RELEASE, *place)


@functools.lru_cache(maxsize=1024)
def _variant(shown: Shape, *parts: object) -> str:
    texts = [shown.path, *shown.fields, *map(str, parts)]
    return digest(*(text.encode() for text in texts))


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What a flat serializer shows.

    Attributes:
        path: of its class.
        fields: the names of its fields.
        differs: whether it may show a state differently in another language or time zone.
    """

    path: str
    fields: tuple[str, ...]
    differs: bool


@functools.lru_cache(maxsize=1024)
def flat_shape(view: Any, serializer: Any) -> Shape | None:
    """Return what a serializer shows when it is flat, decided from the classes; else None."""
    if not issubclass(serializer, serializers.ModelSerializer) or not _reachable(serializer):
        return None
    if any(redefines(view, name) for name in VIEW_HOOKS):
        return None
    if any(redefines(serializer, name) for name in SERIALIZER_HOOKS):
        return None
    model = serializer.Meta.model
    columns = {f.name: f for f in model._meta.concrete_fields if _is_kept(model, f)}
    columns |= {f.attname: f for f in columns.copy().values()}
    shown = {name: field for name, field in serializer().fields.items() if not field.write_only}
    if not all(_is_column(field, columns) for field in shown.values()):
        return None
    differs = any(_differs(field, columns.get(field.source)) for field in shown.values())
    return Shape(f"{serializer.__module__}.{serializer.__qualname__}", tuple(shown), differs)


def _reachable(cls: type[Any]) -> bool:
    """Tell whether a class is what its path leads to: one made per request shares its path with others."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def redefines(cls: type[Any], name: str) -> bool:
    """Tell whether a project's class has a method of its own where this package or DRF has one.

    Wherever that class stands among the others: what ours hand on with ``super()`` may come to it.
    """
    return any(name in vars(c) and not c.__module__.startswith(KNOWN) for c in cls.__mro__[:-1])


def own(view: Any, names: Collection[str]) -> bool:
    """Tell whether a view was given one of these methods for itself, as by ``as_view(get_queryset=..)``."""
    return not vars(view).keys().isdisjoint(names)


def _is_kept(model: type[Model], column: Any) -> bool:
    """Tell whether a model's attribute is what its column holds, and nothing that computes it."""
    attribute = inspect.getattr_static(model, column.attname)
    return type(attribute).__module__.startswith("django.")


def _differs(field: Any, column: Any) -> bool:
    """Tell whether a value may be shown, or read, differently in another language or time zone."""
    return type(field) not in EVERYWHERE or hasattr(column, "from_db_value")


def _is_column(field: Any, columns: dict[str, Any]) -> bool:
    if type(field) is ETagField:
        return True
    column = columns.get(field.source)
    if column is None:
        return False
    if type(field) is relations.PrimaryKeyRelatedField:
        return bool(column.is_relation) and field.pk_field is None
    relation = column.is_relation and field.source == column.name
    return _is_plain(field) and not relation


def _is_plain(field: Any) -> bool:
    child = getattr(field, "child", None)
    return type(field) in PLAIN and (child is None or _is_plain(child))
