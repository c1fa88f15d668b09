"""What stands between a request and the gate: its preconditions, its caller, and what a refusal may say."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import DataError, router
from django.db.models import Model
from django.http import Http404, QueryDict
from rest_framework import permissions, status
from rest_framework.exceptions import APIException, UnsupportedMediaType
from rest_framework.renderers import JSONRenderer
from rest_framework.request import clone_request

from .. import rows, writes
from ..conf import settings
from ..lockable import rule_of
from ..protocol.errors import Busy, ConcordError, MalformedPrecondition
from ..protocol.preconditions import Current, Preconditions, Verdict, evaluate
from . import conflicts, merge, plain, responses, tags
from .addresses import Address, address_of, finds_by_key, read_by_key
from .exceptions import PROBLEM, APIConcordError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.viewsets import GenericViewSet

    # For the type checker the mixins stand on what they are mixed into.
    _View = GenericViewSet[Any]
else:
    _View = object

__all__ = ["ConditionalMixin", "GuardedMixin"]

SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
DENIALS = (APIException, PermissionDenied, Http404)  # all that a permission class may raise
# Looked up in META: Django's request.headers is made of all there is before it tells of one.
CONDITIONAL = {
    "If-Match": "HTTP_IF_MATCH",
    "If-None-Match": "HTTP_IF_NONE_MATCH",
    "If-Unmodified-Since": "HTTP_IF_UNMODIFIED_SINCE",
    "If-Modified-Since": "HTTP_IF_MODIFIED_SINCE",
}
# Who may write by these may read as well, and of the object they ask nothing.
READERS = {
    permissions.AllowAny,
    permissions.DjangoModelPermissions,
    permissions.DjangoModelPermissionsOrAnonReadOnly,
    permissions.IsAdminUser,
    permissions.IsAuthenticated,
    permissions.IsAuthenticatedOrReadOnly,
}
PERMISSION_HOOKS = ("check_object_permissions", "check_permissions", "get_permissions")
CHOICE = {"queryset", "filter_backends", "lookup_field"}  # what an own action may be given: other objects,
OTHERS = CHOICE | {"permission_classes"}  # or other callers
MOVES = 3  # how often a lookup may lead to another row while the request waits for the first


class ConditionalMixin(_View):
    """Reads preconditions, and answers the package's refusals with their body and headers."""

    etag_from: Any = None
    """``"version"``, ``"content"`` or a callable ``(view, object)``; None: the version where there is one."""
    precondition_required: bool | None = None
    """Answer 428 to unconditional writes; None: as ``REQUIRE_PRECONDITION`` says."""
    conflict_current: bool = True
    """Whether a 412 carries the current representation."""
    conflict_actor: bool = False
    """Whether a 412 names who made the last change: to users who may change the object too."""
    merge: str | None = None
    """``"disjoint"``: apply a PATCH to a newer state where it touches nothing that changed, if asked to."""
    field_groups: Sequence[Collection[str]] = ()
    """Names of fields that hang together, so that a change of one is no merge with a change of another."""

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
            asked = PROBLEM in self.request.META.get("HTTP_ACCEPT", "")
            renderer = getattr(self.request, "accepted_renderer", None)
            if asked and isinstance(renderer, JSONRenderer) and isinstance(response.data, dict):
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
        if "HTTP_ORIGIN" in request.META and not response.has_header("Access-Control-Expose-Headers"):
            response["Access-Control-Expose-Headers"] = responses.EXPOSED
        return response

    def preconditions(self) -> Preconditions:
        """Return the conditions of this request.

        Raises:
            MalformedPrecondition: a header cannot be read; nothing is written then.
        """
        meta = self.request.META
        found = {header: meta[name] for header, name in CONDITIONAL.items() if name in meta}
        return Preconditions.parse(found.get) if found else writes.UNCONDITIONAL


