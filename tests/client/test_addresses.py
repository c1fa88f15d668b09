"""Where credentials may go."""

from __future__ import annotations

import pytest

from drf_concord.client.addresses import Site

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize("url", ["", "a.example", "ftp://a.example/", "http://", "http://me:pw@a.example/"])
def test_what_is_no_address_of_an_api(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://|auth="):
        Site(url, None, None)


@pytest.mark.parametrize(
    "path", ["https://b.example/", "//b.example/x/", "http://a.example/", "https://a.example:1/"]
)
def test_another_server_gets_nothing(path: str) -> None:
    site = Site("https://a.example/api", ("a", "b"), None)

    with pytest.raises(ValueError, match="not an address of"):
        site.address(path)
    assert site.address("tasks/") == "https://a.example/api/tasks/"
    assert site.address("https://a.example:443/x/") == "https://a.example:443/x/"


def test_the_websocket_is_that_of_the_host_unless_said_otherwise() -> None:
    assert Site("https://a.example:8443/api/", None, None).socket(None) == "wss://a.example:8443/ws/"
    assert Site("http://a.example/api/", None, None).socket(None) == "ws://a.example/ws/"
    assert Site("https://a.example/", None, None).socket("wss://ws.a.example/x/") == "wss://ws.a.example/x/"


def test_a_websocket_is_as_encrypted_as_the_api() -> None:
    with pytest.raises(ValueError, match="wss://"):
        Site("https://a.example/", ("a", "b"), None).socket("ws://a.example/ws/")
    with pytest.raises(ValueError, match="websocket"):
        Site("http://a.example/", None, None).socket("http://a.example/ws/")
