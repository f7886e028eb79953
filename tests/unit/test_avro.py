"""Avro schema texts as trees: names, paths, tags, logical types, limits."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tokenweir.core import avro
from tokenweir.core.schema import DEFAULT_LIMITS, Kind, Node, Schema
from tokenweir.errors import SchemaError

DATA = Path(__file__).parents[1] / "data" / "avro"
REFERENCES = {
    "customer": ["address"],
    "member": ["membership-level"],
    "enriched-checkin": ["membership-level"],
    "customer-command": ["address", "customer"],
}


def parse(source: object, *references: object, **options: Any) -> Schema:  # noqa: ANN401 - options of parse
    """Parse a schema that is written as a Python value."""
    return avro.parse(json.dumps(source), [json.dumps(reference) for reference in references], **options)


def record(*fields: object, name: str = "R", **attributes: object) -> dict[str, object]:
    """Return a record schema with the fields ``(name, type)`` or with whole field objects."""
    entries = [{"name": entry[0], "type": entry[1]} if isinstance(entry, tuple) else entry for entry in fields]
    return {"type": "record", "name": name, "fields": entries, **attributes}


def outline(schema: Schema) -> list[tuple[str, str, str]]:
    """Return path, kind and name of every place."""
    return [(node.path, str(node.kind), node.name) for node in schema.root.walk()]


def at(schema: Schema, path: str) -> list[Node]:
    """Return the nodes with a path, the outer one first."""
    return [node for node in schema.root.walk() if node.path == path]


def published(folder: str, name: str) -> str:
    """Return the text of a published schema."""
    return (DATA / folder / f"{name}.avsc").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.avsc")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_published_schemas(path: Path) -> None:
    """Every published schema parses without a warning, and its places have a path of their own."""
    needed = REFERENCES.get(path.stem, []) if path.parent.name == "references" else []
    schema, warnings = avro.parse_with_warnings(
        path.read_text(encoding="utf-8"), [published("references", name) for name in needed]
    )
    assert warnings == []
    assert schema.format == "avro"
    unions = [node.path for node in schema.root.walk() if node.kind is not Kind.UNION and node.kind is not Kind.NULL]
    assert len(unions) == len(set(unions))
    references = {node.name for node in schema.root.walk() if node.kind is Kind.REFERENCE}
    assert references <= set(schema.types)
    assert all(schema.types[name].kind is not Kind.REFERENCE for name in schema.types)


def test_a_record_of_everything() -> None:
    """The Interop schema of the Avro project has the places and names that its text says."""
    schema = avro.parse(published("structures", "interop"))
    assert outline(schema)[9:] == [
        ("arrayField", "array", ""),
        ("arrayField[*]", "double", ""),
        ("mapField", "map", ""),
        ("mapField{*}", "record", "org.apache.avro.Foo"),
        ("mapField{*}.label", "string", ""),
        ("unionField", "union", ""),
        ("unionField<boolean>", "boolean", ""),
        ("unionField<double>", "double", ""),
        ("unionField<array>", "array", ""),
        ("unionField<array>[*]", "bytes", ""),
        ("enumField", "enum", "org.apache.avro.Kind"),
        ("fixedField", "fixed", "org.apache.avro.MD5"),
        ("recordField", "record", "org.apache.avro.Node"),
        ("recordField.label", "string", ""),
        ("recordField.children", "array", ""),
        ("recordField.children[*]", "reference", "org.apache.avro.Node"),
    ]
    assert at(schema, "enumField")[0].symbols == ("A", "B", "C")
    assert at(schema, "fixedField")[0].size == 16
    assert schema.types["org.apache.avro.Node"] is at(schema, "recordField")[0]


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        (["null", "string"], ["", "", ""]),
        (["string"], ["", ""]),
        (["null"], ["", ""]),
        (["string", "null", "int"], ["", "<string>", "<null>", "<int>"]),
        (["null", record(("a", ["int", "null"]))], ["", "", "", "a", "a", "a"]),
        (
            [record(("total", "long"), name="Purchase", namespace="shop"), record(name="Refund", namespace="shop")],
            ["", "<Purchase>", "<Purchase>.total", "<Refund>"],
        ),
        (
            [record(("a", "int"), name="x.P"), record(("a", "int"), name="y.P"), record(name="y.Q")],
            ["", "<x.P>", "<x.P>.a", "<y.P>", "<y.P>.a", "<Q>"],
        ),
        ({"type": "array", "items": {"type": "map", "values": ["int", "string"]}}, None),
    ],
)
def test_paths_of_unions(source: object, paths: list[str] | None) -> None:
    """One branch beside null has its union's path; more branches have their short names, or full ones if they clash."""
    found = [path for path, _, _ in outline(parse(source))]
    assert found == (paths or ["", "[*]", "[*]{*}", "[*]{*}<int>", "[*]{*}<string>"])


