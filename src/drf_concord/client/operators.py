"""The operators' lock of a server: `PUT .../states/lock` and `.../states/unlock`."""

from __future__ import annotations

from .errors import ClientError, ConnectionFailed, NotFoundError
from .requests import Operation, Request, child, exchange

__all__ = ["change", "offered"]


def change(url: str, member: str, *, slash: bool) -> Operation[None]:
    """Lock or unlock an object for maintenance.

    It is not sent again where nobody answers: when the first one arrived, the second would be refused.

    Args:
        url: of the object.
        member: `lock` or `unlock`.
        slash: whether addresses end with one.
    """
    try:
        yield from exchange(Request("PUT", _address(url, member, slash), data={member: None}))
    except NotFoundError as error:
        if error.members:
            raise
        # an answer without JSON is not of the API: nothing answers at this address
        raise NotFoundError(
            f"There is no operators' lock at {url}: the address is wrong, or this server offers none there.",
            status=error.status,
        ) from error


def offered(url: str, *, slash: bool) -> Operation[bool]:
    """Tell whether a server offers the operators' lock for an object, without changing anything."""
    try:
        answer = yield from exchange(Request("OPTIONS", _address(url, "lock", slash)))
    except ConnectionFailed:
        raise
    except ClientError:
        return False  # a server that does not say so offers nothing
    return "PUT" in {method.strip() for method in answer.headers.get("allow", "").split(",")}


def _address(url: str, member: str, slash: bool) -> str:
    return child(child(url, "states", slash=False), member, slash=slash)
