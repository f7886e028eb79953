"""Avro data as Python values: a schema tree compiled once into closures that hold no further choice.

Follows the Apache Avro 1.12 specification ("Binary Encoding"). Hostile bytes cost no more than the limits say. A byte
pays for nothing, because one byte may stand for many values: each value that is made is either a place of the schema
outside of every collection, union and recursive type, or one of the ``elements`` of the budget. Counts are checked
before anything is built.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tokenweir.core.avro_closures import Compiler, Value
from tokenweir.core.avro_types import MAX_DEPTH
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import DEFAULT_LIMITS, Kind, Limits, Node, Schema
from tokenweir.errors import DecodeError

#: The integer that each one-byte varint stands for.
_SHORT: Final = tuple((byte >> 1) ^ -(byte & 1) for byte in range(128))
#: Places of the bits of a varint's second to tenth byte.
_SHIFTS: Final = tuple(range(7, 70, 7))
_BOOLEANS: Final = (False, True)


class _Budget:
    """What the record that is being read may still cost, and how deep its reader stands in recursive types."""

    __slots__ = ("elements", "level")

    def __init__(self, elements: int) -> None:
        self.elements = elements
        self.level = 0


#: ``(data, position, budget) -> (value, position behind it)``
_Read: TypeAlias = Callable[[bytes, int, _Budget], tuple[Value, int]]


class Reader:
    """Decodes one datum after the other.

    Levels are records, arrays and maps, not unions. A parsed schema has at most ``limits.depth`` of them, and data that
    return into a recursive type deeper than that are rejected.

    Attributes:
        elements: How much of ``limits.elements`` the datum took that was read last.
    """

    __slots__ = ("_limits", "_path", "_read", "elements")

    def __init__(self, schema: Schema, limits: Limits) -> None:
        self._read = _ReaderCompiler(schema.types, limits).compile(schema.root)
        self._limits = limits
        self._path = schema.root.path
        self.elements = 0

    def __call__(self, data: bytes) -> Value:
        """Return the datum that the bytes are.

        Raises:
            DecodeError: The bytes are no datum of the schema, hold more after it, or pass a limit. Nothing else is
                raised, whatever the bytes are.
        """
        limits = self._limits
        if len(data) > limits.bytes:
            raise DecodeError(Reason.TOO_LARGE, self._path)
        budget = _Budget(limits.elements)
        value, position = self._read(data, 0, budget)
        if position != len(data):
            raise DecodeError(Reason.TRAILING_BYTES, self._path, position)
        self.elements = limits.elements - budget.elements
        return value


def reader(schema: Schema, limits: Limits = DEFAULT_LIMITS) -> Reader:
    """Return what decodes the data of a schema."""
    return Reader(schema, limits)


def splitter(schema: Schema, limits: Limits = DEFAULT_LIMITS) -> Callable[[bytes, int], int]:
    """Return a function that finds the end of the datum that begins at a position.

    It is for the blocks of container files, in which data stand one behind the other. It raises DecodeError as
    :func:`reader` does; the limits are those of each datum.
    """
    read_root = _ReaderCompiler(schema.types, limits).compile(schema.root)
    max_elements = limits.elements

    def end_of(data: bytes, position: int) -> int:
        _value, end = read_root(data, position, _Budget(max_elements))
        return end

    return end_of


class _ReaderCompiler(Compiler[_Read]):
    def __init__(self, types: Mapping[str, Node], limits: Limits) -> None:
        super().__init__(types)
        self._limits = limits
        self._depth = min(limits.depth, MAX_DEPTH)
        self._type_costs: dict[str, int] = {}

    def scalar(self, node: Node) -> _Read:
        if node.kind in (Kind.BYTES, Kind.FIXED):
            most = self._limits.decimal_bytes if node.logical == "decimal" else self._limits.bytes
            return _bytes_reader(node.path, most) if node.kind is Kind.BYTES else _fixed_reader(node, most)
        return _SCALARS[node.kind](node)

    def record(self, node: Node, fields: tuple[_Read, ...]) -> _Read:  # noqa: ARG002 - as the base class has it
        return _record_reader(fields)

    def collection(self, node: Node, item: _Read) -> _Read:
        cost = 1 if node.items is None else _cost(node.items)
        make = _array_reader if node.kind is Kind.ARRAY else _map_reader
        return make(node.path, item, cost)

    def union(self, node: Node, branches: tuple[_Read, ...]) -> _Read:
        paid = [_paying(branch, read) for branch, read in zip(node.branches, branches, strict=True)]
        return _union_reader(node, tuple(paid))

    def reference(self, node: Node, level: int) -> _Read:
        name, path, depth, readers = node.name, node.path, self._depth, self.repeated
        if name not in self._type_costs:
            self._type_costs[name] = _cost(self.named(node))
        cost = self._type_costs[name]

        def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
            budget.level += level
            if budget.level >= depth:
                raise DecodeError(Reason.TOO_DEEP, path, position)
            budget.elements -= cost
            if budget.elements < 0:
                raise DecodeError(Reason.TOO_MANY_ELEMENTS, path, position)
            value, position = readers[name](data, position, budget)
            budget.level -= level
            return value, position

        return read


def _varint(data: bytes, position: int, path: str) -> tuple[int, int]:
    """Return the zigzag varint of up to ten bytes at ``position``, and the position behind it."""
    start = position
    try:
        raw = data[position] & 0x7F
        if raw == data[position]:
            return _SHORT[raw], position + 1
        for shift in _SHIFTS:
            position += 1
            byte = data[position]
            if byte < 0x80:
                raw |= byte << shift
                break
            raw |= (byte & 0x7F) << shift
        else:
            raise DecodeError(Reason.MALFORMED, path, start)
    except IndexError:
        raise DecodeError(Reason.MALFORMED, path, start) from None
    if raw >> 64:
        raise DecodeError(Reason.OUT_OF_RANGE, path, start)
    return (raw >> 1) ^ -(raw & 1), position + 1


def _read_null(_data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
    return None, position


def _boolean_reader(node: Node) -> _Read:
    path = node.path

    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        try:
            return _BOOLEANS[data[position]], position + 1
        except IndexError:
            raise DecodeError(Reason.MALFORMED, path, position) from None

    return read


def _integer_reader(node: Node) -> _Read:
    path = node.path
    bits = 32 if node.kind is Kind.INT else 64
    lowest, highest = -(1 << bits - 1), (1 << bits - 1) - 1

    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        try:
            byte = data[position]
        except IndexError:
            raise DecodeError(Reason.MALFORMED, path, position) from None
        if byte < 0x80:
            return _SHORT[byte], position + 1
        value, end = _varint(data, position, path)
        if lowest <= value <= highest:
            return value, end
        raise DecodeError(Reason.OUT_OF_RANGE, path, position)

    return read


def _float_reader(node: Node) -> _Read:
    path = node.path
    form = struct.Struct("<f" if node.kind is Kind.FLOAT else "<d")
    unpack_from, size, is_finite = form.unpack_from, form.size, math.isfinite

    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        try:
            (value,) = unpack_from(data, position)
        except struct.error:
            raise DecodeError(Reason.MALFORMED, path, position) from None
        if is_finite(value):
            return value, position + size
        raise DecodeError(Reason.NON_FINITE, path, position)

    return read


def _length(data: bytes, position: int, path: str) -> tuple[int, int]:
    """Return the length before a string or bytes that is not a plain one-byte length, and the position behind it."""
    length, end = _varint(data, position, path)
    if length < 0:
        raise DecodeError(Reason.MALFORMED, path, position)
    return length, end


def _string_reader(path: str) -> _Read:
    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        try:
            length = data[position]
        except IndexError:
            raise DecodeError(Reason.MALFORMED, path, position) from None
        if length & 0x81:
            length, start = _length(data, position, path)
        else:
            length >>= 1
            start = position + 1
        end = start + length
        if end > len(data):
            raise DecodeError(Reason.MALFORMED, path, position)
        try:
            return data[start:end].decode(), end
        except UnicodeDecodeError:
            raise DecodeError(Reason.INVALID_UTF8, path, start) from None

    return read


def _bytes_reader(path: str, most: int) -> _Read:
    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        length, start = _length(data, position, path)
        end = start + length
        if end > len(data):
            raise DecodeError(Reason.MALFORMED, path, position)
        if length > most:
            raise DecodeError(Reason.TOO_LARGE, path, position)
        return data[start:end], end

    return read


def _fixed_reader(node: Node, most: int) -> _Read:
    path, size = node.path, node.size

    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        end = position + size
        if end > len(data):
            raise DecodeError(Reason.MALFORMED, path, position)
        if size > most:
            raise DecodeError(Reason.TOO_LARGE, path, position)
        return data[position:end], end

    return read


def _enum_reader(node: Node) -> _Read:
    path, symbols = node.path, node.symbols
    short = {index << 1: symbol for index, symbol in enumerate(symbols[:64])}

    def read(data: bytes, position: int, _budget: _Budget) -> tuple[Value, int]:
        try:
            return short[data[position]], position + 1
        except (IndexError, KeyError):
            index, end = _varint(data, position, path)
        if 0 <= index < len(symbols):
            return symbols[index], end
        raise DecodeError(Reason.OUT_OF_RANGE, path, position)

    return read


def _cost(node: Node) -> int:
    """Return how many values every reading of a node makes: itself and, of a record, those of its fields.

    What is below a union, an array or a map is paid for when the branch or the count has been read.
    """
    if node.kind is not Kind.RECORD:
        return 1
    return 1 + sum(_cost(entry.node) for entry in node.fields)


def _paying(branch: Node, read_branch: _Read) -> _Read:
    """Return the reader of a union's branch that also pays for what a record makes beside itself."""
    cost, path = _cost(branch) - 1, branch.path
    if not cost:
        return read_branch

    def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        budget.elements -= cost
        if budget.elements < 0:
            raise DecodeError(Reason.TOO_MANY_ELEMENTS, path, position)
        return read_branch(data, position, budget)

    return read


