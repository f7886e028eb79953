"""Dates and times moved by a whole number of days: intervals stay, and what day it was does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.keyed import Person, Prf, personal_days
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.core.timestamps import (
    INSTANT_TICKS,
    checked_ticks,
    floor_days,
    format_date,
    format_date_time,
    integer_of,
    parse_date,
    parse_date_time,
)
from tokenweir.errors import InvalidValueError, SchemaError

#: Gives the number of days by which the values of a record move.
Days = Callable[[], int]

_TICKS: Final = INSTANT_TICKS | {f"local-{name}": ticks for name, ticks in INSTANT_TICKS.items()}
_DAY_SECONDS: Final = 86_400
#: Characters of an RFC 3339 full-date; every date-time is longer.
_DATE_LENGTH: Final = 10


@dataclass(frozen=True, slots=True)
class PersonalDays:
    """The days of whomever the record at hand is about."""

    prf: Prf
    largest: int
    person: Person

    def __call__(self) -> int:
        """Return them; never 0.

        Raises:
            InvalidValueError: if the record is about nobody.
        """
        subject = self.person.named()
        return personal_days(self.prf.of(subject.type, subject.id), self.largest)


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Moves a number of ticks."""

    per_second: int
    days: Days

    def apply(self, value: object) -> int:
        return _moved(integer_of(value), self.days(), self.per_second)


@dataclass(frozen=True, slots=True)
class _JsonMilliseconds:
    """Moves milliseconds that are written as a JSON number."""

    days: Days

    def apply(self, value: object) -> JsonNumber:
        return JsonNumber(_moved(integer_of(value), self.days(), 1000))


@dataclass(frozen=True, slots=True)
class _Days:
    """Moves a number of days."""

    days: Days

    def apply(self, value: object) -> int:
        return floor_days(floor_days(integer_of(value), "day") + self.days(), "day")


@dataclass(frozen=True, slots=True)
class _Text:
    """Moves a date, a date-time, or whichever of both the text is."""

    logical: str
    days: Days

    def apply(self, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidValueError("expected text")
        if not value:
            return value
        if self.logical == "date" or (not self.logical and len(value) == _DATE_LENGTH):
            return format_date(floor_days(parse_date(value) + self.days(), "day"))
        moved = _moved(parse_date_time(value), self.days(), 1000)
        return format_date_time(moved, milliseconds=bool(moved % 1000))


def build_shift(node: Node, days: Days) -> Generalizer:
    """Compile ``{shift_days: n}``; the result has the same type.

    Works on what ``time`` works on, and on texts without a format that hold a date. A day has 86,400 seconds. A text
    with a time is written in UTC, because its offset would say where somebody was, and to the millisecond, because a
    leap second would say when. What leaves the years 1 to 9999 is invalid.

    Raises:
        SchemaError: if the place holds no time.
    """
    if node.kind is Kind.INT and node.logical == "date":
        return _Days(days)
    if node.kind is Kind.STRING and node.logical in ("", "date", "date-time"):
        return _Text(node.logical, days)
    if node.kind is Kind.LONG and (not node.logical or node.logical in _TICKS):
        return _Ticks(_TICKS.get(node.logical, 1000), days)
    if node.kind is Kind.INTEGER and not node.logical:
        return _JsonMilliseconds(days)
    raise SchemaError("shift_days needs a date, a timestamp, milliseconds as a long, or RFC 3339 text", path=node.path)


def _moved(ticks: int, days: int, per_second: int) -> int:
    """Return a time so many days later. Both are in the years 1 to 9999, or InvalidValueError says that one is not."""
    return checked_ticks(checked_ticks(ticks, per_second) + days * _DAY_SECONDS * per_second, per_second)
