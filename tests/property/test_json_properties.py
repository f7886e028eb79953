"""Properties of reading and writing JSON that hold for any document, schema and damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.infer import infer

from tokenweir.core import json_codec, jsonschema, strictjson
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import JsonNumber, Limits
from tokenweir.errors import DecodeError, SchemaError

FEW = settings(max_examples=50, deadline=None)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
OBJECTS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5)

TYPE_NAMES = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array", "other"])
PIECES = st.recursive(
    st.booleans() | st.none() | st.integers(-2, 5) | TYPE_NAMES | st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "x"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "properties", "items", "required", "additionalProperties", "enum", "const", "oneOf", "anyOf",
             "allOf", "$ref", "$defs", "a", "b", "title", "maxLength", "minimum", "format", "confluent:tags", "$id",
             "not"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


def encoded(value: Any, *, ascii_only: bool = False, spaces: bool = False) -> bytes:  # noqa: ANN401 - JSON
    """Return a value as JSON in one of the ways in which producers write it."""
    return json.dumps(value, ensure_ascii=ascii_only, indent=1 if spaces else None).encode()


def exactly(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what the standard library reads, with numbers as their text."""
    return json.loads(data, parse_float=JsonNumber, parse_int=JsonNumber)


def attempt(read: Callable[[bytes], Any], data: bytes) -> tuple[Any, DecodeError | None]:
    """Return what reading gives, or the one kind of error in which it may end."""
    try:
        return read(data), None
    except DecodeError as error:
        return None, error


def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the bytes with some of them changed, left out, doubled or added."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        filler = draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"\\", b"{", b"[", b"}", b",", b"\\ud800", b"1e999"])
        )
        data = data[:start] + filler + data[end:] if draw(st.booleans()) else data[:end] + data[start:]
    return data


@st.composite
def damaged_records(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Give a sample and damaged bytes of it."""
    sample = draw(OBJECTS)
    return sample, damaged(draw, encoded(sample, ascii_only=draw(st.booleans())))


@FEW
@given(VALUES, st.booleans(), st.booleans())
def test_strict_json_reads_what_the_standard_library_writes(value: Any, ascii_only: bool, spaces: bool) -> None:  # noqa: ANN401, FBT001 - drawn
    """Both read the same from any document that has nothing to argue about."""
    data = encoded(value, ascii_only=ascii_only, spaces=spaces)

    assert strictjson.parse(data) == exactly(data)
    assert strictjson.parse(data, numbers="python") == json.loads(data)


@FEW
@given(st.binary(max_size=60) | damaged_records().map(lambda pair: pair[1]))
def test_strict_json_is_a_part_of_what_the_standard_library_takes(data: bytes) -> None:
    """Any bytes are either refused with a reason, or read as the standard library reads them."""
    value, error = attempt(strictjson.parse, data)
    if error:
        assert error.reason in set(Reason)
        assert error.__context__ is None
    else:
        assert value == exactly(data)
        json.dumps(value, ensure_ascii=False).encode()


@FEW
@given(VALUES, st.integers(0, 6), st.integers(0, 12))
def test_limits_count_what_they_say(value: Any, depth: int, elements: int) -> None:  # noqa: ANN401 - drawn
    """Depth and elements, counted by walking, are what decides."""

    def measure(inner: object) -> tuple[int, int]:
        if not isinstance(inner, dict | list):
            return 0, 0
        parts = [measure(part) for part in (inner.values() if isinstance(inner, dict) else inner)]
        # Each container costs its elements, or one where it has none.
        return 1 + max((part[0] for part in parts), default=0), max(len(parts), 1) + sum(part[1] for part in parts)

    has_depth, has_elements = measure(value)
    _, error = attempt(strictjson.parser(Limits(depth=depth, elements=elements)), encoded(value))
    if error:
        assert error.reason == (Reason.TOO_MANY_ELEMENTS if has_elements > elements else Reason.TOO_DEEP)
        assert has_elements > elements or has_depth > depth
    else:
        assert has_depth <= depth
        assert has_elements <= elements


@FEW
@given(st.lists(OBJECTS, min_size=1, max_size=4))
def test_records_come_back(samples: list[dict[str, Any]]) -> None:
    """With a schema that declares everything, each sample is written as it was read, number by number."""
    schema = jsonschema.parse(json.dumps(infer(samples)))
    read, write = json_codec.reader(schema), json_codec.writer(schema)

    for sample in samples:
        data = encoded(sample)
        written = write(read(data))

        assert exactly(written) == exactly(data)
        assert write(read(written)) == written


@FEW
@given(OBJECTS, OBJECTS)
def test_a_record_of_another_schema(one: dict[str, Any], other: dict[str, Any]) -> None:
    """It is read without what the schema does not declare, or refused; nothing new appears."""
    schema = jsonschema.parse(json.dumps(infer([one])))
    value, error = attempt(json_codec.reader(schema), encoded(other))
    if error:
        assert error.reason == Reason.SCHEMA_MISMATCH
        assert error.__context__ is None
    else:
        written = json.loads(json_codec.writer(schema)(value))
        assert written.keys() == other.keys() & one.keys()


@FEW
@given(damaged_records())
def test_damaged_records(record: tuple[dict[str, Any], bytes]) -> None:
    """Damaged bytes are a value of the schema or a decoding error, and never anything else."""
    sample, data = record
    schema = jsonschema.parse(json.dumps(infer([sample])))
    value, error = attempt(json_codec.reader(schema), data)
    if error:
        assert error.reason in set(Reason)
        assert error.__context__ is None
    else:
        strictjson.parse(json_codec.writer(schema)(value))


@settings(max_examples=50, deadline=None)
@given(PIECES, st.dictionaries(st.sampled_from(["a", "b"]), PIECES))
def test_any_schema_is_parsed_or_refused(piece: Any, definitions: dict[str, Any]) -> None:  # noqa: ANN401 - drawn
    """Keywords in any arrangement give a tree that readers and writers can be made of, or a SchemaError."""
    text = json.dumps({"properties": {"x": piece}, "$defs": definitions})
    try:
        schema = jsonschema.parse(text, limits=Limits(schema_nodes=300))
    except SchemaError:
        return
    read, write = json_codec.reader(schema), json_codec.writer(schema)
    for value in (None, True, 1, 1.5, "a", [], [1], {}, {"a": 1}):
        record, error = attempt(read, encoded({"x": value}))
        if error is None:
            write(record)
    assert all(node.name in schema.types for node in schema.root.walk() if node.kind == "reference")
