"""Where an API is, and what every request to it says about who is asking."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit, urlunsplit

from .requests import authorization, origin

__all__ = ["Site"]


class Site:
    """An API's address and the credentials for it.

    Args:
        base_url: with the scheme `http` or `https`.
        auth: user name and password.
        token: as `requests.authorization` takes it.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, base_url: str, auth: tuple[str, str] | None, token: str | None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("The address of an API begins with http:// or https:// and a host.")
        if "@" in parts.netloc:
            raise ValueError("Give the user as auth=(name, password), not in the address.")
        path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
        self.url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        self.headers = authorization(auth, token)

    def address(self, path: str) -> str:
        """Return an address of this API.

        Raises:
            ValueError: it is of another server, which must not get the credentials.
        """
        url = urljoin(self.url, path)
        if origin(url) != origin(self.url):
            raise ValueError(f"{path!r} is not an address of {self.url}")
        return url

    def socket(self, url: str | None) -> str:
        """Return the address of the websocket: `/ws/` of the same host when nothing else is said.

        Raises:
            ValueError: it is no address of a websocket.
        """
        parts = urlsplit(self.url)
        if url is None:
            scheme = "wss" if parts.scheme == "https" else "ws"
            return urlunsplit((scheme, parts.netloc, "/ws/", "", ""))
        asked = urlsplit(url)
        if asked.scheme not in {"ws", "wss"} or not asked.hostname:
            raise ValueError("The address of a websocket begins with ws:// or wss:// and a host.")
        if parts.scheme == "https" and asked.scheme == "ws":
            raise ValueError("The API is encrypted, so its websocket has to be: use wss://.")
        return url
