from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.http import parse_etags

from drf_concord.protocol.errors import MalformedPrecondition
from drf_concord.protocol.etags import (
    MAX_HEADER,
    MAX_TAGS,
    EntityTag,
    TagList,
    decode_version,
    encode_version,
    parse_tag,
    parse_tag_list,
    version_of,
    version_tag,
)

from .vectors import cases

ETAGC = "".join(map(chr, [0x21, *range(0x23, 0x7F), *range(0x80, 0x100)]))
opaques = st.text(ETAGC, max_size=8)
tags = st.builds(EntityTag, opaques, st.booleans())

# the grammar of RFC 9110 8.8.3 and 5.6.1.2, written down once more and in another way
TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
LIST = re.compile(rf"[ \t,]*{TAG}(?:[ \t]*,[ \t,]*{TAG})*[ \t,]*")

# likely and unlikely pieces of a header
PIECES = [
    *('"', "W/", "w/", "W", "/", "*", ",", " ", "\t", "a", "\\", "-", ";", "\n", "\x00", "\x7f"),
    *("é", "\xa0", "Ā", "'", '""', '"a"', 'W/"b"', '"a,b"', '"c",', ", "),
]
headers = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def header_of(case: dict[str, Any]) -> str:
    header = ", ".join([case["header"]] * case.get("times", 1))
    return header.ljust(case.get("pad", 0), ",")


@pytest.mark.rfc("9110", "8.8.3", "the syntax of entity tags")
@pytest.mark.rfc("9110", "13.1.1", "the syntax of If-Match; what is not of it never counts as absent")
@pytest.mark.rfc("9110", "5.6.1.2", "empty members of a list are skipped")
@pytest.mark.parametrize("case", cases("etags", "lists"))
def test_lists(case: dict[str, Any]) -> None:
    header = header_of(case)
    if "error" in case:
        with pytest.raises(MalformedPrecondition) as caught:
            parse_tag_list(header)
        assert caught.value.code == case["error"]
        return
    parsed = parse_tag_list(header)

    assert parsed.any == case.get("any", False)
    if "count" in case:
        assert len(parsed.tags) == case["count"]
    else:
        assert [{"opaque": t.opaque, "weak": t.weak} for t in parsed.tags] == case.get("tags", [])


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("", "If-None-Match is empty"),
        ('"a" "b"', "no comma between two tags at character 5"),
        ('*, "a"', "mixes * with other members at character 1"),
        ('"a b"', "not closed, or holds a space or control character, at character 1"),
        ('"a", W/"b', "not closed, or holds a space or control character, at character 6"),
        ('w/"a"', 'a weak tag that does not begin with W/" at character 1'),
        ("abc", "a tag without quotes at character 1"),
        ('"a"' + "," * MAX_HEADER, "longer than 8192 bytes"),
        (",".join(['"a"'] * (MAX_TAGS + 1)), "more than 64 tags"),
    ],
)
def test_errors_say_what_is_wrong_and_how_to_write_it(header: str, problem: str) -> None:
    with pytest.raises(MalformedPrecondition) as caught:
        parse_tag_list(header, name="If-None-Match")

    assert problem in caught.value.detail
    assert 'write it as If-None-Match: "abc", W/"def" or If-None-Match: *.' in caught.value.detail
    assert caught.value.members == {"header": "If-None-Match"}


def test_errors_do_not_repeat_the_header() -> None:
    with pytest.raises(MalformedPrecondition) as caught:
        parse_tag_list("<script>")

    assert "script" not in caught.value.detail


@pytest.mark.rfc("9110", "8.8.3.2", "strong and weak comparison")
@pytest.mark.parametrize("case", cases("etags", "compare"))
def test_comparison(case: dict[str, Any]) -> None:
    a, b = parse_tag(case["a"]), parse_tag(case["b"])

    assert a.strong_matches(b) is b.strong_matches(a) is case["strong"]
    assert a.weak_matches(b) is b.weak_matches(a) is case["weak"]


@pytest.mark.parametrize("opaque", ['"', " ", "\t", "\x00", "\x7f", "Ā", "a b", "a\n"])
def test_a_tag_holds_only_what_can_be_sent(opaque: str) -> None:
    with pytest.raises(ValueError, match="cannot stand between the quotes"):
        EntityTag(opaque)


