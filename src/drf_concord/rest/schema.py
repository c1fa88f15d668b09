"""The OpenAPI document, with drf-spectacular: what this package adds to each operation of its views.

Imported only where a project names it: ``"DEFAULT_SCHEMA_CLASS": "drf_concord.rest.schema.AutoSchema"``.
A class and not a hook over the finished document, because it sees the view, and because what a project says
with ``@extend_schema``, or in an ``AutoSchema`` of its own, goes before what is said here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent, get_doc, is_serializer

from . import answers
from .bodies import components, news, nullable, reference
from .feed import FeedMixin
from .guards import GuardedMixin
from .operations import Kind, Operation, operation_of
from .tags import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    # For the type checker the mixin stands on what it is mixed into.
    _Schema = openapi.AutoSchema
else:
    _Schema = object

__all__ = ["AutoSchema", "AutoSchemaMixin", "ETagFieldExtension"]

TAKEN = {
    "lock_acquire": "ConcordLockClaim",
    "lock_renew": "ConcordLockRenewal",
    "lock_break": "ConcordLockBreak",
}
SUCCESSES = {"lock_acquire": (200, 201), "lock_release": (204,), "lock_break": (202,)}


class AutoSchemaMixin(_Schema):
    """Describes views of this package and leaves others alone; stands before an ``AutoSchema``."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Return an operation, with the headers and answers that nobody described otherwise."""
        found = super().get_operation(*args, **kwargs)
        about = self._about() if found is not None else None
        if found is not None and about is not None:
            answers.add(found["responses"], about, self.method, self._current() if about.shows else None)
            self._register(found)
        return found

    def get_override_parameters(self) -> list[Any]:
        """Return our headers, and after them what was said elsewhere: the last one counts."""
        said, about = super().get_override_parameters(), self._about()
        return said if about is None else [*answers.parameters(about, self.method), *said]

    def get_request_serializer(self) -> Any:
        """Return what is sent; for locks their own bodies."""
        about = self._about()
        if about is not None and about.action in TAKEN:
            return {"application/json": reference(TAKEN[about.action])}
        if about is not None and about.kind is Kind.STATES:
            member = about.action.removeprefix("states_")
            null = nullable({"type": "string", "description": "null"})
            return {"application/json": {"type": "object", "properties": {member: null}}}
        return super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        """Return what is answered; for locks their own bodies."""
        about = self._about()
        if about is not None and about.kind is Kind.CHANGES:
            return {200: news(self._current())}
        if about is None or about.kind not in {Kind.LOCK, Kind.STATES, Kind.LOCKS}:
            return super().get_response_serializers()
        if about.kind is Kind.STATES:
            return {202: None}
        body = reference("ConcordListedLock" if about.kind is Kind.LOCKS else "ConcordLock")
        return {code: None if code == 204 else body for code in SUCCESSES.get(about.action, (200,))}

    def get_description(self) -> str:  # type: ignore[override]
        """Return the project's text; those of methods that it inherits from here are about how they work."""
        view, about = self.view, self._about()
        if about is None or not isinstance(view, GuardedMixin) or about.kind in {Kind.LOCK, Kind.STATES}:
            return super().get_description()
        if about.kind is Kind.CHANGES:
            return get_doc(FeedMixin.list_changes)
        handler = getattr(view, getattr(view, "action", self.method.lower()), None)
        if getattr(handler, "__doc__", None) and not str(handler.__module__).startswith(KNOWN):
            return super().get_description()
        library = (*KNOWN, "django.", "builtins.")
        own = (c for c in type(view).__mro__ if c.__doc__ and not f"{c.__module__}.".startswith(library))
        return get_doc(next(own, None))

    def get_filter_backends(self) -> list[Any]:
        """Return what narrows a list, and so its changes."""
        about = self._about()
        if about is not None and about.kind is Kind.CHANGES:
            return list(getattr(self.view, "filter_backends", []))
        found: list[Any] = super().get_filter_backends()
        return found

    def _is_list_view(self, serializer: Any = None) -> bool:
        about = self._about()
        if about is not None and about.kind in {Kind.LOCKS, Kind.CHANGES}:
            return about.kind is Kind.LOCKS
        return super()._is_list_view(serializer)

    def _about(self) -> Operation | None:
        view = self.view
        name = getattr(view, "lookup_url_kwarg", None) or getattr(view, "lookup_field", None)
        # the path has other names for what it calls by the primary key
        addressed = name is not None and re.search(rf"[<:]{re.escape(name)}>", self.path_regex) is not None
        return operation_of(view, self.method, addressed=addressed)

    def _current(self) -> dict[str, Any] | None:
        """Return the schema of an object as a GET shows it, or None where that cannot be said."""
        view: Any = self.view
        before = view.__dict__.get("action")
        if before is not None:
            view.action = "retrieve"
        try:
            serializer = view.get_serializer()
        except Exception:  # a project's method that needs a real request
            return None
        finally:
            if before is not None:
                view.action = before
        component = self.resolve_serializer(serializer, "response") if is_serializer(serializer) else None
        return component.ref if component else None

    def _register(self, schema: Any) -> None:
        """Put the components that a schema names into the document."""
        made = components()
        names = set(_named(schema)) & made.keys()
        for name in names:
            component = ResolvedComponent(name, ResolvedComponent.SCHEMA, made[name], object=name)
            self.registry.register_on_missing(component)
            self._register(made[name])


class AutoSchema(AutoSchemaMixin, openapi.AutoSchema):
    """drf-spectacular's, with what this package adds."""


class ETagFieldExtension(OpenApiSerializerFieldExtension):
    """Says that a tag in a body is text."""

    target_class = "drf_concord.rest.serializers.ETagField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return the schema of the field."""
        return {"type": "string", "description": "The tag of the object, for If-Match."}


def _named(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict) and "$ref" in schema:
        yield str(schema["$ref"]).rpartition("/")[2]
    for item in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _named(item)
