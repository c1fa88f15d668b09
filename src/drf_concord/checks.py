"""System checks: what is wrong with a project's settings, models and databases, and what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections

from .conf import Settings
from .fields import version_field
from .models import Versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["check_databases", "check_models", "check_settings"]

CHOICES = {
    "LOCKED_STATUS": (409, 423),
    "LOCK_HOLDER": ("user", "client"),
    "DISCLOSURE": ("editors", "everyone", "nobody"),
}
POSITIVE = (
    "LOCK_TTL",
    "LOCK_MAX_TTL",
    "LOCK_MAX_HOLD",
    "LOCKS_PER_USER",
    "RETENTION",
    "RETENTION_ROWS",
)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Report unknown keys and values of ``CONCORD`` that cannot work."""
    given = getattr(django_settings, "CONCORD", None) or {}
    known = [name for name in vars(Settings) if name.isupper()]
    found: list[CheckMessage] = []
    for name, value in given.items():
        if name not in known:
            hint = f"Known keys are {', '.join(known)}."
            found.append(Error(f"CONCORD has no key {name!r}.", hint=hint, id="concord.E001"))
        elif name in CHOICES and value not in CHOICES[name]:
            choices = " or ".join(repr(c) for c in CHOICES[name])
            found.append(Error(f"CONCORD[{name!r}] is {value!r}; it has to be {choices}.", id="concord.E002"))
        elif name in POSITIVE and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
            found.append(
                Error(
                    f"CONCORD[{name!r}] is {value!r}; it has to be a whole number above 0.",
                    id="concord.E002",
                )
            )
    return found


def check_models(app_configs: Iterable[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Report models whose base classes or ``touches`` cannot do what they promise."""
    found: list[CheckMessage] = []
    for model in apps.get_models():
        if issubclass(model, Versioned):
            found += _check_touches(model)
    for label in (getattr(django_settings, "CONCORD", None) or {}).get("CAPTURE", ()):
        try:
            apps.get_model(label)
        except (LookupError, ValueError):
            found.append(Error(f"CONCORD['CAPTURE'] names {label!r}, which is no model.", id="concord.E003"))
    return found


def _check_touches(model: type[Versioned]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    fields = {f.name: f for f in model._meta.get_fields()}
    for name in model.touches:
        target = getattr(fields.get(name), "related_model", None)
        if target is None or not getattr(fields[name], "many_to_one", False):
            message = f"{model._meta.label}.touches names {name!r}, which is no foreign key of it."
            found.append(Error(message, obj=model, id="concord.E004"))
        elif version_field(target) is None:
            message = f"{model._meta.label}.touches names {name!r}, but {target._meta.label} has no version."
            hint = f"Let {target._meta.label} inherit from drf_concord.models.Versioned."
            found.append(Error(message, hint=hint, obj=model, id="concord.E004"))
        elif target._meta.concrete_model is model._meta.concrete_model:
            message = f"{model._meta.label}.touches names {name!r}, which leads to the same table."
            found.append(Error(message, obj=model, id="concord.E004"))
    return found


def check_databases(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report databases that do not work as the package needs: WAL on SQLite, triggers in place."""
    from . import triggers

    found: list[CheckMessage] = []
    for alias in databases or ():
        connection: Any = connections[alias]
        if connection.vendor == "sqlite" and not connection.is_in_memory_db():
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA journal_mode")
                if cursor.fetchone()[0].lower() != "wal":
                    hint = 'Set OPTIONS = {"init_command": "PRAGMA journal_mode=WAL;"} for it.'
                    message = (
                        f"SQLite database {alias!r} is not in WAL mode: readers and writers stop each other."
                    )
                    found.append(Warning(message, hint=hint, id="concord.W005"))
        found += [
            Error(problem, hint="Run: manage.py concord triggers --install", id="concord.E006")
            for problem in triggers.problems(alias)
        ]
    return found
