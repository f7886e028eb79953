"""Reading event times and cutting times down, against dates that were worked out by hand."""

from __future__ import annotations

import pytest

from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.core.timestamps import (
    CalendarUnit,
    event_time_ms,
    event_time_reader,
    floor_days,
    floor_ms,
    floor_ticks,
    format_date,
    format_date_time,
    parse_date,
    parse_date_time,
)
from tokenweir.errors import InvalidValueError, SchemaError

# 2024-02-29T23:59:59.999Z; the day number and seconds come from `date -u -d 2024-02-29 +%s`.
LEAP_DAY_MS = 1_709_251_199_999
CANARY = "canary-4711"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T23:59:59.999Z", LEAP_DAY_MS),
        ("2024-02-29t23:59:59.9999999z", LEAP_DAY_MS),
        ("2024-03-01T01:59:59.999+02:00", LEAP_DAY_MS),
        ("2024-02-29T18:29:59.999-05:30", LEAP_DAY_MS),
        ("2024-02-29T23:59:59.999-00:00", LEAP_DAY_MS),
        ("1969-12-31T23:59:59.9Z", -100),
        # RFC 3339, section 5.8: the leap second at the end of 1990, twice.
        ("1990-12-31T23:59:60Z", 662_687_999_999),
        ("1990-12-31T15:59:60-08:00", 662_687_999_999),
    ],
)
def test_reads_rfc_3339(text: str, expected: int) -> None:
    """Offsets, fractions, small letters and leap seconds are read as RFC 3339 says."""
    assert parse_date_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-02-29",
        "2024-02-29T23:59:59",
        "2024-02-29 23:59:59Z",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-02-29T24:00:00Z",
        "2024-02-29T23:60:00Z",
        "2024-02-29T12:30:60Z",
        "2024-02-29T23:59:61Z",
        "2024-02-29T23:59:59.Z",
        "2024-02-29T23:59:59+0200",
        "2024-02-29T23:59:59+24:00",
        "2024-02-29T23:59:59Z\n",
        " 2024-02-29T23:59:59Z",
        "\uff12024-02-29T23:59:59Z",
        "+2024-02-29T23:59:59Z",
        "1709251199",
        CANARY,
    ],
)
def test_refuses_what_is_not_rfc_3339(text: str) -> None:
    """Nothing near RFC 3339 is guessed at, and the error does not repeat the text."""
    with pytest.raises(InvalidValueError) as caught:
        parse_date_time(text)
    assert CANARY not in str(caught.value)


def test_dates_round_trip() -> None:
    """A full-date becomes days and back."""
    assert parse_date("1970-01-01") == 0
    assert parse_date("2024-02-29") == 19_782
    assert format_date(19_782) == "2024-02-29"
    for text in ("2024-2-29", "2023-02-29", "20240229", "2024-02-29T00:00:00Z"):
        with pytest.raises(InvalidValueError):
            parse_date(text)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("hour", "2024-02-29T23:00:00Z"),
        ("day", "2024-02-29T00:00:00Z"),
        ("month", "2024-02-01T00:00:00Z"),
        ("year", "2024-01-01T00:00:00Z"),
    ],
)
def test_floors(unit: CalendarUnit, expected: str) -> None:
    """Each unit begins where the UTC calendar says, in milliseconds and in finer ticks."""
    floor = floor_ms(LEAP_DAY_MS, unit)
    assert format_date_time(floor) == expected
    nanos = floor_ticks(LEAP_DAY_MS * 1_000_000 + 1, 1_000_000_000, unit)
    assert nanos == floor * 1_000_000


def test_floors_before_1970_go_down() -> None:
    """One millisecond before 1970 is in the last hour of 1969."""
    assert format_date_time(floor_ms(-1, "hour")) == "1969-12-31T23:00:00Z"
    assert format_date_time(floor_ms(-1, "day")) == "1969-12-31T00:00:00Z"
    assert format_date_time(floor_ms(-1, "year")) == "1969-01-01T00:00:00Z"
    assert floor_days(-1, "month") == -31


def test_times_outside_of_the_calendar_are_invalid() -> None:
    """No year before 1 or after 9999, and no floor that 64 bits do not hold."""
    for milliseconds in (2**63 - 1, -(2**63), 253_402_300_800_000):
        with pytest.raises(InvalidValueError):
            floor_ms(milliseconds, "hour")
    assert format_date_time(floor_ms(253_402_300_799_999, "hour")) == "9999-12-31T23:00:00Z"
    with pytest.raises(InvalidValueError):
        floor_ticks(-(2**63), 1_000_000_000, "day")


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        (Node(Kind.LONG, logical="timestamp-millis"), LEAP_DAY_MS, LEAP_DAY_MS),
        (Node(Kind.LONG, logical="timestamp-micros"), LEAP_DAY_MS * 1000 + 999, LEAP_DAY_MS),
        (Node(Kind.LONG, logical="timestamp-micros"), -1, -1),
        (Node(Kind.LONG, logical="timestamp-nanos"), LEAP_DAY_MS * 1_000_000 + 1, LEAP_DAY_MS),
        (Node(Kind.LONG), LEAP_DAY_MS, LEAP_DAY_MS),
        (Node(Kind.INTEGER), JsonNumber(LEAP_DAY_MS), LEAP_DAY_MS),
        (Node(Kind.STRING), "2024-02-29T23:59:59.999Z", LEAP_DAY_MS),
        (Node(Kind.STRING, logical="date-time"), "2024-02-29T23:59:59.999Z", LEAP_DAY_MS),
    ],
)
def test_event_times(node: Node, value: object, expected: int) -> None:
    """Every form of an instant gives the same milliseconds, rounded down."""
    assert event_time_ms(value, node) == expected


@pytest.mark.parametrize(
    "node",
    [
        Node(Kind.LONG, logical="local-timestamp-millis"),
        Node(Kind.LONG, logical="time-micros"),
        Node(Kind.INT),
        Node(Kind.INT, logical="date"),
        Node(Kind.DOUBLE),
        Node(Kind.NUMBER),
        Node(Kind.STRING, logical="date"),
        Node(Kind.STRING, attributes={"format": "uri"}),
        Node(Kind.UNION, branches=(Node(Kind.NULL), Node(Kind.LONG))),
    ],
)
def test_places_that_hold_no_instant_do_not_compile(node: Node) -> None:
    """A time without a zone, a date, and anything else is refused when the plan is made."""
    with pytest.raises(SchemaError):
        event_time_reader(node)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (Node(Kind.LONG), 2**62),
        (Node(Kind.LONG), True),
        (Node(Kind.LONG), 1.5),
        (Node(Kind.LONG), "1709251199999"),
        (Node(Kind.INTEGER), JsonNumber("1.7e12")),
        (Node(Kind.INTEGER), JsonNumber("9" * 400)),
        (Node(Kind.STRING), ""),
        (Node(Kind.STRING), 5),
        (Node(Kind.STRING), CANARY),
    ],
)
def test_event_times_that_do_not_fit_are_invalid(node: Node, value: object) -> None:
    """A value that is no time of the calendar is invalid, and the error does not repeat it."""
    with pytest.raises(InvalidValueError) as caught:
        event_time_ms(value, node)
    assert CANARY not in str(caught.value)
