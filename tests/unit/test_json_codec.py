"""JSON records against their schema: what is read, what is refused and where, and what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.infer import infer

from tokenweir.core import json_codec, jsonschema
from tokenweir.core.outcome import Reason
from tokenweir.core.schema import ABSENT, Field, JsonNumber, Kind, Limits, Node, Schema
from tokenweir.errors import DecodeError, InvalidValueError, SchemaError

EVENTS = Path(__file__).parents[1] / "data" / "json"
CANARY = "CANARY-123-45-6789"


def schema_of(schema: Mapping[str, Any]) -> Schema:
    """Parse a schema that is written as a Python value."""
    return jsonschema.parse(json.dumps(schema))


def reader_of(schema: Mapping[str, Any]) -> json_codec.Reader:
    """Return the reader of a schema."""
    return json_codec.reader(schema_of(schema))


def with_property(schema: object, **more: object) -> dict[str, Any]:
    """Return a record schema with one property ``a``."""
    return {"type": "object", "properties": {"a": schema}, **more}


def refusal(schema: Mapping[str, Any], data: bytes, limits: Limits | None = None) -> DecodeError:
    """Return the error that reading ends with."""
    read = json_codec.reader(schema_of(schema), limits or Limits())
    with pytest.raises(DecodeError) as caught:
        read(data)
    return caught.value


def parsed_exactly(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what the standard library reads, with numbers as their text."""
    return json.loads(data, parse_float=JsonNumber, parse_int=JsonNumber)


ORDER = {
    "title": "Order",
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "email": {"type": ["null", "string"]},
        "total": {"type": "number"},
        "paid": {"type": "boolean"},
        "state": {"enum": ["open", "sent"]},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku"],
                "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}},
            },
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "contact": {
            "anyOf": [
                {"type": "string"},
                {"title": "Person", "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                {"title": "Firm", "type": "object", "required": ["vat"], "properties": {"vat": {"type": "string"}}},
                {"type": "null"},
            ]
        },
        "extra": {},
    },
}


def test_positional_values() -> None:
    """A record becomes a list in the order of the schema, whatever the order of the record."""
    value = reader_of(ORDER)(
        '{"contact":{"vat":"NL1"},"labels":{"b":"2","a":"1"},"items":[{"n":-0,"sku":"é"},{"sku":""}],'
        '"total":1.10,"undeclared":{"x":[1]},"email":"a@b.c","id":"7","extra":[1,2],"paid":false,"state":"sent"}'.encode()
    )

    assert value == [
        "7",
        (1, "a@b.c"),
        "1.10",
        False,
        "sent",
        [["é", "-0"], ["", ABSENT]],
        {"b": "2", "a": "1"},
        (2, ["NL1"]),
        ABSENT,
    ]
    assert type(value[2]) is JsonNumber
    assert list(value[6]) == ["b", "a"]


def test_absent_is_not_null() -> None:
    """A property that is not there is ABSENT; null is a value of its own."""
    read = reader_of(ORDER)

    assert read(b'{"id":"7"}') == ["7", *[ABSENT] * 8]
    assert read(b'{"id":"7","email":null,"contact":null}')[1:8] == [None, *[ABSENT] * 5, None]


def test_what_is_written() -> None:
    """Compact, in the order of the schema, without what is absent, numbers as they were, text as UTF-8."""
    schema = schema_of(ORDER)
    text = '"\\u00e9\\"\\\\\\/\\n\\u0001\U0001f600"'
    data = '{"total": 1.10, "id" : ' + text + ', "email":null, "labels":{"b":"2","a":"1"}, "extra":1}'

    written = json_codec.writer(schema)(json_codec.reader(schema)(data.encode()))

    assert (
        written
        == '{"id":"é\\"\\\\/\\n\\u0001\U0001f600","email":null,"total":1.10,"labels":{"b":"2","a":"1"}}'.encode()
    )


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1.10", "-0.0", "1e2", "1E+2", "1e-400", "123456789012345678901234567890", "0.1000000000000000000001"],
)
def test_numbers_are_byte_exact(number: str) -> None:
    """What goes in comes out, digit by digit."""
    schema = schema_of(with_property({"type": "array", "items": {"type": "number"}}))
    data = f'{{"a":[{number}]}}'.encode()

    assert json_codec.writer(schema)(json_codec.reader(schema)(data)) == data