def _record_reader(fields: tuple[_Read, ...]) -> _Read:
    def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        values: list[Value] = []
        append = values.append
        for read_field in fields:
            value, position = read_field(data, position, budget)
            append(value)
        return values, position

    return read


def _block(data: bytes, position: int, budget: _Budget, path: str, cost: int) -> tuple[int, int, int]:
    """Read the head of a block of items and pay for them; return their count, their start, their end or -1.

    -1 stands for an end that the block does not give.
    """
    if data[position : position + 1] == b"\0":
        return 0, position + 1, -1
    count, start = _varint(data, position, path)
    end = -1
    if count < 0:
        count = -count
        size, start = _length(data, start, path)
        end = start + size
        if end > len(data):
            raise DecodeError(Reason.MALFORMED, path, position)
    budget.elements -= count * cost
    if budget.elements < 0:
        raise DecodeError(Reason.TOO_MANY_ELEMENTS, path, position)
    return count, start, end


def _array_reader(path: str, read_item: _Read, cost: int) -> _Read:
    def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        values: list[Value] = []
        append = values.append
        while True:
            count, position, end = _block(data, position, budget, path, cost)
            if not count:
                return values, position
            for _ in range(count):
                value, position = read_item(data, position, budget)
                append(value)
            if end not in (-1, position):
                raise DecodeError(Reason.MALFORMED, path, position)

    return read


