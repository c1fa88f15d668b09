from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol.claims import (
    MAX_OPERATIONS,
    Claim,
    Limits,
    Mode,
    microseconds,
    operations,
    parse_claim,
    seconds_within,
)
from drf_concord.protocol.errors import InvalidLock

from .vectors import cases, load

LIMITS = Limits(**load("locks")["limits"])
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
members = st.sampled_from(["ttl", "mode", "scope", "reason", "id"])


@pytest.mark.parametrize("case", cases("locks", "claims"))
def test_claims(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(InvalidLock) as caught:
            parse_claim(case["data"], limits=LIMITS)
        assert caught.value.members.get("member") == case["error"]
        return
    expected = {**case["claim"], "scope": tuple(case["claim"]["scope"])}

    claim = parse_claim(case["data"], limits=LIMITS, holder="ada", token_hash="t")

    assert claim == Claim("ada", **expected, token_hash="t")
    assert isinstance(claim.mode, Mode)


@pytest.mark.parametrize("ttl", [math.nan, math.inf, -math.inf, 10**400])
def test_numbers_that_are_not_in_json(ttl: float) -> None:
    with pytest.raises(InvalidLock, match="ttl is a number of seconds above 0 up to 3600"):
        parse_claim({"ttl": ttl}, limits=LIMITS)


@given(json | st.dictionaries(members, json))
def test_whatever_is_sent_is_a_claim_or_refused(data: object) -> None:
    try:
        claim = parse_claim(data, limits=LIMITS)
    except InvalidLock:
        return
    assert claim.ttl is None or claim.ttl > 0
    assert claim.scope
    assert len(claim.reason) <= LIMITS.max_reason
    assert claim.reason.encode() is not None
    assert claim.checked(LIMITS) == claim


def test_claims_made_in_python_are_checked_too() -> None:
    claim = Claim("ada", mode="freeze", scope=["update"])  # type: ignore[arg-type]

    assert claim.checked(LIMITS) == Claim("ada", mode=Mode.FREEZE, scope=("update",))
    with pytest.raises(InvalidLock, match="ttl"):
        Claim("ada", ttl=3601).checked(LIMITS)
    with pytest.raises(InvalidLock, match="reason"):
        Claim("ada", reason="a" * 21).checked(LIMITS)


def test_as_many_operations_as_are_allowed() -> None:
    names = [f"op{number}" for number in range(MAX_OPERATIONS)]

    assert operations(names) == tuple(names)


def test_zero_only_where_it_is_allowed() -> None:
    assert seconds_within("period", 0, 10, zero=True) == 0
    with pytest.raises(InvalidLock, match="period is a number of seconds from 0 up to 10"):
        seconds_within("period", -0.001, 10, zero=True)
    with pytest.raises(InvalidLock, match="above 0 up to 10"):
        seconds_within("period", 0, 10)


def test_a_duration_is_never_rounded_to_nothing() -> None:
    assert microseconds(1.5) == 1_500_000
    assert microseconds(1e-9) == 1
