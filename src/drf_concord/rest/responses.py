"""What the door adds to responses: the tag, 304, and the headers that go with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from django.http import HttpResponse, JsonResponse
from django.utils.cache import patch_vary_headers

from ..protocol.errors import VersionMismatch
from ..protocol.etags import EntityTag
from ..protocol.preconditions import Current, Preconditions, Verdict, evaluate, format_http_date
from . import tags

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.response import Response

__all__ = ["not_modified", "set_headers", "stamp", "stamp_list"]

VARY = ("Accept", "Authorization", "Cookie")
KEPT = ("ETag", "Vary", "Cache-Control", "Content-Location", "Expires", "Last-Modified")
EXPOSED = "ETag, Lock-Token, Retry-After, Preference-Applied"


def set_headers(response: HttpResponseBase, request: Request, tag: EntityTag, shown: int | None) -> None:
    """Set the tag and the date of an object, and say that its body is this caller's."""
    response["ETag"] = str(tag)
    if shown is not None:
        response["Last-Modified"] = format_http_date(shown)
    if not response.has_header("Cache-Control"):
        # Revalidate always: that is what the tag is for. A shared cache must not keep one user's view.
        authenticated = getattr(request.user, "is_authenticated", False)
        response["Cache-Control"] = "no-cache, private" if authenticated else "no-cache"
    if response.has_header("Vary"):
        patch_vary_headers(response, VARY)
    else:
        response["Vary"] = ", ".join(VARY)


def not_modified(request: Request, tag: EntityTag, shown: int | None) -> HttpResponse:
    """Return the 304 for a tag; it repeats the headers of the 200 (RFC 9110 section 15.4.5)."""
    response = HttpResponse(status=304)
    del response["Content-Type"]
    set_headers(response, request, tag, shown)
    return response


def stamp(
    response: Response,
    request: Request,
    source: tags.Source,
    variant: str | None,
    conditions: Preconditions,
) -> None:
    """Give a response its tag: now when the variant is known, else when its body has been rendered."""
    if variant is not None or source.whole:
        set_headers(response, request, source.tag(variant or ""), source.shown)
    else:
        response.add_post_render_callback(lambda rendered: _settle(rendered, request, source, conditions))


def _settle(
    response: HttpResponse, request: Request, source: tags.Source, conditions: Preconditions
) -> HttpResponse | None:
    current = source.current(tags.digest(response.content))
    set_headers(response, request, current.tag, source.shown)
    # The body shows more than the row, whose date says nothing of it: a date alone never answers 304.
    return _conditional(response, request, conditions, replace(current, modified=None))


def stamp_list(response: Response, request: Request, conditions: Preconditions) -> None:
    """Give a list its weak tag, a digest of the page, and answer 304 where the client has that page."""

    def settle(rendered: HttpResponse) -> HttpResponse | None:
        tag = EntityTag(tags.digest(rendered.content), weak=True)
        set_headers(rendered, request, tag, None)
        current = Current(tag=tag, write=tag.opaque, variant=None)
        return _conditional(rendered, request, conditions, current)

    response.add_post_render_callback(settle)


def _conditional(
    response: HttpResponse, request: Request, conditions: Preconditions, current: Current
) -> HttpResponse | None:
    # Only what would be a success is conditional (RFC 9110 section 13.2.1).
    if request.method not in {"GET", "HEAD"} or response.status_code != 200:
        return None
    verdict = evaluate(request.method, conditions, current)
    if verdict is Verdict.PROCEED:
        return None
    if verdict is Verdict.NOT_MODIFIED:
        answer = HttpResponse(status=304)
        del answer["Content-Type"]
    else:
        refusal = VersionMismatch(current_etag=str(current.tag))
        answer = JsonResponse(refusal.body(), status=refusal.status)
    for name in KEPT:
        if response.has_header(name):
            answer[name] = response[name]
    return answer