@pytest.mark.parametrize("number", ["5", "-5", "0", "5.0", "-5.000", "5e3", "1.5e1", "50e-1", "0e0", "0.0", "-0"])
def test_integers(number: str) -> None:
    """A number without a fraction is an integer, however it is written, and keeps its text."""
    assert reader_of(with_property({"type": "integer"}))(f'{{"a":{number}}}'.encode()) == [number]


@pytest.mark.parametrize("number", ["0.5", "-5.01", "5e-1", "15e-1", "1e-400", "1e-999999999999999999999"])
def test_numbers_that_are_no_integers(number: str) -> None:
    """A fraction is another type, and a tiny exponent costs nothing."""
    assert refusal(with_property({"type": "integer"}), f'{{"a":{number}}}'.encode()).path == "a"


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"type": "string"}, ['"x"', '"1"'], ["1", "null", "true", "[]", "{}"]),
        ({"type": "number"}, ["1", "1.5"], ['"1"', "null", "true", "[]", "{}"]),
        ({"type": "integer"}, ["1"], ['"1"', "1.5", "true", "null"]),
        ({"type": "boolean"}, ["true", "false"], ["0", "1", '"true"', "null"]),
        ({"type": "null"}, ["null"], ["0", "false", '""', "{}"]),
        ({"type": "array"}, ["[]", "[1,{}]"], ["{}", '"[]"', "null"]),
        ({"type": "object"}, ["{}", '{"x":1}'], ["[]", '"{}"', "null"]),
        ({"enum": ["x"]}, ['"x"'], ['"y"', '""', "1", "null"]),
        ({"enum": ["1"]}, ['"1"'], ["1"]),
        ({"enum": [1, 2.5]}, ["1", "1.0", "10e-1", "2.50"], ["2", "true", '"1"', "1e-999999999999999999999"]),
        ({"type": "integer", "enum": [10]}, ["10", "1e1"], ["1", "11"]),
        ({"const": True}, ["true"], ["false", "1"]),
        ({"type": ["string", "null"], "enum": ["x", None]}, ['"x"', "null"], ['"y"']),
        ({"type": ["string", "integer"]}, ['"x"', "1"], ["1.5", "null", "true"]),
        ({}, ["1", '"x"', "null", "{}", '[[{"x":null}]]'], []),
    ],
)
def test_types(schema: dict[str, Any], fits: list[str], fails: list[str]) -> None:
    """Each type takes its values and refuses all others at its path."""
    read = reader_of(with_property(schema))
    for text in fits:
        read(f'{{"a":{text}}}'.encode())
    for text in fails:
        error = refusal(with_property(schema), f'{{"a":{text}}}'.encode())
        assert (error.reason, error.position) == (Reason.SCHEMA_MISMATCH, -1)
        assert error.path in {"a", "a<integer>"}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{}", "id"),
        (b"[]", ""),
        (b"null", ""),
        (b'{"id":null}', "id"),
        (b'{"id":"7","items":{}}', "items"),
        (b'{"id":"7","items":[{"sku":"x"},7]}', "items[*]"),
        (b'{"id":"7","items":[{"sku":"x"},{}]}', "items[*].sku"),
        (b'{"id":"7","items":[{"sku":"x","n":1.5}]}', "items[*].n"),
        (b'{"id":"7","labels":{"CANARY":1}}', "labels{*}"),
        (b'{"id":"7","contact":7}', "contact"),
        (b'{"id":"7","contact":{}}', "contact"),
        (b'{"id":"7","contact":{"vat":7}}', "contact"),
        (b'{"id":"7","state":"lost"}', "state"),
    ],
)
def test_where_a_record_does_not_fit(data: bytes, path: str) -> None:
    """The path is that of the schema, also in arrays and maps, and never has a key of the data."""
    error = refusal(ORDER, data)

    assert (error.reason, error.path) == (Reason.SCHEMA_MISMATCH, path)