def test_a_type_used_twice_is_two_places() -> None:
    """Each use of a named type has its own nodes and paths, and ``types`` has the first."""
    address = record(("city", "string"), name="Address")
    schema = parse(record(("home", address), ("work", ["null", "Address"])))
    assert [path for path, _, _ in outline(schema)] == ["", "home", "home.city", "work", "work", "work", "work.city"]
    assert schema.types["Address"].path == "home"


def test_mutual_recursion_is_cut_where_it_repeats() -> None:
    """A type is cut inside itself only, also if it is reached first through another one."""
    inner = record(("a", ["null", "A"]), ("b", ["null", "B"]), name="B")
    schema = parse(record(("b", inner), ("again", ["null", "A"]), name="A"))
    cuts = [(path, name) for path, kind, name in outline(schema) if kind == "reference"]
    assert cuts == [("b.a", "A"), ("b.b", "B"), ("again", "A")]
    other = parse(record(("b", record(("a", ["null", record(("b", ["null", "B"]), name="A")]), name="B")), ("a", "A")))
    assert [path for path, kind, _ in outline(other) if kind == "reference"] == ["b.a.b", "a.b.a"]


@pytest.mark.parametrize(
    ("definition", "full"),
    [
        ({"name": "X"}, "outer.X"),
        ({"name": "X", "namespace": "own"}, "own.X"),
        ({"name": "X", "namespace": ""}, "X"),
        ({"name": "a.b.X", "namespace": "ignored"}, "a.b.X"),
        ({"name": "a.b.X", "namespace": "not a namespace"}, "a.b.X"),
    ],
)
def test_full_names(definition: dict[str, str], full: str) -> None:
    """Full names follow from name, namespace and enclosing namespace as the specification says."""
    schema = parse(record(("x", {"type": "fixed", "size": 1, **definition}), name="R", namespace="outer"))
    assert at(schema, "x")[0].name == full


def test_names_are_looked_up_in_the_enclosing_namespace_first() -> None:
    """A short name means the enclosing namespace's type, then that of the null namespace; a full name is itself."""
    schema = parse(
        record(
            ("a", {"type": "fixed", "name": "X", "size": 1}),
            ("b", {"type": "fixed", "name": "X", "namespace": "", "size": 2}),
            ("c", {"type": "fixed", "name": "Y", "namespace": "", "size": 3}),
            ("d", "X"),
            ("e", "n.X"),
            ("f", "Y"),
            ("g", {"type": "X"}),
            name="n.R",
        )
    )
    sizes = {entry.name: entry.node.size for entry in schema.root.fields}
    assert sizes == {"a": 1, "b": 2, "c": 3, "d": 1, "e": 1, "f": 3, "g": 1}


def test_the_namespace_of_a_full_name_is_inherited() -> None:
    """What a record defines lives in the namespace of the record's own full name."""
    schema = parse(record(("in", record(("x", {"type": "enum", "name": "E", "symbols": []}), name="m.In")), name="n.R"))
    assert at(schema, "in.x")[0].name == "m.E"


def test_references_are_known_in_their_order() -> None:
    """A schema may use the named types of its references, and a reference those before it; repeats count once."""
    address = record(("city", "string"), name="shop.Address")
    customer = record(("address", "Address"), name="shop.Customer")
    schema = parse(record(("who", "shop.Customer"), name="Order"), address, address, customer)
    assert [path for path, _, _ in outline(schema)] == ["", "who", "who.address", "who.address.city"]
    with pytest.raises(SchemaError, match="not defined"):
        parse(record(("who", "shop.Customer"), name="Order"), customer, address)
    with pytest.raises(SchemaError, match="twice"):
        parse(address, address | {"doc": "another text"})


