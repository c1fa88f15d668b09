from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drf_concord.protocol.errors import MalformedPrecondition
from drf_concord.protocol.etags import EntityTag, TagList, parse_tag, parse_tag_list
from drf_concord.protocol.preconditions import (
    Current,
    Preconditions,
    Verdict,
    evaluate,
    last_modified,
)

from .vectors import cases, load

SAFE = ("GET", "HEAD")
UNSAFE = ("PUT", "PATCH", "POST", "DELETE", "FROB")
IGNORING = ("OPTIONS", "TRACE", "CONNECT")


def state(described: dict[str, Any] | None) -> Current | None:
    if described is None:
        return None
    return Current(**{**described, "tag": parse_tag(described["tag"])})


STATES = {name: state(described) for name, described in load("preconditions")["states"].items()}


@pytest.mark.rfc("9110", "13.2.2", "the order of preconditions")
@pytest.mark.parametrize("case", cases("preconditions", "evaluate"))
def test_verdicts(case: dict[str, Any]) -> None:
    preconditions = Preconditions.parse(case["headers"].get)
    current = STATES[case["current"]]
    required = case.get("required", False)

    verdict = evaluate(case["method"], preconditions, current, required=required)

    assert verdict is Verdict(case["verdict"])


@pytest.mark.rfc("9110", "13.1.1", "an If-Match that cannot be read does not let a write through")
@pytest.mark.parametrize("case", cases("preconditions", "malformed"))
def test_malformed_headers(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedPrecondition) as caught:
        Preconditions.parse(case["headers"].get)

    assert caught.value.members == {"header": case["header"]}


@pytest.mark.rfc("9110", "8.8.2", "Last-Modified is not a date that a later change could have too")
@pytest.mark.parametrize("case", cases("preconditions", "last_modified"))
def test_last_modified(case: dict[str, Any]) -> None:
    assert last_modified(case["version"], case["now"]) == case["seconds"]


def test_headers_are_read_by_their_names() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    headers = {
        "If-Match": '"a"',
        "If-None-Match": "*",
        "If-Unmodified-Since": date,
        "If-Modified-Since": date,
    }

    assert Preconditions.parse(headers.get) == Preconditions(
        if_match=TagList((EntityTag("a"),)),
        if_none_match=TagList(any=True),
        if_unmodified_since=784111777,
        if_modified_since=784111777,
    )
    assert Preconditions.parse({}.get) == Preconditions()


@pytest.mark.parametrize(
    ("preconditions", "guards"),
    [
        (Preconditions(), False),
        (Preconditions(if_modified_since=0), False),
        (Preconditions(if_match=TagList(any=True)), True),
        (Preconditions(if_none_match=TagList(any=True)), True),
        (Preconditions(if_unmodified_since=0), True),
    ],
)
def test_what_guards_an_unsafe_method(preconditions: Preconditions, guards: bool) -> None:
    assert preconditions.guards is guards


@pytest.mark.parametrize(
    ("tag", "write", "variant"),
    [
        ('"5-json"', "5", None),
        ('"5-json"', "5", "html"),
        ('"5-json"', "4", "json"),
        ('"5-en-us"', "5", "en-us"),
        ('"5-"', "5", ""),
        ('"5"', "", "5"),
    ],
)
def test_a_state_and_its_tag_agree(tag: str, write: str, variant: str | None) -> None:
    with pytest.raises(ValueError, match="is not the tag of"):
        Current(parse_tag(tag), write, variant)


# every tag that could be taken for another one
LOOKALIKES = [
    f'{weak}"{opaque}"'
    for weak in ("", "W/")
    for opaque in (
        *("", "-", "5", "5-", "-5", "5-json", "5-html", "05-json", "50-json", "15-json", "5--json"),
        *("5-JSON", "5-json-", "5-json-gzip", "5-json;gzip", "json-5", "4-json", "5-j,son", "*"),
        *("5_json", "5\\json", "W/5-json", "5-json5-json", "6-json", "v-1", "page", "pag", "page-"),
        *("page-a", "a-b-json", "a-b", "b-json", "a-c-json", "\xb5-json"),
    )
]
GUARDED = {'"5-json"', 'W/"5-json"', '"5-html"', 'W/"5-html"'}


@pytest.mark.rfc("9110", "13.1.1", "the method is not performed unless one of the tags matches")
@pytest.mark.parametrize("method", UNSAFE)
def test_no_write_without_a_matching_tag(method: str) -> None:
    current = STATES["dated"]
    for listed in product(LOOKALIKES, repeat=2):
        header = Preconditions(if_match=parse_tag_list(", ".join(listed)))

        expected = Verdict.MISMATCH if GUARDED.isdisjoint(listed) else Verdict.PROCEED

        assert evaluate(method, header, current) is expected, listed


