"""System checks: what is wrong with a project's settings, models and databases, and what to write instead."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections
from django.db.models import CharField, TextField
from django.urls import get_resolver
from django.utils.module_loading import import_string

from . import rows
from .conf import Settings, settings
from .fields import version_field
from .former import LOCKED
from .models import Lockable, Versioned, VersionedQuerySet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.db.models import Model

__all__ = [
    "check_databases",
    "check_models",
    "check_observers",
    "check_routers",
    "check_settings",
    "check_views",
]

CHOICES = {
    "LOCKED_STATUS": (409, 423),
    "LOCK_HOLDER": ("user", "client"),
    "DISCLOSURE": ("editors", "everyone", "nobody"),
    "REQUIRE_PRECONDITION": (False, True),
}
POSITIVE = (
    "LOCK_TTL",
    "LOCK_MAX_TTL",
    "LOCK_MAX_HOLD",
    "LOCKS_PER_USER",
    "RETENTION",
    "RETENTION_ROWS",
    "SOCKET_THREADS",
    "AUTH_REFRESH",
    "MAX_LIST",
    "STREAMS",
)
HOOKS = ("process_view", "process_exception", "process_template_response")
"""What Django's handler asks of middleware beside calling it."""
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What reading a ``CAPTURE`` that cannot work raises; ``E002`` and ``E003`` say what is wrong with it."""
RATE = re.compile(r"\d+/[smhd][a-z]*")
SAVING = {"force_insert": False, "force_update": False, "using": None, "update_fields": None}
DELETING = {"using": None, "keep_parents": False}


def check_settings(**_: Any) -> list[CheckMessage]:
    """Report unknown keys and values of ``CONCORD`` that cannot work."""
    given = getattr(django_settings, "CONCORD", None) or {}
    if not isinstance(given, dict):
        return [Error("CONCORD is no dictionary.", hint='CONCORD = {"LOCK_TTL": 60}', id="concord.E001")]
    known = [name for name in vars(Settings) if name.isupper()]
    found: list[CheckMessage] = []
    for name, value in given.items():
        if name not in known:
            hint = f"Known keys are {', '.join(known)}."
            found.append(Error(f"CONCORD has no key {name!r}.", hint=hint, id="concord.E001"))
        elif wanted := _wanted(name, value):
            found.append(Error(f"CONCORD[{name!r}] is {value!r}; it has to be {wanted}.", id="concord.E002"))
    ttl, longest = (given.get(name, vars(Settings)[name]) for name in ("LOCK_TTL", "LOCK_MAX_TTL"))
    if not found and ttl > longest:
        message = f"CONCORD['LOCK_TTL'] is {ttl}; it has to be within LOCK_MAX_TTL, which is {longest}."
        found.append(Error(message, id="concord.E002"))
    return found if found else list(_unheeded(settings.SOCKET_MIDDLEWARE))


def _unheeded(paths: Iterable[str]) -> Iterator[CheckMessage]:
    """Yield socket middleware that would decide something in a way that is asked over HTTP alone."""
    for path in paths:
        try:
            middleware = import_string(path)
        except ImportError as error:
            message = f"CONCORD['SOCKET_MIDDLEWARE'] names {path!r}, which cannot be imported: {error}."
            yield Error(message, id="concord.E018")
            continue
        if names := [name for name in HOOKS if hasattr(middleware, name)]:
            message = f"{path}.{names[0]}() is not called over websockets."
            hint = "Let it decide in __call__(), or silence this if nothing depends on it there."
            yield Warning(message, hint=hint, id="concord.W018")


def _wanted(name: str, value: object) -> str | None:
    """Return what a setting has to be, or None when it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in CHOICES:
        fits, wanted = value in CHOICES[name], " or ".join(repr(choice) for choice in CHOICES[name])
    elif name in POSITIVE:
        fits, wanted = number and isinstance(value, int) and value > 0, "a whole number above 0"
    elif name == "LOCK_TIMEOUT":
        # 0 is no time at all to one database and for ever to another
        fits = value is None or (number and value > 0)  # type: ignore[operator]
        wanted = "a number of seconds above 0, or None"
    elif name in {"RELEASE", "LOCKED_ICON_URL"}:
        fits, wanted = isinstance(value, str), "a text"
    elif name == "LOCK_RATE":
        fits = value is None or (isinstance(value, str) and RATE.fullmatch(value) is not None)
        wanted = 'a rate like "120/min", or None'
    elif name == "CAPTURE":
        fits, wanted = _are_texts(value), 'a list of names like "app.Model"'
    elif name == "HINTS":
        fits = _are_texts(value) and set(value) <= set(Settings.HINTS)  # type: ignore[call-overload]
        wanted = f"a list of some of {', '.join(map(repr, Settings.HINTS))}"
    elif name == "SOCKET_MIDDLEWARE":
        fits, wanted = _are_texts(value), "a list of dotted paths"
    else:
        return None
    return None if fits else wanted


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(each, str) for each in value)


