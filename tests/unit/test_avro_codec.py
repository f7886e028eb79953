"""Avro data as values and back: known bytes, malformed bytes, bombs, values that do not fit."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tokenweir.core import avro
from tokenweir.core.avro_codec import Reader, Value, reader, writer
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import ABSENT, DEFAULT_LIMITS, Field, Kind, Limits, Node, Schema
from tokenweir.errors import DecodeError, SchemaError

ITEMS_OF_NULL = {"type": "array", "items": "null"}
TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "left", "type": ["null", "Tree"]}, {"name": "right", "type": ["null", "Tree"]}],
}
NESTED = {
    "type": "record",
    "name": "Nested",
    "fields": [{"name": "inside", "type": {"type": "array", "items": "Nested"}}],
}
RECORD = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B", "C", "D"]}
WIDE_ENUM = {"type": "enum", "name": "E", "symbols": [f"S{number}" for number in range(100)]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
MAP = {"type": "map", "values": "long"}
LONGS = {"type": "array", "items": "long"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 200}


def schema_of(source: object) -> Schema:
    """Parse a schema that is written as a Python value."""
    return avro.parse(json.dumps(source))


def reader_of(source: object, **limits: int) -> Reader:
    """Return the reader of a schema, under other limits than the usual ones."""
    return reader(schema_of(source), replace(DEFAULT_LIMITS, **limits))


def rejection(source: object, data: bytes, **limits: int) -> DecodeError:
    """Return the error with which bytes are rejected."""
    with pytest.raises(DecodeError) as caught:
        reader_of(source, **limits)(data)
    return caught.value


# The examples of the Avro 1.12 specification, "Binary Encoding", and the edges of each type.
@pytest.mark.parametrize(
    ("source", "encoded", "value"),
    [
        ("null", "", None),
        ("boolean", "00", False),
        ("boolean", "01", True),
        ("long", "00", 0),
        ("long", "01", -1),
        ("long", "02", 1),
        ("long", "03", -2),
        ("long", "04", 2),
        ("long", "7f", -64),
        ("long", "8001", 64),
        ("int", "feffffff0f", 2**31 - 1),
        ("int", "ffffffff0f", -(2**31)),
        ("long", "feffffffffffffffff01", 2**63 - 1),
        ("long", "ffffffffffffffffff01", -(2**63)),
        ("float", "0000c03f", 1.5),
        ("float", "ffff7f7f", 3.4028234663852886e38),
        ("float", "00000080", -0.0),
        ("double", "000000000000f8bf", -1.5),
        ("double", "ffffffffffffef7f", sys.float_info.max),
        ("bytes", "0400ff", b"\x00\xff"),
        ("string", "00", ""),
        ("string", "06666f6f", "foo"),
        ("string", "08f09f9880", "\U0001f600"),
        (RECORD, "3606666f6f", [27, "foo"]),
        (ENUM, "06", "D"),
        (WIDE_ENUM, "7e", "S63"),
        (WIDE_ENUM, "8001", "S64"),
        (LONGS, "00", []),
        (LONGS, "04063600", [3, 27]),
        (MAP, "00", {}),
        (MAP, "04026202026102 00", {"b": 1, "a": 1}),
        (["null", "string"], "00", None),
        (["null", "string"], "020261", (1, "a")),
        (["string", "null"], "02", None),
        (["string", "null"], "000261", (0, "a")),
        (["string"], "000261", (0, "a")),
        (["int", "null", "string"], "02", None),
        (["int", "null", "string"], "040261", (2, "a")),
        (["int", "string"], "0002", (0, 1)),
        (FIXED, "abcd", b"\xab\xcd"),
        ({"type": "fixed", "name": "F", "size": 0}, "", b""),
        ({"type": "long", "logicalType": "timestamp-millis"}, "02", 1),
        ({"type": "int", "logicalType": "date"}, "02", 1),
        ({"type": "string", "logicalType": "uuid"}, "0278", "x"),
        (DECIMAL, "0401ff", b"\x01\xff"),
        (TREE, "02 00 02 00 00 00", [(1, [None, (1, [None, None])]), None]),
    ],
)
def test_known_encodings(source: object, encoded: str, value: Value) -> None:
    """Known bytes give the known value, and the value gives the bytes back."""
    data = bytes.fromhex(encoded)
    found = reader_of(source)(data)
    assert found == value
    assert type(found) is type(value)
    assert writer(schema_of(source))(value) == data


@pytest.mark.parametrize(
    ("source", "encoded", "value"),
    [
        ("long", "80808080808080808000", 0),
        ("int", "8200", 1),
        ("string", "820061", "a"),
        (ENUM, "8600", "D"),
        (["null", "string"], "820082 0061", (1, "a")),
        (["null", "string"], "8000", None),
        (LONGS, "0206 0236 00", [3, 27]),
        (LONGS, "03040636 00", [3, 27]),
        (LONGS, "0102 06 0236 8000", [3, 27]),
        (LONGS, "0102 06 01 02 36 00", [3, 27]),
        (MAP, "0106 026102 02 026204 00", {"a": 1, "b": 2}),
        ("boolean", "01", True),
    ],
)
def test_other_encodings_of_a_value_become_canonical(source: object, encoded: str, value: Value) -> None:
    """Long varints, several blocks and blocks with sizes are read as the specification allows, and never written."""
    found = reader_of(source)(bytes.fromhex(encoded))
    assert found == value
    again = writer(schema_of(source))(found)
    assert len(again) <= len(bytes.fromhex(encoded))
    assert reader_of(source)(again) == value


TOO_LONG = "80" * 10 + "01"
BEYOND_64_BITS = "80" * 9 + "02"


@pytest.mark.parametrize(
    ("source", "encoded", "reason", "path", "position"),
    [
        ("boolean", "", Reason.MALFORMED, "", 0),
        ("boolean", "02", Reason.MALFORMED, "", 0),
        ("int", "", Reason.MALFORMED, "", 0),
        ("int", "80", Reason.MALFORMED, "", 0),
        ("int", "8080808010", Reason.OUT_OF_RANGE, "", 0),
        ("int", "8180808010", Reason.OUT_OF_RANGE, "", 0),
        ("long", TOO_LONG, Reason.MALFORMED, "", 0),
        ("long", "80" * 9, Reason.MALFORMED, "", 0),
        ("long", BEYOND_64_BITS, Reason.OUT_OF_RANGE, "", 0),
        ("float", "000000", Reason.MALFORMED, "", 0),
        ("double", "00000000000000", Reason.MALFORMED, "", 0),
        ("float", "0000807f", Reason.NON_FINITE, "", 0),
        ("float", "0000c0ff", Reason.NON_FINITE, "", 0),
        ("double", "000000000000f0ff", Reason.NON_FINITE, "", 0),
        ("double", "000000000000f87f", Reason.NON_FINITE, "", 0),
        ("string", "", Reason.MALFORMED, "", 0),
        ("string", "0461", Reason.MALFORMED, "", 0),
        ("string", "01", Reason.MALFORMED, "", 0),
        ("string", "ffff03", Reason.MALFORMED, "", 0),
        ("string", "feffffffffffffffff01", Reason.MALFORMED, "", 0),
        ("string", TOO_LONG, Reason.MALFORMED, "", 0),
        ("string", "02ff", Reason.INVALID_UTF8, "", 1),
        ("string", "06eda080", Reason.INVALID_UTF8, "", 1),
        ("string", "04c080", Reason.INVALID_UTF8, "", 1),
        ("bytes", "0461", Reason.MALFORMED, "", 0),
        ("bytes", "01", Reason.MALFORMED, "", 0),
        ("bytes", "feffffffffffffffff01", Reason.MALFORMED, "", 0),
        (FIXED, "ab", Reason.MALFORMED, "", 0),
        (RECORD, "36", Reason.MALFORMED, "b", 1),
        (RECORD, "3602ff", Reason.INVALID_UTF8, "b", 2),
        (RECORD, "3606666f6f00", Reason.TRAILING_BYTES, "", 5),
        ("null", "00", Reason.TRAILING_BYTES, "", 0),
        (ENUM, "08", Reason.OUT_OF_RANGE, "", 0),
        (ENUM, "01", Reason.OUT_OF_RANGE, "", 0),
        (ENUM, "", Reason.MALFORMED, "", 0),
        (["null", "string"], "", Reason.MALFORMED, "", 0),
        (["null", "string"], "04", Reason.OUT_OF_RANGE, "", 0),
        (["null", "string"], "01", Reason.OUT_OF_RANGE, "", 0),
        (["int", "string"], "01", Reason.OUT_OF_RANGE, "", 0),
        (["int", "string"], "0204", Reason.MALFORMED, "<string>", 1),
        (LONGS, "", Reason.MALFORMED, "", 0),
        (LONGS, "0406", Reason.MALFORMED, "[*]", 2),
        (LONGS, "040636", Reason.MALFORMED, "", 3),
        # A block of two longs in two bytes says that it has one, three, minus one and far too many bytes.
        (LONGS, "0302063600", Reason.MALFORMED, "", 4),
        (LONGS, "030606360000", Reason.MALFORMED, "", 4),
        (LONGS, "0301063600", Reason.MALFORMED, "", 1),
        (LONGS, "03fe07063600", Reason.MALFORMED, "", 0),
        (MAP, "01040261020000", Reason.MALFORMED, "", 5),
        (MAP, "04026102 02610400", Reason.DUPLICATE_KEY, "", 4),
        (MAP, "02026102 02026104 00", Reason.DUPLICATE_KEY, "", 5),
        (MAP, "0202ff0200", Reason.INVALID_UTF8, "", 2),
        (MAP, "020261", Reason.MALFORMED, "{*}", 3),
        (DECIMAL, "8201" + "00" * 65, Reason.TOO_LARGE, "", 0),
    ],
)
def test_rejected_bytes(source: object, encoded: str, reason: Reason, path: str, position: int) -> None:
    """What is no encoding of the schema is rejected with its reason, the schema's path and the byte."""
    error = rejection(source, bytes.fromhex(encoded))
    assert (error.reason, error.path, error.position) == (reason, path, position)


