"""What the clients have of httpx."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest

from drf_concord.client import AsyncClient, Client
from drf_concord.client.wire import certificates


def test_certificates_are_read_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = httpx.create_ssl_context, list[ssl.SSLContext]()

    def reading() -> ssl.SSLContext:
        read.append(real())
        return read[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", reading)
    certificates.cache_clear()
    with Client("https://example.org/api/"), Client("https://example.org/api/"):
        asyncio.run(AsyncClient("https://example.org/api/").close())
    assert len(read) == 1
    assert read[0].verify_mode is ssl.CERT_REQUIRED