@pytest.mark.parametrize(
    "text", ["", "a", '"a" ', ' "a"', '"a","b"', "*", 'w/"a"', '"a"\n', '"' + "a" * MAX_HEADER + '"']
)
def test_one_tag_is_exactly_one_tag(text: str) -> None:
    with pytest.raises(MalformedPrecondition):
        parse_tag(text)


@given(tags)
def test_a_tag_is_read_as_it_is_written(tag: EntityTag) -> None:
    assert parse_tag(str(tag)) == tag
    assert parse_tag_list(str(tag)) == TagList((tag,))


@given(st.lists(tags, min_size=1, max_size=MAX_TAGS), st.text(" \t,", max_size=3))
def test_a_list_is_read_as_it_is_written(listed: list[EntityTag], extra: str) -> None:
    header = f",{extra}".join(map(str, listed))

    assert parse_tag_list(extra + header + extra) == TagList(tuple(listed))


@settings(max_examples=1000)
@given(headers)
@example('"a"\\"')
@example('W/"a",W/"b"')
def test_the_parser_accepts_the_grammar_and_nothing_else(header: str) -> None:
    try:
        parsed = parse_tag_list(header)
    except MalformedPrecondition:
        assert header.strip(" \t") != "*"
        assert not LIST.fullmatch(header)
    else:
        assert parsed.any == (header.strip(" \t") == "*")
        assert parsed.any or LIST.fullmatch(header)
        assert [str(tag) for tag in parsed.tags] == re.findall(TAG, header)


# Where werkzeug reads what we accept in another way; what we refuse, it never does.
WERKZEUG_DIFFERS = [
    re.compile('""'),  # the empty tag becomes None
    re.compile(r"^[ \t]+\*|\*[ \t]+$"),  # with whitespace around, the star becomes a tag
]


@settings(max_examples=1000)
@given(headers | st.lists(tags, max_size=4).map(lambda listed: ", ".join(map(str, listed))))
def test_what_we_accept_werkzeug_reads_the_same_way(header: str) -> None:
    try:
        ours = parse_tag_list(header)
    except MalformedPrecondition:
        return
    if any(differs.search(header) for differs in WERKZEUG_DIFFERS):
        return
    theirs = parse_etags(header)

    assert theirs.star_tag == ours.any
    assert set(theirs.as_set()) == {tag.opaque for tag in ours.tags if not tag.weak}
    assert set(theirs.as_set(include_weak=True)) == {tag.opaque for tag in ours.tags}


@pytest.mark.parametrize("case", cases("etags", "versions"))
def test_versions(case: dict[str, Any]) -> None:
    assert encode_version(case["version"]) == case["text"]
    assert decode_version(case["text"]) == case["version"]


@pytest.mark.parametrize("case", cases("etags", "not_versions"))
def test_what_is_no_version(case: dict[str, Any]) -> None:
    assert decode_version(case["text"]) is None


@given(st.integers(0, 2**63 - 1))
@example(2**63 - 1)
def test_a_version_is_read_as_it_is_written(version: int) -> None:
    text = encode_version(version)

    assert int(text, 36) == version
    assert decode_version(text) == version
    assert version_of(version_tag(version, "x1")) == version


def test_no_version_is_negative() -> None:
    with pytest.raises(ValueError, match="never negative"):
        encode_version(-1)


@pytest.mark.parametrize("case", cases("etags", "version_tags"))
def test_tags_of_ours(case: dict[str, Any]) -> None:
    assert version_of(parse_tag(case["tag"])) == case["version"]


def test_the_tag_of_a_version() -> None:
    tag = version_tag(35, "json1")

    assert str(tag) == '"z-json1"'
    assert tag.halves() == ("z", "json1")


@pytest.mark.parametrize(("version", "variant"), [(1, ""), (1, "en-us"), (1, "A"), (1, "a\n"), (2**63, "a")])
def test_a_tag_of_ours_keeps_its_form(version: int, variant: str) -> None:
    with pytest.raises(ValueError, match=r"variant|quotes"):
        version_tag(version, variant)


@given(st.text("ab-1A;", max_size=8))
def test_halves_are_parted_at_the_last_hyphen(opaque: str) -> None:
    write, hyphen, variant = opaque.rpartition("-")
    ours = hyphen and re.fullmatch("[0-9a-z]+", variant)

    assert EntityTag(opaque).halves() == ((write, variant) if ours else None)