opaques = st.sampled_from([parse_tag(text).opaque for text in LOOKALIKES]) | st.text("ab5-", max_size=4)
tags = st.builds(EntityTag, opaques, st.booleans())
tag_lists = st.one_of(
    st.just(TagList(any=True)),
    st.lists(tags, min_size=1, max_size=4).map(lambda listed: TagList(tuple(listed))),
)
dates = st.integers(784111775, 784111779)
preconditions = st.builds(
    Preconditions,
    *[st.none() | tag_lists] * 2,
    *[st.none() | dates] * 2,
)
currents = st.sampled_from(list(STATES.values()))


@given(st.sampled_from(IGNORING), preconditions, currents, st.booleans())
def test_some_methods_ignore_everything(
    method: str, demanded: Preconditions, current: Current | None, required: bool
) -> None:
    assert evaluate(method, demanded, current, required=required) is Verdict.PROCEED


@settings(max_examples=1000)
@given(st.sampled_from(SAFE + UNSAFE), preconditions, currents)
def test_verdicts_follow_from_the_conditions(
    method: str, demanded: Preconditions, current: Current | None
) -> None:
    verdict = evaluate(method, demanded, current)

    if verdict is Verdict.MISMATCH:
        assert demanded.if_match or demanded.if_unmodified_since is not None
    if verdict is Verdict.NOT_MODIFIED:
        assert method in SAFE
        assert demanded.if_none_match or demanded.if_modified_since is not None
    if verdict is Verdict.EXISTS:
        assert method in UNSAFE
        assert demanded.if_none_match
    assert verdict is not Verdict.REQUIRED


@settings(max_examples=1000)
@given(st.sampled_from(UNSAFE), tag_lists, currents)
def test_if_match_and_if_none_match_exclude_each_other(
    method: str, listed: TagList, current: Current | None
) -> None:
    matched = evaluate(method, Preconditions(if_match=listed), current)
    excluded = evaluate(method, Preconditions(if_none_match=listed), current)

    # weak comparison finds what strong comparison finds, and more
    if matched is Verdict.PROCEED:
        assert excluded is Verdict.EXISTS
    if excluded is Verdict.PROCEED:
        assert matched is Verdict.MISMATCH


@settings(max_examples=1000)
@given(st.sampled_from(SAFE + UNSAFE), preconditions, currents, dates)
def test_what_is_to_be_ignored_changes_nothing(
    method: str, demanded: Preconditions, current: Current | None, date: int
) -> None:
    def with_dates(since: int | None, until: int | None) -> Verdict:
        changed = Preconditions(demanded.if_match, demanded.if_none_match, until, since)
        return evaluate(method, changed, current)

    unmodified, modified = demanded.if_unmodified_since, demanded.if_modified_since
    verdict = evaluate(method, demanded, current)
    undated = current is None or current.modified is None
    if demanded.if_match or undated:
        assert verdict is with_dates(modified, date) is with_dates(modified, None)
    if demanded.if_none_match or undated or method in UNSAFE:
        assert verdict is with_dates(date, unmodified) is with_dates(None, unmodified)


@settings(max_examples=1000)
@given(st.sampled_from(SAFE + UNSAFE), preconditions, currents)
def test_required_stops_only_what_could_not_have_been_stopped(
    method: str, demanded: Preconditions, current: Current | None
) -> None:
    free = evaluate(method, demanded, current)
    strict = evaluate(method, demanded, current, required=True)

    if strict is Verdict.REQUIRED:
        assert free is Verdict.PROCEED
        assert method in UNSAFE
        assert current is not None
    else:
        assert strict is free
    if not demanded.guards and method in UNSAFE and current is not None:
        assert strict is Verdict.REQUIRED


@settings(max_examples=1000)
@given(st.integers(0, 5_000_000), st.integers(0, 5_000_000), st.integers(0, 5_000_000))
def test_no_later_change_has_a_date_that_was_given_away(version: int, waited: int, until_write: int) -> None:
    now = version + waited
    given_away = last_modified(version, now)
    if given_away is None:
        return
    write = max(version + 1, now + until_write)
    read_again = last_modified(write, 10**9)

    assert read_again is not None
    assert read_again > given_away
    assert given_away * 1_000_000 >= version
