"""The lock of an object as a sub-resource, ``.../{pk}/lock/`` and ``.../lock/break/``; and ``/locks/``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import Q
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated, PermissionDenied, UnsupportedMediaType
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from .. import locks, rows, writes
from ..conf import settings
from ..models import Lock as LockRow
from ..protocol.errors import AlreadyExists, AlreadyLocked, InvalidLock, LockForbidden, VersionMismatch
from ..protocol.locks import Mode, Outcome, parse_claim
from ..protocol.preconditions import Preconditions, Verdict, evaluate
from . import tags
from .conflicts import discloses, explain, lock_members
from .guards import GuardedMixin
from .lockable import lock_action, unlock_action
from .states import StatesLockMixin

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rest_framework.request import Request

__all__ = [
    "LockList",
    "LockRateThrottle",
    "LockResourceMixin",
    "StatesLockMixin",
    "lock_action",
    "unlock_action",
]

LOCK_ACTIONS = {"lock_state", "lock_acquire", "lock_renew", "lock_release", "lock_break"}
RENEW_MEMBERS, BREAK_MEMBERS = {"ttl", "to"}, {"period", "take", "reason"}
LISTED = 1000


class LockRateThrottle(UserRateThrottle):
    """How often one user may acquire locks; the project's throttle scope ``locks``, else ``LOCK_RATE``."""

    scope = "locks"

    def get_rate(self) -> str | None:
        """Return the rate as DRF writes it, or None for no limit."""
        rate = api_settings.DEFAULT_THROTTLE_RATES.get(self.scope, settings.LOCK_RATE)
        return None if rate is None else str(rate)


