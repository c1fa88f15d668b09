from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol.changes import Change, Op, changed_columns, coalesce

from .vectors import cases


def change(**said: Any) -> Change:
    """Return a change of which only the interesting part is said."""
    rest = {"nonce": 0, "model": "a.Task", "pk": "1", "version": None, "previous": None}
    fields = {**rest, "columns": (), "routes": {}, "actor": None, "at": 0, **said}
    fields["columns"] = tuple(fields["columns"])
    fields["routes"] = {name: tuple(pair) for name, pair in fields["routes"].items()}
    return Change(op=Op(fields.pop("op", "U")), **fields)


def changes(listed: list[dict[str, Any]]) -> list[Change]:
    return [change(**said) for said in listed]


@pytest.mark.parametrize("case", cases("changes", "coalesce"))
def test_coalescing(case: dict[str, Any]) -> None:
    assert coalesce(changes(case["changes"])) == changes(case["result"])


@pytest.mark.parametrize("case", cases("changes", "changed_columns"))
def test_changed_columns(case: dict[str, Any]) -> None:
    columns = changed_columns(changes(case["changes"]), case["base"], case["current"])

    assert columns == (None if case["columns"] is None else frozenset(case["columns"]))


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Return a log of three rows, each of them inserted, updated and deleted as rows can be."""
    versions: dict[str, int | None] = {pk: draw(st.sampled_from((None, 1))) for pk in "abc"}
    log = []
    for number in range(1, draw(st.integers(0, 12)) + 1):
        pk = draw(st.sampled_from("abc"))
        before = versions[pk]
        ending = before is not None and draw(st.booleans())
        versions[pk] = after = None if ending else number * 10
        op = Op.INSERT if before is None else Op.DELETE if ending else Op.UPDATE
        columns = tuple(draw(st.sets(st.sampled_from("xyz"))))
        said = {"pk": pk, "op": op, "previous": before, "version": after, "columns": columns}
        log.append(change(id=number, **said, routes={"list": (before, after)}))
    return log


@given(histories())
def test_coalescing_leads_to_the_same_state(log: list[Change]) -> None:
    def state(of: list[Change]) -> dict[str, int | None]:
        return {change.pk: change.version for change in of}

    result = coalesce(log)

    assert state(result) == state(log)
    assert len({change.pk for change in result}) == len(result)
    assert [change.id for change in result] == sorted(change.id for change in result)
    for joined in result:
        history = [change for change in log if change.pk == joined.pk]
        assert set(joined.columns) == {column for one in history for column in one.columns}
        assert joined.routes == {"list": (history[0].previous, history[-1].version)}
        assert (joined.op is Op.DELETE) is (history[-1].op is Op.DELETE)
        if joined.op is Op.INSERT:
            assert history[0].op is Op.INSERT


@given(histories(), st.integers(0, 12))
def test_coalescing_in_two_steps_is_coalescing(log: list[Change], cut: int) -> None:
    # the states and the columns; where the cut falls, an insert may be taken for an update
    def essence(of: list[Change]) -> list[tuple[object, ...]]:
        return [(c.id, c.pk, c.version, set(c.columns), c.op is Op.DELETE) for c in of]

    assert essence(coalesce([*coalesce(log[:cut]), *log[cut:]])) == essence(coalesce(log))
    assert essence(coalesce([*log, *log])) == essence(coalesce(log))


@given(histories())
def test_columns_are_told_only_along_an_unbroken_chain(log: list[Change]) -> None:
    of_row = [change for change in log if change.pk == "a"]
    updates = [change for change in of_row if change.op is Op.UPDATE]
    for first in updates:
        chain = [first]
        for later in of_row[of_row.index(first) + 1 :]:
            if later.op is not Op.UPDATE:
                break
            chain.append(later)
        base, current = first.previous, chain[-1].version
        assert base is not None
        assert current is not None
        everything = frozenset(column for one in chain for column in one.columns)

        assert changed_columns(of_row, base, current) == everything
        for missing in chain:
            rest = [one for one in of_row if one is not missing]
            assert changed_columns(rest, base, current) is None


@given(histories())
def test_a_joined_change_covers_the_chain_it_claims(log: list[Change]) -> None:
    for joined in coalesce(log):
        if joined.op is Op.UPDATE and joined.previous is not None and joined.version is not None:
            of_row = [change for change in log if change.pk == joined.pk]
            told = changed_columns(of_row, joined.previous, joined.version)

            assert told == changed_columns([joined], joined.previous, joined.version)