class GuardedMixin(ConditionalMixin):
    """Passes writes to one object through the gate."""

    action: Any
    request: Any
    _alias: str | None = None
    _locked: Model | None = None
    _merged: bool = False

    def get_object(self) -> Any:
        """Return the object; inside the gate the one whose row is locked."""
        if self._locked is not None:
            return self._locked
        try:
            found = read_by_key(self)
            if found is None:
                return super().get_object()
            self.check_object_permissions(self.request, found)
            return found
        except (DataError, OverflowError) as error:
            # A key that the database cannot even compare, as with a NUL in it, or too many digits for SQLite.
            raise Http404 from error

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter; inside the gate on the database that is written to, which a replica may lag behind."""
        queryset = tags.with_version(super().filter_queryset(queryset))
        # Without routers a queryset stays where it is: not to copy it is worth the question.
        if self._alias is None or (queryset.db == self._alias and not router.routers):
            return queryset
        return queryset.using(self._alias)

    def guard(
        self, operation: str, perform: Callable[[Any], Response], *, method: str | None = None
    ) -> Response:
        """Do one write to the object of this request, guarded by its lock and preconditions.

        Args:
            operation: what locks are asked for: ``update``, ``destroy`` or an action's name.
            perform: validates and saves the object it is given, and returns the response.
            method: the HTTP method whose rules the preconditions follow; the request's when None.
        """
        asked = method or self.request.method or ""
        response: Response = self._while_it_moves(lambda: self._guard(operation, perform, asked))
        return response

    def _while_it_moves(self, attempt: Callable[[], Any]) -> Any:
        for _ in range(MOVES):
            try:
                return attempt()
            except _Moved:
                continue
        raise Busy("The address leads to another object each time. Nothing was changed; try again.")

    def _again(self, seen: Any, using: str) -> Any:
        """Fetch the object again once its row is locked: visibility and permission decide again there."""
        self._locked = None
        found = self.get_object()
        if found is seen:
            # A view that keeps its object would write the state from before the lock.
            plain.reload(found, using)
            self.check_object_permissions(self.request, found)
        if found.pk != seen.pk:
            raise _Moved
        if found._state.db != using:
            raise ImproperlyConfigured(
                f"{type(self).__name__}.get_object() read from {found._state.db!r}, but the object is"
                f" written to {using!r}. Pass the queryset through self.filter_queryset()."
            )
        return found

    def _at(self, address: Address) -> Any:
        """Fetch the object whose row was locked before it was seen, if the address leads to that one."""
        self._locked = None
        found = self.get_object()
        using = router.db_for_write(type(found), instance=found)
        if found._state.db != using or Address(type(found), found.pk, using) != address:
            raise _Moved
        return found

    def _admit(self, found: Any) -> Any:
        """Ask the permission for an object that was read with its row."""
        self._locked = None
        self.check_object_permissions(self.request, found)
        return found

    def _guard(self, operation: str, perform: Callable[[Any], Response], method: str) -> Response:
        address = address_of(self)
        unreadable = self._read_body() if address is not None else None
        if address is not None and unreadable is None:
            # The row is known and nobody has it: locked first, it has to be read only once.
            with suppress(_Moved, rows.NotFree, MalformedPrecondition):
                return self._write(self._intent(operation, method), address, perform)
        # Otherwise the object is looked at first: nobody waits for, or locks, what he may not see.
        seen = self.get_object()
        if address is None:
            unreadable = self._read_body()
        if isinstance(unreadable, UnsupportedMediaType):
            raise unreadable
        address = Address(type(seen), seen.pk, router.db_for_write(type(seen), instance=seen))
        return self._write(self._intent(operation, method), address, perform, seen, unreadable)

    def _intent(self, operation: str, method: str) -> writes.Intent:
        required = self.precondition_required
        return writes.Intent(
            operation=operation,
            method=method,
            actor=self.actor(),
            preconditions=self.preconditions(),
            required=settings.REQUIRE_PRECONDITION if required is None else required,
        )

    def _write(
        self,
        intent: writes.Intent,
        address: Address,
        perform: Callable[[Any], Response],
        seen: Any = None,
        unreadable: APIException | None = None,
    ) -> Response:
        """Pass the gate; without waiting where the object was not ``seen`` before."""
        conditions, using = intent.preconditions, address.using
        merging = intent.operation == "update" and merge.wanted(self, conditions)

        def current(obj: Any, _: int) -> Current:
            if not conditions.guards:
                return tags.UNASKED  # nothing is compared, and a tag of the content costs a serializer
            found = tags.current_of(self, obj)
            base = merge.onto(self, obj, found, conditions, using) if merging else None
            self._merged = base is not None
            return base or found

        def act(obj: Any) -> Response:
            if unreadable is not None:
                raise unreadable
            self._locked = obj
            return perform(obj)

        def refused(error: ConcordError, obj: Any, entry: rows.Entry) -> None:
            conflicts.explain(self, error, obj, entry, conditions)

        # An action may pass the gate once more: what was locked before is locked again afterwards.
        before = self._alias, self._locked
        self._alias = using
        try:
            if seen is not None and not merging:
                self._refuse_early(intent, seen, using)
            return writes.write(
                intent,
                model=address.model,
                pk=address.pk,
                using=using,
                fetch=lambda: self._at(address) if seen is None else self._again(seen, using),
                current=current,
                perform=act,
                refused=refused,
                first=writes.parents(seen) if seen is not None else (),
                wait=seen is not None,
                locked=rule_of(self),
                admit=self._admit if seen is None and finds_by_key(self, using) else None,
            )
        finally:
            self._alias, self._locked = before

    def _refuse_early(self, intent: writes.Intent, seen: Any, using: str) -> None:
        """Refuse at once what is stale already, without waiting for the row; passing here decides nothing."""
        conditions = intent.preconditions
        if not (conditions.guards or intent.required) or seen._state.db != using:
            return  # a replica may lag behind, so what it says refuses nobody
        current = tags.current_of(self, seen)
        if evaluate(intent.method, conditions, current, required=intent.required) is Verdict.PROCEED:
            return
        entry = rows.peek(type(seen), seen.pk, using=using, actor=intent.actor)
        try:
            locked = intent.operation in writes.RULED and rule_of(self)(seen)
            writes.check(intent, entry, current, locked)
        except ConcordError as refusal:
            conflicts.explain(self, refusal, seen, entry, conditions)
            raise

    def _read_body(self) -> APIException | None:
        """Read the body, never while a row is locked; what is wrong with it is said after the refusals."""
        return plain.read_body(self.request)

    def actor(self) -> rows.Actor:
        """Return who this request is to the locks."""
        return plain.actor_of(self.request)

    @contextmanager
    def seen_as(self, method: str, action: str) -> Iterator[None]:
        """See the view as another request of the same caller would: for questions of permission."""
        request, before = self.request, self.__dict__.get("action")
        given = _given(type(self), before).items() if before != action else ()
        # What @action(permission_classes=..) says is said of that action only.
        apart = {name: vars(self).pop(name) for name, value in given if vars(self).get(name) is value}
        self.request = clone_request(request, method)
        if before is not None:  # a generic view has no action
            self.action = action
        try:
            yield
        finally:
            self.request = request
            vars(self).update(apart)
            if before is not None:
                self.action = before

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See the view as a GET of one object without query parameters would.

        Raises:
            PermissionDenied, NotAuthenticated: this caller may not GET here.
        """
        safe, held = self.request.method in SAFE, self._locked
        underlying = self.request._request
        query = underlying.GET
        with self.seen_as("GET", "retrieve"):
            self._locked = None
            try:
                underlying.GET = _no_query()
                if not safe:
                    self.check_permissions(self.request)
                yield
            finally:
                underlying.GET = query
                self._locked = held

    def may_read(self, obj: Any) -> bool:
        """Return whether this caller, who was let in for a write, may GET an object."""
        view_class, action = type(self), self.__dict__.get("action")
        if _writers_read(view_class, action, *self.permission_classes) and not tags.own(
            self, PERMISSION_HOOKS
        ):
            return True
        elsewhere = not CHOICE.isdisjoint(_given(view_class, action))
        try:
            with self.reading():
                if elsewhere:
                    self.get_object()
                self.check_object_permissions(self.request, obj)
        except DENIALS:
            return False
        return True

    def may_change(self, obj: Any) -> bool:
        """Return whether this caller may PATCH an object."""
        try:
            with self.seen_as("PATCH", "partial_update"):
                self.check_permissions(self.request)
                self.check_object_permissions(self.request, obj)
        except DENIALS:
            return False
        return True

    def tagged(self, response: Response, obj: Any, *, represents: bool = True) -> Response:
        """Give the answer to a write the new tag of its object, if the caller could GET that.

        Args:
            response: the answer.
            obj: what was written.
            represents: whether the body is what a GET returns; else the tag is good for writes only.
        """
        if not isinstance(obj, Model) or not self.may_read(obj):
            return response
        source = tags.source_of(self, obj)
        variant = tags.flat_variant(self, self.request) if represents else "0"
        responses.stamp(response, self.request, source, variant, writes.UNCONDITIONAL)
        return response


def _given(view: Any, action: str | None) -> dict[str, Any]:
    """Return what ``@action`` of an own action gives the view in the place of its class's."""
    return getattr(getattr(view, action or "", None), "kwargs", {})


@lru_cache(maxsize=1024)
def _writers_read(view: Any, action: str | None, *classes: Any) -> bool:
    """Return whether a view lets everybody read whom it lets write, as far as that can be told beforehand."""
    asks = any(getattr(c, "perms_map", {}).get("GET") for c in classes)  # a project may fill that in
    if asks or not OTHERS.isdisjoint(_given(view, action)):
        return False
    return READERS.issuperset(classes) and not any(tags.redefines(view, name) for name in PERMISSION_HOOKS)


@cache
def _no_query() -> QueryDict:
    return QueryDict("", mutable=False)


class _Moved(Exception):
    """The lookup leads to another row than the one that was locked."""