class LockResourceMixin(GuardedMixin):
    """Locks on the objects of a viewset. Who may change an object may lock it."""

    @classmethod
    def get_extra_actions(cls) -> list[Any]:
        """Return the actions; one of the project's own at ``lock`` takes the place of ours."""
        found: list[Any] = super().get_extra_actions()
        own = {a.url_path for a in found if a.detail and a.__name__ not in LOCK_ACTIONS}
        return [a for a in found if a.__name__ not in LOCK_ACTIONS or a.url_path.split("/")[0] not in own]

    def get_throttles(self) -> list[Any]:
        """Return the throttles, and for taking locks one more."""
        throttles: list[Any] = super().get_throttles()
        return [*throttles, LockRateThrottle()] if self.action == "lock_acquire" else throttles

    def check_permissions(self, request: Request) -> None:
        """Check; for a lock as for a GET or PATCH of its object, as nothing is added or deleted."""
        if self.action not in LOCK_ACTIONS:
            super().check_permissions(request)
            return
        with self._about_the_object():
            super().check_permissions(self.request)

    def check_object_permissions(self, request: Request, obj: Any) -> None:
        """Check; for a lock as for a GET or PATCH of its object."""
        if self.action not in LOCK_ACTIONS:
            super().check_object_permissions(request, obj)
            return
        with self._about_the_object():
            super().check_object_permissions(self.request, obj)

    def get_object(self) -> Any:
        """Return the object; for its lock under the same permissions."""
        if self.action not in LOCK_ACTIONS:
            return super().get_object()
        with self._about_the_object():
            return super().get_object()

    def _about_the_object(self) -> AbstractContextManager[None]:
        asks = self.action == "lock_state"
        return self.seen_as(*(("GET", "retrieve") if asks else ("PATCH", "partial_update")))

    @action(detail=True, methods=["get"], url_path="lock", url_name="lock")
    def lock_state(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Tell who has the object's lock, since when and until when."""
        obj = self.get_object()
        using = router.db_for_write(type(obj), instance=obj)
        entry = rows.peek(type(obj), obj.pk, using=using, actor=self.actor())
        return _answer(self._described(entry, obj))

    @lock_state.mapping.post
    def lock_acquire(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the lock: 201 with its token, 200 when this was asked before, 409 when somebody has it."""

        def take(entry: rows.Entry, obj: Any, data: Any) -> tuple[Any, ...]:
            claim = parse_claim(data, limits=locks.limits(), holder=entry.actor.holder)
            if claim.mode is Mode.FREEZE and not request.user.has_perm("concord.freeze"):
                raise PermissionDenied("Freezing an object needs the permission concord.freeze.")
            try:
                _, outcome, token = locks.acquire(entry, claim)
            except AlreadyLocked as refusal:
                refusal.members.update(lock_members(entry, disclose=discloses(self, obj)))
                raise
            return outcome, token, self._described(entry, obj)

        outcome, token, body = self._on_the_lock(take)
        kept = outcome is Outcome.KEPT
        return _answer(body, token, status.HTTP_200_OK if kept else status.HTTP_201_CREATED)

    @lock_state.mapping.patch
    def lock_renew(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Renew the hold (``ttl`` in seconds), or hand it over (``to`` a user name)."""

        def renew(entry: rows.Entry, obj: Any, data: Any) -> tuple[Any, ...]:
            data, token = _members(data, RENEW_MEMBERS), None
            if "to" not in data:
                locks.renew(entry, data.get("ttl"))
            elif "ttl" in data:
                raise InvalidLock("Renew the lock or hand it over, one at a time.", member="to")
            else:
                token = locks.hand_over(entry, _user_named(data["to"]))[1]
            return token, self._described(entry, obj)

        token, body = self._on_the_lock(renew)
        return _answer(body, token)

    @lock_state.mapping.delete
    def lock_release(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Release the lock: 204, also when there is none; 403 when it is somebody else's."""

        def release(entry: rows.Entry, obj: Any, data: Any) -> None:
            locks.release(entry, privileged=request.user.has_perm("concord.freeze"))

        self._on_the_lock(release)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"], url_path="lock/break", url_name="lock-break")
    def lock_break(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End somebody else's lock, now or after ``period`` seconds, and ``take`` it if asked: 202."""

        def break_(entry: rows.Entry, obj: Any, data: Any) -> tuple[Any, ...]:
            data = _members(data, BREAK_MEMBERS)
            period, take = data.get("period", 0), data.get("take", False)
            if not isinstance(take, bool):
                raise InvalidLock("take is true or false.", member="take")
            if take and period:
                raise InvalidLock("A lock is taken at once: leave out period, or take.", member="take")
            reason = {"reason": data["reason"]} if "reason" in data else {}
            claim = parse_claim(reason, limits=locks.limits(), holder=entry.actor.holder)
            locks.break_lock(entry, period)
            token = locks.acquire(entry, claim)[2] if take else None
            return token, self._described(entry, obj)

        token, body = self._on_the_lock(break_, permission="concord.break")
        return _answer(body, token, status.HTTP_202_ACCEPTED)

    def _on_the_lock(
        self, change: Callable[[rows.Entry, Any, Any], Any], permission: str | None = None
    ) -> Any:
        """Check that the caller may change the object, and run a change of its lock on its row."""
        request: Any = self.request
        if not getattr(request.user, "is_authenticated", False):
            raise NotAuthenticated
        if permission is not None and not request.user.has_perm(permission):
            raise LockForbidden(f"This needs the permission {permission}.")
        return self._while_it_moves(lambda: self._change_lock(change))

    def _change_lock(self, change: Callable[[rows.Entry, Any, Any], Any]) -> Any:
        seen = self.get_object()
        self._require_readable(seen)
        unreadable = self._read_body()
        if isinstance(unreadable, UnsupportedMediaType):
            raise unreadable
        conditions = self.preconditions()
        using = router.db_for_write(type(seen), instance=seen)

        def attempt() -> Any:
            with rows.enter(type(seen), seen.pk, using=using, actor=self.actor()) as entry:
                obj = self._again(seen, using)
                self._require_readable(obj)
                self._check(conditions, obj, entry)
                if unreadable is not None:
                    raise unreadable
                return change(entry, obj, self.request.data)

        self._alias = using
        try:
            return writes.run(attempt, using=using, conditional=False)
        finally:
            self._alias = None

    def _require_readable(self, obj: Any) -> None:
        """Who may not GET an object learns nothing of its lock, and takes none.

        Raises:
            Http404, PermissionDenied, NotAuthenticated
        """
        with self.reading():
            self.check_object_permissions(self.request, obj)

    def _check(self, conditions: Preconditions, obj: Any, entry: rows.Entry) -> None:
        """Lock only what the caller saw, where he says what that was: the tags are those of the object."""
        if not conditions.guards:
            return
        verdict = evaluate(self.request.method or "", conditions, tags.current_of(self, obj))
        if verdict is not Verdict.PROCEED:
            refusal = VersionMismatch() if verdict is Verdict.MISMATCH else AlreadyExists()
            explain(self, refusal, obj, entry, conditions)
            raise refusal

    def _described(self, entry: rows.Entry, obj: Any) -> dict[str, object]:
        viewer = entry.actor.holder
        return locks.describe(entry.lock, entry.now, viewer=viewer, disclose=discloses(self, obj))


def _answer(body: Any, token: str | None = None, code: int = status.HTTP_200_OK) -> Response:
    # Locks end by the clock, and tokens are for one reader.
    headers = {"Cache-Control": "no-store"}
    if token is not None:
        headers["Lock-Token"] = token
    return Response(body, status=code, headers=headers)


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
    known = isinstance(name, str) and "\x00" not in name
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first() if known else None
    if user is None or not user.is_active:
        raise InvalidLock("There is no user of that name to hand the lock to.", member="to")
    return str(user.pk)


class LockList(APIView):
    """Live locks: one's own (``?mine=1``), or everybody's for who may view locks; ``?model=app.Model``."""

    def get(self, request: Request) -> Response:
        """Answer a list, newest first, of at most a thousand."""
        if not getattr(request.user, "is_authenticated", False):
            raise NotAuthenticated
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
