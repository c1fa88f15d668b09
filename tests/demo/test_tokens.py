"""The tokens by which a page of the demo is somebody's."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
from django.core import signing
from websockets.sync.client import connect

from tests.demo.process import Demo


def as_somebody(client: httpx.Client, token: str) -> Any:
    return client.post("/api/documents/", json={"text": "x"}, headers={"Authorization": f"Demo {token}"})


def test_a_token_is_a_login_over_http(nobody: httpx.Client) -> None:
    answer = nobody.get("/board/token/ada/")
    assert answer.headers["Cache-Control"] == "no-store"
    assert as_somebody(nobody, answer.json()["token"]).status_code == 201


def test_and_over_a_websocket_as_a_subprotocol(demo: Demo, nobody: httpx.Client) -> None:
    token = nobody.get("/board/token/ada/").json()["token"]
    call = '{"action": "create", "model": "documents.Document", "data": {"text": "x"}}'
    statuses = []
    for given in (["concord.v1", f"demo.{token}"], ["concord.v1"], ["concord.v1", "demo.ada.0.x"]):
        address = f"ws://127.0.0.1:{demo.port}/ws/"
        with connect(address, subprotocols=given) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "concord.v1"  # and never the token
            socket.recv(10)
            socket.send(call)
            statuses.append('"response_status":201' in str(socket.recv(10)))
    assert statuses == [True, False, False]


@pytest.mark.parametrize("name", ["mina", "tomas", "nobody"])
def test_there_are_tokens_for_those_with_a_page_only(nobody: httpx.Client, name: str) -> None:
    assert nobody.get(f"/board/token/{name}/").status_code == 404


def test_a_token_that_is_old_forged_or_of_nobody_is_refused(nobody: httpx.Client) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from demo.settings import SECRET_KEY

    def signed(name: str, at: int | None = None, key: str = SECRET_KEY) -> str:
        signer = signing.TimestampSigner(key=key, sep=".", salt="demo.board")
        if at is not None:
            signer.timestamp = lambda: signing.b62_encode(at)  # type: ignore[method-assign]
        return signer.sign(name)

    assert as_somebody(nobody, signed("ada")).status_code == 201
    for token in (signed("ada", at=1_000_000), signed("ada", key="another"), signed("nobody"), "ada"):
        refused = as_somebody(nobody, token)
        assert refused.status_code == 401, token
