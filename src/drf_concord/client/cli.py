"""Read, change, lock and watch the objects of an API from a shell."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TextIO
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import msgspec

from ..protocol.errors import Conflict, NotLocked
from .display import clean, conflict, describe_lock, dump, error_body, lines_of
from .errors import (
    ClientError,
    ConflictError,
    ConnectionFailed,
    ForbiddenError,
    LockedError,
    LockLostError,
    NotFoundError,
    UnauthorizedError,
)
from .operations import LAST_SEEN, IfMatch
from .requests import Request, exchange
from .sync import Client, Resource
from .values import Change
from .wire import found

__all__ = ["Exit", "main"]


class Exit(IntEnum):
    """What the exit status says."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    CONFLICT = 5
    LOCKED = 6
    NO_CONNECTION = 7


_EXITS: dict[type[ClientError], Exit] = {
    NotFoundError: Exit.NOT_FOUND,
    UnauthorizedError: Exit.REFUSED,
    ForbiddenError: Exit.REFUSED,
    ConflictError: Exit.CONFLICT,
    LockLostError: Exit.CONFLICT,
    LockedError: Exit.LOCKED,
    ConnectionFailed: Exit.NO_CONNECTION,
}
_EXITS_BY_CODE = {NotLocked.code: Exit.CONFLICT, Conflict.code: Exit.CONFLICT}


