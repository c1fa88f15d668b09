"""Short-lived tokens by which a page of the demo is somebody's, without a login: for the demo only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from demo.sample import EDITORS, OPERATOR

__all__ = ["LIFETIME", "SCHEME", "TokenAuthentication", "from_subprotocol", "token", "token_for"]

SCHEME = "Demo"
LIFETIME = 3600  # seconds
SUBPROTOCOL = "demo."

# A dot may stand in the name of a subprotocol, the colon that Django signs with may not.
_signer = signing.TimestampSigner(sep=".", salt="demo.board")


def token_for(name: str) -> str:
    """Return a token of a person of the demo."""
    return _signer.sign(name)


def token(request: HttpRequest, name: str) -> JsonResponse:
    """Answer with a token of one of those whose page this is; pages of other sites cannot read it."""
    if name not in (*EDITORS, OPERATOR):
        raise Http404
    answer = JsonResponse({"token": token_for(name), "expires_in": LIFETIME})
    answer["Cache-Control"] = "no-store"
    return answer


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Demo <token>`."""

    def authenticate(self, request: Request) -> tuple[Any, str] | None:
        """Return the person of the token, or None where there is none."""
        scheme, _, value = authentication.get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != SCHEME.lower():
            return None
        try:
            name = _signer.unsign(value, max_age=LIFETIME)
        except signing.SignatureExpired:
            raise exceptions.AuthenticationFailed("The token has run out: reload the page.") from None
        except signing.BadSignature:
            raise exceptions.AuthenticationFailed("This is no token of the demo.") from None
        user = get_user_model().objects.filter(username=name, is_active=True).first()
        if user is None:
            raise exceptions.AuthenticationFailed("There is nobody of that name any more.")
        return user, value

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge."""
        return SCHEME


Application = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


def from_subprotocol(application: Any) -> Application:
    """Let a websocket carry its token as a subprotocol `demo.<token>`: browsers send no headers there."""

    async def wrapped(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        given = scope.get("subprotocols", [])
        tokens = [name for name in given if name.startswith(SUBPROTOCOL)]
        if tokens:
            header = f"{SCHEME} {tokens[0].removeprefix(SUBPROTOCOL)}"
            headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            scope = {
                **scope,
                "subprotocols": [name for name in given if name not in tokens],
                "headers": [*headers, (b"authorization", header.encode("latin-1"))],
            }
        await application(scope, receive, send)

    return wrapped