@pytest.mark.parametrize(
    ("source", "logical", "attributes"),
    [
        ({"type": "int", "logicalType": "date"}, "date", {}),
        ({"type": "int", "logicalType": "time-millis"}, "time-millis", {}),
        ({"type": "long", "logicalType": "time-micros"}, "time-micros", {}),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp-millis", {}),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamp-micros", {}),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "local-timestamp-millis", {}),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, "local-timestamp-micros", {}),
        ({"type": "string", "logicalType": "uuid"}, "uuid", {}),
        ({"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}, "uuid", {}),
        ({"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}, "duration", {}),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4}, "decimal", {"precision": 4, "scale": 0}),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 4},
            "decimal",
            {"precision": 4, "scale": 4},
        ),
        (
            {"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 1},
            "decimal",
            {"precision": 4, "scale": 1},
        ),
        # Invalid, and so ignored as the specification says.
        ({"type": "long", "logicalType": "date"}, "", {}),
        ({"type": "int", "logicalType": "timestamp-millis"}, "", {}),
        ({"type": "bytes", "logicalType": "uuid"}, "", {}),
        ({"type": "fixed", "name": "F", "size": 15, "logicalType": "uuid"}, "", {}),
        ({"type": "fixed", "name": "F", "size": 16, "logicalType": "duration"}, "", {}),
        ({"type": "bytes", "logicalType": "decimal"}, "", {}),
        ({"type": "bytes", "logicalType": "decimal", "precision": 0}, "", {}),
        ({"type": "bytes", "logicalType": "decimal", "precision": True}, "", {}),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 5}, "", {}),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": -1}, "", {}),
        ({"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 5}, "", {}),
        ({"type": "fixed", "name": "F", "size": 0, "logicalType": "decimal", "precision": 1}, "", {}),
        ({"type": "string", "logicalType": "no-such-type"}, "", {}),
        ({"type": "string", "logicalType": ["uuid"]}, "", {}),
    ],
)
def test_logical_types(source: object, logical: str, attributes: dict[str, int]) -> None:
    """A logical type stands on the node where the specification finds it valid, and is ignored elsewhere."""
    root = parse(source).root
    assert (root.logical, root.attributes) == (logical, attributes)


def test_tags_of_field_and_type_meet_on_the_place() -> None:
    """A field's tags and its type's tags are merged, on the union if the type is one; those of a branch stay there."""
    root_tags: dict[str, Any] = {"confluent:tags": ["ROOT"]}
    tagged = {"type": "string", "confluent:tags": ["TYPE", "BOTH"]}
    schema = parse(
        record(
            {"name": "plain", "type": tagged, "confluent:tags": ["FIELD", "BOTH"]},
            {"name": "maybe", "type": ["null", tagged], "confluent:tags": ["FIELD"]},
            {"name": "none", "type": "string", "doc": "x"},
            **root_tags,
        )
    )
    assert schema.root.tags == ("ROOT",)
    assert at(schema, "plain")[0].tags == ("FIELD", "BOTH", "TYPE")
    assert [node.tags for node in at(schema, "maybe")] == [("FIELD",), (), ("TYPE", "BOTH")]
    assert at(schema, "none")[0].tags == ()


def test_a_place_has_a_limited_number_of_tags() -> None:
    """Every use of a type holds all of its tags, so that many on one type would take memory for each use."""
    tags = [f"T{number}" for number in range(65)]
    assert len(parse(record({"name": "a", "type": "int", "confluent:tags": tags[:64]})).root.fields[0].node.tags) == 64
    with pytest.raises(SchemaError, match="64 tags"):
        parse(record({"name": "a", "type": "int", "confluent:tags": tags}))


def test_tags_of_a_named_type_go_with_it() -> None:
    """Wherever a tagged type is used by name, also inside itself, its tags hold."""
    tagged: dict[str, Any] = {"confluent:tags": ["PII"]}
    person = record(("friend", ["null", "Person"]), name="Person", **tagged)
    schema = parse(record(("a", person), ("b", {"type": "Person", "confluent:tags": ["MORE"]})))
    assert at(schema, "b")[0].tags == ("MORE", "PII")
    assert at(schema, "b.friend")[2].kind is Kind.REFERENCE
    assert at(schema, "b.friend")[2].tags == ("PII",)


def test_other_tag_attributes() -> None:
    """Tags are read from the attributes that the caller names, in their order, and from no others."""
    entry = {"name": "a", "type": "int", "confluent:tags": ["C"], "acme.tags": ["A"]}
    assert at(parse(record(entry), tag_attributes=("acme.tags", "confluent:tags")), "a")[0].tags == ("A", "C")
    assert at(parse(record(entry), tag_attributes=("acme.tags",)), "a")[0].tags == ("A",)
    assert at(parse(record(entry), tag_attributes=()), "a")[0].tags == ()


@pytest.mark.parametrize("attribute", ["confluent.tags", "confluent:tag", "Confluent:Tags", "confluent_tags"])
def test_a_misspelt_tag_attribute_is_reported(attribute: str) -> None:
    """An attribute that only looks like the tag attribute gives a warning with its place, and no tag."""
    source = record({"name": "a", "type": "int", attribute: ["PII"]})
    schema, warnings = avro.parse_with_warnings(json.dumps(source))
    assert at(schema, "a")[0].tags == ()
    assert len(warnings) == 1
    assert warnings[0].startswith(f'a: the attribute "{attribute}"')


def test_a_logical_type_on_a_field_is_reported() -> None:
    """The specification ignores a logicalType beside a field's name, which its author did not mean."""
    source = record({"name": "a", "type": "long", "logicalType": "timestamp-millis"})
    schema, warnings = avro.parse_with_warnings(json.dumps(source))
    assert at(schema, "a")[0].logical == ""
    assert [warning.partition(":")[0] for warning in warnings] == ["a"]


FIXED = {"type": "fixed", "name": "F", "size": 1}


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        (record(("a", "strin")), "a", "not defined"),
        (record(("a", "Later"), ("b", record(name="Later"))), "a", "not defined"),
        (record(("a", {"type": ["null", "int"]})), "a", '"type"'),
        (record(("a", {"items": "int"})), "a", '"type"'),
        (record(("a", None)), "a", "a type is"),
        (record(("a", 7)), "a", "a type is"),
        (record(("a", "int"), ("a", "int")), "", "stands twice"),
        (record({"name": "a"}), "", "a field is"),
        (record("a"), "", "a field is"),
        (record(("a-b", "int")), "", "name"),
        (record(("", "int")), "", "name"),
        (record(("a.b", "int")), "", "name"),
        (record(("ä", "int")), "", "name"),
        (record(("a\n", "int")), "", "name"),
        (record(("x" * 1025, "int")), "", "longer"),
        ({"type": "record", "name": "R"}, "", '"fields"'),
        ({"type": "record", "fields": []}, "", "name"),
        (record(name="R-1"), "", "name"),
        (record(name="a..R"), "", "name"),
        (record(name=".R"), "", "name"),
        (record(name="R", namespace="a b"), "", "name"),
        (record(name="R", namespace=3), "", "name"),
        (record(name="string"), "", "primitive"),
        (record(name="a.int"), "", "primitive"),
        (record(("a", record(name="R"))), "a", "defined twice"),
        (record(("a", FIXED), ("b", FIXED)), "b", "defined twice"),
        (record(("a", ["null", "int", ["string"]])), "a", "branch of a union"),
        (record(("a", ["int", "null", "int"])), "a", "two branches"),
        (record(("a", ["int", {"type": "int", "logicalType": "date"}])), "a", "two branches"),
        (record(("a", [{"type": "array", "items": "int"}, {"type": "array", "items": "long"}])), "a", "two branches"),
        (record(("f", FIXED), ("a", ["F", "F"])), "a", "two branches"),
        (record(("a", [])), "a", "needs a branch"),
        ([{"type": "map", "values": "int"}, record(name="x.map")], "", None),
        ([{"type": "map", "values": "int"}, record(name="map")], "", "two branches"),
        ([record(("a", ["int", record(("b", "no"), name="n.In")])), "null"], "a<In>.b", "not defined"),
        (record(("a", {"type": "array"})), "a", '"items"'),
        (record(("a", {"type": "map", "items": "int"})), "a", '"values"'),
        ({"type": "enum", "name": "E"}, "", '"symbols"'),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "", "twice"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B-C"]}, "", "name"),
        ({"type": "fixed", "name": "F"}, "", '"size"'),
        ({"type": "fixed", "name": "F", "size": -1}, "", '"size"'),
        ({"type": "fixed", "name": "F", "size": True}, "", '"size"'),
        ({"type": "fixed", "name": "F", "size": 2.0}, "", '"size"'),
        ({"type": "fixed", "name": "F", "size": 2**31}, "", '"size"'),
        (record({"name": "a", "type": "int", "confluent:tags": "PII"}), "a", "list of"),
        (record({"name": "a", "type": "int", "confluent:tags": [1]}), "a", "list of"),
        (record({"name": "a", "type": "int", "confluent:tags": [""]}), "a", "list of"),
        (record({"name": "a", "type": "int", "confluent:tags": None}), "a", "list of"),
    ],
)
def test_what_is_no_schema(source: object, path: str, words: str | None) -> None:
    """Everything that the specification forbids is refused with the path at which it stands."""
    if words is None:
        assert [node.path for node in parse(source).root.branches] == ["<map>", "<x.map>"]
        return
    with pytest.raises(SchemaError) as caught:
        parse(source)
    assert caught.value.path == path
    assert words in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "string",
        "{",
        '"string" "int"',
        '\ufeff"string"',
        '{"type": "fixed", "name": "F", "size": 1, "size": 2}',
        '{"type": "fixed", "name": "F", "size": NaN}',
        '{"type": "string", "doc": "\\ud800"}',
        '{"type": "string", "doc": "\ud800"}',
        '{"type": "fixed", "name": "F", "size": ' + "9" * 10_000 + "}",
    ],
)
def test_what_is_no_json(text: str) -> None:
    """Text that is not strict JSON is refused; a repeated key too, as two readers could see two schemas."""
    with pytest.raises(SchemaError):
        avro.parse(text)