def test_the_only_object_of_a_union_reports_its_own_places() -> None:
    """Where the type decides on the branch, the error is as precise as without a union."""
    schema = with_property({"type": ["null", "object"], "properties": {"x": {"type": "string"}}})

    assert refusal(schema, b'{"a":{"x":1}}').path == "a.x"


def test_undescribed_properties() -> None:
    """Whatever stands there is absent; it must be there if it is required, and be strict JSON."""
    schema = with_property({"type": "array"}, required=["b"])

    assert reader_of(schema)(b'{"b":null,"a":[1,"x"]}') == [[ABSENT, ABSENT], ABSENT]
    assert refusal(schema, b'{"a":[]}').path == "b"
    assert refusal(schema, b'{"b":{"x":1,"x":2}}').reason == Reason.DUPLICATE_KEY
    assert refusal(schema, b'{"b":1,"undeclared":[NaN]}').reason == Reason.NON_FINITE
    parsed = schema_of(schema)
    assert json_codec.writer(parsed)([[ABSENT, ABSENT], ABSENT]) == b'{"a":[]}'


class TestUnions:
    """Which branch a value takes."""

    @pytest.mark.parametrize(
        ("data", "value"),
        [
            ("null", None),
            ('"x"', (0, "x")),
            ('{"name":"x"}', (1, ["x"])),
            ('{"vat":"x"}', (2, ["x"])),
            ('{"vat":"x","name":"y"}', (1, ["y"])),
            ('{"vat":"x","name":7}', (2, ["x"])),
        ],
    )
    def test_the_first_that_fits(self, data: str, value: object) -> None:
        """Type, required properties and what stands in them decide, in the order of the schema."""
        assert reader_of(ORDER)(f'{{"id":"7","contact":{data}}}'.encode())[7] == value

    def test_a_constant_tells_branches_apart(self) -> None:
        """Texts, numbers and truth values that are fixed are looked at."""
        variants = [
            {"title": f"V{number}", "properties": {"v": {"const": number}, "x": {"type": "string"}}}
            for number in (1, 2)
        ]
        read = reader_of(with_property({"oneOf": variants}))

        assert read(b'{"a":{"v":2,"x":"y"}}') == [(1, ["2", "y"])]
        assert read(b'{"a":{"v":1.0}}') == [(0, ["1.0", ABSENT])]

    def test_arrays(self) -> None:
        """Branches of one type are tried to their ends."""
        arrays = [{"type": "array", "items": {"type": name}} for name in ("string", "integer", "number")]
        schema = schema_of(with_property({"anyOf": arrays}))
        read = json_codec.reader(schema)

        assert read(b'{"a":[1,2]}') == [(1, ["1", "2"])]
        assert read(b'{"a":[1,2.5]}') == [(2, ["1", "2.5"])]
        assert json_codec.writer(schema)(read(b'{"a":[1,2.5]}')) == b'{"a":[1,2.5]}'

    def test_nested_unions_do_not_double_the_time(self) -> None:
        """A chain in which each link fits no branch until its end would need 2^60 attempts."""
        link = {"$ref": "#/definitions/Link"}
        branches = [
            {"title": name, "required": ["v"], "properties": {"next": link, "v": {"type": kind}}}
            for name, kind in (("A", "string"), ("B", "boolean"), ("C", "null"))
        ]
        schema = {"$ref": "#/definitions/Link", "definitions": {"Link": {"oneOf": branches}}}
        data = b'{"next":' * 60 + b'{"v":1}' + b',"v":1}' * 60
        begin = time.perf_counter()

        assert refusal(schema, data).reason == Reason.TOO_MANY_ELEMENTS
        assert time.perf_counter() - begin < 5

    def test_wide_values_are_not_looked_at_without_end(self) -> None:
        """Neither can a long array that stands below many attempts."""
        branches = [
            {"title": f"T{n}", "required": ["v"], "properties": {"x": {"type": "array"}, "v": {"const": n}}}
            for n in range(50)
        ]
        data = b'{"a":{"x":[' + b",".join([b"0"] * 90_000) + b'],"v":99}}'
        begin = time.perf_counter()

        assert refusal(with_property({"oneOf": branches}), data).reason == Reason.TOO_MANY_ELEMENTS
        assert time.perf_counter() - begin < 5

    def test_absent_fields_are_counted(self) -> None:
        """No byte is there for them, but each takes memory as long as the record is held."""
        wide = {"items": {"properties": {f"f{number}": {"type": "string"} for number in range(2_000)}}}
        read = reader_of(with_property(wide))
        read(b'{"a":[{},{"f3":"","other":1},{"f3":""}]}')
        assert read.elements == 2_000 + 1_998 + 1_999
        read(b'{"a":[]}')
        assert read.elements == 0

    def test_each_attempt_counts_also_where_nothing_is_made(self) -> None:
        """Objects that fit only the last of many branches cost an attempt for each, and end with the one too many."""
        branches = [{"title": f"T{number}", "properties": {}, "required": [f"r{number}"]} for number in range(100)]
        items = with_property({"items": {"oneOf": branches}})

        def data(count: int) -> bytes:
            return b'{"a":[' + b",".join([b'{"r99":1}'] * count) + b"]}"

        assert reader_of(items)(data(1_000)) == [[(99, [ABSENT])] * 1_000]
        error = refusal(items, data(20_000))
        assert (error.reason, error.path) == (Reason.TOO_MANY_ELEMENTS, "a[*]")

    def test_small_objects_of_a_wide_type_are_counted_with_their_fields(self) -> None:
        """40,000 empty objects are small as JSON, but not with 2,000 absent fields in each."""
        wide = {"items": {"properties": {f"f{number}": {"type": "string"} for number in range(2_000)}}}
        begin = time.perf_counter()

        assert (
            refusal(with_property(wide), b'{"a":[' + b",".join([b"{}"] * 40_000) + b"]}").reason
            == Reason.TOO_MANY_ELEMENTS
        )
        assert reader_of(with_property(wide))(b'{"a":[' + b",".join([b"{}"] * 100) + b"]}")
        assert time.perf_counter() - begin < 5

    def test_a_schema_may_be_wider_than_a_record(self) -> None:
        """A tight limit on elements does not forbid a wide schema."""
        wide = {"properties": {f"f{number}": {"type": "string"} for number in range(500)}}

        assert json_codec.reader(schema_of(wide), Limits(elements=5))(b'{"f1":"x"}')[1] == "x"

    def test_each_record_has_the_whole_budget(self) -> None:
        """What one record has cost does not count for the next."""
        read = json_codec.reader(schema_of(with_property({"type": "array"})), Limits(elements=10))

        for _ in range(50):
            assert read(b'{"a":[1,2,3,4,5,6,7]}')


