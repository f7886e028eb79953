"""Records for published schemas: what their generator properties ask for, or values of every kind, always the same.

The attributes ``arg.properties`` are those of the Avro random generator of Confluent: ``options``, ``regex``,
``range``, ``iteration``, ``length`` and ``keys``. Only :meth:`random.Random.random` is drawn from, because its
sequence is the one that Python promises to keep (library reference, "Notes on Reproducibility").
"""

from __future__ import annotations

import io
import json
import random
import re
import string
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import fastavro

from tokenweir.core.schema import ABSENT, Kind, Node

#: A schema, or a value as JSON or fastavro takes it.
Json: TypeAlias = Any

#: Where a type that contains itself ends.
_DEEPEST: Final = 6
#: Letters and digits of texts about which nothing is said; some of them have two and four bytes in UTF-8.
_LETTERS: Final = string.ascii_letters + string.digits + "äß\N{GRINNING FACE}"
_INTEGER_BITS: Final = {"int": 31, "long": 40}
#: Values that are times lie in the years 2020 and 2021.
_FIRST_DAY: Final = 18_262
_DAYS: Final = 731
_DAY_UNITS: Final = {
    "date": 1,
    "timestamp-millis": 86_400_000,
    "local-timestamp-millis": 86_400_000,
    "timestamp-micros": 86_400_000_000,
    "local-timestamp-micros": 86_400_000_000,
}
_PART: Final = re.compile(r"(?:\[(?P<set>[^\]]+)\]|(?P<plain>[^\[\]{}]))(?:\{(?P<low>\d+)(?:,(?P<high>\d+))?\})?")