def _map_reader(path: str, read_value: _Read, cost: int) -> _Read:
    read_key = _string_reader(path)

    def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        entries: dict[str, Value] = {}
        while True:
            count, position, end = _block(data, position, budget, path, cost)
            if not count:
                return entries, position
            for _ in range(count):
                key, start = read_key(data, position, budget)
                if key in entries:
                    raise DecodeError(Reason.DUPLICATE_KEY, path, position)
                entries[key], position = read_value(data, start, budget)
            if end not in (-1, position):
                raise DecodeError(Reason.MALFORMED, path, position)

    return read


def _union_reader(node: Node, branches: tuple[_Read, ...]) -> _Read:
    path = node.path
    kinds = [branch.kind for branch in node.branches]
    null = kinds.index(Kind.NULL) if Kind.NULL in kinds else None

    def read(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        index, start = _varint(data, position, path)
        if index == null:
            return None, start
        if not 0 <= index < len(branches):
            raise DecodeError(Reason.OUT_OF_RANGE, path, position)
        value, end = branches[index](data, start, budget)
        return (index, value), end

    if null is None or len(branches) != 2:
        return read
    present = 1 - null
    null_byte, present_byte, read_present = null << 1, present << 1, branches[present]

    def read_optional(data: bytes, position: int, budget: _Budget) -> tuple[Value, int]:
        try:
            byte = data[position]
        except IndexError:
            raise DecodeError(Reason.MALFORMED, path, position) from None
        if byte == present_byte:
            value, end = read_present(data, position + 1, budget)
            return (present, value), end
        if byte == null_byte:
            return None, position + 1
        return read(data, position, budget)

    return read_optional


_SCALARS: Final[Mapping[Kind, Callable[[Node], _Read]]] = {
    Kind.NULL: lambda _node: _read_null,
    Kind.BOOLEAN: _boolean_reader,
    Kind.INT: _integer_reader,
    Kind.LONG: _integer_reader,
    Kind.FLOAT: _float_reader,
    Kind.DOUBLE: _float_reader,
    Kind.STRING: lambda node: _string_reader(node.path),
    Kind.ENUM: _enum_reader,
}