def test_map_keys_are_no_part_of_an_error() -> None:
    """The path of a value in a map is that of all its values."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "m", "type": MAP}]}
    error = rejection(schema, bytes.fromhex("0206736563") + b"\x80")
    assert error.path == "m{*}"
    assert "sec" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_decimals_have_a_size_limit() -> None:
    """64 bytes are read; a decimal of more, as bytes or as fixed, is too large."""
    assert reader_of(DECIMAL)(b"\x80\x01" + b"\x01" * 64) == b"\x01" * 64
    assert rejection(DECIMAL, b"\xd0\x0f" + b"\x01" * 1000).reason == Reason.TOO_LARGE
    fixed = {"type": "fixed", "name": "F", "logicalType": "decimal", "precision": 10}
    assert reader_of(fixed | {"size": 64})(b"\x01" * 64) == b"\x01" * 64
    assert rejection(fixed | {"size": 65}, b"\x01" * 65).reason == Reason.TOO_LARGE
    assert reader_of({"type": "fixed", "name": "F", "size": 65})(b"\x01" * 65) == b"\x01" * 65


def test_a_record_has_a_size_limit() -> None:
    """The bytes of the whole record are limited before any of them is looked at."""
    assert reader_of("string", bytes=4)(b"\x06foo") == "foo"
    assert rejection("string", b"\xff" * 5, bytes=4).reason == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("source", "data"),
    [
        # 20 and 268 million elements in five bytes, and the largest count that there is.
        (ITEMS_OF_NULL, bytes.fromhex("80b489130000")),
        (ITEMS_OF_NULL, bytes.fromhex("feffffff0f00")),
        (ITEMS_OF_NULL, bytes.fromhex("feffffffffffffffff0100")),
        (ITEMS_OF_NULL, bytes.fromhex("ffffffffffffffffff010000")),
        # Many small blocks of nothing.
        (ITEMS_OF_NULL, b"\x7e" * 10_000 + b"\x00"),
        ({"type": "array", "items": {"type": "array", "items": "null"}}, b"\x7e" + b"\xfe\x7f\x00" * 64 + b"\x00"),
        ({"type": "map", "values": "null"}, bytes.fromhex("feffffff0f00")),
        (LONGS, bytes.fromhex("feffffff0f00")),
        ({"type": "array", "items": {"type": "record", "name": "R", "fields": []}}, bytes.fromhex("feffffff0f00")),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, bytes.fromhex("feffffff0f00")),
        # 60,000 elements pass by themselves, but each of them is a record of a thousand nulls.
        (
            {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "R",
                    "fields": [{"name": f"f{number}", "type": "null"} for number in range(1000)],
                },
            },
            bytes.fromhex("c0a90700"),
        ),
        # The same, one empty record deeper, and behind a union.
        (
            {
                "type": "array",
                "items": [
                    "null",
                    {
                        "type": "record",
                        "name": "R",
                        "fields": [
                            {"name": f"f{number}", "type": {"type": "record", "name": f"E{number}", "fields": []}}
                            for number in range(1000)
                        ],
                    },
                ],
            },
            bytes.fromhex("c0a907") + b"\x02" * 60_000 + b"\x00",
        ),
    ],
)
def test_element_bombs(source: object, data: bytes) -> None:
    """More elements than the budget are rejected before they are built."""
    started = time.perf_counter()
    assert rejection(source, data).reason == Reason.TOO_MANY_ELEMENTS
    assert time.perf_counter() - started < 2


def _chain(levels: int) -> dict[str, Any]:
    """Return a record type with so many records inside of each other, and one number in the innermost."""
    inside: Any = "int"
    for level in range(levels):
        inside = {"type": "record", "name": f"L{level}", "fields": [{"name": "n", "type": inside}]}
    chain: dict[str, Any] = inside
    return chain


@pytest.mark.parametrize(
    ("source", "fits", "too_many"),
    [
        # One byte each, and nine values: eight records and the number.
        ({"type": "array", "items": _chain(8)}, b"\x04" + bytes(2) + b"\x00", b"\x06" + bytes(3) + b"\x00"),
        # The same behind a key, and in a block with a size.
        (
            {"type": "map", "values": _chain(8)},
            b"\x04\x02a\x00\x02b\x00\x00",
            b"\x05\x0c\x02a\x00\x02b\x00\x02c\x00\x00",
        ),
        # Behind a union only the branch that is there is paid for.
        (
            {"type": "array", "items": ["null", _chain(8)]},
            b"\x06\x02\x00\x00\x02\x00\x00",
            b"\x06\x02\x00\x02\x00\x02\x00\x00",
        ),
        # A union costs one, be it null or not, and so does an array of its own.
        (
            {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "R",
                    "fields": [{"name": "a", "type": ["null", "int"]}, {"name": "b", "type": LONGS}],
                },
            },
            b"\x0c" + b"\x00\x00" * 6 + b"\x00",
            b"\x0e" + b"\x00\x00" * 7 + b"\x00",
        ),
        # A recursive type is paid for whenever it returns into itself.
        (
            {
                "type": "record",
                "name": "T",
                "fields": [{"name": "a", "type": _chain(8)}, {"name": "t", "type": ["null", "T"]}],
            },
            b"\x00\x02\x00\x00",
            b"\x00\x02\x00\x02\x00\x00",
        ),
    ],
)
def test_every_value_in_a_collection_is_paid_for(source: object, fits: bytes, too_many: bytes) -> None:
    """What one byte stands for counts, not the byte: nested records and unions cannot make more than the limit."""
    read = reader_of(source, elements=20)
    assert read(fits)
    assert 10 < read.elements <= 20
    error = rejection(source, too_many, elements=20)
    assert error.reason == Reason.TOO_MANY_ELEMENTS
    assert rejection(source, too_many, elements=read.elements).reason == Reason.TOO_MANY_ELEMENTS
    assert reader_of(source, elements=read.elements)(fits) == read(fits)


def test_fields_outside_of_collections_cost_nothing() -> None:
    """A tight limit on elements does not forbid a wide schema."""
    assert reader_of(_chain(8), elements=0)(b"\x02")


def test_the_budget_is_one_for_the_whole_record() -> None:
    """Elements of all arrays and maps count together, up to the limit exactly, and anew for each record."""
    pair = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "a", "type": ITEMS_OF_NULL}, {"name": "m", "type": MAP}],
    }
    read = reader_of(pair, elements=5)
    fits = bytes.fromhex("0600 04 026102 026204 00")
    for _ in range(3):
        assert read(fits) == [[None] * 3, {"a": 1, "b": 2}]
    assert rejection(pair, b"\x08" + fits[1:], elements=5).reason == Reason.TOO_MANY_ELEMENTS


def test_depth_of_recursive_data() -> None:
    """64 levels of records and arrays are read, one more is rejected, and a million more do no harm."""
    read = reader_of(NESTED)
    # 32 records with an array each; the innermost array is empty.
    assert read(b"\x02" * 31 + b"\x00" * 32) != []
    error = rejection(NESTED, b"\x02" * 32 + b"\x00" * 33)
    assert (error.reason, error.path, error.position) == (Reason.TOO_DEEP, "inside[*]", 32)
    for depth in (100, 1000, 5000, 1_000_000):
        assert rejection(NESTED, b"\x02" * depth).reason == Reason.TOO_DEEP
    # Unions are no levels: 64 records, each in a field of the one before.
    deep = b"\x02" * 63 + b"\x00" * 65
    value = reader_of(TREE)(deep)
    assert writer(schema_of(TREE))(value) == deep
    assert rejection(TREE, b"\x02" * 64 + b"\x00" * 66).reason == Reason.TOO_DEEP
    assert rejection(TREE, b"\x02" * 1_000_000).reason == Reason.TOO_DEEP
    assert rejection(TREE, b"\x02" * 10 + b"\x00" * 12, depth=10).reason == Reason.TOO_DEEP


def test_depth_is_measured_anew_after_each_branch() -> None:
    """Siblings do not add up: what has been left no longer counts."""
    leaf = b"\x02\x00\x00"
    nested = {"type": "record", "name": "N", "fields": [{"name": "kids", "type": {"type": "array", "items": "N"}}]}
    assert len(reader_of(nested)(b"\xd0\x0f" + b"\x00" * 1000 + b"\x00")[0]) == 1000
    assert reader_of(TREE)(leaf[:1] + b"\x00\x00\x02\x00\x00") == [(1, [None, None]), (1, [None, None])]


def test_a_tree_of_many_small_records_is_bounded() -> None:
    """Each return into a recursive type takes an element of the budget, so that width is limited like depth."""

    def full(levels: int) -> bytes:
        return b"\x00\x00" if not levels else (b"\x02" + full(levels - 1)) * 2

    assert reader_of(TREE)(full(10))
    assert rejection(TREE, full(17)).reason == Reason.TOO_MANY_ELEMENTS


def test_a_record_that_must_contain_itself() -> None:
    """A type that can hold no finite value is rejected and does not recurse."""
    endless = {"type": "record", "name": "R", "fields": [{"name": "again", "type": "R"}]}
    assert rejection(endless, b"").reason == Reason.TOO_DEEP


def test_types_that_all_contain_each_other_compile() -> None:
    """A chain of records whose last one refers to all of them compiles without deep recursion."""
    names = [f"R{level}" for level in range(60)]
    source: dict[str, Any] = {
        "type": "record",
        "name": "Last",
        "fields": [{"name": f"to_{name}", "type": ["null", name]} for name in names],
    }
    for name in reversed(names):
        source = {"type": "record", "name": name, "fields": [{"name": "next", "type": source}]}
    data = b"\x00" * 60
    assert writer(schema_of(source))(reader_of(source)(data)) == data
    into_last = b"\x00" * 59 + b"\x02" + b"\x00" * 60
    assert writer(schema_of(source))(reader_of(source)(into_last)) == into_last


def test_a_reader_may_be_used_by_several_threads() -> None:
    """The budget and the level belong to one call, not to the reader."""
    read = reader_of(NESTED)
    data = [b"\x02" * depth + b"\x00" * (depth + 1) for depth in range(31)] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, data)) == list(map(read, data))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("null", 0),
        ("null", ABSENT),
        ("boolean", 1),
        ("boolean", None),
        ("int", 2**31),
        ("int", -(2**31) - 1),
        ("int", 1.5),
        ("int", "1"),
        ("int", None),
        ("long", 2**63),
        ("long", -(2**63) - 1),
        ("long", 1e9),
        ("long", ABSENT),
        ("float", 1e300),
        ("float", float("nan")),
        ("float", "1"),
        ("double", float("inf")),
        ("double", 10**400),
        ("double", None),
        ("string", b"a"),
        ("string", None),
        ("string", "\ud800"),
        ("bytes", "a"),
        ("bytes", None),
        (FIXED, b"a"),
        (FIXED, b"abc"),
        (FIXED, "ab"),
        (ENUM, "E"),
        (ENUM, None),
        (ENUM, ["A"]),
        (RECORD, [1]),
        (RECORD, [1, "a", "b"]),
        (RECORD, None),
        (RECORD, [1, ABSENT]),
        (LONGS, None),
        (LONGS, 0),
        (LONGS, ["a"]),
        (MAP, None),
        (MAP, {1: 1}),
        (MAP, [1]),
        (["null", "string"], "a"),
        (["null", "string"], (0, None)),
        (["null", "string"], (2, "a")),
        (["null", "string"], (-1, "a")),
        (["null", "string"], (1, None)),
        (["int", "string"], None),
        (["int", "string"], (0, "a")),
    ],
)
def test_values_that_do_not_fit_are_never_written(source: object, value: Value) -> None:
    """A value of another type or range is an error of one kind, without the value in its text or context."""
    with pytest.raises(SchemaError) as caught:
        writer(schema_of(source))(value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    "root",
    [Node(Kind.INTEGER), Node(Kind.NUMBER), Node(Kind.ARRAY), Node(Kind.REFERENCE, name="Nowhere")],
)
@pytest.mark.parametrize("make", [reader, writer])
def test_trees_that_are_not_avro(root: Node, make: Callable[[Schema], object]) -> None:
    """A tree with JSON numbers, half a collection or a dangling reference has no reader and no writer."""
    with pytest.raises(SchemaError):
        make(Schema(root, "avro"))


def test_a_writer_has_the_symbols_of_an_enum_once() -> None:
    """However many places use it; a table for each would take gigabytes for a schema of a megabyte."""
    symbols = tuple(f"S{number}" for number in range(5000))
    fields = tuple(Field(f"e{number}", Node(Kind.ENUM, name="E", symbols=symbols)) for number in range(100))
    tracemalloc.start()
    try:
        write = writer(Schema(Node(Kind.RECORD, name="R", fields=fields), "avro"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert write([symbols[index] for index in range(100)])[:2] == b"\x00\x02"


def test_limits_hold_for_the_defaults() -> None:
    """Without limits of its own a reader has those of the specification of the gateway."""
    assert Limits() == DEFAULT_LIMITS
    read = reader(schema_of(ITEMS_OF_NULL))
    assert len(read(bytes.fromhex("a08d0600"))) == 50_000
    with pytest.raises(DecodeError):
        read(bytes.fromhex("a28d0600"))