class TestRecursion:
    """Types that contain themselves."""

    SCHEMA: Mapping[str, Any] = {
        "title": "Json",
        "anyOf": [
            {"type": ["null", "boolean", "number", "string"]},
            {"type": "array", "items": {"$ref": "#"}},
            {"type": "object", "additionalProperties": {"$ref": "#"}},
        ],
    }

    def test_any_json_value_comes_back(self) -> None:
        """A schema of all JSON values writes what it has read."""
        schema = schema_of(self.SCHEMA)
        data = b'{"a":[1.10,"x",null,true,{"b":[[],{}]}],"":-0}'

        assert json_codec.writer(schema)(json_codec.reader(schema)(data)) == data

    def test_depth(self) -> None:
        """64 levels are read and written, 65 are not; the recursion of the schema adds nothing to that."""
        schema = schema_of(self.SCHEMA)
        read, write = json_codec.reader(schema), json_codec.writer(schema)

        assert write(read(b"[" * 64 + b"]" * 64)) == b"[" * 64 + b"]" * 64
        for depth in (65, 1_000, 100_000):
            assert refusal(self.SCHEMA, b"[" * depth + b"]" * depth).reason in {
                Reason.TOO_DEEP,
                Reason.TOO_MANY_ELEMENTS,
            }

    def test_a_limit_beyond_what_the_interpreter_has(self) -> None:
        """A depth that is configured too high ends in an error and not in a crash."""
        data = b'{"a":' * 5_000 + b"1" + b"}" * 5_000

        assert refusal(self.SCHEMA, data, Limits(depth=10_000)).reason == Reason.TOO_DEEP

    def test_a_list(self) -> None:
        """Records inside of records of the same type."""
        node = {
            "type": "object",
            "properties": {"v": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
        }
        schema = schema_of({"$ref": "#/$defs/N", "$defs": {"N": node}})
        data = b'{"v":"1","next":{"v":"2","next":{"v":"3","next":null}}}'

        value = json_codec.reader(schema)(data)

        assert value == ["1", (0, ["2", (0, ["3", None])])]
        assert json_codec.writer(schema)(value) == data
        with pytest.raises(DecodeError, match="schema_mismatch at v"):
            json_codec.reader(schema)(b'{"next":{"next":{"v":3}}}')


class TestWriter:
    """Values that a writer does not write."""

    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            ({"type": "string"}, 7),
            ({"type": "string"}, None),
            ({"type": "string"}, b"x"),
            ({"type": "string"}, f"{CANARY}\ud800"),
            ({"type": "number"}, 7),
            ({"type": "number"}, "7"),
            ({"type": "number"}, JsonNumber(f'"{CANARY}"')),
            ({"type": "number"}, JsonNumber("NaN")),
            ({"type": "number"}, JsonNumber("1\n")),
            ({"type": "integer"}, True),
            ({"type": "boolean"}, 1),
            ({"type": "boolean"}, CANARY),
            ({"type": "null"}, False),
            ({"type": "array"}, (1,)),
            ({"type": "array"}, [CANARY]),
            ({"type": "object"}, {"x": CANARY}),
            ({"type": "object", "additionalProperties": {"type": "string"}}, {7: CANARY}),
            ({"type": "object", "additionalProperties": {"type": "string"}}, [CANARY]),
            ({"properties": {"x": {"type": "string"}}}, [CANARY, CANARY]),
            ({"properties": {"x": {"type": "string"}}}, []),
            ({"properties": {"x": {"type": "string"}}}, {"x": CANARY}),
            ({"properties": {"x": {"type": "string"}}, "required": ["x"]}, [ABSENT]),
            ({"type": ["string", "boolean"]}, CANARY),
            ({"type": ["string", "boolean"]}, None),
            ({"type": ["string", "boolean"]}, (1, CANARY)),
            ({"type": ["string", "boolean"]}, (2, CANARY)),
            ({"type": ["string", "boolean"]}, ([], CANARY)),
            ({"type": ["string", "null"]}, (0, ABSENT)),
            ({}, CANARY),
        ],
    )
    def test_what_is_no_value_of_the_schema(self, schema: dict[str, Any], value: object) -> None:
        """Nothing is written, and the error says nothing of the value."""
        write = json_codec.writer(schema_of(with_property(schema)))

        with pytest.raises(InvalidValueError) as caught:
            write([value])

        assert CANARY not in everything_in(caught.value)
        assert caught.value.__context__ is None

    def test_absent_elements_are_left_out(self) -> None:
        """What was withheld from an array or a map leaves no trace."""
        schema = schema_of(
            with_property({"items": {"type": "string"}}, required=["a"])
            | {"properties": {"a": {"items": {"type": "string"}}, "m": {"additionalProperties": {"type": "string"}}}}
        )

        assert (
            json_codec.writer(schema)([["x", ABSENT, "y"], {"k": ABSENT, "l": "z"}]) == b'{"a":["x","y"],"m":{"l":"z"}}'
        )

    def test_a_tree_without_paths(self) -> None:
        """The derived tree has only kinds and names, and unions of one branch."""
        optional = Node(Kind.UNION, branches=(Node(Kind.NULL), Node(Kind.STRING)))
        single = Node(Kind.UNION, branches=(Node(Kind.ENUM, symbols=("x",)),))
        root = Node(Kind.RECORD, fields=(Field("a", optional, required=False), Field("b", single)))

        assert json_codec.writer(Schema(root, "json"))([None, (0, "treated")]) == b'{"a":null,"b":"treated"}'

    @pytest.mark.parametrize("kind", [Kind.BYTES, Kind.FIXED, Kind.LONG, Kind.DOUBLE])
    def test_kinds_that_json_does_not_have(self, kind: Kind) -> None:
        """A tree of another format is refused when the codec is made."""
        with pytest.raises(SchemaError):
            json_codec.writer(Schema(Node(kind), "json"))
        with pytest.raises(SchemaError):
            json_codec.reader(Schema(Node(kind), "json"))


