"""Subscriptions of a socket: from a frame to a member of a cohort, and from its changes to frames."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.http import Http404
from msgspec import UNSET

from ..conf import settings
from ..live.looks import DENIALS, Spec, TooLarge, status_of
from ..live.members import Member
from ..live.mixins import unrecorded
from ..live.requests import origin_of
from ..protocol.changes import Position
from ..protocol.errors import PositionLost
from ..protocol.session import Follow, Overflow, Rendered

if TYPE_CHECKING:
    from collections.abc import Callable

    from .application import Connection

    SpecOf = Callable[[Connection, Any, Follow], Spec]

__all__ = ["Subscription", "follow", "spec_for"]

logger = logging.getLogger("drf_concord")


class Subscription:
    """One subscription of a socket."""

    __slots__ = ("command", "connection", "head", "key", "label", "member", "sequenced")

    def __init__(self, connection: Connection, command: Follow, label: str) -> None:
        self.connection = connection
        self.key = command.key
        self.command = command
        self.label = label
        self.member: Member | None = None
        self.sequenced = connection.session.sequenced
        self.head = f'{{"type":"broadcast","{command.named}":{command.request_id.decode()}'

    @property
    def stands(self) -> bool:
        """Whether the client has not ended it."""
        return self.connection.session.stands(self.command)

    def leave(self) -> None:
        """Stop following."""
        if self.member is not None:
            self.connection.hub.leave(self.member)
            self.member = None

    def subscribed(self, how: str, position: Position) -> None:
        """Acknowledge, in session mode; in plain mode a subscription that stands says nothing."""
        if self.sequenced and self.stands:
            frame = self.connection.session.subscribed(
                self.key, how, position.epoch, position.encode(), settings.RETENTION
            )
            self.connection.push(frame)

    def snapshot(self, items: list[Rendered]) -> None:
        """Send the objects to begin with."""
        if self.sequenced and self.stands:
            for frame in self.connection.session.snapshot(self.key, items):
                self.connection.push(frame)

    def deliver(self, changes: list[Rendered], *, more: bool) -> None:
        """Send changes, or keep the latest of them for a client that is slow."""
        connection = self.connection
        if not self.stands:
            return
        if not self.sequenced:
            for change in changes:
                if not connection.socket.outlet.push(self.head + change.plain(self.label)):
                    connection.socket.slow()
                    return
            return
        try:
            frames = connection.session.deliver(self.key, self.label, changes, more=more)
        except Overflow:
            connection.socket.slow()
            return
        for frame in frames:
            connection.push(frame)

    def reset(self, code: str) -> None:
        """Say that what the client has is void."""
        if self.sequenced and self.stands:
            self.connection.push(self.connection.session.reset(self.key, code))

    def end(self, status: int, message: str) -> None:
        """Say that there will be no more."""
        connection = self.connection
        if connection.subscriptions.get(self.key) is not self:
            return
        del connection.subscriptions[self.key]
        self.member = None
        session = connection.session
        if not self.stands:
            return
        if self.sequenced:
            connection.push(session.end(self.key, status))
        else:
            session.forget(self.key)
            connection.push(_error(connection, self.command, status, message))


async def follow(connection: Connection, command: Follow, spec_of: SpecOf | None = None) -> None:
    """Begin a subscription, or say why not.

    Args:
        connection: the socket.
        command: what is asked for.
        spec_of: finds out what is to be followed, where a dialect says that in its own way.
    """
    frame, session = command.frame, connection.session

    def refuse(code: int, message: str) -> None:
        if not session.stands(command):
            return
        subscription = connection.subscriptions.pop(command.key, None)
        if subscription is not None:
            subscription.leave()
        session.forget(command.key)
        connection.push(_error(connection, command, code, message))

    if not session.stands(command):
        return  # unsubscribed before it was begun

    view = connection.router.view(frame.model)
    if view is None:
        refuse(404, f"There is no model {frame.model} here to subscribe to.")
        return
    try:
        spec = (spec_of or _spec)(connection, view, command)
        since = _since(command)
    except ValueError as error:
        refuse(400, str(error))
        return
    except Http404:
        refuse(404, f"There is no such {frame.model}.")
        return
    unseen = unrecorded(view)
    if unseen is not None:
        refuse(500, f"Changes of {unseen} are not recorded, so nobody can follow them.")
        return
    subscription = Subscription(connection, command, spec.label)
    connection.subscriptions[command.key] = subscription
    member = subscription.member = Member(subscription, connection.caller, spec)
    have = None if frame.have is None else [_key(spec, key) for key in frame.have]
    try:
        await connection.hub.follow(
            member, snapshot=frame.snapshot and session.sequenced, since=since, have=have
        )
    except TooLarge:
        refuse(400, f"too_large: more than {settings.MAX_LIST} objects. Narrow the subscription.")
    except DENIALS as refusal:
        refuse(_status(refusal), "You may not subscribe to this.")
    except Exception:
        logger.exception("A subscription to %s failed.", view.__name__)
        refuse(500, "The view failed.")
    else:
        if connection.subscriptions.get(command.key) is not subscription:
            connection.hub.leave(member)  # unsubscribed while it was being looked up
        elif command.single and not member.visible:
            refuse(404, f"There is no such {frame.model}.")


def _error(connection: Connection, command: Follow, code: int, message: str) -> str:
    text = command.texts.get(code, message)
    return connection.session.error(command.request_id, code, text, command.named)


def _spec(connection: Connection, view: Any, command: Follow) -> Spec:
    frame = command.frame
    group: str | None
    if frame.value is UNSET:
        if frame.group_by is not None or not connection.session.sequenced:
            raise ValueError("The member value is missing.")
        group = None
    else:
        group = view.group_field(frame.group_by)
        if group is None:
            known = ", ".join(view.group_by_fields)
            raise ValueError(f"There is no grouping by {frame.group_by!r} here; there is {known}.")
    return spec_for(connection, view, command, group)


def spec_for(
    connection: Connection, view: Any, command: Follow, group: str | None, *, single: bool = False
) -> Spec:
    """Return what is to be followed of a view.

    Args:
        connection: the socket.
        view: the view's class.
        command: what is asked for.
        group: the field whose value is; None for the list.
        single: whether one object is, by whatever field.

    Raises:
        ValueError: the field cannot hold the value.
    """
    frame = command.frame
    spec = Spec(
        view=view,
        model=view.get_model_class(),
        action="retrieve" if single or group == "pk" else "list",
        group_by=group,
        value=None if group is None else _hashable(frame.value),
        kwargs=json.dumps(frame.arguments, sort_keys=True),
        query=json.dumps(frame.query, sort_keys=True),
        origin=origin_of(connection.caller.scope),
        events=frame.mode == "events",
    )
    if group is not None:
        value = spec.converted()
        if not isinstance(value, str | int | bool) and value is not None:
            value = str(value)
        spec = replace(spec, value=value)
    return spec


def _hashable(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError("The member value is a text or a number.")
    return value


def _key(spec: Spec, key: str | int) -> str:
    try:
        return str(spec.model._meta.pk.to_python(key))
    except Exception:
        return str(key)


def _since(command: Follow) -> Position | None:
    since = command.frame.since
    if since is None:
        return None
    try:
        position = Position.decode(since.position)
    except PositionLost:
        return Position(since.epoch, "", -1)  # of no log: it will be answered with a reset
    return Position(since.epoch, position.cursor, position.last_id, position.last_nonce, position.timeline)


def _status(refusal: Exception) -> int:
    status = status_of(refusal)
    return 403 if status == 401 else status
