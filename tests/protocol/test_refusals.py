from __future__ import annotations

from itertools import product

import pytest

from drf_concord.protocol.claims import Mode
from drf_concord.protocol.lock_states import Lock
from drf_concord.protocol.refusals import covers, holds, refuses, token_lost

HOLD = Lock(generation=3, mode=Mode.HOLD, holder="ada", token_hash="t1", scope=("write",), expires_at=100)
FREEZE = Lock(mode=Mode.FREEZE, holder="ada", token_hash="t1", scope=("write",))


@pytest.mark.parametrize(
    ("holder", "token", "need_token", "expected"),
    [
        ("ada", None, False, True),
        ("ada", None, True, False),
        ("ada", "t1", False, True),
        ("ada", "t1", True, True),
        ("ada", "t2", False, False),
        ("ada", "t2", True, False),
        ("ada", "", True, False),
        ("guido", "t1", False, False),
        ("guido", None, False, False),
        (None, None, False, False),
        (None, "t1", False, False),
        ("", None, False, False),
    ],
)
def test_who_holds(holder: str | None, token: str | None, need_token: bool, expected: bool) -> None:
    for lock in (HOLD, Lock(**{**_fields(HOLD), "broken": True})):
        assert holds(lock, holder, token, 99, need_token=need_token) is expected
        assert refuses(lock, "update", holder, token, 99, need_token=need_token) is not expected
        assert not holds(lock, holder, token, 100, need_token=need_token)
        assert not refuses(lock, "update", holder, token, 100, need_token=need_token)
    assert not holds(FREEZE, holder, token, 99, need_token=need_token)
    assert refuses(FREEZE, "update", holder, token, 99, need_token=need_token)


def _fields(lock: Lock) -> dict[str, object]:
    return {name: getattr(lock, name) for name in Lock.__dataclass_fields__}


@pytest.mark.parametrize("need_token", [False, True])
def test_a_lock_without_a_token_has_no_token(need_token: bool) -> None:
    lock = Lock(mode=Mode.HOLD, holder="ada", scope=("write",))

    assert holds(lock, "ada", None, 0, need_token=need_token) is not need_token
    for token in ("", "t1"):
        assert not holds(lock, "ada", token, 0, need_token=need_token)
        assert token_lost(lock, "ada", token, 0)


def test_nobody_is_not_the_holder_of_a_lock_without_one() -> None:
    lock = Lock(mode=Mode.HOLD, token_hash="t1", scope=("write",))

    assert not holds(lock, None, None, 0, need_token=False)
    assert not holds(lock, None, "t1", 0, need_token=True)
    assert refuses(lock, "update", None, "t1", 0, need_token=False)
    assert token_lost(lock, None, "t1", 0)


@pytest.mark.parametrize(
    ("lock", "holder", "now", "lost"),
    [
        (HOLD, "ada", 99, False),
        (HOLD, "ada", 100, True),
        (HOLD, "guido", 99, True),
        (HOLD, None, 99, True),
        (FREEZE, "ada", 99, False),
        (FREEZE, "guido", 99, True),
        (Lock(generation=3), "ada", 99, True),
    ],
)
def test_lost_tokens(lock: Lock, holder: str | None, now: int, lost: bool) -> None:
    assert token_lost(lock, holder, "t1", now) is lost
    assert token_lost(lock, holder, "t2", now)
    assert not token_lost(lock, holder, None, now)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ((), set()),
        (("write",), {"update", "partial_update", "destroy", "publish"}),
        (("delete",), {"destroy"}),
        (("update",), {"update", "partial_update"}),
        (("partial_update",), {"partial_update"}),
        (("destroy", "publish"), {"destroy", "publish"}),
        (("publish", "write"), {"update", "partial_update", "destroy", "publish"}),
    ],
)
def test_scopes(scope: tuple[str, ...], covered: set[str]) -> None:
    operations = ("update", "partial_update", "destroy", "publish")
    for lock, operation in product((HOLD, FREEZE), operations):
        scoped = Lock(**{**_fields(lock), "scope": scope})

        assert covers(scoped, operation) is (operation in covered)
        assert refuses(scoped, operation, "guido", None, 0, need_token=False) is (operation in covered)
