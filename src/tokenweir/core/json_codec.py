"""Readers of JSON records: bytes to the values of :mod:`tokenweir.core.schema`, as the tree of a JSON Schema says.

A reader is made once for a schema and is closures all the way down, as is the :func:`writer` for the way back. What a
record holds beyond its schema must be strict JSON as well, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn

from tokenweir.core import strictjson
from tokenweir.core.json_writer import Value, Writer, writer
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import ABSENT, DEFAULT_LIMITS, JsonNumber, Kind, Limits, Node, Schema
from tokenweir.errors import DecodeError, SchemaError

__all__ = ["Reader", "Value", "Writer", "reader", "writer"]

_Read = Callable[[Value], Value]

#: The type of the parsed JSON value that stands for a value of each kind; a union takes those of its branches.
_JSON_TYPES: Final[Mapping[Kind, type]] = {
    Kind.NULL: type(None),
    Kind.BOOLEAN: bool,
    Kind.INTEGER: JsonNumber,
    Kind.NUMBER: JsonNumber,
    Kind.STRING: str,
    Kind.ENUM: str,
    Kind.RECORD: dict,
    Kind.MAP: dict,
    Kind.ARRAY: list,
}

#: Kinds whose values are as the parser gives them, so that their type is all there is to check.
_AS_PARSED: Final = frozenset({Kind.BOOLEAN, Kind.NUMBER, Kind.STRING})

#: How many values a reader may look at, and how many fields it may make, for each element that a record may have and
#: for each place of the schema. Where branches can only be told apart by trying them, unions inside of unions would
#: otherwise take time that doubles with every level; and small objects of a wide type take memory for all its fields.
_EFFORT: Final = 10


class Reader:
    """Decodes one record after the other, as the table of :mod:`tokenweir.core.schema` says.

    Attributes:
        elements: How many absent fields were made for the record that was read last; no byte stands for them.
    """

    __slots__ = ("_compiled", "_effort", "_parse", "_read", "elements")

    def __init__(self, schema: Schema, limits: Limits) -> None:
        self._compiled = _Reader(schema)
        self._parse = strictjson.parser(limits)
        self._read = self._compiled.compile(schema.root)
        self._effort = _EFFORT * (limits.elements + sum(1 for _ in schema.root.walk()))
        self.elements = 0

    def __call__(self, data: bytes) -> Value:
        """Return the record that the bytes are.

        A value of a union is of the first branch that it fits by its type, its required properties and its enums.

        Raises:
            DecodeError: The record is not strict JSON, passes a limit, or does not follow the schema.
        """
        value = self._parse(data)
        compiled = self._compiled
        compiled.left, compiled.absent = self._effort, 0
        try:
            read = self._read(value)
        except RecursionError:
            pass
        else:
            self.elements = compiled.absent
            return read
        raise DecodeError(Reason.TOO_DEEP)


def reader(schema: Schema, limits: Limits = DEFAULT_LIMITS) -> Reader:
    """Return what decodes the records of a JSON Schema."""
    return Reader(schema, limits)


class _Never:
    """No value has this type."""


class _Reader:
    """Compiles nodes into functions from parsed JSON to values.

    ``left`` is what the record at hand may still cost, ``absent`` how many fields were made without an entry, those of
    attempts at branches included.
    """

    def __init__(self, schema: Schema) -> None:
        self._types = schema.types
        self._references: dict[str, _Read] = {}
        self._makers: dict[Kind, Callable[[Node], _Read]] = {
            Kind.NULL: _as_parsed,
            Kind.BOOLEAN: _boolean,
            Kind.INTEGER: _number,
            Kind.NUMBER: _number,
            Kind.STRING: _as_parsed,
            Kind.ENUM: _text_of,
            Kind.RECORD: self._record,
            Kind.ARRAY: self._array,
            Kind.MAP: self._map,
            Kind.UNION: self._union,
            Kind.REFERENCE: self._reference,
            Kind.ANY: lambda _node: _read_anything,
        }
        self.left = 0
        self.absent = 0

    def compile(self, node: Node) -> _Read:
        """Return the function that reads the values of a node."""
        make = self._makers.get(node.kind)
        if make is None:
            raise SchemaError(f"{node.kind} is nothing that JSON has", node.path)
        return make(node)

    def _record(self, node: Node) -> _Read:
        path = node.path
        slots = {
            entry.name: (index, _plain_type(entry.node), self.compile(entry.node))
            for index, entry in enumerate(node.fields)
        }
        required = {entry.name: entry.node.path for entry in node.fields if entry.required}
        needed = frozenset(required)
        slot_of = slots.get
        width = len(slots)
        nothing = [ABSENT] * width

        def read(value: Value) -> Value:
            if type(value) is not dict:
                _mismatch(path)
            if not needed <= value.keys():
                _mismatch(next(place for name, place in required.items() if name not in value))
            self.left -= len(value) + width
            if self.left < 0:
                raise DecodeError(Reason.TOO_MANY_ELEMENTS, path)
            if width > len(value):
                self.absent += width - len(value)
            record: list[Value] = nothing.copy()
            for name, item in value.items():
                slot = slot_of(name)
                if slot is not None:
                    index, plain, read_item = slot
                    record[index] = item if type(item) is plain else read_item(item)
            return record

        return read

    def _array(self, node: Node) -> _Read:
        path = node.path
        read_item = self.compile(_items(node))

        def read(value: Value) -> Value:
            if type(value) is not list:
                _mismatch(path)
            self.left -= len(value)
            if self.left < 0:
                raise DecodeError(Reason.TOO_MANY_ELEMENTS, path)
            return [read_item(item) for item in value]

        return read

    def _map(self, node: Node) -> _Read:
        path = node.path
        read_item = self.compile(_items(node))

        def read(value: Value) -> Value:
            if type(value) is not dict:
                _mismatch(path)
            self.left -= len(value)
            if self.left < 0:
                raise DecodeError(Reason.TOO_MANY_ELEMENTS, path)
            return {key: read_item(item) for key, item in value.items()}

        return read

    def _union(self, node: Node) -> _Read:
        path = node.path
        nullable = any(branch.kind is Kind.NULL for branch in node.branches)
        branches = [(index, branch) for index, branch in enumerate(node.branches) if branch.kind is not Kind.NULL]
        candidates: dict[type, list[tuple[int, _Read]]] = {}
        for index, branch in branches:
            read_branch = self.compile(branch)
            for json_type in self._json_types(branch):
                candidates.setdefault(json_type, []).append((index, read_branch))
        # Mostly the type decides. Then what is wrong inside of the branch is reported at its own place.
        only = {json_type: found[0] for json_type, found in candidates.items() if len(found) == 1}
        several = {json_type: tuple(found) for json_type, found in candidates.items() if len(found) > 1}

        def read(value: Value) -> Value:
            if value is None and nullable:
                return None
            decided = only.get(type(value))
            if decided is not None:
                return (decided[0], decided[1](value))
            for index, read_branch in several.get(type(value), ()):
                self.left -= 1
                if self.left < 0:
                    raise DecodeError(Reason.TOO_MANY_ELEMENTS, path)
                try:
                    return (index, read_branch(value))
                except DecodeError as error:
                    if error.reason != Reason.SCHEMA_MISMATCH:
                        raise
            return _mismatch(path)

        return read

    def _reference(self, node: Node) -> _Read:
        name, references = node.name, self._references
        if name not in references:
            # Inside of its own type a reference finds the name and goes on; the entry is there before any record is.
            references[name] = _read_anything
            references[name] = self.compile(self._types[name])

        def read(value: Value) -> Value:
            return references[name](value)

        return read

    def _json_types(self, node: Node) -> frozenset[type]:
        """Return the types that a parsed JSON value of this node may have."""
        match node.kind:
            case Kind.ANY:
                return frozenset(_JSON_TYPES.values())
            case Kind.REFERENCE:
                return self._json_types(self._types[node.name])
            case Kind.UNION:
                return frozenset().union(*map(self._json_types, node.branches))
            case _:
                return frozenset({_JSON_TYPES[node.kind]})


def _mismatch(path: str) -> NoReturn:
    raise DecodeError(Reason.SCHEMA_MISMATCH, path)


def _items(node: Node) -> Node:
    if node.items is None:
        raise SchemaError("an array or map without items", node.path)
    return node.items


def _plain_type(node: Node) -> type:
    """Return the type that is all there is to check of a value, or one that no value has."""
    plain = node.kind in _AS_PARSED and "enum" not in node.attributes
    return _JSON_TYPES[node.kind] if plain else _Never


def _read_anything(_value: Value) -> Value:
    return ABSENT


def _as_parsed(node: Node) -> _Read:
    path, expected = node.path, _JSON_TYPES[node.kind]

    def read(value: Value) -> Value:
        return value if type(value) is expected else _mismatch(path)

    return read


def _text_of(node: Node) -> _Read:
    path, symbols = node.path, frozenset(node.symbols)

    def read(value: Value) -> Value:
        return value if type(value) is str and value in symbols else _mismatch(path)

    return read


def _boolean(node: Node) -> _Read:
    path, allowed = node.path, frozenset(node.attributes.get("enum", (True, False)))

    def read(value: Value) -> Value:
        return value if type(value) is bool and value in allowed else _mismatch(path)

    return read


def _number(node: Node) -> _Read:
    path, integral = node.path, node.kind is Kind.INTEGER
    choices = node.attributes.get("enum")
    allowed = None if choices is None else frozenset(Decimal(repr(choice)) for choice in choices)

    def read(value: Value) -> Value:
        if type(value) is not JsonNumber:
            _mismatch(path)
        if integral and not value.isdigit() and not _is_integer(value):
            _mismatch(path)
        if allowed is not None and _decimal(value) not in allowed:
            _mismatch(path)
        return value

    return read


def _decimal(text: str) -> Decimal | None:
    """Return the value of a number, or None where its exponent is one that no decimal has."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _is_integer(text: str) -> bool:
    """Return whether a number has no fraction, as ``-5``, ``5.0`` and ``5e3`` have none."""
    number = _decimal(text)
    return number is not None and number == number.to_integral_value()
