"""The Avro codec against fastavro, on the published schemas and on random ones, and against broken bytes."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.core import avro
from tokenweir.core.avro_codec import Value, reader, writer
from tokenweir.core.outcome import REASONS, Reason, Stage
from tokenweir.core.schema import DEFAULT_LIMITS, Kind, Node, Schema
from tokenweir.errors import DecodeError, SchemaError

DATA = Path(__file__).parents[1] / "data" / "avro"
PATHS = sorted(DATA.rglob("*.avsc"))
#: A schema or a value as fastavro takes it.
Json: TypeAlias = Any
#: What each schema of the folder "references" needs, in order.
REFERENCES = {
    "customer": ("address",),
    "member": ("membership-level",),
    "enriched-checkin": ("membership-level",),
    "customer-command": ("address", "customer"),
}
DEEPEST_VALUE = 6

each_schema = pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
few = settings(max_examples=10, deadline=None)
#: A published schema has a decimal of more bytes than the gateway takes by default.
ROOMY = replace(DEFAULT_LIMITS, decimal_bytes=1000)


def without_logical_types(source: Json) -> Json:
    """Return a schema as fastavro reads it without converting values, the only difference that is meant."""
    if isinstance(source, dict):
        return {key: without_logical_types(value) for key, value in source.items() if key != "logicalType"}
    if isinstance(source, list):
        return [without_logical_types(value) for value in source]
    return source


@cache
def published(path: Path) -> tuple[Schema, Json]:
    """Return a published schema as ours and as fastavro's."""
    needed = REFERENCES.get(path.stem, ()) if path.parent.name == "references" else ()
    texts = [path.with_name(f"{name}.avsc").read_text(encoding="utf-8") for name in needed]
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for reference in texts:
        fastavro.parse_schema(without_logical_types(json.loads(reference)), named_schemas=names)
    return avro.parse(text, texts), fastavro.parse_schema(without_logical_types(json.loads(text)), named_schemas=names)


def values(node: Node, types: Mapping[str, Node], depth: int = 0) -> st.SearchStrategy[Value]:
    """Return a strategy for all values of a node; below a certain depth unions are null and collections empty."""
    deep = depth >= DEEPEST_VALUE
    match node.kind:
        case Kind.RECORD:
            return st.tuples(*(values(entry.node, types, depth + 1) for entry in node.fields)).map(list)
        case Kind.ARRAY:
            assert node.items is not None
            return st.lists(values(node.items, types, depth + 1), max_size=3) if not deep else st.just([])
        case Kind.MAP:
            assert node.items is not None
            entry = values(node.items, types, depth + 1)
            return st.dictionaries(st.text(max_size=5), entry, max_size=3) if not deep else st.just({})
        case Kind.UNION:
            return st.one_of(
                *(
                    st.none()
                    if branch.kind is Kind.NULL
                    else st.tuples(st.just(index), values(branch, types, depth + 1))
                    for index, branch in enumerate(node.branches)
                    if not deep or branch.kind is Kind.NULL or Kind.NULL not in {other.kind for other in node.branches}
                )
            )
        case Kind.REFERENCE:
            return st.deferred(lambda: values(types[node.name], types, depth + 1))
        case _:
            return SCALARS[node.kind](node)


SCALARS: Mapping[Kind, Callable[[Node], st.SearchStrategy[Value]]] = {
    Kind.NULL: lambda _node: st.none(),
    Kind.BOOLEAN: lambda _node: st.booleans(),
    Kind.INT: lambda _node: st.integers(-(2**31), 2**31 - 1) | st.integers(-130, 130),
    Kind.LONG: lambda _node: st.integers(-(2**63), 2**63 - 1) | st.integers(-130, 130),
    Kind.FLOAT: lambda _node: st.floats(width=32, allow_nan=False, allow_infinity=False),
    Kind.DOUBLE: lambda _node: st.floats(allow_nan=False, allow_infinity=False),
    Kind.STRING: lambda _node: st.text(max_size=80),
    Kind.BYTES: lambda _node: st.binary(max_size=80),
    Kind.FIXED: lambda node: st.binary(min_size=node.size, max_size=node.size),
    Kind.ENUM: lambda node: st.sampled_from(node.symbols),
}


def for_fastavro(value: Value, node: Node, types: Mapping[str, Node], *, named: bool) -> Json:
    """Return a value as fastavro writes it, or with ``named=False`` as it reads it."""
    match node.kind:
        case Kind.RECORD:
            pairs = zip(node.fields, value, strict=True)
            return {entry.name: for_fastavro(item, entry.node, types, named=named) for entry, item in pairs}
        case Kind.ARRAY:
            assert node.items is not None
            return [for_fastavro(item, node.items, types, named=named) for item in value]
        case Kind.MAP:
            assert node.items is not None
            return {key: for_fastavro(item, node.items, types, named=named) for key, item in value.items()}
        case Kind.UNION if value is not None:
            index, content = value
            branch = node.branches[index]
            plain = for_fastavro(content, branch, types, named=named)
            return (branch.name or str(branch.kind), plain) if named else plain
        case Kind.REFERENCE:
            return for_fastavro(value, types[node.name], types, named=named)
        case _:
            return value