def nested(levels: int) -> object:
    """Return an int inside of arrays."""
    source: object = "int"
    for _ in range(levels):
        source = {"type": "array", "items": source}
    return source


def test_depth() -> None:
    """64 records, arrays and maps may stand inside each other, and a union between any two of them; 65 may not."""
    assert len(outline(parse(nested(64)))) == 65
    with pytest.raises(SchemaError, match="deeper than 64"):
        parse(nested(65))
    source: object = "int"
    for level in range(64):
        source = record(("a", ["null", source]), name=f"R{level}")
    assert len(outline(parse(source))) == 1 + 64 * 3
    with pytest.raises(SchemaError, match="deeper than 64"):
        parse(record(("a", source)))
    with pytest.raises(SchemaError, match="deeper than 64"):
        parse(record(("a", source)), limits=replace(DEFAULT_LIMITS, depth=10_000))


def test_depth_by_references() -> None:
    """Depth counts what the types are written out to, not how deep the text is."""
    texts = [record(("a", "int"), name="R0")]
    texts += [record(("a", f"R{level - 1}"), name=f"R{level}") for level in range(1, 65)]
    parse(texts[63], *texts[:63])
    with pytest.raises(SchemaError, match="deeper than 64"):
        parse(texts[64], *texts[:64])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"type":"array","items":' * 40_000,
        '{"type": "int", "default": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '"' + "\\" * 1_000_000,
        '{"type": "record", "name": "R", "fields": [' + ",".join(['{"name":"a","type":"int"}'] * 30_000) + "]}",
        json.dumps(["null"] * 100_000),
        json.dumps([record(name=f"R{number}") for number in range(20_000)]),
        json.dumps(record(*((f"f{number}", "int") for number in range(10_000)))),
        json.dumps(record(("a", record(("b", "int"), name="y" * 1000)), name="x" * 1000, doc="z" * 2**20)),
    ],
)
def test_hostile_texts_are_refused_quickly(text: str) -> None:
    """Depth, width and size are limited; no text gives anything but a schema or a SchemaError."""
    started = time.perf_counter()
    with pytest.raises(SchemaError):
        avro.parse(text)
    assert time.perf_counter() - started < 5