def check_models(app_configs: Iterable[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Report models whose bases, keys or ``touches`` cannot do what they promise."""
    found: list[CheckMessage] = []
    captured = []
    for label in settings.CAPTURE if _are_texts(settings.CAPTURE) else ():  # else E002 says so
        try:
            captured.append(apps.get_model(label))
        except (LookupError, ValueError):
            found.append(Error(f"CONCORD['CAPTURE'] names {label!r}, which is no model.", id="concord.E003"))
    for model in apps.get_models():
        if issubclass(model, Versioned):
            found += _check_touches(model)
        if issubclass(model, Versioned | Lockable):
            found += [*_check_bases(model), *_check_methods(model)]
        if issubclass(model, Versioned | Lockable) or model in captured:
            found += _check_key(model)
    return found


def _check_touches(model: type[Versioned]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    fields = {f.name: f for f in model._meta.get_fields()}
    for name in model.touches:
        target = getattr(fields.get(name), "related_model", None)
        message, hint = None, None
        if target is None or not getattr(fields[name], "many_to_one", False):
            message = "which is no foreign key of it"
        elif version_field(target) is None:
            message = f"but {target._meta.label} has no version"
            hint = f"Let {target._meta.label} inherit from drf_concord.models.Versioned."
        elif target._meta.concrete_model is model._meta.concrete_model:
            message = "which leads to the same table"
        elif _leads_to(target, model, set()):
            message = "which leads back to itself"
        if message is not None:
            text = f"{model._meta.label}.touches names {name!r}, {message}."
            found.append(Error(text, hint=hint, obj=model, id="concord.E004"))
    return found


def _leads_to(model: Any, wanted: type[Model], seen: set[type[Model]]) -> bool:
    """Return whether writes to a model touch another one, by whatever way."""
    if model in seen:
        return False
    seen.add(model)
    fields = {f.name: f for f in model._meta.get_fields()}
    targets = [getattr(fields.get(name), "related_model", None) for name in getattr(model, "touches", ())]
    return any(t is wanted or (t is not None and _leads_to(t, wanted, seen)) for t in targets)


def _check_key(model: type[Model]) -> list[CheckMessage]:
    if not getattr(model._meta, "is_composite_pk", False):
        return []
    message = f"{model._meta.label} has a composite primary key, which locks and the log cannot name."
    hint = "Give it a primary key of one column, and make the columns unique together."
    return [Error(message, hint=hint, obj=model, id="concord.E007")]


def _check_bases(model: type[Model]) -> list[CheckMessage]:
    """With two bases that have tables, only the first one's key is the object's."""
    model = model._meta.concrete_model or model
    root, label = rows.identity(model), model._meta.label
    own = [p for p in model._meta.all_parents if p._meta.pk.column and not _shares_key(model, p)]
    version = version_field(model)
    if version is not None and version.model in own:
        message = f"{label} has its version in {version.model._meta.label}, which has keys of its own."
        return [Error(message, hint="Name that base first.", obj=model, id="concord.E008")]
    if not own or not issubclass(model, Lockable):
        return []
    names = ", ".join(p._meta.label for p in own)
    message = f"Locks on {label} are those of {root._meta.label}: under {names} they are not seen."
    return [Warning(message, hint="Inherit from one base that has a table.", obj=model, id="concord.W008")]


def _shares_key(model: type[Model], parent: type[Model]) -> bool:
    if model is parent:
        return True
    linked = [(p, f) for p, f in model._meta.parents.items() if f is not None]
    return any(
        f.primary_key and _shares_key(p, parent)
        for p, f in linked
        if p is parent or parent in p._meta.all_parents
    )


def _check_methods(model: type[Model]) -> list[CheckMessage]:
    """A base behind ours gets what ours pass on, which is more than projects often write."""
    found: list[CheckMessage] = []
    mro = [c for c in model.__mro__ if c.__module__ != "django.db.models.base"]
    ours = next(i for i, c in enumerate(mro) if c in (Versioned, Lockable))
    for name, passed in (("save", SAVING), ("delete", DELETING)):
        for base in mro[ours:]:
            method = vars(base).get(name)
            if base in (Versioned, Lockable) or not inspect.isfunction(method):
                continue
            try:
                inspect.signature(method).bind(None, **passed)
            except TypeError as error:
                message = f"{base.__qualname__}.{name}() is called by {model._meta.label}, but: {error}."
                hint = f"Write: def {name}(self, *args, **kwargs), and pass them on."
                found.append(Error(message, hint=hint, obj=model, id="concord.E009"))
    return found


def check_routers(**_: Any) -> list[CheckMessage]:
    """Report views of websocket routers whose models are not captured, so that nobody can follow them.

    Known are the routers of modules that are imported: by ``ROOT_URLCONF``, ``ASGI_APPLICATION``, or before.
    """
    from .triggers.plan import captured_models
    from .websocket.router import routers

    found = _import_routers()
    try:
        captured = captured_models()
    except UNREADABLE:
        return found  # CAPTURE cannot be read, which the other checks say
    views = {view for router in list(routers) for view in router.views.values()}
    for view in sorted(views, key=lambda view: (view.__module__, view.__qualname__)):
        try:
            shown = [view.get_model_class(), *(model for model, _ in view.dependents())]
        except ImproperlyConfigured as error:
            found.append(Error(str(error), obj=view, id="concord.E013"))
            continue
        for model in shown:
            if model not in captured:
                what = f"changes of {model._meta.label} are not recorded"
                message = f"{view.__name__} is on a websocket router, but {what}."
                found.append(Error(message, hint=_remedy(model), obj=view, id="concord.E012"))
    return found


def check_observers(**_: Any) -> list[CheckMessage]:
    """Report observers of consumers whose models are not captured; known are those that are imported."""
    from .triggers.plan import captured_models
    from .websocket.instances import followers
    from .websocket.observers import observers

    try:
        captured = captured_models()
    except UNREADABLE:
        return []  # CAPTURE cannot be read, which the other checks say
    found: list[CheckMessage] = []
    for observer in sorted(observers, key=lambda each: str(each.handler.__qualname__)):
        model: Any = observer.model._meta.concrete_model
        if model not in captured:
            name = observer.handler.__qualname__
            message = f"{name} observes {model._meta.label}, but changes of it are not recorded."
            found.append(Error(message, hint=_remedy(model), obj=observer.handler, id="concord.E012"))
    for consumer in sorted(followers, key=lambda each: (each.__module__, each.__qualname__)):
        followed = getattr(getattr(consumer, "queryset", None), "model", None)
        if followed is not None and followed._meta.concrete_model not in captured:
            what = f"changes of {followed._meta.label} are not recorded"
            message = f"{consumer.__qualname__} has subscribe_instance, but {what}."
            found.append(Error(message, hint=_remedy(followed), obj=consumer, id="concord.E012"))
    return found


def _import_routers() -> list[CheckMessage]:
    if getattr(django_settings, "ROOT_URLCONF", None):
        import_module(django_settings.ROOT_URLCONF)
    path = getattr(django_settings, "ASGI_APPLICATION", None)
    if not path:
        return []
    try:
        import_string(path)
    except Exception as error:
        # a warning: a process that serves no websocket, such as `migrate`, may do without what it lacks
        message = f"ASGI_APPLICATION {path!r} cannot be imported, so its websocket routers are not checked"
        return [Warning(f"{message}: {type(error).__name__}: {error}", id="concord.W012")]
    return []


def _remedy(model: type[Model]) -> str:
    if model._meta.proxy or not model._meta.pk.column:
        concrete: Any = model._meta.concrete_model
        kind = f"is a proxy of {concrete._meta.label}" if model._meta.proxy else "has no key of one column"
        return f"{model._meta.label} {kind}, which the log cannot name: give the view another model."
    label = model._meta.label
    return (
        f'Add "{label}" to CONCORD["CAPTURE"] and migrate, or inherit it from drf_concord.models.Versioned.'
    )


def check_views(**_: Any) -> list[CheckMessage]:
    """Report addresses that hide one another, and states that cannot say ``locked``."""
    from .rest.feed import FeedMixin, hides_an_object
    from .rest.locks import LOCK_ACTIONS, LockResourceMixin, StatesLockMixin

    if not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    found: list[CheckMessage] = []
    for view in _routed(get_resolver().url_patterns):
        if issubclass(view, StatesLockMixin) and (problem := _state_problem(view)):
            message = f'{view.__name__}.state_field = "{view.state_field}": {problem}.'
            hint = "Name a text column of the view's model with room for six letters."
            found.append(Error(message, hint=hint, obj=view, id="concord.E015"))
        if issubclass(view, FeedMixin) and hides_an_object(view):
            message = (
                f"{view.__name__} has changes/, so an object with that {view.lookup_field} has no address."
            )
            hint = "Leave changes_over_http out, give it a lookup_value_regex, or silence this."
            found.append(Warning(message, hint=hint, obj=view, id="concord.W017"))
        if not issubclass(view, LockResourceMixin):
            continue
        names = [a.__name__ for a in view.get_extra_actions() if a.detail and a.url_path == "lock"]
        if names and not LOCK_ACTIONS.intersection(names):
            message = f"{view.__name__}.{names[0]}() is at the address of the lock, which is not there then."
            hint = "Give it another url_path, or silence this where locks are not wanted."
            found.append(Warning(message, hint=hint, obj=view, id="concord.W014"))
    return found


def _state_problem(view: Any) -> str | None:
    """Return why a field cannot show an operators' lock; None where it can, or nobody can tell."""
    model = getattr(view.queryset, "model", None)
    if view.state_field is None or model is None:
        return None
    try:
        field = model._meta.get_field(view.state_field)
    except FieldDoesNotExist:
        return f"{model._meta.label} has no such field"
    if not isinstance(field, CharField | TextField):
        return "it is no text"
    if field.max_length is not None and field.max_length < len(LOCKED):
        return f'"{LOCKED}" is longer than its {field.max_length} characters'
    return None


def _routed(patterns: Any) -> list[Any]:
    """Return the classes of the views that addresses lead to, each once."""
    found: dict[Any, None] = {}
    for pattern in patterns:
        inner = getattr(pattern, "url_patterns", None)
        own = [] if inner is not None else [getattr(getattr(pattern, "callback", None), "cls", None)]
        found |= dict.fromkeys(_routed(inner) if inner is not None else own)
    return [view for view in found if isinstance(view, type)]


def check_databases(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Report databases that do not work as the package needs: WAL on SQLite, triggers in place."""
    from . import triggers

    found: list[CheckMessage] = []
    for alias in databases or ():
        connection: Any = connections[alias]
        if connection.vendor == "sqlite":
            found += _check_sqlite(connection)
        elif connection.vendor == "mysql":
            found += _check_mysql(connection)
        try:
            problems = triggers.problems(alias)
        except UNREADABLE:
            continue  # CAPTURE cannot be read, which the other checks say
        found += [
            # no error: `migrate` runs the checks first, and it is what puts the triggers back
            Warning(problem, hint="Run: manage.py concord triggers --install", id="concord.W006")
            for problem in problems
        ]
    return found


def _check_sqlite(connection: Any) -> list[CheckMessage]:
    if connection.is_in_memory_db():
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone()[0].lower() == "wal":
            return []
    hint = 'Set OPTIONS = {"init_command": "PRAGMA journal_mode=WAL;"} for it.'
    message = f"SQLite database {connection.alias!r} is not in WAL mode: readers and writers stop each other."
    return [Warning(message, hint=hint, id="concord.W005")]


def _check_mysql(connection: Any) -> list[CheckMessage]:
    """What elsewhere the triggers do, here only our querysets do."""
    found: list[CheckMessage] = []
    connection.ensure_connection()  # before that the level is not known; None is the server's default
    if connection.isolation_level in {"repeatable read", None}:
        message = (
            f"Database {connection.alias!r} reads a row inside a transaction as it was when that began:"
            " with ATOMIC_REQUESTS the gate would compare an old state."
        )
        hint = 'Set OPTIONS = {"isolation_level": "read committed"}, Django\'s default, for it.'
        found.append(Warning(message, hint=hint, id="concord.W010"))
    for model in apps.get_models():
        queryset: Any = model._default_manager.all() if issubclass(model, Versioned) else None
        if queryset is not None and not isinstance(queryset, VersionedQuerySet):
            message = f"{model._meta.label}.{model._default_manager.name} does not move versions in update()."
            hint = "Build it from drf_concord.models.VersionedQuerySet: there are no triggers on MariaDB."
            found.append(Warning(message, hint=hint, obj=model, id="concord.W011"))
    return found
