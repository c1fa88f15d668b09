"""The conformance matrix says what the markers of the tests say."""

from __future__ import annotations

import json

import pytest

from scripts.conformance import BEGIN, END, PAGE, VECTORS, Rule, page, rules_of, rules_of_tests

pytestmark = pytest.mark.sqlite

MARKER = '@pytest.mark.rfc("9110", "13.1.1", "nothing is written")'


def test_the_page_is_that_of_the_markers() -> None:
    again = "run: python scripts/conformance.py"
    text = PAGE.read_text()
    assert text == page(rules_of_tests(), text), again


def test_what_is_written_by_hand_stays() -> None:
    text = page([], f"head\n{BEGIN}old\n{END}tail\n")
    assert text == f"head\n{BEGIN}\n{END}tail\n"


def test_every_marker_that_pytest_sees_is_on_the_page(request: pytest.FixtureRequest) -> None:
    rules = rules_of_tests()
    known = {(r.rfc, r.section, text) for r in rules for text in (r.text, *r.text.split("; "))}
    seen = {marker.args for item in request.session.items for marker in item.iter_markers("rfc")}
    assert seen - known == set()
    assert len(known) > 50


def test_every_case_of_the_vectors_is_counted() -> None:
    groups = [group for path in VECTORS.glob("*.json") for group in json.loads(path.read_text()).values()]
    named = [
        case for group in groups if isinstance(group, list) for case in group
        if isinstance(case, dict) and "rfc" in case
    ]  # fmt: skip
    assert sum(rule.cases for rule in rules_of_tests()) == len(named) > 0


@pytest.mark.parametrize("definition", ["def test_a() -> None:", "async def test_a() -> None:"])
def test_a_marker_over_a_test_is_read(definition: str) -> None:
    source = f"{MARKER}\n@pytest.mark.parametrize('x', [1])\n{definition}\n    pass\n"
    rule = Rule("9110", "13.1.1", "nothing is written", "tests/test_x.py::test_a")
    assert rules_of(source, "tests/test_x.py") == [rule]


@pytest.mark.parametrize(
    "source",
    [
        f"pytestmark = {MARKER[1:]}\n",
        f"{MARKER}\nclass TestA:\n    pass\n",
        f"@pytest.mark.parametrize('x', [pytest.param(1, marks={MARKER[1:]})])\ndef test_a(x):\n    pass\n",
        '@pytest.mark.rfc("9110", "13.1.1")\ndef test_a():\n    pass\n',
        '@pytest.mark.rfc("9110", "13.1.1", TEXT)\ndef test_a():\n    pass\n',
        '@pytest.mark.rfc("9110", "13.1.1", 3)\ndef test_a():\n    pass\n',
    ],
)
def test_a_marker_that_would_be_missing_is_an_error(source: str) -> None:
    with pytest.raises(ValueError, match="rfc marker"):
        rules_of(source, "tests/test_x.py")


def test_one_rule_of_two_tests_is_one_row_and_sections_stand_in_their_order() -> None:
    rules = [
        Rule("9110", "13.1.1", "a | b, *", "tests/test_b.py::test_b"),
        Rule("9110", "13.1.1", "a | b, *", "tests/test_a.py::test_a"),
        Rule("9110", "9.1", "first", "tests/test_a.py::test_c", 2),
        Rule("6585", "3", "before it", "tests/test_a.py::test_d"),
    ]
    rows = [line.split(" | ", 1) for line in page(rules, BEGIN + END).splitlines() if line.startswith("| [")]
    assert [row[0].partition("]")[0] for row in rows] == ["| [3", "| [9.1", "| [13.1.1"]
    assert rows[1][1] == "first | `tests/test_a.py::test_c` (2 cases) |"
    assert rows[2][1] == "a \\| b, \\* | `tests/test_a.py::test_a`, `tests/test_b.py::test_b` |"
