"""Random records of a schema for comparing engines, and what the people in them decided.

Texts and numbers are chosen where engines could differ: at the edges of types, formats and calendars.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.support.engines import NOW_MS
from tests.support.goldentokens import golden_tokens

from tokenweir.core import avro_codec, json_codec
from tokenweir.core.consent import UNDECODABLE, Decision, SourceState, SubjectConsent
from tokenweir.core.engineapi import Record
from tokenweir.core.schema import ABSENT, Field, JsonNumber, Kind, Node, Schema
from tokenweir.core.subjects import Subject

Value = Any

_STRINGS: Final = (
    "", "a", "Anna", "ab", "abc123", "0000000007", "123456789", "nobody", "Jose\u0301", "M\u00fcller", "\u0130stanbul",
    "a\u0085b", "\u1e9e", "\U0001f600\ufe0f", "x" * 257, "person@example.com", "P\u00e9r@EXAMPLE.com",
    "+4930901820", "4000000000000002",
    "0f0e0d0c-0b0a-4908-8706-050403020100", "0F0E0D0C-0B0A-4908-8706-050403020100",
    "192.168.7.9", "2001:db8::1",
    "::ffff:1.2.3.4", "https://u:p@Shop.example:443/a/b;c?page=1&q=2#f", "http://h/%2f?caf%C3%A9=1&a\u0378=2",
    "2026-11-22T09:59:59.999Z", "2026-11-22t11:00:00+01:00", "1990-12-31T23:59:60Z", "9999-12-31T23:59:59-23:59",
    "2026-02-29T00:00:00Z", "2026-11-22", "0001-01-01", "\u0000", "line\nbreak", "\u2028", "A", "B",
)  # fmt: skip
#: A value for each way of making tokens.
_PINNED: Final = tuple(dict.fromkeys(value for _, value, _ in golden_tokens()))
_NUMBERS: Final = (0, 1, -1, 7, 42, 63, 64, 123_456_789, 2**31 - 1, -(2**31), NOW_MS, NOW_MS - 3_600_000)
_LONGS: Final = (*_NUMBERS, 10**10, 2**63 - 1, -(2**63), 253_402_300_799_999, 253_402_300_800_000, -62_135_596_800_001)
_REALS: Final = (
    0.0, -0.0, 0.1, 0.25, 0.3, 0.7, 2.5, -2.5, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 52.5, 13.4, 90.0,
    -180.0, 181.0, 123456.789, 0.0078125,
)  # fmt: skip
_JSON_NUMBERS: Final = (
    "0", "-0", "7", "5.0", "5e3", "1E+2", "-1.50", "0.30", "123456789", "1e-600", "12345678901234567890123",
    "2.5", "52.5", "13.40", "253402300799999", "9" * 40,
)  # fmt: skip


class People:
    """Random records of a schema, and what their subjects decided; the same for the same seed."""

    def __init__(self, schema: Schema, seed: int) -> None:
        self._schema = schema
        self._avro = schema.format == "avro"
        self._seed = seed
        self._dice = random.Random(seed)
        self._write = (avro_codec if self._avro else json_codec).writer(schema)

    def record(self) -> Record:
        """Return a record, now and then a damaged one or none at all."""
        dice = self._dice
        value: bytes | None = self._write(self._value(self._schema.root))
        if dice.random() < 0.1:
            place = dice.randrange(len(value or b"") + 1)
            value = (
                (value or b"")[:place] + dice.randbytes(dice.randrange(3)) + (value or b"")[place + dice.randrange(2) :]
            )
        elif dice.random() < 0.05:
            value = None
        timestamp_ms = dice.choice([NOW_MS, NOW_MS, NOW_MS, NOW_MS - 1, NOW_MS - 86_400_001, 2 * NOW_MS, -1, 2**63 - 1])
        key = dice.choice(
            [
                None,
                b"",
                b"key",
                b"key",
                b"tablet",
                "Jose\u0301".encode(),
                b"nobody",
                *([b"\xff"] if dice.random() < 0.2 else []),
            ]
        )
        names, values = ("open", "device", "other", "de\ud800"), (None, b"", b"tablet", b"tablet", b"\xff", b"x" * 300)
        headers = [(dice.choice(names), dice.choice(values)) for _ in range(dice.choice([0, 0, 1, 3]))]
        return Record(value, key, timestamp_ms, headers)

    def consent(self, subject: Subject) -> SubjectConsent:
        """Return what a subject decided."""
        dice = random.Random(f"{self._seed} {subject.canonical}")
        return SubjectConsent({source: self._state(dice) for source in ("", "web") if dice.random() < 0.8})

    @staticmethod
    def _state(dice: random.Random) -> SourceState:
        if dice.random() < 0.05:
            return UNDECODABLE
        times = (NOW_MS - 3_600_000, NOW_MS - 1, NOW_MS, 1, 1, 2, 3)
        decisions = {
            name: Decision("allow", dice.choice(times), dice.choice([None, None, NOW_MS, NOW_MS + 1]))
            if dice.random() < 0.8
            else Decision("deny", dice.choice(times))
            for name in ("offers", "billing")
            if dice.random() < 0.8
        }
        denied = {
            name: Decision("deny", dice.choice(times)) for name in ("*", "offers@a", "*@b") if dice.random() < 0.1
        }
        jurisdiction = dice.choice([None, None, "US-CA", "DE"])
        return SourceState(dice.choice(times), {**decisions, **denied}, jurisdiction, dice.random() < 0.05)

    def _value(self, node: Node) -> Value:
        dice = self._dice
        match node.kind:
            case Kind.RECORD:
                return [self._field(entry) for entry in node.fields]
            case Kind.ARRAY:
                return [self._value(_items(node)) for _ in range(dice.choice([0, 1, 3]))]
            case Kind.MAP:
                keys = dice.sample(["A", "B", "named", "\u00e9"], dice.randrange(4))
                return {key: self._value(_items(node)) for key in keys}
            case Kind.UNION:
                index = dice.randrange(len(node.branches))
                branch = node.branches[index]
                return None if branch.kind is Kind.NULL else (index, self._value(branch))
            case _:
                return self._scalar(node)

    def _field(self, entry: Field) -> Value:
        if not entry.required and self._dice.random() < 0.3:
            return ABSENT
        if entry.node.path in {"id", "at"} and self._dice.random() < 0.85:
            return self._good(entry.node, entry.node.path)
        return self._value(entry.node)

    def _good(self, node: Node, name: str) -> Value:
        """Return an id or a time that mostly fits."""
        if node.kind is Kind.UNION:
            index = next(index for index, branch in enumerate(node.branches) if branch.kind is not Kind.NULL)
            return (index, self._good(node.branches[index], name))
        number = self._dice.randrange(20) if name == "id" else NOW_MS - self._dice.choice([0, 5, 7_200_000, -3])
        number *= 1000 if node.logical == "timestamp-micros" else 1
        text = f"{number:010}" if name == "id" else "2026-11-22T09:59:59Z"
        return {Kind.LONG: number, Kind.INTEGER: JsonNumber(number)}.get(node.kind, text)

    def _scalar(self, node: Node) -> Value:
        return _SCALAR_VALUES[node.kind](self._dice, node)


def _wholes(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in texts if "." not in text and "-6" not in text)


_SCALAR_VALUES: Final[Mapping[Kind, Callable[[random.Random, Node], Value]]] = {
    Kind.BOOLEAN: lambda dice, _: dice.random() < 0.5,
    Kind.INT: lambda dice, _: dice.choice([number for number in _NUMBERS if -(2**31) <= number < 2**31]),
    Kind.LONG: lambda dice, _: dice.choice(_LONGS),
    Kind.FLOAT: lambda dice, _: _single(dice.choice([number for number in _REALS if abs(number) < 1e38])),
    Kind.DOUBLE: lambda dice, _: dice.choice([dice.choice(_REALS), dice.uniform(-90, 90)]),
    Kind.NUMBER: lambda dice, _: JsonNumber("1e400" if dice.random() < 0.02 else dice.choice(_JSON_NUMBERS)),
    Kind.INTEGER: lambda dice, _: JsonNumber(dice.choice(_wholes(_JSON_NUMBERS))),
    Kind.STRING: lambda dice, _: dice.choice(dice.choice([_STRINGS, _PINNED])),
    Kind.BYTES: lambda dice, _: dice.randbytes(dice.randrange(4)),
    Kind.FIXED: lambda dice, node: dice.choice([dice.randbytes(node.size), bytes(node.size)]),
    Kind.ENUM: lambda dice, node: dice.choice(node.symbols),
}


def _single(number: float) -> float:
    value: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return value


def _items(node: Node) -> Node:
    assert node.items is not None
    return node.items
