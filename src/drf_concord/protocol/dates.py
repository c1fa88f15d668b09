"""Dates in HTTP headers, in whole seconds since the epoch (RFC 9110 5.6.7).

Own code, because library routines depend on the locale or accept far more than HTTP allows, and a
date taken for something it does not say lets a write through.
"""

from __future__ import annotations

import re
from datetime import date

__all__ = ["format_http_date", "parse_http_date"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86_400

_LONG = "|".join(_DAYS)
_SHORT = "|".join(name[:3] for name in _DAYS)
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_FORMS = (
    # Sun, 06 Nov 1994 08:49:37 GMT: the form everybody has to send
    re.compile(rf"(?:{_SHORT}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    # Sunday, 06-Nov-94 08:49:37 GMT: of RFC 850
    re.compile(rf"(?:{_LONG}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    # Sun Nov  6 08:49:37 1994: of asctime() in C
    re.compile(rf"(?:{_SHORT}) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def parse_http_date(text: str) -> int | None:
    """Read a date in one of the three forms of RFC 9110 5.6.7.

    The day of the week has to be one, not the right one: it says nothing that the date does not. A
    two-digit year is one of 1970 to 2069. RFC 9110 wants the last such year that is no more than 50
    years ahead, which takes a clock; the two differ on years that no record of today has.

    Returns:
        Seconds since the epoch, or None when the text is no valid date.
    """
    match = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 70 else 2000
    try:
        day = date(year, _MONTHS.index(match["month"]) + 1, int(match["day"]))
    except ValueError:  # 31 February
        return None
    # a leap second, 60, is the first second of the next minute
    seconds = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])
    return (day.toordinal() - _EPOCH) * _DAY_SECONDS + seconds


def format_http_date(seconds: int) -> str:
    """Return a moment, in seconds since the epoch, in the form to be sent (RFC 9110 5.6.7)."""
    days, rest = divmod(seconds, _DAY_SECONDS)
    day = date.fromordinal(_EPOCH + days)
    name, month = _DAYS[day.weekday()][:3], _MONTHS[day.month - 1]
    time = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{name}, {day.day:02} {month} {day.year:04} {time} GMT"