def check_against_fastavro(schema: Schema, parsed: Json, value: Value) -> bytes:
    """Write, read and compare one value in both libraries; return the bytes."""
    output = io.BytesIO()
    fastavro.schemaless_writer(output, parsed, for_fastavro(value, schema.root, schema.types, named=True))
    data = output.getvalue()
    assert reader(schema, ROOMY)(data) == value
    assert writer(schema)(value) == data
    theirs = fastavro.schemaless_reader(io.BytesIO(data), parsed, None)
    assert theirs == for_fastavro(value, schema.root, schema.types, named=False)
    return data


@each_schema
@few
@given(data=st.data())
def test_published_schemas_agree_with_fastavro(path: Path, data: st.DataObject) -> None:
    """For every published schema both libraries write the same bytes and read the same values."""
    schema, parsed = published(path)
    check_against_fastavro(schema, parsed, data.draw(values(schema.root, schema.types)))


PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


@dataclass
class RandomSchema:
    """Draws a schema; ``depth`` counts down to where only scalars are left."""

    draw: st.DrawFn
    records: list[str] = field(default_factory=list)
    total: int = 0

    def named(self, depth: int) -> Json:
        """Return a new enum, fixed or record in one of two namespaces."""
        self.total += 1
        full = f"{self.draw(st.sampled_from(['n', 'm.o']))}.T{self.total}"
        kind = self.draw(st.sampled_from(["enum", "fixed", "record", "record"] if depth else ["enum", "fixed"]))
        if kind == "enum":
            count = self.draw(st.integers(1, 70))
            return {"type": kind, "name": full, "symbols": [f"S{number}" for number in range(count)]}
        if kind == "fixed":
            return {"type": kind, "name": full, "size": self.draw(st.integers(0, 20))}
        self.records.append(full)
        count = self.draw(st.integers(0, 4))
        fields = [{"name": f"f{number}", "type": self.anything(depth - 1)} for number in range(count)]
        return {"type": kind, "name": full, "fields": fields}

    def array(self, depth: int) -> Json:
        """Return an array."""
        return {"type": "array", "items": self.anything(depth - 1) if depth else self.primitive()}

    def map(self, depth: int) -> Json:
        """Return a map."""
        return {"type": "map", "values": self.anything(depth - 1) if depth else self.primitive()}

    def primitive(self) -> Json:
        """Return one of the primitive types."""
        return self.draw(st.sampled_from(PRIMITIVES))

    def union(self, depth: int) -> Json:
        """Return a union of one to five branches, of which no two are alike."""
        below = max(depth - 1, 0)
        makers = {"named": self.named, "other": self.named, "array": self.array, "map": self.map}
        chosen = self.draw(st.lists(st.sampled_from([*makers, *PRIMITIVES]), min_size=1, max_size=5, unique=True))
        return [makers[one](below) if one in makers else one for one in chosen]

    def optional(self, depth: int) -> Json:
        """Return null or one of the records so far, which may be one that this stands in."""
        return ["null", self.draw(st.sampled_from(self.records)) if self.records else self.array(depth)]

    def anything(self, depth: int) -> Json:
        """Return a type of any kind."""
        makers = [self.named, self.array, self.map, self.union, self.optional, lambda _depth: self.primitive()]
        return self.draw(st.sampled_from(makers))(depth)


@st.composite
def schemas(draw: st.DrawFn) -> Json:
    """Return random schemas: all kinds, names in several namespaces, unions of any width, recursion."""
    return RandomSchema(draw).anything(3)


@settings(max_examples=50, deadline=None)
@given(source=schemas(), data=st.data())
def test_random_schemas_agree_with_fastavro(source: Json, data: st.DataObject) -> None:
    """Random schemas parse in both libraries, which then agree on random values."""
    schema = avro.parse(json.dumps(source))
    check_against_fastavro(schema, fastavro.parse_schema(source), data.draw(values(schema.root, schema.types)))
    paths = [node.path for node in schema.root.walk() if node.kind not in (Kind.UNION, Kind.NULL)]
    assert len(paths) == len(set(paths))


MUTATIONS = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(b"")),
    st.tuples(st.just("replace"), st.integers(0, 10**6), st.binary(min_size=1, max_size=10)),
    st.tuples(st.just("insert"), st.integers(0, 10**6), st.binary(min_size=1, max_size=10)),
    st.tuples(st.just("drop"), st.integers(0, 10**6), st.just(b"")),
)


