"""The mixins of the HTTP door: what DRF's do, with every write passing the gate."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db import router
from django.http import Http404
from rest_framework import status
from rest_framework.exceptions import APIException, UnsupportedMediaType, ValidationError
from rest_framework.request import clone_request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from .. import locks, rows, writes
from ..conf import settings
from ..protocol.errors import AlreadyExists, Busy, ConcordError, Conflict, VersionMismatch
from ..protocol.preconditions import Preconditions, Verdict, evaluate
from . import conflicts, responses, tags
from .exceptions import PROBLEM, APIConcordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.models import Model, QuerySet
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.viewsets import GenericViewSet

    # For the type checker the mixins stand on what they are mixed into.
    _View = GenericViewSet[Any]
else:
    _View = object

__all__ = [
    "ConditionalMixin",
    "CreateModelMixin",
    "DestroyModelMixin",
    "GuardedMixin",
    "ListModelMixin",
    "RetrieveModelMixin",
    "UpdateModelMixin",
]

SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
MOVES = 3  # how often a lookup may lead to another row while the request waits for the first


class ConditionalMixin(_View):
    """Reads preconditions, and answers the package's refusals with their body and headers."""

    etag_from: Any = None
    """``"version"``, ``"content"`` or a callable ``(view, object)``; None: the version where there is one."""
    precondition_required: bool | None = None
    """Answer 428 to unconditional writes; None: as ``REQUIRE_PRECONDITION`` says."""
    conflict_current: bool = True
    """Whether a 412 carries the current representation."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Begin a write as a writer, where the transaction is open already."""
        if request.method not in SAFE:
            rows.claim_open_transactions()
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        """Answer refusals, with the tag and as problem details (RFC 9457) where they are asked for."""
        refusal = exc if isinstance(exc, ConcordError) else None
        if refusal is not None:
            exc = APIConcordError(refusal)
        response: Response = super().handle_exception(exc)
        if refusal is not None:
            tag = refusal.members.get("current_etag")
            if tag:
                response["ETag"] = str(tag)
            if refusal.status == status.HTTP_428_PRECONDITION_REQUIRED:
                response["Cache-Control"] = "no-store"  # RFC 6585 section 3
            if PROBLEM in self.request.headers.get("Accept", ""):
                response.data = {
                    "title": refusal.code,
                    "status": response.status_code,
                    **response.data,
                }
                response.content_type = PROBLEM
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Let scripts of other origins read the headers that matter."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if "Origin" in request.headers and not response.has_header("Access-Control-Expose-Headers"):
            response["Access-Control-Expose-Headers"] = responses.EXPOSED
        return response

    def preconditions(self) -> Preconditions:
        """Return the conditions of this request.

        Raises:
            MalformedPrecondition: a header cannot be read; nothing is written then.
        """
        return Preconditions.parse(self.request.headers.get)


