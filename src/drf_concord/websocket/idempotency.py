"""A write that its client may send again: done once, and answered as the first time.

A client whose socket broke does not know whether its last write was done. With an ``idempotency_key`` it
sends it again. The answer is kept in the transaction of the write, so that there is one exactly where there
is the other; a write that was refused leaves nothing, and is tried again.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connections, router
from django.http import HttpResponse
from django.utils.crypto import get_random_string
from msgspec import UNSET

from .. import rows
from ..attempts import run, waiting
from ..conf import settings
from ..live import views
from ..live.looks import DENIALS
from ..live.requests import JSON
from ..locks import actor_for
from ..models import Answered
from ..protocol.errors import Busy, ConcordError, IdempotencyMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpRequest

    from ..protocol.frames import Call

__all__ = ["KEEP", "Again", "Once", "fingerprint", "rendered"]

NO_CONTENT, BAD_REQUEST = 204, 400
NOBODY = b'{"detail":"An idempotency_key needs somebody who is logged in. Leave it out, or log in."}'

KEEP = 600
"""How long an answer is kept, in seconds."""
PRUNED = 100
"""How many answers of others that are too old one write deletes at the most."""


def fingerprint(call: Call, view_class: Any) -> str:
    """Return what two frames of one request have in common, however their JSON is spaced or ordered."""
    said = msgspec.structs.asdict(call)
    data = said.pop("data")
    try:
        said["data"] = None if data is UNSET else msgspec.json.decode(data)
    except msgspec.DecodeError:  # a number out of range, which the view will refuse
        said["data"] = bytes(data).decode("utf-8", "replace")
    said["view"] = f"{view_class.__module__}.{view_class.__qualname__}"
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def rendered(response: Any) -> Any:
    """Return a response with its content."""
    return response.render() if hasattr(response, "render") else response


@dataclass(frozen=True, slots=True)
class Again:
    """A call that may have been made before.

    Attributes:
        view_class: the view.
        request: the HTTP request that the call stands for.
        action: on the view.
        kwargs: of the view's route.
        detail: whether it is about one object.
    """

    view_class: Any
    request: HttpRequest
    action: str
    kwargs: Mapping[str, Any]
    detail: bool

    def respond(self, call: Call, perform: Callable[[], Any]) -> Any:
        """Return the response of ``perform``, or the one that was kept for the key of the call."""
        self.request.body  # noqa: B018  kept on it: a second attempt has to read it, too
        try:
            view = self._view()
            user = view.request.user
            known = getattr(user, "is_authenticated", False) and getattr(user, "pk", None) is not None
            if not known:
                views.admit(view)
                return HttpResponse(NOBODY, JSON, BAD_REQUEST)
        except DENIALS:
            return perform()  # the view refuses it in its own words
        once = Once(
            user,
            str(call.idempotency_key),
            fingerprint(call, self.view_class),
            router.db_for_write(self.view_class.get_model_class()),
            conditional=call.if_match is not None or call.if_none_match is not None,
        )
        try:
            return once.respond(perform, self._unless_refused)
        except ConcordError as refusal:
            return HttpResponse(msgspec.json.encode(refusal.body()), JSON, refusal.status)

    def _view(self) -> Any:
        method = self.request.method or ""
        return views.build(
            self.view_class, self.request, action=self.action, kwargs=self.kwargs, method=method
        )

    def _unless_refused(self, kept: Answered, answer: Callable[[], Any]) -> Any:
        """Return an answer, unless the caller may not ask for it any more: then he learns nothing of it."""
        view = self._view()
        try:
            views.admit(view)
            if self.detail and kept.status != NO_CONTENT:  # what was deleted cannot be asked for
                view.get_object()
        except DENIALS as refusal:
            return rendered(view.finalize_response(view.request, view.handle_exception(refusal)))
        return answer()


@dataclass(frozen=True, slots=True)
class Once:
    """A write that is done once.

    Attributes:
        user: who writes; keys of two users are two keys.
        key: the client's name for this write.
        fingerprint: of what is asked for; another one under the same key is a mistake of the client.
        using: the alias of the database that is written to.
        conditional: whether the write depends on a state of its object.
    """

    user: Any
    key: str
    fingerprint: str
    using: str
    conditional: bool

    def respond(self, perform: Callable[[], Any], again: Callable[[Answered, Callable[[], Any]], Any]) -> Any:
        """Return the response of ``perform``, or the one that was kept.

        Who comes while the first is at work waits for it.

        Args:
            perform: does the write.
            again: decides, for a write that was done, whether its answer may be given.

        Raises:
            IdempotencyMismatch: the key was used for something else. Busy: the first is still at work.
        """

        def attempt() -> Any:
            with rows.enter(Answered, using=self.using, actor=actor_for(self.user)) as entry:
                kept, ours = self._claim(entry.now)
                if not ours:
                    return again(kept, lambda: self._answer(kept))
                response = perform()
                if response.status_code < 400:
                    _keep(kept, response)
                else:
                    entry.connection.set_rollback(True)
                return response

        return run(attempt, using=self.using, conditional=self.conditional)

    def _claim(self, now: int) -> tuple[Answered, bool]:
        """Return the row of this key, and whether it is for this request to do the write."""
        self._prune(now)
        claim = get_random_string(22)
        kept = self._row(Answered(key=self.key, claim=claim, fingerprint=self.fingerprint, at=now))
        if kept.claim == claim:
            return kept, True
        if kept.at <= now - KEEP * 1_000_000:
            kept.claim, kept.fingerprint, kept.at = claim, self.fingerprint, now
            return kept, True
        return kept, False

    def _row(self, fresh: Answered) -> Answered:
        """Return the row that is there now, locked: till this transaction ends nobody else decides of it."""
        answers = Answered._base_manager.using(self.using)
        kind = getattr(getattr(self.user, "_meta", None), "label", type(self.user).__qualname__)
        fresh.user = f"{kind} {self.user.pk}"
        with waiting(), self._patience():
            for _ in range(2):
                answers.bulk_create([fresh], ignore_conflicts=True)
                kept = answers.select_for_update().filter(user=fresh.user, key=fresh.key).first()
                if kept is not None:
                    return kept
                # there was one, so old that somebody has pruned it meanwhile
        raise Busy

    def _answer(self, kept: Answered) -> HttpResponse:
        if kept.fingerprint != self.fingerprint:
            raise IdempotencyMismatch
        response = HttpResponse(kept.body, JSON, kept.status)
        if kept.etag:
            response["ETag"] = kept.etag
        return response

    def _prune(self, now: int) -> None:
        """Delete some answers that are too old, of those that nobody is looking at."""
        answers = Answered._base_manager.using(self.using)
        old = (
            answers.filter(at__lte=now - KEEP * 1_000_000).order_by("at").select_for_update(skip_locked=True)
        )
        answers.filter(pk__in=list(old.values_list("pk", flat=True)[:PRUNED])).delete()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait for the first no longer than for a row; what the view waits for is its own affair."""
        connection, patience = connections[self.using], settings.LOCK_TIMEOUT
        if connection.vendor != "postgresql" or patience is None:
            yield
            return
        with connection.cursor() as cursor:
            milliseconds = str(max(1, int(patience * 1000)))
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [milliseconds])
            yield
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def _keep(kept: Answered, response: Any) -> None:
    kept.status, kept.body = response.status_code, response.content.decode()
    kept.etag = response.get("ETag", "")
    kept.save()
