"""Looking at a view's objects as one caller would GET them: the synchronous half of a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from django.core.exceptions import FieldDoesNotExist, PermissionDenied, ValidationError
from django.http import Http404
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer

from ..conf import settings
from ..fields import version_field
from ..protocol.etags import version_tag
from . import sharing, views
from .middleware import within
from .sharing import Level

if TYPE_CHECKING:
    from datetime import tzinfo

    from django.db.models import Model, QuerySet


__all__ = [
    "DENIALS",
    "MOVED",
    "Look",
    "Shown",
    "Spec",
    "TooLarge",
    "Viewer",
    "admit",
    "audience",
    "look",
    "moved",
    "pks_in",
    "pks_of",
    "request_of",
    "shown_in",
    "status_of",
]

DENIALS = (APIException, PermissionDenied, Http404)
"""All that a permission class may raise."""

MOVED = 410
"""The status by which a subscription ends whose caller is not who he was; he may subscribe again."""


class TooLarge(Exception):
    """The view shows more objects than one subscription may follow."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is followed: equal specs have equal answers for one caller.

    ``kwargs`` and ``query`` are JSON texts, so that a spec can be a key, or ``kwargs`` the items that a route
    gave; ``origin`` is scheme and host, which representations may contain. ``events`` is whether each change
    is told, not only the state it led to.
    ``language`` and ``zone`` are those representations are in, the project's own when None.
    """

    view: Any
    model: type[Model]
    action: str
    group_by: str | None
    value: Any
    kwargs: str | tuple[tuple[str, Any], ...] = "{}"
    query: str = "{}"
    origin: tuple[str, str] = ("http", "")
    events: bool = False
    language: str | None = None
    zone: tzinfo | None = None

    @property
    def label(self) -> str:
        """The model as clients name it."""
        return self.model._meta.label

    def converted(self) -> Any:
        """Return the value as the field holds it: ``"1"`` is 1.

        Raises:
            ValueError: the field cannot hold it.
        """
        field = self.field()
        if field is None:
            return self.value
        if isinstance(self.value, bool) and field.get_internal_type() != "BooleanField":
            raise ValueError(f"{self.value!r} is no value of {self.group_by}.")
        try:
            return field.to_python(self.value)
        except (ValidationError, TypeError, ValueError, OverflowError):
            raise ValueError(f"{self.value!r} is no value of {self.group_by}.") from None

    def field(self) -> Any:
        """Return the model field grouped by; None for the list, and for a lookup through relations."""
        if self.group_by is None:
            return None
        try:
            return self.model._meta.pk if self.group_by == "pk" else self.model._meta.get_field(self.group_by)
        except FieldDoesNotExist:
            return None


class Viewer(Protocol):
    """Somebody who follows a spec: who calls, and the view kept for asking permissions."""

    caller: views.Caller
    view: Any
    stale: bool
    level: Level
    key: Any
    who: Any


@dataclass(slots=True)
class Shown:
    """One object as a GET shows it."""

    key: str
    pk: str
    instance: str
    gone: str
    etag: str | None
    version: int | None


@dataclass(slots=True)
class Look:
    """What one look found.

    Attributes:
        shown: objects by the text of their key.
        level: for whom this holds.
        denied: viewers who may not look any more, with the status.
        hidden: for viewers of single objects: keys whose object permission they lack.
    """

    shown: dict[str, Shown]
    level: Level
    denied: dict[int, int]
    hidden: dict[int, set[str]]


def admit(spec: Spec, viewer: Viewer, then: Callable[[Any], None] | None = None) -> None:
    """Authenticate and check permissions as a GET would, and keep the view for the checks to come.

    Args:
        spec: what is to be followed.
        viewer: by whom.
        then: what else is to be asked of the view, where the project's middleware is still round it.

    Raises:
        APIException, PermissionDenied, Http404
    """
    request = request_of(spec, viewer.caller)

    def work() -> None:
        viewer.view = views.build(spec.view, request, action=spec.action, kwargs=_kwargs(spec))
        views.admit(viewer.view)
        declared = sharing.declared_key(spec.view)
        if declared is not None:
            viewer.key = declared(viewer.view.request)  # here, as it may read what the middleware has set
        if then is not None:
            then(viewer.view)

    within(request, work)


def audience(viewer: Viewer, spec: Spec, level: Level) -> Any:
    """Return what those have in common who share answers at a level."""
    if level is Level.SHARED:
        return None
    if sharing.declared_key(spec.view) is not None:
        return ("declared", viewer.key)
    if level is Level.USER:
        return ("user", getattr(viewer.view.request.user, "pk", None))
    return ("connection", id(viewer.caller))


def moved(viewer: Viewer, spec: Spec) -> bool:
    """Tell whether somebody, admitted anew, shares answers with others than before: who he is has changed."""
    return bool(audience(viewer, spec, viewer.level) != viewer.who)


def request_of(spec: Spec, caller: views.Caller) -> Any:
    """Return the request that a GET of what is followed would be."""
    return views.http_request(caller, path=caller.scope.get("path", "/"), query=json.loads(spec.query))


def _kwargs(spec: Spec) -> dict[str, Any]:
    return dict(json.loads(spec.kwargs) if isinstance(spec.kwargs, str) else spec.kwargs)


def look(spec: Spec, viewers: Sequence[Viewer], keys: Sequence[str] | None) -> Look:
    """Look at some objects, or all, as the first viewer; and ask whether each viewer still may.

    Args:
        spec: what is followed.
        viewers: who follows it, at least one; their views have been admitted.
        keys: primary keys as text; None for all objects, ``MAX_LIST`` at the most.

    Raises:
        TooLarge, and whatever the view raises.
    """
    objects: dict[str, Any] = {}
    refused = _admit_again(spec, viewers)
    viewers = [viewer for viewer in viewers if id(viewer) not in refused]
    if not viewers:
        return Look({}, Level.SHARED, refused, {})

    def work(view: Any) -> dict[str, Shown]:
        objects.update((str(obj.pk), obj) for obj in _rows(view, spec, keys))
        return {key: _show(view, obj) for key, obj in objects.items()}

    shown, level = _evaluate(spec, viewers[0], work)
    denied, hidden = _ask(spec, viewers, objects)
    return Look(shown, level, refused | denied, hidden)


def _admit_again(spec: Spec, viewers: Sequence[Viewer]) -> dict[int, int]:
    """Ask anew for viewers whose account changed: what was kept of them must not decide any more.

    Where the project has middleware for sockets, it may refuse, or know another tenant, at any time.
    """
    refused = {}
    for viewer in viewers:
        if viewer.stale or settings.SOCKET_MIDDLEWARE:
            try:
                if viewer.stale:
                    viewer.caller.refresh()
                admit(spec, viewer)
                viewer.stale = False
                if moved(viewer, spec):
                    refused[id(viewer)] = MOVED
            except DENIALS as refusal:
                refused[id(viewer)] = status_of(refusal)
    return refused


def status_of(refusal: Exception) -> int:
    """Return the HTTP status of a refusal."""
    return 404 if isinstance(refusal, Http404) else int(getattr(refusal, "status_code", 403))


def pks_of(spec: Spec, viewer: Viewer, keys: Sequence[str] | None = None) -> tuple[dict[str, str], Level]:
    """Return the objects a viewer sees, as text of the key to what names them when they are gone."""

    return _evaluate(spec, viewer, lambda view: pks_in(view, spec, keys))


def pks_in(view: Any, spec: Spec, keys: Sequence[str] | None = None) -> dict[str, str]:
    """Return what `pks_of` does, of a view that has its request."""
    lookup = getattr(view, "lookup_field", "pk")
    named = ("pk",) if lookup in {"pk", spec.model._meta.pk.name} else ("pk", lookup)
    found = _rows(view, spec, keys, only=named)
    return {str(row[0]): _gone(row[0], row[-1], lookup) for row in found}


def shown_in(view: Any, spec: Spec, keys: Sequence[str] | None = None) -> dict[str, Shown]:
    """Return objects by the text of their key, as a view shows them that has its request.

    Raises:
        TooLarge, and whatever the view raises.
    """
    return {str(obj.pk): _show(view, obj) for obj in _rows(view, spec, keys)}


def _evaluate(spec: Spec, viewer: Viewer, work: Any) -> tuple[Any, Level]:
    asked = viewer.view.request
    found: tuple[Any, Level] = sharing.evaluate(
        spec.view,
        request_of(spec, viewer.caller),
        action=spec.action,
        kwargs=_kwargs(spec),
        work=work,
        user=asked.user,
        auth=asked.auth,
        language=spec.language,
        time_zone=spec.zone,
    )
    return found


def _rows(view: Any, spec: Spec, keys: Sequence[str] | None, only: tuple[str, ...] = ()) -> list[Any]:
    queryset: QuerySet[Any] = view.filter_queryset(view.get_queryset())
    narrow = {}
    if spec.group_by is not None:
        narrow[spec.group_by] = spec.converted()
    sliced = queryset.query.is_sliced or bool(queryset.query.combinator)
    if sliced:  # cannot be narrowed any more: look at all of it
        wanted = set(keys) if keys is not None else None
        field = spec.field()
        rows = [
            obj
            for obj in queryset
            if (wanted is None or str(obj.pk) in wanted)
            and (field is None or getattr(obj, field.attname) == spec.converted())
        ]
        return [tuple(getattr(obj, name) for name in only) for obj in rows] if only else rows
    if narrow:
        queryset = queryset.filter(**narrow)
    if keys is not None:
        to_python = spec.model._meta.pk.to_python
        queryset = queryset.filter(pk__in=[to_python(key) for key in keys])
    limit = settings.MAX_LIST
    found: list[Any] = list((queryset.values_list(*only) if only else queryset)[: limit + 1])
    if len(found) > limit:
        raise TooLarge
    return found


def _show(view: Any, obj: Any) -> Shown:
    instance = JSONRenderer().render(view.get_serializer(obj).data).decode()
    field = version_field(type(obj))
    version = None if field is None else int(getattr(obj, field.attname))
    # a tag that the writes of the view ignore, or never match, is worse than none
    view_class: Any = type(view)
    tagged = views.compares_versions(view_class)
    etag = str(version_tag(version, "0")) if tagged and version is not None else None
    lookup = getattr(view, "lookup_field", "pk")
    gone = _gone(obj.pk, getattr(obj, lookup), lookup)
    return Shown(str(obj.pk), json_of(obj.pk), instance, gone, etag, version)


def _gone(pk: Any, value: Any, lookup: str) -> str:
    return json_of({"pk": pk, "id": pk, lookup: value})


def json_of(value: Any) -> str:
    """Return a value as JSON, keys of any type included."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def _ask(
    spec: Spec, viewers: Sequence[Viewer], objects: dict[str, Any]
) -> tuple[dict[int, int], dict[int, set[str]]]:
    denied: dict[int, int] = {}
    hidden: dict[int, set[str]] = {}
    inside = bool(settings.SOCKET_MIDDLEWARE)
    as_usual = all(
        _is_known(getattr(spec.view, name)) for name in ("check_permissions", "check_object_permissions")
    )
    everybody = as_usual and _is_known(spec.view.get_permissions) and _is_open(spec.view.permission_classes)
    for viewer in viewers:
        view = viewer.view
        if everybody and "permission_classes" not in vars(view):
            continue  # with a thousand viewers, even asking for the classes would take its time
        if not inside and as_usual and _is_open(map(type, view.get_permissions())):
            continue
        unseen: set[str] = set()
        judge = partial(_judge, objects if spec.action == "retrieve" else {}, unseen)
        try:
            if inside:
                admit(spec, viewer, judge)
            else:
                view.check_permissions(view.request)
                judge(view)
        except DENIALS as refusal:
            denied[id(viewer)] = status_of(refusal)
            continue
        if unseen:
            hidden[id(viewer)] = unseen
    return denied, hidden


def _judge(objects: Mapping[str, Any], unseen: set[str], view: Any) -> None:
    unseen.update(key for key, obj in objects.items() if not _may_see(view, obj))


def _is_open(classes: Iterable[Any]) -> bool:
    return all(each is AllowAny for each in classes)


def _is_known(function: Any) -> bool:
    return str(function.__module__).startswith(("rest_framework.", "drf_concord."))


def _may_see(view: Any, obj: Any) -> bool:
    try:
        view.check_object_permissions(view.request, obj)
    except DENIALS:
        return False
    return True
