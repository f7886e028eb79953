"""The native codecs against the reference: the same values, the same bytes and the same refusals, for any bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from benchmarks import workload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.test_avro_properties import MUTATIONS, PATHS, mutated, published, schemas, values
from tests.property.test_json_properties import OBJECTS, PIECES, damaged, encoded
from tests.support.infer import infer
from tests.support.native import native_module

from tokenweir.core import avro, avro_codec, json_codec, jsonschema
from tokenweir.core.plan import to_plain
from tokenweir.core.schema import ABSENT, CONTAINERS, DEFAULT_LIMITS, Field, JsonNumber, Kind, Limits, Node, Schema
from tokenweir.errors import DecodeError, InvalidValueError, SchemaError

if TYPE_CHECKING:
    from tokenweir._native import Codec
else:
    Codec = native_module().Codec

DATA = Path(__file__).parents[1] / "data"

#: A decoded value.
Value: TypeAlias = Any

#: How many examples each property is tried on; the long run is for nights.
EXAMPLES = [
    pytest.param(60, id="quick"),
    pytest.param(
        int(os.environ.get("TOKENWEIR_CODEC_EXAMPLES", "100000")),
        id="long",
        marks=[pytest.mark.chaos, pytest.mark.timeout(3600)],
    ),
]
each_effort = pytest.mark.parametrize("examples", EXAMPLES)


def effort(examples: int) -> settings:
    """Return the settings of a property."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@dataclass(frozen=True)
class Engines:
    """Both codecs of one schema under the same limits."""

    schema: Schema
    limits: Limits
    read: avro_codec.Reader | json_codec.Reader
    write: Callable[[Value], bytes]
    native: Codec

    @classmethod
    def of(cls, schema: Schema, limits: Limits = DEFAULT_LIMITS) -> Engines:
        """Compile both."""
        codec = avro_codec if schema.format == "avro" else json_codec
        native = Codec(json.dumps(to_plain(schema)), json.dumps(to_plain(limits)))
        return cls(schema, limits, codec.reader(schema, limits), codec.writer(schema), native)

    def check(self, data: bytes) -> Value:
        """Read and write bytes with both engines, which must agree on everything; return the value if it is one."""
        try:
            value = self.read(data)
        except DecodeError as error:
            refusal = (error.reason, error.path)
            assert self.native.read(data) == refusal
            assert self.native.roundtrip(data) == refusal
            return None
        native, native_elements = self.native.read(data)
        assert exact(native) == exact(value)
        assert native_elements == self.read.elements
        try:
            written = self.write(value)
        except (InvalidValueError, SchemaError):
            # A branch of a union, or the whole, that is not described: it is read as absent, and is nothing to write.
            with pytest.raises(ValueError, match="does not fit"):
                self.native.roundtrip(data)
        else:
            assert self.native.roundtrip(data) == (written, self.read.elements)
        return value


def exact(value: Value) -> object:
    """Return a value in a form whose equality leaves nothing out: types, the order of maps, the sign of zero."""
    match value:
        case list():
            return [exact(item) for item in value]
        case tuple():
            return tuple(map(exact, value))
        case dict():
            return "map", [(exact(key), exact(item)) for key, item in value.items()]
        case float():
            return value.hex()
        case _:
            return type(value), value


def few_limits() -> st.SearchStrategy[Limits]:
    """Return limits that small records may pass."""
    return st.builds(
        Limits,
        depth=st.integers(0, 6),
        elements=st.integers(0, 30),
        bytes=st.integers(0, 80),
        decimal_bytes=st.integers(0, 8),
        number_characters=st.integers(0, 8),
    )


any_limits = st.just(DEFAULT_LIMITS) | few_limits()


@cache
def published_engines(path: Path) -> Engines:
    """Return both codecs of a published schema."""
    return Engines.of(published(path)[0])


@st.composite
def splices(draw: st.DrawFn, data: bytes, other: bytes) -> list[bytes]:
    """Return bytes that follow from a record by damage, each from the one before, and from two records."""
    found = [data]
    for mutation in draw(st.lists(MUTATIONS, min_size=1, max_size=4)):
        found.append(mutated(found[-1], *mutation))
    if data:
        place, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
        found.append(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
    found.append(data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :])
    return found


