from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_concord.protocol.dates import format_http_date, parse_http_date

from .vectors import cases

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.integers(
    int((datetime(1, 1, 1, tzinfo=UTC) - EPOCH).total_seconds()),
    int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH).total_seconds()),
)


@pytest.mark.rfc("9110", "5.6.7", "three forms of a date are read")
@pytest.mark.parametrize("case", cases("preconditions", "dates"))
def test_dates(case: dict[str, Any]) -> None:
    assert parse_http_date(case["text"]) == case["seconds"]
    if case.get("sent"):
        assert format_http_date(case["seconds"]) == case["text"]


@pytest.mark.rfc("9110", "5.6.7", "only the first form is sent")
@given(moments)
def test_a_date_is_read_as_it_is_written(seconds: int) -> None:
    text = format_http_date(seconds)

    assert parse_http_date(text) == seconds
    assert text == format_datetime(EPOCH + timedelta(seconds=seconds), usegmt=True)


@given(moments, st.sampled_from(["%a %b %e %H:%M:%S %Y", "%A, %d-%b-%y %H:%M:%S GMT"]))
def test_the_older_forms(seconds: int, form: str) -> None:
    moment = EPOCH + timedelta(seconds=seconds)
    if "%y" in form:
        moment = moment.replace(year=1970 + moment.year % 100, day=min(moment.day, 28))

    text = moment.strftime(form.replace("%e", f"{moment.day:2}").replace("%Y", f"{moment.year:04}"))

    assert parse_http_date(text) == (moment - EPOCH).total_seconds()