class Usage(Exception):
    """The command was not given as it has to be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], Exit] = options.run
        return run(options)
    except ClientError as error:
        _complain(error, options.json)
        return _EXITS_BY_CODE.get(error.code) or _EXITS.get(type(error), Exit.ERROR)
    except (Usage, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return Exit.USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _complain(error: ClientError, as_json: bool) -> None:
    if as_json:
        print(dump(error_body(error)), file=sys.stderr)
        return
    text = conflict(error) if isinstance(error, ConflictError) else [error.detail]
    if isinstance(error, LockedError):
        text += describe_lock({**error.members, "acquired_at": error.since})
    _say(text, sys.stderr)


def _say(lines: Sequence[str], file: TextIO | None = None) -> None:
    print("\n".join(map(clean, lines)), file=file, flush=True)


# The commands


def _get(options: argparse.Namespace) -> Exit:
    with _client(options, options.url) as client:
        answer = client.run(exchange(Request("GET", options.url)))
    body, etag = answer.body(), answer.headers.get("etag")
    if options.json:
        print(dump({"etag": etag, "data": body}))
    else:
        _say([*lines_of(body), *([f"etag: {etag}"] if etag else [])])
    return Exit.OK


def _patch(options: argparse.Namespace) -> Exit:
    data = _data(options)
    with _client(options, options.url) as client:
        objects, pk = _object(client, options.url)
        if_match: IfMatch = None
        if options.if_match is not None:
            if_match = _quoted(options.if_match)
        elif not options.force:
            objects.get(pk)
            if_match = LAST_SEEN
        item = found(client.run(objects.operations.write("PATCH", pk, data, if_match, options.lock_token)))
    if options.json:
        print(dump({"etag": item.etag, "data": dict(item)}))
    else:
        _say([*lines_of(item), *([f"etag: {item.etag}"] if item.etag else [])])
    return Exit.OK


def _quoted(tag: str) -> str:
    # a shell takes the quotes that belong to a tag, unless it is told not to
    return tag if tag == "*" or '"' in tag else f'"{tag}"'


def _data(options: argparse.Namespace) -> Mapping[str, Any]:
    data: dict[str, Any] = {}
    if options.data is not None:
        try:
            data = msgspec.json.decode(options.data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Usage(f"--data is no JSON object: {error}") from None
    for field in options.fields:
        name, equals, text = field.partition("=")
        if not name or not equals:
            raise Usage(f"{field!r} is not of the form field=value.")
        try:
            data[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            data[name] = text
    if not data:
        raise Usage("Say what to change: field=value, or --data JSON.")
    return data


def _of_operators(options: argparse.Namespace, client: Client, said: Mapping[str, Any]) -> bool:
    """Tell which lock is meant: what only the other lock has decides, else what the server offers there.

    Whoever types `lock` and the address of a machine means its maintenance, not a hold of 30 seconds.
    """
    others = [option for option, value in said.items() if value]
    if options.operators and others:
        raise Usage(f"The operators' lock has no {' and no '.join(others)}.")
    if options.operators is not None or others:
        return bool(options.operators)
    objects, pk = _object(client, options.url)
    return client.run(objects.operations.operators_offered(pk))


def _lock(options: argparse.Namespace) -> Exit:
    ttl = options.ttl if options.ttl is not None else None if options.freeze else 30.0
    mode = "freeze" if options.freeze else "hold"
    said = {
        "--ttl": options.ttl is not None,
        "--reason": options.reason,
        "--freeze": options.freeze,
        "--keep": options.keep,
    }
    with _client(options, options.url) as client:
        objects, pk = _object(client, options.url)
        if _of_operators(options, client, said):
            objects.operators_lock(pk)
            print(dump({"state": "frozen"}) if options.json else "locked for operators, until unlock")
            return Exit.OK
        lock = objects.lock(pk, ttl=ttl, reason=options.reason, mode=mode)
        if options.keep:
            # a program that is told to stop gives the lock back too
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            lock.take(keep=options.keep)
            if options.json:
                print(dump({"token": lock.token, **lock.state}), flush=True)
            else:
                _say([*describe_lock(lock.state), f"token: {lock.token}"])
            if options.keep:
                if not options.json:
                    print("Ctrl-C gives it back.", flush=True)
                lock.lost.wait()
        except KeyboardInterrupt:
            if options.keep:
                lock.release()
                return Exit.OK
            raise
    if lock.problem is not None:
        raise LockLostError(f"The lock was lost. {lock.problem.detail}", status=412, code="lock_lost")
    return Exit.OK


def _unlock(options: argparse.Namespace) -> Exit:
    with _client(options, options.url) as client:
        objects, pk = _object(client, options.url)
        broken = getattr(options, "break")
        said = {"--break": broken, "--lock-token": options.lock_token, "--reason": options.reason}
        if _of_operators(options, client, said):
            objects.operators_unlock(pk)
        elif broken:
            objects.break_lock(pk, reason=options.reason or None)
        else:
            objects.unlock(pk, options.lock_token)
    print(dump({"state": "free"}) if options.json else "unlocked")
    return Exit.OK


def _locks(options: argparse.Namespace) -> Exit:
    with _client(options, options.url) as client:
        found = client.locks(mine=not options.all, model=options.model)
    if options.json:
        print(dump(found))
        return Exit.OK
    for lock in found:
        _say([f"{lock.get('model')} {lock.get('pk')}", *(f"  {line}" for line in describe_lock(lock))])
    if not found:
        print("no locks")
    return Exit.OK


def _watch(options: argparse.Namespace) -> Exit:
    group_by, value = options.group_by, None
    if options.pk is not None:
        group_by, value = "pk", options.pk
    elif group_by is not None:
        group_by, equals, value = group_by.partition("=")
        if not equals:
            raise Usage("--group-by is of the form field=value.")
    query = {name: values[-1] for name, values in parse_qs(urlsplit(options.url).query).items()}
    follow = {"group_by": group_by, "value": value, "query": query or None, "url": options.socket}
    with _client(options, options.url) as client:
        try:
            with client.watch(options.model, **follow) as watch:
                for item in watch.items:
                    _show(Change("THERE", item.pk, item), options.json)
                for change in watch:
                    _show(change, options.json)
        except KeyboardInterrupt:
            return Exit.OK
    return Exit.OK


def _show(change: Change, as_json: bool) -> None:
    item = None if change.item is None else dict(change.item)
    if as_json:
        etag = None if change.item is None else change.item.etag
        said = {"action": change.action, "pk": change.pk, "etag": etag, "data": item}
        more = {"reason": change.reason, "lock": change.lock}
        print(dump(said | {name: value for name, value in more.items() if value is not None}), flush=True)
        return
    about = dump(item) if item is not None else change.reason or (dump(change.lock) if change.lock else "")
    _say([f"{change.action:8} {'' if change.pk is None else change.pk} {about}".rstrip()])


# Where and who


def _client(options: argparse.Namespace, url: str) -> Client:
    auth = None
    if options.user is not None:
        name, given, password = options.user.partition(":")
        auth = (name, password if given else _password(name))
    return Client(url.partition("?")[0], auth=auth, token=options.token, timeout=options.timeout)


def _password(name: str) -> str:
    known = os.environ.get("CONCORD_PASSWORD")
    if known is not None:
        return known
    try:
        with warnings.catch_warnings():
            # it would be shown as it is typed
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(f"Password of {name}: ")
    except (getpass.GetPassWarning, EOFError):
        raise Usage("There is no terminal to ask for the password: set CONCORD_PASSWORD.") from None


def _object(client: Client, url: str) -> tuple[Resource, str]:
    """Return the resource and the key in the address of an object."""
    parts = urlsplit(url)
    above, _, name = parts.path.rstrip("/").rpartition("/")
    if not name or parts.query:
        raise Usage(f"{url} is not the address of an object.")
    parent = urlunsplit((parts.scheme, parts.netloc, f"{above}/", "", ""))
    return client.resource(parent, slash=parts.path.endswith("/")), unquote(name)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    who = common.add_mutually_exclusive_group()
    who.add_argument(
        "--user",
        metavar="NAME[:PASSWORD]",
        help="log in; the password may be in CONCORD_PASSWORD, else it is asked for",
    )
    who.add_argument("--token", help='sent as "Authorization: Token ..."; "Bearer ..." is sent as it is')
    common.add_argument("--json", action="store_true", help="print JSON, errors too")
    common.add_argument("--timeout", type=float, default=30.0, help="for the server, in seconds (30)")
    parser = argparse.ArgumentParser(prog="python -m drf_concord.client", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], Exit], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("url", help="for example http://127.0.0.1:8000/api/tasks/1/")
        return made

    command("get", _get, "Show an object or a list, with its tag.")
    patch = command("patch", _patch, "Change fields of an object, if nobody else does meanwhile.")
    patch.add_argument("fields", nargs="*", metavar="field=value", help="the value as JSON, else as text")
    patch.add_argument("--data", metavar="JSON", help="the fields as one JSON object")
    how = patch.add_mutually_exclusive_group()
    how.add_argument("--if-match", metavar="TAG", help="only if the object is in this state")
    how.add_argument("--force", action="store_true", help="whatever state it is in")
    patch.add_argument("--lock-token", metavar="TOKEN", help="of a lock that is held")
    lock = command("lock", _lock, "Lock an object and print the lock's token.")
    lock.add_argument(
        "--ttl", type=float, help="how long the lock lasts, in seconds (30; a freeze: for ever)"
    )
    lock.add_argument("--reason", default="", help="for others to read")
    lock.add_argument("--freeze", action="store_true", help="nobody may write, until it is unlocked")
    lock.add_argument("--keep", action="store_true", help="renew it until Ctrl-C, then give it back")
    unlock = command("unlock", _unlock, "End a lock of one's own.")
    unlock.add_argument("--break", action="store_true", help="end somebody else's")
    unlock.add_argument("--lock-token", metavar="TOKEN", help="only the lock with this token")
    unlock.add_argument("--reason", default="", help="for a lock that is broken")
    for each in (lock, unlock):
        each.add_argument(
            "--operators",
            action=argparse.BooleanOptionalAction,
            help="the operators' lock (states/lock); when not said: where the server offers that one",
        )
    locks = command("locks", _locks, "List live locks; the address is that of the API.")
    locks.add_argument("--all", action="store_true", help="everybody's")
    locks.add_argument("--model", help="of one model, for example todolist.Task")
    watch = command("watch", _watch, "Show what is there and what changes, until Ctrl-C.")
    watch.add_argument("--model", required=True, help="what to follow, for example todolist.Task")
    watch.add_argument("--socket", metavar="URL", help="of the websocket (/ws/ of the same host)")
    which = watch.add_mutually_exclusive_group()
    which.add_argument("--pk", help="one object")
    which.add_argument("--group-by", metavar="FIELD=VALUE", help="for example list_id=14")
    return parser
