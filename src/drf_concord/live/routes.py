"""Which changes concern which subscriptions: by their model, by a value, by a relation."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections

from ..protocol.changes import Change, Op
from ..triggers.plan import is_part, routed
from .invalidation import again

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .looks import Spec

__all__ = ["Missed", "key_text", "keys_of", "routes", "sources"]


@dataclass(slots=True)
class Missed:
    """Some changes, by the label of their model."""

    by_label: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, found: Iterable[Change]) -> Missed:
        """Return changes in the order of the log, put by label."""
        missed, found = cls(), list(found)
        for change in (*found, *again(found)):
            missed.by_label[change.model].append(change)
        return missed

    def concerning(self, spec: Spec) -> Iterator[tuple[str, Change]]:
        """Yield (key of the followed object, change) for what may concern a spec; key "" stands for all."""
        for label, relation in sources(spec):
            for change in self.by_label.get(label, ()):
                yield from keys_of(spec, change, relation)

    def by_key(self, spec: Spec) -> dict[str, list[Change]]:
        """Return what may concern a spec, by the key of the followed object."""
        concerned: dict[str, list[Change]] = defaultdict(list)
        for key, change in self.concerning(spec):
            concerned[key].append(change)
        return concerned


def sources(spec: Spec) -> list[tuple[str, str | None]]:
    """Return the labels whose changes concern a spec, each with the foreign key by which they do."""
    own = [spec.model, *spec.model._meta.all_parents]
    found: list[tuple[str, str | None]] = [(m._meta.label, None) for m in own]
    return found + [(model._meta.label, column) for model, column in spec.view.dependents()]


def routes(spec: Spec) -> Iterator[tuple[str, str | None, str]]:
    """Yield what the hub is to look a spec's cohort up by: a model's changes, or those with a value."""
    field = spec.field()
    for label, relation in sources(spec):
        if relation is not None or field is None:
            yield label, None, ""
        elif field.primary_key:
            yield label, "pk", str(spec.converted())
        else:
            value = field.get_db_prep_value(spec.converted(), connections["default"])
            known = field in routed(apps.get_model(label)) and type(value) in {int, str, uuid.UUID}
            yield (label, field.column, str(value)) if known else (label, None, "")


def keys_of(spec: Spec, change: Change, relation: str | None) -> Iterator[tuple[str, Change]]:
    """Yield (key of the followed object, change) for a change of a source; key "" stands for all objects."""
    if change.op is Op.TRUNCATE:
        yield "", change
    elif relation is None:
        model: Any = apps.get_model(change.model)
        if is_part(model):
            return  # the row with the version tells it as well, and tells the version
        yield key_text(change.model, change.pk), change
    else:
        for value in dict.fromkeys(change.routes.get(relation, ())):  # the old one and the new one
            if value is not None:
                yield str(spec.model._meta.pk.to_python(value)), _related(change)


def _related(change: Change) -> Change:
    """Return a change of another row as one of this: its version and operation are not this object's."""
    return replace(change, op=Op.UPDATE, version=None, previous=None, columns=(), routes={})


def key_text(label: str, pk: str) -> str:
    """Return a key as Python writes it; databases write some types in other ways."""
    try:
        return str(apps.get_model(label)._meta.pk.to_python(pk))
    except Exception:
        return pk
