"""The lock of an object as a sub-resource, ``.../{pk}/lock/`` and ``.../lock/break/``; and ``/locks/``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import Q
from django.http import Http404
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.request import clone_request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from .. import locks, rows, writes
from ..conf import settings
from ..models import Lock as LockRow
from ..protocol.errors import AlreadyLocked, InvalidLock, LockForbidden
from ..protocol.locks import Mode, Outcome, parse_claim
from .conflicts import lock_members
from .mixins import GuardedMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rest_framework.request import Request

__all__ = ["LockList", "LockRateThrottle", "LockResourceMixin"]

LOCK_ACTIONS = {"lock_state", "lock_acquire", "lock_renew", "lock_release", "lock_break"}
RENEW_MEMBERS, BREAK_MEMBERS = {"ttl", "to"}, {"period", "take", "reason"}
LISTED = 1000


class LockRateThrottle(UserRateThrottle):
    """How often one user may acquire locks; the project's throttle scope ``locks``, else ``LOCK_RATE``."""

    scope = "locks"

    def get_rate(self) -> str | None:
        """Return the rate as DRF writes it, or None for no limit."""
        rates = api_settings.DEFAULT_THROTTLE_RATES
        rate = rates.get(self.scope) or settings.LOCK_RATE
        return None if rate is None else str(rate)


