"""Times and dates cut down to the start of their hour, day, month or year in UTC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.specs import TimeSpec, TimeUnit
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.core.timestamps import (
    INSTANT_TICKS,
    floor_days,
    floor_ms,
    floor_ticks,
    format_date,
    format_date_time,
    integer_of,
    parse_date,
    parse_date_time,
)
from tokenweir.errors import InvalidValueError, SchemaError

#: Ticks in one second. A local timestamp has no zone; it is cut down in the calendar that it is written in.
_TICKS: Final = INSTANT_TICKS | {f"local-{name}": ticks for name, ticks in INSTANT_TICKS.items()}


@dataclass(frozen=True, slots=True)
class _TickFloor:
    """Cuts down a number of ticks."""

    per_second: int
    unit: TimeUnit

    def apply(self, value: object) -> int:
        return floor_ticks(integer_of(value), self.per_second, self.unit)


@dataclass(frozen=True, slots=True)
class _JsonFloor:
    """Cuts down milliseconds that are written as a JSON number."""

    unit: TimeUnit

    def apply(self, value: object) -> JsonNumber:
        return JsonNumber(floor_ms(integer_of(value), self.unit))


@dataclass(frozen=True, slots=True)
class _DayFloor:
    """Cuts down a number of days."""

    unit: TimeUnit

    def apply(self, value: object) -> int:
        return floor_days(integer_of(value), self.unit)


@dataclass(frozen=True, slots=True)
class _TextFloor:
    """Cuts down a text of RFC 3339."""

    floor: Callable[[str], str]

    def apply(self, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidValueError("expected text")
        return self.floor(value) if value else value


def build_time(spec: TimeSpec, node: Node) -> Generalizer:
    """Compile ``{time: unit}``; the result has the same type, a text is always written in UTC with ``Z``.

    A long or JSON integer without logical type counts milliseconds since 1970.

    Raises:
        SchemaError: if the place holds no time, or a date is to be cut down to an hour or to its own day.
    """
    unit = spec.time
    text = node.kind is Kind.STRING
    if (node.kind is Kind.INT or text) and node.logical == "date":
        if unit in ("hour", "day"):
            raise SchemaError(f"a date does not get coarser by its {unit}; use month or year", path=node.path)
        return _TextFloor(lambda value: format_date(floor_days(parse_date(value), unit))) if text else _DayFloor(unit)
    if text and node.logical in ("", "date-time"):
        return _TextFloor(lambda value: format_date_time(floor_ms(parse_date_time(value), unit)))
    if node.kind is Kind.LONG and (not node.logical or node.logical in _TICKS):
        return _TickFloor(_TICKS.get(node.logical, 1000), unit)
    if node.kind is Kind.INTEGER and not node.logical:
        return _JsonFloor(unit)
    raise SchemaError("time needs a timestamp, a date, milliseconds as a long, or RFC 3339 text", path=node.path)
