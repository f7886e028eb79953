"""Python values as Avro data: the reverse of :mod:`tokenweir.core.avro_reader`, in the one canonical encoding.

Follows the Apache Avro 1.12 specification ("Binary Encoding"). Varints are as short as possible, and an array or map is
one block without its size.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tokenweir.core.avro_closures import Compiler, Value
from tokenweir.core.schema import Kind, Node, Schema
from tokenweir.errors import SchemaError

#: What Python raises where a value is not of the type that its writer expects.
_MISFITS: Final = (TypeError, AttributeError, ValueError, LookupError, OverflowError, struct.error)

_Append: TypeAlias = Callable[[bytes], None]
_Write: TypeAlias = Callable[[Value, _Append], None]


def writer(schema: Schema) -> Callable[[Value], bytes]:
    """Return a function that encodes one datum of a schema.

    The bytes that the reader took from a canonical writer come back the same.

    The function raises:
        SchemaError: The value does not fit the schema, which is a fault of whoever made it. The text has no part of it.
    """
    write_root = _WriterCompiler(schema.types).compile(schema.root)

    def write(value: Value) -> bytes:
        chunks: list[bytes] = []
        try:
            write_root(value, chunks.append)
            return b"".join(chunks)
        except _MISFITS:
            raise SchemaError("a value does not fit the schema") from None

    return write


class _WriterCompiler(Compiler[_Write]):
    def __init__(self, types: Mapping[str, Node]) -> None:
        super().__init__(types)
        #: Encodings of each enum's symbols, as an enum may be large and stand at many places.
        self._encodings: dict[tuple[str, ...], Mapping[str, bytes]] = {}

    def scalar(self, node: Node) -> _Write:
        if node.kind is Kind.ENUM:
            if node.symbols not in self._encodings:
                self._encodings[node.symbols] = {symbol: _encoded(index) for index, symbol in enumerate(node.symbols)}
            return _enum_writer(self._encodings[node.symbols])
        return _SCALARS[node.kind](node)

    def record(self, node: Node, fields: tuple[_Write, ...]) -> _Write:  # noqa: ARG002 - the reader needs the node
        return _record_writer(fields)

    def collection(self, node: Node, item: _Write) -> _Write:
        return _array_writer(item) if node.kind is Kind.ARRAY else _map_writer(item)

    def union(self, node: Node, branches: tuple[_Write, ...]) -> _Write:
        return _union_writer(node, branches)

    def reference(self, node: Node, level: int) -> _Write:  # noqa: ARG002 - values that were read are not too deep
        name, writers = node.name, self.repeated

        def write(value: Value, append: _Append) -> None:
            writers[name](value, append)

        return write


def _encoded(value: int) -> bytes:
    """Return the zigzag varint of an integer of up to 64 bits."""
    raw = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while raw > 0x7F:
        encoded.append(raw & 0x7F | 0x80)
        raw >>= 7
    encoded.append(raw)
    return bytes(encoded)


#: Varints of the lengths and counts that most data have.
_LENGTHS: Final = tuple(map(_encoded, range(1024)))
#: Varints of -64 to 63, so placed that a negative number is its own index from the end.
_ONE_BYTE: Final = tuple(map(_encoded, (*range(64), *range(-64, 0))))


def _misfit(path: str, expected: str) -> SchemaError:
    return SchemaError(f"a value is not {expected}", path)


def _null_writer(node: Node) -> _Write:
    path = node.path

    def write(value: Value, _append: _Append) -> None:
        if value is not None:
            raise _misfit(path, "null")

    return write


def _boolean_writer(node: Node) -> _Write:
    path = node.path

    def write(value: Value, append: _Append) -> None:
        if value is True:
            append(b"\x01")
        elif value is False:
            append(b"\x00")
        else:
            raise _misfit(path, "a boolean")

    return write


def _integer_writer(node: Node) -> _Write:
    path = node.path
    bits = 32 if node.kind is Kind.INT else 64
    lowest, highest = -(1 << bits - 1), (1 << bits - 1) - 1

    def write(value: Value, append: _Append) -> None:
        if -64 <= value <= 63:
            append(_ONE_BYTE[value])
        elif lowest <= value <= highest:
            append(_encoded(value))
        else:
            raise _misfit(path, f"an integer of {bits} bits")

    return write


def _float_writer(node: Node) -> _Write:
    path = node.path
    pack = struct.Struct("<f" if node.kind is Kind.FLOAT else "<d").pack
    is_finite = math.isfinite

    def write(value: Value, append: _Append) -> None:
        if not is_finite(value):
            raise _misfit(path, "a finite number")
        append(pack(value))

    return write


def _write_string(value: Value, append: _Append) -> None:
    encoded = value.encode()
    length = len(encoded)
    append(_LENGTHS[length] if length < 1024 else _encoded(length))
    append(encoded)


def _write_bytes(value: Value, append: _Append) -> None:
    length = len(value)
    append(_LENGTHS[length] if length < 1024 else _encoded(length))
    append(value)


def _fixed_writer(node: Node) -> _Write:
    path, size = node.path, node.size

    def write(value: Value, append: _Append) -> None:
        if len(value) != size:
            raise _misfit(path, f"{size} bytes long")
        append(value)

    return write


def _enum_writer(encodings: Mapping[str, bytes]) -> _Write:
    def write(value: Value, append: _Append) -> None:
        append(encodings[value])

    return write


def _record_writer(fields: tuple[_Write, ...]) -> _Write:
    def write(value: Value, append: _Append) -> None:
        for write_field, entry in zip(fields, value, strict=True):
            write_field(entry, append)

    return write


def _array_writer(write_item: _Write) -> _Write:
    def write(value: Value, append: _Append) -> None:
        count = len(value)
        if count:
            append(_LENGTHS[count] if count < 1024 else _encoded(count))
            for item in value:
                write_item(item, append)
        append(b"\x00")

    return write


def _map_writer(write_value: _Write) -> _Write:
    def write(value: Value, append: _Append) -> None:
        count = len(value)
        if count:
            append(_LENGTHS[count] if count < 1024 else _encoded(count))
            for key, entry in value.items():
                _write_string(key, append)
                write_value(entry, append)
        append(b"\x00")

    return write


def _union_writer(node: Node, writers: tuple[_Write, ...]) -> _Write:
    path = node.path
    kinds = [branch.kind for branch in node.branches]
    null = _encoded(kinds.index(Kind.NULL)) if Kind.NULL in kinds else None
    # A null is written as None; the pair of the null branch and a value is no value of the union.
    branches = {index: (_encoded(index), write) for index, write in enumerate(writers) if kinds[index] is not Kind.NULL}

    def write(value: Value, append: _Append) -> None:
        if value is None:
            if null is None:
                raise _misfit(path, "of a branch, as the union has no null")
            append(null)
            return
        index, content = value
        encoded, write_branch = branches[index]
        append(encoded)
        write_branch(content, append)

    return write


_SCALARS: Final[Mapping[Kind, Callable[[Node], _Write]]] = {
    Kind.NULL: _null_writer,
    Kind.BOOLEAN: _boolean_writer,
    Kind.INT: _integer_writer,
    Kind.LONG: _integer_writer,
    Kind.FLOAT: _float_writer,
    Kind.DOUBLE: _float_writer,
    Kind.STRING: lambda _node: _write_string,
    Kind.BYTES: lambda _node: _write_bytes,
    Kind.FIXED: _fixed_writer,
}