def mutated(data: bytes, kind: str, place: int, new: bytes) -> bytes:
    """Return bytes with one thing wrong."""
    at = place % (len(data) + 1)
    rest = {"cut": len(data), "replace": at + len(new), "insert": at, "drop": at + 1}[kind]
    return data[:at] + new + data[rest:]


def check_any_bytes(schema: Schema, data: bytes) -> None:
    """Bytes give a value that is written and read to the same again, or a DecodeError of the decoding stage."""
    started = time.perf_counter()
    rejection = None
    try:
        value = reader(schema)(data)
    except DecodeError as error:
        rejection = error
    assert time.perf_counter() - started < 5
    if rejection is None:
        assert reader(schema)(writer(schema)(value)) == value
        return
    assert REASONS[Reason(rejection.reason)][0] is Stage.DECODE
    assert -1 <= rejection.position <= len(data)
    assert rejection.path in {node.path for node in schema.root.walk()}


@each_schema
@few
@given(data=st.data())
def test_broken_bytes_give_a_value_or_a_decode_error(path: Path, data: st.DataObject) -> None:
    """Whatever happens to the bytes of a record, reading it ends quickly and in no other error."""
    schema, _ = published(path)
    encoded = writer(schema)(data.draw(values(schema.root, schema.types)))
    for mutation in data.draw(st.lists(MUTATIONS, min_size=1, max_size=5)):
        encoded = mutated(encoded, *mutation)
        check_any_bytes(schema, encoded)


@each_schema
@few
@given(data=st.binary(max_size=200) | st.binary(min_size=1, max_size=4).map(lambda piece: piece * 5000))
def test_any_bytes_give_a_value_or_a_decode_error(path: Path, data: bytes) -> None:
    """Bytes that never were a record, short or repeated, end in a value or a DecodeError too."""
    check_any_bytes(published(path)[0], data)


@each_schema
@few
@given(data=st.data())
def test_truncated_bytes_are_rejected(path: Path, data: st.DataObject) -> None:
    """No proper prefix of a record is a record."""
    schema, _ = published(path)
    encoded = writer(schema)(data.draw(values(schema.root, schema.types)))
    read = reader(schema, ROOMY)
    for end in range(min(len(encoded), 100)):
        with pytest.raises(DecodeError):
            read(encoded[:end])
    with pytest.raises(DecodeError) as caught:
        read(encoded + b"\x00")
    assert caught.value.reason == Reason.TRAILING_BYTES


@settings(max_examples=50, deadline=None)
@given(number=st.integers(-(2**63), 2**63 - 1))
def test_every_long_has_one_shortest_encoding(number: int) -> None:
    """A long takes as many bytes as its size needs, seven bits in each."""
    schema = avro.parse('"long"')
    data = writer(schema)(number)
    zigzag = 2 * number if number >= 0 else -2 * number - 1
    assert len(data) == max(1, -(-zigzag.bit_length() // 7))
    assert reader(schema)(data) == number


@settings(max_examples=50, deadline=None)
@given(data=st.binary(min_size=4, max_size=4))
def test_every_float_is_kept_to_the_bit(data: bytes) -> None:
    """Finite floats come back bit by bit; the others are rejected."""
    schema = avro.parse('"float"')
    exponent = struct.unpack("<I", data)[0] >> 23 & 0xFF
    if exponent == 0xFF:
        with pytest.raises(DecodeError):
            reader(schema)(data)
    else:
        assert writer(schema)(reader(schema)(data)) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(PRIMITIVES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "name",
                    "namespace",
                    "fields",
                    "items",
                    "values",
                    "symbols",
                    "size",
                    "logicalType",
                    "precision",
                ]
            ),
            inner | st.sampled_from(["record", "array", "map", "enum", "fixed", "decimal", "R", "a.R"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(source=JSON)
def test_any_json_gives_a_schema_or_a_schema_error(source: object) -> None:
    """No JSON value makes the parser fail in any other way."""
    try:
        schema = avro.parse(json.dumps(source))
    except SchemaError:
        return
    reader(schema)
    writer(schema)


@settings(max_examples=50, deadline=None)
@given(path=st.sampled_from(PATHS), place=st.integers(0, 10**6), new=st.text(max_size=3), drop=st.integers(0, 3))
def test_any_text_gives_a_schema_or_a_schema_error(path: Path, place: int, new: str, drop: int) -> None:
    """No change to a schema's text makes the parser fail in any other way."""
    text = path.read_text(encoding="utf-8")
    at = place % len(text)
    try:
        avro.parse(text[:at] + new + text[at + drop :])
    except SchemaError:
        return