class GuardedMixin(ConditionalMixin):
    """Passes writes to one object through the gate."""

    action: Any
    request: Any
    _alias: str | None = None
    _locked: Model | None = None

    def get_object(self) -> Any:
        """Return the object; inside the gate the one whose row is locked."""
        if self._locked is not None:
            return self._locked
        return super().get_object()

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter; inside the gate on the database that is written to, which a replica may lag behind."""
        queryset = super().filter_queryset(queryset)
        return queryset.using(self._alias) if self._alias is not None else queryset

    def guard(
        self, operation: str, perform: Callable[[Any], Response], *, method: str | None = None
    ) -> Response:
        """Do one write to the object of this request, guarded by its lock and preconditions.

        Args:
            operation: what locks are asked for: ``update``, ``destroy`` or an action's name.
            perform: validates and saves the object it is given, and returns the response.
            method: the HTTP method whose rules the preconditions follow; the request's when None.
        """
        for _ in range(MOVES):
            try:
                return self._guard(operation, perform, method or self.request.method or "")
            except _Moved:
                continue
        raise Busy("The address leads to another object each time. Nothing was changed; try again.")

    def _guard(self, operation: str, perform: Callable[[Any], Response], method: str) -> Response:
        seen = self.get_object()
        unreadable = self._read_body()
        model, using = type(seen), router.db_for_write(type(seen), instance=seen)
        required = self.precondition_required
        if required is None:
            required = settings.REQUIRE_PRECONDITION
        intent = writes.Intent(
            operation=operation,
            method=method,
            actor=self.actor(),
            preconditions=self.preconditions(),
            required=required,
        )
        self._refuse_early(intent, seen, using)

        def fetch() -> Any:
            self._alias = using
            found = super(GuardedMixin, self).get_object()
            if found is seen:
                _reload(found, using)  # a view that keeps its object would write the state before the lock
            if found.pk != seen.pk:
                raise _Moved
            if found._state.db != using:
                raise ImproperlyConfigured(
                    f"{type(self).__name__}.get_object() read from {found._state.db!r}, but the object is"
                    f" written to {using!r}. Pass the queryset through self.filter_queryset()."
                )
            return found

        def act(obj: Any) -> Response:
            if unreadable is not None:
                raise unreadable
            self._locked = obj
            return perform(obj)

        def refused(error: ConcordError, obj: Any, entry: rows.Entry) -> None:
            conflicts.explain(self, error, obj, entry, intent.preconditions)

        try:
            return writes.write(
                intent,
                model=model,
                pk=seen.pk,
                using=using,
                fetch=fetch,
                current=lambda obj, _: tags.current_of(self, obj),
                perform=act,
                refused=refused,
                first=writes.parents(seen),
            )
        finally:
            self._alias = self._locked = None

    def _refuse_early(self, intent: writes.Intent, seen: Any, using: str) -> None:
        """Refuse at once what is stale already, without waiting for the row; passing here decides nothing."""
        if not intent.preconditions.guards and not intent.required:
            return
        current = tags.current_of(self, seen)
        if (
            evaluate(intent.method, intent.preconditions, current, required=intent.required)
            is Verdict.PROCEED
        ):
            return
        entry = rows.peek(type(seen), seen.pk, using=using, actor=intent.actor)
        try:
            writes.check(intent, entry, current)
        except ConcordError as refusal:
            conflicts.explain(self, refusal, seen, entry, intent.preconditions)
            raise

    def _read_body(self) -> APIException | None:
        """Read the body before any row is locked; what is wrong with it is said after the refusals.

        Raises:
            UnsupportedMediaType: it is in no format this view reads.
        """
        try:
            self.request.data  # noqa: B018
        except UnsupportedMediaType:
            raise
        except APIException as error:
            return error
        return None

    def actor(self) -> rows.Actor:
        """Return who this request is to the locks."""
        user = self.request.user if getattr(self.request.user, "is_authenticated", False) else None
        return locks.actor_for(user, self.request.headers.get("Lock-Token"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See the view as a GET of one object without query parameters would.

        Raises:
            PermissionDenied, NotAuthenticated: this caller may not GET here.
        """
        request, action, held = self.request, self.action, self._locked
        seen = clone_request(request, "GET")
        underlying = request._request
        query = underlying.GET
        self.request, self.action, self._locked = seen, "retrieve", None
        try:
            underlying.GET = type(query)("", mutable=False)
            if request.method not in SAFE:
                self.check_permissions(seen)
            yield
        finally:
            underlying.GET = query
            self.request, self.action, self._locked = request, action, held

    def tagged(self, response: Response, obj: Any) -> Response:
        """Give a response the tag of the object it shows."""
        source = tags.source_of(self, obj)
        responses.stamp(
            response,
            self,
            self.request,
            source,
            tags.flat_variant(self, self.request),
            Preconditions(),
        )
        return response


class _Moved(Exception):
    """The lookup leads to another row than the one that was locked."""


def _reload(obj: Any, using: str) -> None:
    try:
        obj.refresh_from_db(using=using)
    except ObjectDoesNotExist as error:
        raise Http404 from error
    obj._prefetched_objects_cache = {}