def everything_in(error: BaseException) -> str:
    """Return all that an exception and those behind it would show."""
    shown = []
    seen: BaseException | None = error
    while seen is not None:
        shown.append(f"{seen!s} {seen!r} {seen.args!r} {vars(seen)!r}")
        seen = seen.__cause__ or seen.__context__
    return " ".join(shown)


WRONG = [
    '"{}"',
    '["{}"]',
    '{{"{}":"{}"}}',
    '[{{"{}":["{}"]}}]',
    '"{}\\ud800"',
    '{{"{}":1,"{}":2}}',
    '"{}',
    '["{}",NaN]',
    "{}",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_no_error_holds_a_value(wrong: str) -> None:
    """A canary in every property, in every wrong shape, is in no error: not in text, arguments, cause or context."""
    fields: dict[str, Any] = {
        "integer": {"type": "integer"},
        "boolean": {"type": "boolean"},
        "null": {"type": "null"},
        "enum": {"enum": ["x"]},
        "record": {"properties": {"x": {"type": "integer"}}, "required": ["x"]},
        "array": {"items": {"type": "integer"}},
        "map": {"additionalProperties": {"type": "integer"}},
        "optional": {"type": ["null", "integer"]},
        "union": {
            "oneOf": [{"properties": {"x": {}}, "required": ["x"]}, {"properties": {"y": {}}, "required": ["y"]}]
        },
        "choice": {"enum": [1, 2]},
    }
    canary = wrong.replace("{}", CANARY).replace("{{", "{").replace("}}", "}")
    for name in fields:
        error = refusal({"properties": fields}, f'{{"other":"{CANARY}","{name}":{canary}}}'.encode())

        assert CANARY not in everything_in(error)
        assert error.__context__ is None
        assert error.path in {"", *fields, f"{name}[*]", f"{name}{{*}}", f"{name}.x"}


FILES = sorted(EVENTS.glob("**/*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_events_come_back(path: Path) -> None:
    """With everything declared, an event is written as it was read, but for the order of its properties."""
    lines = path.read_bytes().splitlines()
    schema = schema_of(infer([json.loads(line) for line in lines]))
    read, write = json_codec.reader(schema), json_codec.writer(schema)

    for line in lines:
        written = write(read(line))

        assert parsed_exactly(written) == parsed_exactly(line)
        assert write(read(written)) == written


def test_real_events_lose_what_is_not_declared() -> None:
    """With some properties declared, exactly these come back."""
    lines = (EVENTS / "rudder_events.jsonl").read_bytes().splitlines()
    declared = ["type", "userId", "traits", "properties"]
    whole = infer([json.loads(line) for line in lines])
    schema = schema_of({"type": "object", "properties": {name: whole["properties"][name] for name in declared}})
    read, write = json_codec.reader(schema), json_codec.writer(schema)

    for line in lines:
        event = parsed_exactly(line)
        assert parsed_exactly(write(read(line))) == {name: event[name] for name in declared if name in event}


def test_a_stray_type_in_a_real_file() -> None:
    """Some truck positions are texts; they do not fit a schema of the lines in which they are numbers."""
    lines = (EVENTS / "demo_scene" / "truck_location.jsonl").read_bytes().splitlines()
    stray = [line for line in lines if isinstance(json.loads(line)["truck_lat"], str)]
    schema = infer([json.loads(line) for line in lines if line not in stray])

    assert 0 < len(stray) < len(lines)
    assert {refusal(schema, line).path for line in stray} == {"truck_lat"}
