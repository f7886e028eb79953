"""Times inside records: reading the event's own time, and cutting times down to calendar units in UTC.

Every number counts from 1970-01-01T00:00:00Z without leap seconds, as Avro, Kafka and POSIX do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final, Literal

from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

CalendarUnit = Literal["hour", "day", "month", "year"]

#: Ticks in one second of the Avro logical types that name an instant.
INSTANT_TICKS: Final = {"timestamp-millis": 1_000, "timestamp-micros": 1_000_000, "timestamp-nanos": 1_000_000_000}

_INT64: Final = range(-(2**63), 2**63)
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_LAST_ORDINAL: Final = date.max.toordinal()
_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600

# RFC 3339, section 5.6; "T" and "Z" may be small letters. Its note that applications may use a space is not followed.
_FULL_DATE: Final = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_DATE: Final = re.compile(_FULL_DATE)
_DATE_TIME: Final = re.compile(
    _FULL_DATE + r"[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]{1,32}))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_JSON_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


def _days(year: str, month: str, day: str) -> int:
    """Return the days since 1970-01-01, or raise InvalidValueError for a day that no calendar has."""
    try:
        return date(int(year), int(month), int(day)).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        raise InvalidValueError("expected a day of the calendar") from None


def parse_date(text: str) -> int:
    """Return an RFC 3339 full-date (``2026-11-22``) as days since 1970-01-01, or raise InvalidValueError."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise InvalidValueError("expected an RFC 3339 date")
    return _days(*match.groups())


def parse_date_time(text: str) -> int:
    """Return an RFC 3339 date-time as milliseconds since 1970, rounded down.

    A leap second, which has no number of its own, is the last millisecond of the second before it.

    Raises:
        InvalidValueError: for anything that RFC 3339, section 5.6 does not allow, a time without an offset included.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise InvalidValueError("expected an RFC 3339 date and time with an offset")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    minutes = int(hour) * 60 + int(minute)
    if sign is not None:
        offset = int(offset_hours) * 60 + int(offset_minutes)
        minutes += offset if sign == "-" else -offset
    seconds = _days(year, month, day) * _DAY_SECONDS + minutes * 60
    if second != "60":
        return (seconds + int(second)) * 1000 + int((fraction or "")[:3].ljust(3, "0"))
    # RFC 3339, section 5.7: leap seconds come at the end of a UTC day only.
    if minutes % 1440 != 1439:
        raise InvalidValueError("expected a leap second only at the end of a day in UTC")
    return (seconds + 59) * 1000 + 999


def floor_days(days: int, unit: CalendarUnit) -> int:
    """Return the day on which the month or year of a day begins; a day or hour leaves it as it is.

    Raises:
        InvalidValueError: if the day is not in the years 1 to 9999.
    """
    ordinal = days + _EPOCH_ORDINAL
    if not 1 <= ordinal <= _LAST_ORDINAL:
        raise InvalidValueError("expected a time in the years 1 to 9999")
    if unit in ("hour", "day"):
        return days
    whole = date.fromordinal(ordinal)
    first = whole.replace(day=1) if unit == "month" else whole.replace(month=1, day=1)
    return first.toordinal() - _EPOCH_ORDINAL


def floor_ticks(ticks: int, per_second: int, unit: CalendarUnit) -> int:
    """Return the start of the hour, day, month or year that a time is in, in the ticks that it came in.

    Raises:
        InvalidValueError: if the time is not in the years 1 to 9999, or its floor is below what 64 bits hold.
    """
    day_ticks = _DAY_SECONDS * per_second
    floor = floor_days(ticks // day_ticks, unit) * day_ticks
    if unit == "hour":
        hour_ticks = _HOUR_SECONDS * per_second
        floor = ticks // hour_ticks * hour_ticks
    if floor not in _INT64:
        raise InvalidValueError("expected a time whose floor is still a 64-bit integer")
    return floor


def checked_ticks(ticks: int, per_second: int) -> int:
    """Return a time that was computed, in its ticks, if it is one that its type holds.

    Raises:
        InvalidValueError: if the time is not in the years 1 to 9999, or no 64-bit integer.
    """
    floor_days(ticks // (_DAY_SECONDS * per_second), "day")
    if ticks not in _INT64:
        raise InvalidValueError("expected a time that is still a 64-bit integer")
    return ticks


def floor_ms(timestamp_ms: int, unit: CalendarUnit) -> int:
    """Return the start of the hour, day, month or year, in UTC, that a time in milliseconds is in.

    Raises:
        InvalidValueError: if the time is not in the years 1 to 9999.
    """
    return floor_ticks(timestamp_ms, 1000, unit)


def format_date(days: int) -> str:
    """Return days since 1970-01-01 as an RFC 3339 full-date."""
    return date.fromordinal(days + _EPOCH_ORDINAL).isoformat()


def format_date_time(timestamp_ms: int, *, milliseconds: bool = False) -> str:
    """Return milliseconds since 1970 as an RFC 3339 date-time in UTC, with whole seconds or also their milliseconds."""
    days, seconds = divmod(timestamp_ms // 1000, _DAY_SECONDS)
    hour, rest = divmod(seconds, _HOUR_SECONDS)
    fraction = f".{timestamp_ms % 1000:03}" if milliseconds else ""
    return f"{format_date(days)}T{hour:02}:{rest // 60:02}:{rest % 60:02}{fraction}Z"


def integer_of(value: object) -> int:
    """Return an Avro int or long, or a JSON number that is written as a plain integer, as an exact 64-bit integer.

    Raises:
        InvalidValueError: for everything else.
    """
    if isinstance(value, JsonNumber) and _JSON_INTEGER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
        raise InvalidValueError("expected a 64-bit integer")
    return value


def event_time_reader(node: Node) -> Callable[[object], int]:
    """Return the function that turns the value at ``node`` into milliseconds since 1970, rounded down.

    A ``timestamp-millis``, ``-micros`` or ``-nanos`` is read in its unit, a long or JSON integer without logical type
    as milliseconds, a text as an RFC 3339 date-time. The function raises InvalidValueError for a value that is none of
    these or lies outside of the years 1 to 9999; an optional field's null is for the caller.

    Raises:
        SchemaError: if the place can hold no instant: a local timestamp, a date, a union, or another type.
    """
    # JSON Schema formats that mean nothing to the codec, such as uri, are no logical type and say that this is no time.
    if node.kind is Kind.STRING and (node.logical or node.attributes.get("format", "")) in ("", "date-time"):
        return _text_time_ms
    if node.kind is Kind.LONG and node.logical in INSTANT_TICKS:
        per_ms = INSTANT_TICKS[node.logical] // 1000
        return lambda value: _checked_ms(integer_of(value) // per_ms)
    if node.kind in (Kind.LONG, Kind.INTEGER) and not node.logical:
        return lambda value: _checked_ms(integer_of(value))
    raise SchemaError(
        "an event time must be a timestamp with a zone, milliseconds as a long, or RFC 3339 text", path=node.path
    )


def event_time_ms(value: object, node: Node) -> int:
    """Return the event time ``value`` that stands at ``node``; see :func:`event_time_reader` for units and errors."""
    return event_time_reader(node)(value)


def _checked_ms(timestamp_ms: int) -> int:
    """Return the time itself if it lies in the years 1 to 9999."""
    floor_days(timestamp_ms // (_DAY_SECONDS * 1000), "day")
    return timestamp_ms


def _text_time_ms(value: object) -> int:
    """Read RFC 3339 text."""
    if not isinstance(value, str):
        raise InvalidValueError("expected text")
    return _checked_ms(parse_date_time(value))