class CreateModelMixin(GuardedMixin):
    """Create an object; ``If-None-Match: *`` only where there is none of its key."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Validate and save a new object, in one transaction that says who did it."""
        conditions = self.preconditions()
        serializer = self.get_serializer(data=request.data)
        model = self.get_queryset().model
        verdict = evaluate("POST", conditions, None)
        if verdict is Verdict.MISMATCH:
            raise VersionMismatch("There is no object yet for If-Match to match. Leave the header out.")
        absent = conditions.if_none_match is not None and conditions.if_none_match.any

        def perform() -> Response:
            nonlocal serializer
            serializer = self.get_serializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            self.perform_create(serializer)
            writes.settle(serializer.instance, using=using)
            headers = self.get_success_headers(serializer.data)
            return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)

        using = router.db_for_write(model)
        try:
            response: Response = writes.create(self.actor(), model=model, using=using, perform=perform)
        except (ValidationError, Conflict):
            if absent and self._exists(request.data):
                raise AlreadyExists from None
            raise
        return self.tagged(response, serializer.instance)

    def _exists(self, data: Any) -> bool:
        name = self.lookup_field
        value = data.get(name) if hasattr(data, "get") else None
        if value is None:
            return False
        try:
            return bool(self.filter_queryset(self.get_queryset()).filter(**{name: value}).exists())
        except (TypeError, ValueError):
            return False

    def perform_create(self, serializer: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Return the ``Location`` where the representation names it."""
        try:
            return {"Location": str(data[api_settings.URL_FIELD_NAME])}
        except (TypeError, KeyError):
            return {}


class RetrieveModelMixin(GuardedMixin):
    """Show an object with its tag; 304 before it is serialized where the row tells everything."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer 200, 304 or, to an ``If-Match`` that does not match, 412."""
        conditions = self.preconditions()
        obj = self.get_object()
        source = tags.source_of(self, obj)
        own = type(self).retrieve is RetrieveModelMixin.retrieve
        variant = tags.flat_variant(self, request) if own else None
        known = variant is not None or callable(tags.declared(self))
        if known:
            current = source.current(None if callable(tags.declared(self)) else variant)
            verdict = evaluate(request.method or "", conditions, current)
            if verdict is Verdict.NOT_MODIFIED:
                return responses.not_modified(request, current.tag, source.shown)
            if verdict is Verdict.MISMATCH:
                raise VersionMismatch(current_etag=str(current.tag))
        response = Response(self.get_serializer(obj).data)
        responses.stamp(response, self, request, source, variant, conditions)
        return response


class ListModelMixin(GuardedMixin):
    """List objects with a weak tag of the page, and 304 where the client has that page."""

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer a page, or all."""
        conditions = self.preconditions()
        queryset = self.filter_queryset(self.get_queryset())
        page = self.paginate_queryset(queryset)
        if page is not None:
            response = self.get_paginated_response(self.get_serializer(page, many=True).data)
        else:
            response = Response(self.get_serializer(queryset, many=True).data)
        responses.stamp_list(response, request, conditions)
        return response


class UpdateModelMixin(GuardedMixin):
    """Update an object whole or in part, on the row as it is when it is locked."""

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer 200 with the object and its new tag."""
        partial = kwargs.pop("partial", False)
        saved: list[Any] = []

        def perform(obj: Any) -> Response:
            before = obj.__dict__.get("version")
            serializer = self.get_serializer(obj, data=request.data, partial=partial)
            serializer.is_valid(raise_exception=True)
            self.perform_update(serializer)
            if getattr(obj, "_prefetched_objects_cache", None):
                obj._prefetched_objects_cache = {}
            saved.append(serializer.instance)
            writes.settle(serializer.instance, using=obj._state.db, before=before)
            return Response(serializer.data)

        response = self.guard("update", perform)
        if request.method == "PUT":
            # The body is the new representation, so it may carry validators (RFC 9110 sections 8.7, 9.3.4).
            response["Content-Location"] = request.path
        return self.tagged(response, saved[-1])

    def perform_update(self, serializer: Any) -> None:
        """Save; a hook as in DRF."""
        serializer.save()

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Update in part."""
        kwargs["partial"] = True
        return self.update(request, *args, **kwargs)


class DestroyModelMixin(GuardedMixin):
    """Delete an object that is as the caller thinks it is."""

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Answer 204."""

        def perform(obj: Any) -> Response:
            self.perform_destroy(obj)
            return Response(status=status.HTTP_204_NO_CONTENT)

        return self.guard("destroy", perform)

    def perform_destroy(self, instance: Model) -> None:
        """Delete; a hook as in DRF."""
        instance.delete()
