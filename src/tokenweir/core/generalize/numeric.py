"""Numbers as multiples of a step or as the lower bound of their bucket, in exact decimal arithmetic.

Binary floating point never decides: an Avro double counts as its shortest decimal text, so that 0.3 is in the bucket
that begins at 0.3, as the same number is in JSON.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import Final

from tokenweir.core.generalize.base import Generalizer
from tokenweir.core.generalize.specs import BucketsSpec, RoundSpec, decimal_of
from tokenweir.core.schema import JsonNumber, Kind, Node
from tokenweir.errors import InvalidValueError, SchemaError

#: JSON numbers may have any exponent; beyond this one exact arithmetic would write out a number of that many digits.
_LARGEST_EXPONENT: Final = 512

#: Room for every digit between the largest value and the smallest step. What would still be rounded is an error.
_EXACT: Final = Context(prec=4096, Emax=999_999, Emin=-999_999, traps=[InvalidOperation, Inexact, Overflow])

_RANGES: Final = {Kind.INT: range(-(2**31), 2**31), Kind.LONG: range(-(2**63), 2**63)}


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of number becomes a decimal and back; both raise InvalidValueError."""

    read: Callable[[object], Decimal]
    write: Callable[[Decimal], object]
    #: Digits after the point that the type can hold; None for any number of them.
    places: int | None


@dataclass(frozen=True, slots=True)
class _Round:
    """The nearest multiple of a step; the even one of two that are equally near."""

    form: _Form
    step: Decimal

    def apply(self, value: object) -> object:
        number = self.form.read(value)
        try:
            # The remainder to the nearest multiple, ties to even: IEEE 754, section 5.3.1.
            rest = _EXACT.remainder_near(number, self.step)
            return self.form.write(_EXACT.subtract(number, rest))
        except DecimalException:
            raise InvalidValueError("expected a number of moderate size") from None


@dataclass(frozen=True, slots=True)
class _Buckets:
    """The lower bound of the bucket; the first bucket is open below."""

    form: _Form
    bounds: tuple[Decimal, ...]
    results: tuple[object, ...]

    def apply(self, value: object) -> object:
        position = bisect_right(self.bounds, self.form.read(value)) - 1
        return self.results[max(position, 0)]


def build_round(spec: RoundSpec, node: Node) -> Generalizer:
    """Compile ``{round: step}``.

    Raises:
        SchemaError: if the place holds no number, or its type cannot hold every multiple of the step.
    """
    form = _form(node)
    step = decimal_of(spec.round)
    _check_places(step, form, node)
    return _Round(form, step)


def build_buckets(spec: BucketsSpec, node: Node) -> Generalizer:
    """Compile ``{buckets: [bound, ...]}``.

    Raises:
        SchemaError: if the place holds no number, or its type cannot hold one of the bounds.
    """
    form = _form(node)
    wanted = [decimal_of(bound) for bound in spec.buckets]
    for bound in wanted:
        _check_places(bound, form, node)
    try:
        results = tuple(form.write(bound) for bound in wanted)
        # What the type makes of a bound, not the bound itself, decides: a float holds no 0.7.
        bounds = tuple(form.read(result) for result in results)
    except InvalidValueError:
        raise SchemaError("a bound does not fit the type of the field", path=node.path) from None
    if len(set(bounds)) < len(bounds):
        raise SchemaError("two bounds are the same number in the type of the field", path=node.path)
    return _Buckets(form, bounds, results)


def _check_places(number: Decimal, form: _Form, node: Node) -> None:
    """Refuse a number of the policy that has more digits after the point than the type."""
    finest = number.normalize(_EXACT).as_tuple().exponent
    if form.places is not None and isinstance(finest, int) and -finest > form.places:
        places = "no digits" if form.places == 0 else f"at most {form.places} digits"
        raise SchemaError(f"the type of the field holds {places} after the decimal point", path=node.path)


def _form(node: Node) -> _Form:
    """Return how numbers stand at a place, or raise SchemaError where none do."""
    if node.kind in _RANGES and not node.logical:
        allowed = _RANGES[node.kind]
        return _Form(_read_int, lambda number: _fitting(int(number), allowed), places=0)
    if node.kind is Kind.DOUBLE:
        return _Form(_read_float, _write_double, places=None)
    if node.kind is Kind.FLOAT:
        return _Form(_read_float, _write_float, places=None)
    if node.kind in (Kind.INTEGER, Kind.NUMBER):
        return _Form(_read_json, _write_json, places=0 if node.kind is Kind.INTEGER else None)
    if node.kind in (Kind.BYTES, Kind.FIXED) and node.logical == "decimal":
        return _decimal_form(node)
    raise SchemaError("round and buckets need a number without another meaning, such as a date", path=node.path)


def _decimal_form(node: Node) -> _Form:
    """Return the form of an Avro decimal: its unscaled number as big-endian two's complement."""
    scale, precision = int(node.attributes.get("scale", 0)), int(node.attributes["precision"])
    if max(scale, precision) > _LARGEST_EXPONENT:
        # A schema may say two billion digits; its limit alone would then take minutes.
        raise SchemaError(f"round and buckets need a decimal of at most {_LARGEST_EXPONENT} digits", path=node.path)
    limit = 10**precision
    size = node.size if node.kind is Kind.FIXED else None

    def read(value: object) -> Decimal:
        if not isinstance(value, bytes) or not value:
            raise InvalidValueError("expected the bytes of a decimal")
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, _EXACT)

    def write(number: Decimal) -> bytes:
        unscaled = _fitting(int(number.scaleb(scale, _EXACT)), range(1 - limit, limit))
        # One bit more than the magnitude, for the sign; -128 needs no ninth bit, hence the complement.
        shortest = (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
        try:
            return unscaled.to_bytes(shortest if size is None else size, "big", signed=True)
        except OverflowError:
            raise InvalidValueError("expected a number that fits its type after rounding") from None

    return _Form(read, write, places=scale)


def _fitting(number: int, allowed: range) -> int:
    """Return the number if it is in its type's range."""
    if number not in allowed:
        raise InvalidValueError("expected a number that fits its type after rounding")
    return number


def _read_int(value: object) -> Decimal:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidValueError("expected an integer")
    return Decimal(value)


def _read_float(value: object) -> Decimal:
    if not isinstance(value, float):
        raise InvalidValueError("expected a floating point number")
    return _finite(Decimal(repr(value)))


def _read_json(value: object) -> Decimal:
    if not isinstance(value, JsonNumber):
        raise InvalidValueError("expected a JSON number")
    try:
        return _finite(Decimal(value))
    except DecimalException:
        raise InvalidValueError("expected a JSON number") from None


def _finite(number: Decimal) -> Decimal:
    """Return the number if it is finite and of a size that exact arithmetic can bear."""
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _LARGEST_EXPONENT or number.adjusted() > _LARGEST_EXPONENT:
        raise InvalidValueError("expected a finite number of moderate size")
    return number


def _write_double(number: Decimal) -> float:
    result = float(number) + 0.0
    if result in (float("inf"), float("-inf")):
        raise InvalidValueError("expected a number that fits its type after rounding")
    return result


def _write_float(number: Decimal) -> float:
    try:
        # The nearest single-precision number, so that the value here is the one that will be written.
        return float(struct.unpack("<f", struct.pack("<f", float(number)))[0]) + 0.0
    except OverflowError:
        raise InvalidValueError("expected a number that fits its type after rounding") from None


def _write_json(number: Decimal) -> JsonNumber:
    """Write a number in full, without exponent, needless zeros or a negative zero."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return JsonNumber("0" if text in ("-0", "") else text)