@each_effort
def test_avro_records_of_published_schemas(examples: int) -> None:
    """Records of the schemas that others published, whole and damaged."""

    @effort(examples)
    @given(path=st.sampled_from(PATHS), data=st.data())
    def check(path: Path, data: st.DataObject) -> None:
        engines = published_engines(path)
        drawn = values(engines.schema.root, engines.schema.types)
        first, second = (engines.write(data.draw(drawn)) for _ in range(2))
        for one in data.draw(splices(first, second)):
            engines.check(one)

    check()


@each_effort
def test_avro_records_of_random_schemas(examples: int) -> None:
    """All kinds, unions of any width and recursion, under roomy and tight limits."""

    @effort(examples)
    @given(source=schemas(), limits=any_limits, data=st.data())
    def check(source: object, limits: Limits, data: st.DataObject) -> None:
        schema = avro.parse(json.dumps(source))
        engines = Engines.of(schema, limits)
        drawn = values(schema.root, schema.types)
        first, second = (engines.write(data.draw(drawn)) for _ in range(2))
        for one in data.draw(splices(first, second)):
            engines.check(one)

    check()


@each_effort
def test_any_bytes_as_avro(examples: int) -> None:
    """Bytes that never were a record: few, many of a kind, and those that varints make much of."""
    piece = st.sampled_from(
        [b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x80", b"\xff", b"\xfe\xff\xff\xff\x0f", b"ab"]
    )
    anything = st.binary(max_size=60) | st.lists(piece, max_size=30).map(b"".join)
    repeated = st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 3000)).map(lambda pair: pair[0] * pair[1])

    @effort(examples)
    @given(source=schemas(), limits=any_limits, data=st.lists(anything | repeated, min_size=1, max_size=5))
    def check(source: object, limits: Limits, data: list[bytes]) -> None:
        engines = Engines.of(avro.parse(json.dumps(source)), limits)
        for one in data:
            engines.check(one)

    check()


def test_the_events_of_the_benchmarks() -> None:
    """What the benchmarks measure is the same work in both engines."""
    engines = Engines.of(avro.parse(workload.schema_text()))
    for event in workload.events(50, 10, 1_700_000_000_000):
        assert engines.check(event) is not None
        for end in range(len(event)):
            engines.check(event[:end])


NUMBERS = st.sampled_from(
    [
        "0", "-0", "1", "-1", "1.0", "10e-1", "2.50", "1e2", "1E+2", "0.5", "5e-1", "1e-400", "123456789012345678901",
        "0e5", "0e999999999999999999", "0e1000000000000000000", "0.00e1000000000000000001", "1e-1999999999999999997",
        "1e-1999999999999999998", "1e-99999999999999999999999", "1e308", "1e309", "-1e400", "1.7976931348623159e308",
        "9" * 308, "9" * 309, "1" * 310, "0." + "1" * 511, "01", "1.", ".5", "+1", "1e", "1e+", "-", "NaN", "Infinity",
        "-Infinity", "Infinit", "-Inf", "nul", "tru",
    ]
)  # fmt: skip
STRINGS = st.sampled_from(
    [
        '"a"', '"b"', '"x"', '""', '"\\u0061"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00"', '"\\ud83d\\ud83d\\ude00"',
        '"\\ud83d\\u0061"', '"\\ud83d\\u12"', '"\\uD83D\\', '"a\\n\\"\\\\\\/\\b\\f\\r\\t"', '"\\x"', '"\\u12g4"',
        '"\t"', '"\x00"', '"\x1f"', '"\x7f"', '"é😀\u2028"', '"unterminated', '"\\', '"\\u00e9"', "'a'",
        '"0123456789abcdef\\n0123"',
    ]
)  # fmt: skip
MARKS = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", " ", "\n", "\t", "\r", "\x0c", "\xa0", "\ufeff", "true", "false", "null", "True"]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3)
SCALARS |= st.sampled_from([0.5, 1.0, 1e300, 10**30, 10**30 + 1, "a", "b", "x", "", "é"])
SMALL = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcx"), inner, max_size=4),
    max_leaves=15,
)