class LockResourceMixin(GuardedMixin):
    """Locks on the objects of a viewset. Who may change an object may lock it."""

    @classmethod
    def get_extra_actions(cls) -> list[Any]:
        """Return the actions; one of the project's own at ``lock`` takes the place of ours."""
        found: list[Any] = super().get_extra_actions()
        own = {a.url_path for a in found if a.__name__ not in LOCK_ACTIONS}
        return [a for a in found if a.__name__ not in LOCK_ACTIONS or a.url_path.split("/")[0] not in own]

    def get_throttles(self) -> list[Any]:
        """Return the throttles, and for taking locks one more."""
        throttles: list[Any] = super().get_throttles()
        return [*throttles, LockRateThrottle()] if self.action == "lock_acquire" else throttles

    @action(detail=True, methods=["get"], url_path="lock", url_name="lock")
    def lock_state(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Tell who has the object's lock, since when and until when."""
        obj = self.get_object()
        using = router.db_for_write(type(obj), instance=obj)
        entry = rows.peek(type(obj), obj.pk, using=using, actor=self.actor())
        return Response(self._described(entry, obj))

    @lock_state.mapping.post
    def lock_acquire(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the lock: 201 with its token, 200 when this was asked before, 409 when somebody has it."""
        _require_user(request)
        claim = parse_claim(request.data, limits=locks.limits(), holder=self.actor().holder)
        if claim.mode is Mode.FREEZE and not request.user.has_perm("concord.freeze"):
            raise PermissionDenied("Freezing an object needs the permission concord.freeze.")
        with self._locking() as run:
            _, outcome, token, body = run(lambda entry, obj: self._acquire(entry, obj, claim))
        kept = outcome is Outcome.KEPT
        response = Response(body, status=status.HTTP_200_OK if kept else status.HTTP_201_CREATED)
        if token is not None:
            response["Lock-Token"] = token
        return response

    def _acquire(self, entry: rows.Entry, obj: Any, claim: Any) -> tuple[Any, ...]:
        try:
            found = locks.acquire(entry, claim)
        except AlreadyLocked as refusal:
            refusal.members.update(lock_members(entry))
            raise
        return (*found, self._described(entry, obj))

    @lock_state.mapping.patch
    def lock_renew(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Renew the hold (``ttl`` in seconds), or hand it over (``to`` a user name)."""
        _require_user(request)
        data = _members(request.data, RENEW_MEMBERS)
        to = _user_named(data["to"]) if "to" in data else None
        if to is not None and "ttl" in data:
            raise InvalidLock("Renew the lock or hand it over, one at a time.", member="to")

        def change(entry: rows.Entry, obj: Any) -> tuple[str | None, Any]:
            token = None
            if to is None:
                locks.renew(entry, data.get("ttl"))
            else:
                token = locks.hand_over(entry, to)[1]
            return token, self._described(entry, obj)

        with self._locking() as run:
            token, body = run(change)
        return Response(body, headers={"Lock-Token": token} if token else None)

    @lock_state.mapping.delete
    def lock_release(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Release the lock: 204, also when there is none; 403 when it is somebody else's."""
        _require_user(request)
        privileged = request.user.has_perm("concord.freeze")
        with self._locking() as run:
            run(lambda entry, obj: locks.release(entry, privileged=privileged))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"], url_path="lock/break", url_name="lock-break")
    def lock_break(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End somebody else's lock, now or after ``period`` seconds, and ``take`` it if asked: 202."""
        _require_user(request)
        if not request.user.has_perm("concord.break"):
            raise LockForbidden("Ending other people's locks needs the permission concord.break.")
        data = _members(request.data, BREAK_MEMBERS)
        period, take = data.get("period", 0), data.get("take", False)
        if not isinstance(take, bool):
            raise InvalidLock("take is true or false.", member="take")
        if take and period:
            raise InvalidLock("A lock is taken at once: leave out period, or take.", member="take")
        reason = {"reason": data["reason"]} if "reason" in data else {}
        claim = parse_claim(reason, limits=locks.limits(), holder=self.actor().holder)

        def change(entry: rows.Entry, obj: Any) -> tuple[str | None, Any]:
            locks.break_lock(entry, period)
            token = locks.acquire(entry, claim)[2] if take else None
            return token, self._described(entry, obj)

        with self._locking() as run:
            token, body = run(change)
        headers = {"Lock-Token": token} if token else None
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)

    @contextmanager
    def _locking(self) -> Iterator[Callable[..., Any]]:
        """Check that the caller may change the object, and run a change of its lock on its row."""
        self._may_change()
        seen = self.get_object()
        using = router.db_for_write(type(seen), instance=seen)

        def run(change: Callable[[rows.Entry, Any], Any]) -> Any:
            def attempt() -> Any:
                with rows.enter(type(seen), seen.pk, using=using, actor=self.actor()) as entry:
                    self._alias = using
                    try:
                        obj = self.get_object()
                        self._may_change(obj)
                        return change(entry, obj)
                    finally:
                        self._alias = None

            return writes.run(attempt, using=using, conditional=False)

        yield run

    def _may_change(self, obj: Any = None) -> None:
        """Ask the view's permissions as a PATCH of the object would.

        Raises:
            PermissionDenied, NotAuthenticated
        """
        request, asked = self.request, self.action
        self.request, self.action = clone_request(request, "PATCH"), "partial_update"
        try:
            if obj is None:
                self.check_permissions(self.request)
            else:
                self.check_object_permissions(self.request, obj)
        finally:
            self.request, self.action = request, asked

    def _described(self, entry: rows.Entry, obj: Any) -> dict[str, object]:
        actor = entry.actor
        disclose = settings.DISCLOSURE == "everyone"
        if settings.DISCLOSURE == "editors" and actor.holder is not None:
            disclose = self._allows(obj)
        return locks.describe(entry.lock, entry.now, viewer=actor.holder, disclose=disclose)

    def _allows(self, obj: Any) -> bool:
        try:
            self._may_change()
            self._may_change(obj)
        except (PermissionDenied, NotAuthenticated, Http404):
            return False
        return True


def _require_user(request: Request) -> None:
    if not getattr(request.user, "is_authenticated", False):
        raise NotAuthenticated


def _members(data: Any, known: set[str]) -> dict[str, Any]:
    if not hasattr(data, "keys"):
        raise InvalidLock("Send a JSON object.")
    for name in data:
        if name not in known:
            raise InvalidLock(
                f"There is no member {name}; known are {', '.join(sorted(known))}.", member=name
            )
    return {name: data[name] for name in data}


def _user_named(name: Any) -> str:
    model = get_user_model()
    user = (
        model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
        if isinstance(name, str)
        else None
    )
    if user is None:
        raise InvalidLock("There is no user of that name to hand the lock to.", member="to")
    return str(user.pk)


class LockList(APIView):
    """Live locks: one's own (``?mine=1``), or everybody's for who may view locks; ``?model=app.Model``."""

    def get(self, request: Request) -> Response:
        """Answer a list, newest first, of at most a thousand."""
        _require_user(request)
        mine = request.query_params.get("mine") in {"1", "true"}
        if not mine and not request.user.has_perm("concord.view_lock"):
            raise PermissionDenied(
                "Other people's locks need the permission concord.view_lock. Ask for ?mine=1."
            )
        using = router.db_for_read(LockRow)
        now = rows.now(using)
        live = Q(expires_at=None) | Q(expires_at__gt=now)
        found = LockRow._base_manager.using(using).filter(live).exclude(mode="").order_by("-acquired_at")
        viewer = str(request.user.pk)
        if mine:
            found = found.filter(holder=viewer)
        if "model" in request.query_params:
            found = found.filter(model__iexact=request.query_params["model"])
        return Response(
            [
                {
                    "model": row.model,
                    "pk": row.object_pk,
                    **locks.describe(row.value(), now, viewer=viewer, disclose=True),
                }
                for row in found[:LISTED]
            ]
        )
