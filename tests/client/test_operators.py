"""The operators' lock by both clients and from a shell, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from drf_concord.client import (
    AsyncClient,
    Client,
    ClientError,
    ConflictError,
    ConnectionFailed,
    ForbiddenError,
    LockedError,
    NotFoundError,
    UnauthorizedError,
)
from drf_concord.client.cli import Exit, main
from drf_concord.client.operators import change, offered
from tests.client.script import answer, play
from tests.transports.proxy import free_port

pytestmark = pytest.mark.sqlite

URL = "https://a.example/api/instances/7/"
UNKNOWN = "00000000-0000-0000-0000-000000000000"
BOSS = ["--user", "admin:admin"]
GUIDO = ["--user", "guido:guido"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def machine(admin: Client) -> str:
    """The uuid of a new instance."""
    return str(admin.resource("instances/", lookup="uuid").create({"name": "press"})["uuid"])


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its exit status, what it printed, and its complaints."""

    def out(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return out


def state(client: Client, machine: str) -> Any:
    return client.resource("instances/").get(machine)["state"]


# The clients


@pytest.mark.parametrize("slash", [True, False])
def test_a_machine_is_serviced(admin: Client, guido: Client, machine: str, slash: bool) -> None:
    machines = admin.resource("instances/", lookup="uuid", slash=slash)

    machines.operators_lock(machine)
    assert state(guido, machine) == "locked"
    with pytest.raises(LockedError, match=r"^This object is locked already; try again when") as refused:
        machines.operators_lock(machine)
    assert refused.value.code == "object_already_locked"
    with pytest.raises(LockedError):
        admin.resource("instances/").delete(machine)

    machines.operators_unlock(machine)
    assert state(guido, machine) == "active"
    with pytest.raises(ClientError, match=r"^The object is not locked; nothing was changed\.$") as refused:
        machines.operators_unlock(machine)
    assert (refused.value.status, refused.value.code) == (409, "object_not_locked")


def test_who_may_not(api: str, guido: Client, machine: str) -> None:
    with pytest.raises(ForbiddenError):
        guido.resource("instances/").operators_lock(machine)
    with Client(api) as nobody, pytest.raises(UnauthorizedError):
        nobody.resource("instances/").operators_unlock(machine)
    assert state(guido, machine) == "active"


def test_what_is_not_there(admin: Client) -> None:
    with pytest.raises(NotFoundError) as unknown:
        admin.resource("instances/").operators_lock(UNKNOWN)
    assert "operators" not in unknown.value.detail
    with pytest.raises(
        NotFoundError, match=r"^There is no operators' lock at http://.+/tasks/1/: the address"
    ):
        admin.resource("tasks/").operators_lock(1)


def test_a_machine_read_before_the_lock_has_another_tag(admin: Client, machine: str) -> None:
    machines = admin.resource("instances/", lookup="uuid")
    seen = machines.get(machine)

    machines.operators_lock(seen)
    with pytest.raises(ConflictError):
        machines.patch(seen, {"name": "lathe"})
    assert machines.patch(machines.get(machine), {"name": "lathe"})["state"] == "locked"


def test_with_an_event_loop(api: str, machine: str) -> None:
    async def story() -> None:
        async with AsyncClient(api, auth=("admin", "admin"), timeout=60) as client:
            machines = client.resource("instances/", lookup="uuid")
            await machines.operators_lock(machine)
            assert (await machines.get(machine))["state"] == "locked"
            with pytest.raises(LockedError):
                await machines.operators_lock(machine)
            await machines.operators_unlock(machine)
            assert (await machines.get(machine))["state"] == "active"

    asyncio.run(story())


def test_a_lock_that_may_have_been_taken_is_not_asked_for_again() -> None:
    sent = []

    def lost(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise httpx.ReadError("cut", request=request)

    client = Client("https://a.example/api/", transport=httpx.MockTransport(lost))
    with client, pytest.raises(ConnectionFailed):
        client.resource("instances/").operators_lock(7)
    (request,) = sent
    assert (request.method, str(request.url)) == ("PUT", f"{URL}states/lock/")
    assert json.loads(request.content) == {"lock": None}


@pytest.mark.parametrize("slash", [True, False])
def test_what_is_sent(slash: bool) -> None:
    (request,) = play(change(URL, "unlock", slash=slash), answer(202)).sent

    assert (request.method, request.data) == ("PUT", {"unlock": None})
    assert request.url == f"{URL}states/unlock{'/' if slash else ''}"


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (answer(200, allow="PUT, OPTIONS"), True),
        (answer(200, allow="GET, HEAD, OPTIONS"), False),
        (answer(200), False),
        (answer(404), False),
        (answer(403, {"detail": "no"}), False),
        (answer(302, location="/login/"), False),
    ],
)
def test_what_a_server_offers(answers: Any, found: bool) -> None:
    played = play(offered(URL, slash=True), answers)

    assert played.result is found
    assert [request.method for request in played.sent] == ["OPTIONS"]