FORMS = [
    "[%s,%s]",
    '{"a":%s,"b":%s}',
    "{%s:%s}",
    "[%s %s]",
    "%s%s",
    '{"a":%s,"a":%s}',
    '[{"x":[%s]},%s]',
    "{%s:1,%s:2}",
]

#: Takes any JSON value and keeps all of it.
ANY_JSON = jsonschema.parse(
    json.dumps(
        {
            "title": "Json",
            "anyOf": [
                {"type": ["null", "boolean", "number", "string"]},
                {"type": "array", "items": {"$ref": "#"}},
                {"type": "object", "additionalProperties": {"$ref": "#"}},
            ],
        }
    )
)


CHOICES = [{}, {}, {"enum": [1]}, {"enum": [-1, 0.5, 2]}, {"enum": [1e-7, 1e300, 10**30 + 1]}]
SIMPLE = [Kind.NULL, Kind.STRING, Kind.STRING, Kind.ANY, Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER, Kind.ENUM]
COMPOUND = [Kind.ARRAY, Kind.MAP, Kind.RECORD, Kind.RECORD, Kind.UNION, Kind.UNION, Kind.REFERENCE]


@dataclass
class RandomTree:
    """Draws trees as JSON Schemas give them: unions whose branches overlap, choices, recursion, undescribed places."""

    draw: st.DrawFn

    def one_of(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - whatever there is to choose from
        """Return one of these."""
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def node(self, path: str, depth: int) -> Node:
        """Return any node; ``depth`` counts down to where only values without parts are left."""
        kind = self.one_of([*SIMPLE, *COMPOUND] if depth else SIMPLE)
        match kind:
            case Kind.BOOLEAN:
                return Node(kind, path, attributes=self.one_of([{}, {}, {"enum": [True]}, {"enum": [False]}]))
            case Kind.INTEGER | Kind.NUMBER:
                return Node(kind, path, attributes=self.one_of(CHOICES))
            case Kind.ENUM:
                return Node(kind, path, symbols=self.one_of([("a",), ("x", "b", "\xe9"), ()]))
            case Kind.REFERENCE:
                return Node(kind, path, "T")
            case Kind.RECORD | Kind.ARRAY | Kind.MAP | Kind.UNION:
                return self.compound(kind, path, depth - 1)
            case _:
                return Node(kind, path)

    def compound(self, kind: Kind, path: str, below: int) -> Node:
        """Return a node with parts."""
        if kind is Kind.RECORD:
            names = self.one_of(["", "a", "ab", "ba", "abcx"])
            fields = [Field(name, self.node(f"{path}.{name}", below), self.one_of([True, False])) for name in names]
            return Node(kind, path, "R", fields=tuple(fields))
        if kind is Kind.UNION:
            count = self.one_of([1, 2, 2, 3, 4])
            return Node(kind, path, branches=tuple(self.node(f"{path}<{number}>", below) for number in range(count)))
        return Node(kind, path, items=self.node(path + ("[*]" if kind is Kind.ARRAY else "{*}"), below))


@st.composite
def trees(draw: st.DrawFn) -> Schema:
    """Return a schema with one type, which repeats below a record, array or map."""
    random = RandomTree(draw)
    repeated = random.compound(random.one_of([Kind.RECORD, Kind.ARRAY, Kind.MAP]), "T", 2)
    return Schema(random.node("", 4), "json", {"T": repeated})


@dataclass
class RandomRecord:
    """Draws JSON values that mostly are of a node of a schema."""

    draw: st.DrawFn
    types: Mapping[str, Node]

    def one_of(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - whatever there is to choose from
        """Return one of these."""
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def value(self, node: Node, depth: int = 0) -> Value:
        """Return a value of a node, or sometimes any other."""
        if depth > 6 or self.one_of([False] * 9 + [True]):
            return self.draw(SCALARS if depth > 3 else SMALL)
        if node.kind in CONTAINERS:
            return self.container(node, depth + 1)
        if node.kind is Kind.REFERENCE:
            return self.value(self.types[node.name], depth + 1)
        choices = [*node.symbols, *node.attributes.get("enum", ())]
        return self.one_of(choices) if choices else self.draw(SCALARS)

    def container(self, node: Node, depth: int) -> Value:
        """Return an object or array, or what stands in a union."""
        if node.kind is Kind.UNION:
            return self.value(self.one_of(node.branches), depth)
        if node.kind is Kind.RECORD:
            there = [entry for entry in node.fields if self.one_of([True, True, True, False])]
            if self.one_of([False, True]):
                there.reverse()
            more = self.one_of([{}, {}, {"y": 1}, {"é": {"x": None}}])
            return more | {entry.name: self.value(entry.node, depth) for entry in there}
        assert node.items is not None
        found = [self.value(node.items, depth) for _ in range(self.one_of([0, 1, 2, 3]))]
        return found if node.kind is Kind.ARRAY else dict(zip(["a", "é", "x"], found, strict=False))


@st.composite
def records(draw: st.DrawFn, schema: Schema) -> Value:
    """Return JSON values that mostly are records of a schema."""
    return RandomRecord(draw, schema.types).value(schema.root)


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """Return JSON with some of its bytes wrong."""
    return damaged(draw, data)


@each_effort
def test_json_documents(examples: int) -> None:
    """Documents of any pieces: what the scanner takes, what it meets first, and what it keeps of it."""
    pieces = st.lists(NUMBERS | STRINGS | MARKS, max_size=12).map("".join)
    scalars = NUMBERS | STRINGS
    filled = st.builds(lambda form, one, other: form % (one, other), st.sampled_from(FORMS), scalars, scalars)

    @effort(examples * 3)
    @given(text=pieces | filled, limits=any_limits, draw=st.data())
    def check(text: str, limits: Limits, draw: st.DataObject) -> None:
        engines = Engines.of(ANY_JSON, limits)
        data = text.encode()
        engines.check(data)
        engines.check(draw.draw(broken(data)))

    check()


@each_effort
def test_damaged_json_records(examples: int) -> None:
    """Records with a schema that declares all that stands there, as different producers write them, and damaged."""

    @effort(examples)
    @given(sample=OBJECTS, ascii_only=st.booleans(), spaces=st.booleans(), draw=st.data())
    def check(sample: dict[str, Any], ascii_only: bool, spaces: bool, draw: st.DataObject) -> None:  # noqa: FBT001 - drawn
        engines = Engines.of(jsonschema.parse(json.dumps(infer([sample]))))
        data = encoded(sample, ascii_only=ascii_only, spaces=spaces)
        assert engines.check(data) is not None
        for _ in range(3):
            engines.check(draw.draw(broken(data)))

    check()


@each_effort
def test_json_records_of_random_trees(examples: int) -> None:
    """Which branch a value takes, and which of several faults is told, under roomy and tight limits."""

    @effort(examples * 3)
    @given(schema=trees(), limits=any_limits, data=st.data())
    def check(schema: Schema, limits: Limits, data: st.DataObject) -> None:
        engines = Engines.of(schema, limits)
        for _ in range(data.draw(st.integers(1, 4))):
            text = encoded(data.draw(records(schema)), ascii_only=data.draw(st.booleans()))
            engines.check(text)
            engines.check(data.draw(broken(text)))

    check()


@each_effort
def test_json_records_of_random_schemas(examples: int) -> None:
    """Keywords in any arrangement, as far as they are a schema."""

    @effort(examples)
    @given(PIECES, st.dictionaries(st.sampled_from(["a", "b"]), PIECES), st.lists(SMALL, min_size=1, max_size=4))
    def check(piece: object, definitions: dict[str, Any], found: list[Value]) -> None:
        text = json.dumps({"properties": {"x": piece}, "$defs": definitions})
        try:
            schema = jsonschema.parse(text, limits=Limits(schema_nodes=300))
        except SchemaError:
            return
        engines = Engines.of(schema)
        for value in found:
            engines.check(encoded({"x": value}))

    check()


@pytest.mark.parametrize("path", sorted((DATA / "json").rglob("*.jsonl")), ids=lambda path: path.stem)
def test_published_json_events(path: Path) -> None:
    """Events that others published, whole, cut and with a bit changed."""
    lines = path.read_bytes().splitlines()
    engines = Engines.of(jsonschema.parse(json.dumps(infer([json.loads(line) for line in lines]))))
    for number, line in enumerate(lines):
        assert engines.check(line) is not None
        engines.check(line[: number * 7 % len(line)])
        place = number * 13 % len(line)
        engines.check(line[:place] + bytes([line[place] ^ 1 << number % 8]) + line[place + 1 :])
        engines.check(line[:place] + lines[number - 1][place:])


@pytest.mark.parametrize("path", sorted((DATA / "iglu").glob("*.json")), ids=lambda path: path.stem)
def test_published_json_schemas(path: Path) -> None:
    """Schemas that others published, and small records of them."""
    engines = Engines.of(jsonschema.parse(path.read_text(encoding="utf-8")))

    @effort(10)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        text = encoded(data.draw(records(engines.schema)))
        engines.check(text)
        engines.check(data.draw(broken(text)))

    check()


class TestHostileRecords:
    """Records that are made to be expensive."""

    @pytest.mark.parametrize("depth", [63, 64, 65, 100, 10_000, 200_000])
    def test_deep_json(self, depth: int) -> None:
        """Arrays and objects inside of each other, closed and not."""
        engines = Engines.of(ANY_JSON)
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
            for data in (opening * depth, opening * depth + closing * depth, opening * depth + b"1" + closing * depth):
                engines.check(data)

    def test_a_limit_beyond_what_the_interpreter_has(self) -> None:
        """A depth that is configured too high ends in the same error and in no crash."""
        engines = Engines.of(ANY_JSON, Limits(depth=10_000))
        engines.check(b'{"a":' * 5_000 + b"1" + b"}" * 5_000)
        engines.check(b"[" * 100_000)

    def test_unions_inside_of_unions(self) -> None:
        """Trying branches takes effort, which ends at the same place."""
        link = {"$ref": "#/definitions/Link"}
        branches = [
            {"title": name, "required": ["v"], "properties": {"next": link, "v": {"type": kind}}}
            for name, kind in (("A", "string"), ("B", "boolean"), ("C", "null"))
        ]
        schema = jsonschema.parse(
            json.dumps({"$ref": "#/definitions/Link", "definitions": {"Link": {"oneOf": branches}}})
        )
        for elements in (1, 10, 100, 1000):
            engines = Engines.of(schema, Limits(elements=elements))
            for depth in range(1, 12):
                engines.check(b'{"next":' * depth + b'{"v":1}' + b',"v":1}' * depth)
                engines.check(b'{"next":' * depth + b'{"v":true}' + b',"v":null}' * depth)

    def test_branches_that_lack_a_property_of_large_objects(self) -> None:
        """Branches that are refused at once are tried without a look at the whole object."""
        branches = [{"title": f"B{n}", "required": ["k0", f"missing{n}"], "type": "object"} for n in range(200)]
        schema = jsonschema.parse(json.dumps({"type": "array", "items": {"oneOf": branches}}))
        keys = ",".join(f'"k{number}":0' for number in range(5_000))
        for elements in (1_000, 6_000, 50_000):
            engines = Engines.of(schema, Limits(elements=elements))
            engines.check(f"[{{{keys}}}]".encode())
            engines.check(f'[{{{keys},"missing150":1}},{{{keys},"missing3":1}},{{{keys}}}]'.encode())

    @pytest.mark.parametrize("count", [10, 13, 5_000])
    def test_many_keys(self, count: int) -> None:
        """Objects and maps with many keys, of which the first and the last may be equal."""
        keys = [f"key{number}" for number in range(count)]
        maps = Engines.of(avro.parse('{"type":"map","values":"null"}'))
        for last in ("key0", f"key{count - 2}", "other"):
            text = ",".join(f'"{key}":0' for key in [*keys, last])
            Engines.of(ANY_JSON).check(f"{{{text}}}".encode())
            encoded_keys = b"".join(bytes([2 * len(key)]) + key.encode() for key in [*keys, last])
            maps.check(varint(count + 1) + encoded_keys + b"\x00")

    def test_deep_schemas(self) -> None:
        """A schema of as many levels as one may have is read from its plain form."""
        inside: Any = "int"
        for level in range(63):
            inside = {"type": "record", "name": f"L{level}", "fields": [{"name": "n", "type": inside}]}
        assert Engines.of(avro.parse(json.dumps(inside))).check(b"\x02") is not None

    def test_deep_avro(self) -> None:
        """Recursive types, up to the limit and beyond, and a type that can hold no finite value."""
        tree = {
            "type": "record",
            "name": "Tree",
            "fields": [{"name": "left", "type": ["null", "Tree"]}, {"name": "right", "type": ["null", "Tree"]}],
        }
        nested = {
            "type": "record",
            "name": "N",
            "fields": [{"name": "inside", "type": {"type": "array", "items": "N"}}],
        }
        endless = {"type": "record", "name": "R", "fields": [{"name": "again", "type": "R"}]}
        for source in (tree, nested, endless):
            engines = Engines.of(avro.parse(json.dumps(source)))
            for depth in (0, 1, 31, 32, 63, 64, 1_000, 1_000_000):
                engines.check(b"\x02" * depth)
                engines.check(b"\x02" * depth + bytes(depth + 2))
                engines.check(b"\x02" * depth + bytes(depth + 1))

    def test_bombs(self) -> None:
        """Counts that a few bytes claim."""
        wide = {"type": "record", "name": "R", "fields": [{"name": f"f{n}", "type": "null"} for n in range(1000)]}
        for items in ("null", "long", wide, ["null", wide], {"type": "fixed", "name": "F", "size": 0}):
            engines = Engines.of(avro.parse(json.dumps({"type": "array", "items": items})))
            for count in (49, 50, 50_000, 50_001, 2**31, 2**63 - 1):
                engines.check(varint(count) + b"\x00")
                engines.check(varint(count) + b"\x02" * 60 + b"\x00")
                engines.check(varint(-count) + b"\x00\x00")
            engines.check(varint(-(2**63)) + b"\x00\x00")


def varint(number: int) -> bytes:
    """Return the Avro encoding of a long."""
    return avro_codec.writer(Schema(Node(Kind.LONG), "avro"))(number)


def test_absent_elements_are_left_out() -> None:
    """What is read as absent is written as nothing."""
    anything = Node(Kind.ANY, "a[*]")
    root = Node(
        Kind.RECORD,
        fields=(
            Field("a", Node(Kind.ARRAY, "a", items=anything), required=False),
            Field("m", Node(Kind.MAP, "m", items=replace(anything, path="m{*}")), required=False),
            Field("u", Node(Kind.ANY, "u")),
        ),
    )
    engines = Engines.of(Schema(root, "json"))
    assert engines.check(b'{"m":{"x":1},"u":7,"a":[1,2]}') == [[ABSENT, ABSENT], {"x": ABSENT}, ABSENT]
    assert engines.native.roundtrip(b'{"m":{"x":1},"u":7,"a":[1,2]}') == (b'{"a":[],"m":{}}', 0)


def test_numbers_keep_their_text() -> None:
    """Values of the native engine are of the reference's own types."""
    value, _ = Engines.of(ANY_JSON).native.read(b"1.10")
    assert value[1] == "1.10"
    assert type(value[1]) is JsonNumber


@pytest.mark.parametrize("root", [Node(Kind.LONG), Node(Kind.ARRAY), Node(Kind.REFERENCE, name="Nowhere")])
def test_trees_that_are_not_json(root: Node) -> None:
    """What no codec can be made of is refused when it is made."""
    with pytest.raises(ValueError, match="at "):
        Codec(json.dumps(to_plain(Schema(root, "json"))), json.dumps(to_plain(DEFAULT_LIMITS)))