def test_exponential_expansion_is_refused_quickly() -> None:
    """Sixty short records that each use the one before twice would be 2**60 places."""
    source: object = record(("a", "int"), name="R0")
    for level in range(1, 60):
        source = record(("a", source), ("b", f"R{level - 1}"), name=f"R{level}")
    started = time.perf_counter()
    with pytest.raises(SchemaError, match="more than 10000 places"):
        parse(source)
    assert time.perf_counter() - started < 5


def test_a_large_enum_at_many_places_is_refused() -> None:
    """What is compiled for a place grows with its enum, so that the symbols of all places together are limited."""
    enum = {"type": "enum", "name": "E", "symbols": [f"S{number}" for number in range(20_000)]}
    uses = [("e0", enum), *[(f"e{number}", "E") for number in range(1, 51)]]
    assert len(parse(record(*uses[:50])).root.fields) == 50
    with pytest.raises(SchemaError, match="more than 1000000 enum symbols"):
        parse(record(*uses))


def test_long_names_in_many_paths_are_refused() -> None:
    """Every node has its path, so paths have a length limit."""
    source: object = record(*((f"f{number}", "int") for number in range(5)), name="Last")
    for level in range(5):
        source = record(("x" * 1000, source), name=f"R{level}")
    with pytest.raises(SchemaError, match="longer than 4096"):
        parse(source)


@pytest.mark.parametrize("bad", [{"schema_bytes": 50}, {"schema_nodes": 3}])
def test_limits_of_the_caller(bad: dict[str, int]) -> None:
    """Bytes are counted over all texts, places over the written-out tree."""
    first, second = record(("a", "int"), ("b", "int"), name="A"), record(("c", "A"), name="B")
    assert len(outline(parse(second, first))) == 4
    with pytest.raises(SchemaError):
        parse(second, first, limits=replace(DEFAULT_LIMITS, **bad))