def test_whether_a_server_offers_it_is_not_known_where_nobody_answers() -> None:
    gone = ConnectionFailed("nobody", code="connection_failed")

    assert play(offered(URL, slash=True), gone).error is gone


# From a shell


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("option", [[], ["--operators"]])
def test_the_commands(out: Run, api: str, guido: Client, machine: str, slash: str, option: list[str]) -> None:
    url = f"{api}instances/{machine}{slash}"

    assert out("lock", url, *option, *BOSS) == (Exit.OK, "locked for operators, until unlock\n", "")
    assert state(guido, machine) == "locked"
    status, text, complaint = out("lock", url, *option, *BOSS)
    assert (status, text) == (Exit.LOCKED, "")
    assert complaint == "This object is locked already; try again when that lock has ended.\n"
    assert out("unlock", url, *option, *GUIDO)[0] == Exit.REFUSED
    assert state(guido, machine) == "locked"

    assert out("unlock", url, *option, *BOSS) == (Exit.OK, "unlocked\n", "")
    assert state(guido, machine) == "active"
    assert out("unlock", url, *option, *BOSS) == (
        Exit.CONFLICT,
        "",
        "The object is not locked; nothing was changed.\n",
    )


def test_for_programs(out: Run, api: str, machine: str) -> None:
    url = f"{api}instances/{machine}/"

    assert json.loads(out("lock", url, "--json", *BOSS)[1]) == {"state": "frozen"}
    refused = json.loads(out("lock", url, "--json", *BOSS)[2])
    assert (refused["status"], refused["code"]) == (409, "object_already_locked")
    assert json.loads(out("unlock", url, "--json", *BOSS)[1]) == {"state": "free"}
    assert json.loads(out("unlock", url, "--json", *BOSS)[2])["code"] == "object_not_locked"


def test_an_ordinary_lock_of_a_machine(out: Run, api: str, guido: Client, machine: str) -> None:
    url = f"{api}instances/{machine}/"
    held: Callable[[], Any] = lambda: guido.resource("instances/").lock_state(machine)["state"]  # noqa: E731

    for options in (["--ttl", "60"], ["--reason", "tea"], ["--no-operators"]):
        status, text, _ = out("lock", url, *options, *GUIDO)
        assert (status, held()) == (Exit.OK, "held")
        token = next(line for line in text.splitlines() if line.startswith("token: "))
        ends = (
            ["--no-operators"] if options[0] == "--ttl" else ["--lock-token", token.removeprefix("token: ")]
        )
        assert out("unlock", url, *ends, *GUIDO)[0] == Exit.OK
        assert (held(), state(guido, machine)) == ("free", "active")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["lock", "{api}instances/{machine}/", *GUIDO], Exit.REFUSED, "permission"),
        (["lock", "{api}instances/{machine}/"], Exit.REFUSED, "credentials"),
        (["lock", f"{{api}}instances/{UNKNOWN}/", *BOSS], Exit.NOT_FOUND, ""),
        (["unlock", f"{{api}}instances/{UNKNOWN}", *BOSS], Exit.NOT_FOUND, ""),
        (["lock", "{api}nothing/7/", *BOSS], Exit.NOT_FOUND, "404"),
        (["lock", "{api}tasks/1/", "--operators", *BOSS], Exit.NOT_FOUND, "There is no operators' lock at"),
        (["unlock", "{api}tasks/1", "--operators", *BOSS], Exit.NOT_FOUND, "There is no operators' lock at"),
        (["lock", "{api}instances/{machine}/?a=b", *BOSS], Exit.USAGE, "not the address of an object"),
        (["lock", "{api}instances/{machine}/", "--operators", "--ttl", "5"], Exit.USAGE, "has no --ttl."),
        (
            ["unlock", "{api}instances/{machine}/", "--operators", "--break", "--reason", "x"],
            Exit.USAGE,
            "has no --break and no --reason.",
        ),
        (["lock", "http://127.0.0.1:{free}/a/1/"], Exit.NO_CONNECTION, "does not answer"),
    ],
)
def test_the_exit_status(
    out: Run, api: str, machine: str, guido: Client, arguments: list[str], status: int, said: str
) -> None:
    names = {"{api}": api, "{machine}": machine, "{free}": str(free_port())}
    for name, value in names.items():
        arguments = [text.replace(name, value) for text in arguments]
    found = out(*arguments)

    assert found[:2] == (status, "")
    assert said in found[2]
    assert found[2].strip()
    assert state(guido, machine) == "active"