class Dice:
    """Choices that are the same for the same seed on every version of Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to ``limit - 1``."""
        return min(int(self._random() * limit), limit - 1)

    def between(self, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``."""
        return low + self._random() * (high - low)

    def pick(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - what the sequence holds
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def bytes(self, count: int) -> bytes:
        """Return random bytes."""
        return bytes(self.below(256) for _ in range(count))

    def uuid(self) -> str:
        """Return a UUID of version 4."""
        return str(UUID(bytes=self.bytes(16), version=4))


def matching(pattern: str, dice: Dice) -> str:
    """Return a text that matches a pattern of characters, ``[sets]`` and ``{counts}``, all that the schemas use."""
    text = ""
    position = 0
    while position < len(pattern):
        part = _PART.match(pattern, position)
        if part is None:
            raise ValueError(f"the pattern is not understood from character {position}")
        low = int(part["low"] or 1)
        high = int(part["high"] or part["low"] or 1)
        characters = part["plain"] or _expand(part["set"])
        text += "".join(dice.pick(characters) for _ in range(low + dice.below(high - low + 1)))
        position = part.end()
    return text


def _expand(characters: str) -> str:
    return re.sub(r"(.)-(.)", lambda ends: "".join(map(chr, range(ord(ends[1]), ord(ends[2]) + 1))), characters)


class AvroGenerator:
    """Makes records of one Avro schema.

    Args:
        schema: The schema, parsed from JSON.
        seed: Decides everything.
        references: The schemas that it names, each after those that it needs itself.
    """

    def __init__(self, schema: Json, seed: int = 1, references: Sequence[Json] = ()) -> None:
        self._schema = schema
        self._dice = Dice(seed)
        self._named: dict[str, Json] = {}
        self._full_names: dict[str, str] = {}
        #: How often each place with an iteration was asked; the key is the identity of its properties.
        self._steps: dict[int, int] = {}
        raw: dict[str, Any] = {}
        for reference in references:
            self._learn(reference, "")
            fastavro.parse_schema(plain(reference), named_schemas=raw)
        self._learn(schema, "")
        self._writer = fastavro.parse_schema(plain(schema), named_schemas=raw)

    def records(self, count: int) -> Iterator[Json]:
        """Yield values as :meth:`encode` takes them: raw types, and branches of unions as (name, value)."""
        for _ in range(count):
            yield self._value(self._schema, 0)

    def encode(self, record: Json) -> bytes:
        """Return a record as a bare Avro datum."""
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, self._writer, record)
        return buffer.getvalue()

    def data(self, count: int) -> list[bytes]:
        """Return records as bare Avro data."""
        return [self.encode(record) for record in self.records(count)]

    def _learn(self, schema: Json, namespace: str) -> None:
        """Remember the named types by their full names and by their short ones."""
        if isinstance(schema, list):
            for branch in schema:
                self._learn(branch, namespace)
        if not isinstance(schema, dict):
            return
        namespace = schema.get("namespace", namespace)
        if isinstance(name := schema.get("name"), str) and schema.get("type") in {"record", "enum", "fixed", "error"}:
            full = name if "." in name or not namespace else f"{namespace}.{name}"
            for written in (full, full.rpartition(".")[2]):
                self._named[written] = schema
                self._full_names[written] = full
        for part in (schema.get("type"), schema.get("items"), schema.get("values")):
            self._learn(part, namespace)
        for field in schema.get("fields", ()):
            self._learn(field["type"], namespace)

    def _value(self, schema: Json, depth: int, properties: Json = None) -> Json:
        """Return a value; ``properties`` are those of the field, which some schemas give there."""
        if isinstance(schema, list):
            return self._branch(schema, depth)
        if isinstance(schema, str):
            schema = self._named.get(schema, {"type": schema})
        if isinstance(schema["type"], (dict, list)):
            return self._value(schema["type"], depth, schema.get("arg.properties", properties))
        properties = schema.get("arg.properties") or properties or {}
        kind = schema["type"]
        if kind not in _MADE and kind in self._named:
            return self._value(self._named[kind], depth, properties)
        if "options" in properties:
            return self._option(schema, properties["options"])
        if "iteration" in properties:
            return self._iterated(kind, properties["iteration"])
        return self._made(kind, schema, properties, depth)

    def _branch(self, branches: Sequence[Json], depth: int) -> Json:
        names = [self._branch_name(branch) for branch in branches]
        if depth > _DEEPEST and "null" in names:
            return None
        index = self._dice.below(len(branches))
        name = names[index]
        return None if name == "null" else (name, self._value(branches[index], depth + 1))

    def _branch_name(self, branch: Json) -> str:
        """Return how fastavro names a branch: by the full name of a named type, otherwise by its type."""
        written = branch if isinstance(branch, str) else branch.get("name", branch["type"])
        return str(self._full_names.get(written, written))

    def _option(self, schema: Json, options: Sequence[Json]) -> Json:
        return _raw(schema, self._dice.pick(options))

    def _iterated(self, kind: str, iteration: Json) -> Json:
        step = self._steps.get(id(iteration), 0)
        self._steps[id(iteration)] = step + 1
        number = iteration["start"] + step * iteration.get("step", 1)
        return str(number) if kind == "string" else number

    def _made(self, kind: str, schema: Json, properties: Json, depth: int) -> Json:  # noqa: PLR0911 - a type each
        match kind:
            case "record":
                return {field["name"]: self._value(_field(field), depth + 1) for field in schema["fields"]}
            case "array":
                return [self._value(schema["items"], depth + 1) for _ in range(self._length(properties, depth))]
            case "map":
                return {
                    self._text(properties.get("keys", {})): self._value(schema["values"], depth + 1)
                    for _ in range(self._length(properties, depth))
                }
            case "enum":
                return self._dice.pick(schema["symbols"])
            case "fixed":
                return self._dice.bytes(schema["size"])
            case "bytes":
                return self._bytes(schema, properties)
            case _:
                return self._scalar(kind, schema, properties)

    def _scalar(self, kind: str, schema: Json, properties: Json) -> Json:
        match kind:
            case "null":
                return None
            case "boolean":
                return self._dice.below(2) == 1
            case "int" | "long":
                return self._whole(kind, schema.get("logicalType", ""), properties.get("range"))
            case "float" | "double":
                bounds = properties.get("range", {"min": -1000.0, "max": 1000.0})
                # Half of them are exact in four bytes, so that a float is written as it is.
                return round(self._dice.between(bounds["min"], bounds["max"]) * 4) / 4
            case _:
                return self._dice.uuid() if schema.get("logicalType") == "uuid" else self._text(properties)

    def _whole(self, kind: str, logical: str, bounds: Json) -> int:
        if bounds:
            return int(bounds["min"]) + self._dice.below(int(bounds["max"]) - int(bounds["min"]) + 1)
        if logical in _DAY_UNITS:
            unit = _DAY_UNITS[logical]
            return _FIRST_DAY * unit + self._dice.below(_DAYS * unit)
        if logical.startswith("time-"):
            return self._dice.below(86_400_000)
        bits = _INTEGER_BITS[kind]
        return self._dice.below(1 << (bits + 1)) - (1 << bits)

    def _bytes(self, schema: Json, properties: Json) -> bytes:
        if schema.get("logicalType") != "decimal":
            return self._dice.bytes(self._dice.below(20))
        bounds = properties.get("range", {"min": -10.0, "max": 10.0})
        number = Decimal(repr(self._dice.between(bounds["min"], bounds["max"])))
        unscaled = int(number.scaleb(schema.get("scale", 0)))
        return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)

    def _text(self, properties: Json) -> str:
        if "options" in properties:
            return str(self._dice.pick(properties["options"]))
        if "regex" in properties:
            return matching(properties["regex"], self._dice)
        return "".join(self._dice.pick(_LETTERS) for _ in range(9 + self._dice.below(9)))

    def _length(self, properties: Json, depth: int) -> int:
        if depth > _DEEPEST:
            return 0
        length = properties.get("length", {"min": 0, "max": 4})
        if isinstance(length, int):
            return length
        return int(length["min"]) + self._dice.below(int(length["max"]) - int(length["min"]) + 1)


_MADE: Final = frozenset(
    {"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum", "array", "map", "fixed"}
)


def _field(field: Json) -> Json:
    """Return the type of a field, with generator properties that stand beside it instead of inside."""
    properties = field.get("arg.properties")
    return {"type": field["type"], "arg.properties": properties} if properties else field["type"]


def _raw(schema: Json, option: Json) -> Json:
    """Return an option as fastavro takes it: bytes are written as text in JSON."""
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind in {"bytes", "fixed"}:
        return option.encode("latin-1")
    return option


def plain(schema: Json) -> Json:
    """Return a schema without logical types, which fastavro would convert, and without generator properties."""
    if isinstance(schema, dict):
        return {name: plain(part) for name, part in schema.items() if name not in {"logicalType", "arg.properties"}}
    return [plain(part) for part in schema] if isinstance(schema, list) else schema


def without_generator_properties(schema: Json) -> Json:
    """Return a schema as a container's header should hold it."""
    if isinstance(schema, dict):
        return {name: without_generator_properties(part) for name, part in schema.items() if name != "arg.properties"}
    return [without_generator_properties(part) for part in schema] if isinstance(schema, list) else schema


def json_value(node: Node, dice: Dice) -> Json:
    """Return a JSON value for a place of a parsed JSON Schema, or ``ABSENT`` where an optional one is left out."""
    match node.kind:
        case Kind.RECORD:
            made = {
                entry.name: json_value(entry.node, dice) for entry in node.fields if entry.required or dice.below(4) > 0
            }
            return {name: value for name, value in made.items() if value is not ABSENT}
        case Kind.ARRAY:
            items = [] if node.items is None else [json_value(node.items, dice) for _ in range(dice.below(3))]
            return [item for item in items if item is not ABSENT]
        case Kind.MAP:
            entries = {
                matching("[a-z]{9}", dice): json_value(node.items, dice) for _ in range(dice.below(3)) if node.items
            }
            return {key: value for key, value in entries.items() if value is not ABSENT}
        case Kind.UNION:
            return json_value(dice.pick(node.branches), dice)
        case _:
            return _json_scalar(node, dice)


def _json_scalar(node: Node, dice: Dice) -> Json:
    match node.kind:
        case Kind.NULL:
            return None
        case Kind.BOOLEAN:
            return dice.below(2) == 1
        case Kind.ENUM:
            return dice.pick(node.symbols)
        case Kind.INTEGER | Kind.NUMBER:
            return _json_number(node, dice)
        case Kind.STRING:
            return _json_text(node, dice)
        case _:
            return ABSENT


def _json_number(node: Node, dice: Dice) -> Json:
    low = node.attributes.get("minimum", 0)
    high = node.attributes.get("maximum", low + 1_000)
    if node.kind is Kind.INTEGER or node.attributes.get("multipleOf"):
        return int(low) + dice.below(int(high) - int(low) + 1)
    return round(dice.between(low, high), 2)


def _json_text(node: Node, dice: Dice) -> str:
    if node.logical == "uuid":
        return dice.uuid()
    if node.logical == "date-time":
        return f"2021-0{1 + dice.below(9)}-1{dice.below(10)}T0{dice.below(10)}:15:00Z"
    return matching("[a-z]{9,16}", dice)


def json_lines(node: Node, seed: int, count: int) -> list[bytes]:
    """Return records of a JSON Schema, one compact line each."""
    dice = Dice(seed)
    made = (json_value(node, dice) for _ in range(count))
    return [json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() for record in made]
