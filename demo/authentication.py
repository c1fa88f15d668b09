"""Logins of the demo: basic authentication that no browser answers with a dialog."""

from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from rest_framework import authentication
from rest_framework.request import Request

__all__ = ["BasicAuthentication", "QuickPasswordHasher"]


class BasicAuthentication(authentication.BasicAuthentication):
    """Basic authentication whose challenge opens a dialog in no browser."""

    www_authenticate_realm = "drf-concord demo"

    def authenticate_header(self, request: Request) -> str | None:
        """Challenge with a scheme that browsers leave alone where a browser asks."""
        browser = "Sec-Fetch-Mode" in request.headers
        if browser or "text/html" in request.headers.get("Accept", ""):
            return f'Session realm="{self.www_authenticate_realm}"'
        return super().authenticate_header(request)


class QuickPasswordHasher(PBKDF2PasswordHasher):
    """Few rounds: basic authentication hashes at every request, and the passwords are public."""

    iterations = 1_000
