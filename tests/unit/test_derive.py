"""Derived schemas: names, nullability, annotations, and compatibility through every change of the policy."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from tests.support.engines import (
    NOW_MS,
    allow,
    avro_encode,
    avro_resolve,
    json_schema_of,
    plan,
    record_schema,
    rig,
    small_policy,
)

from tokenweir.core import avro
from tokenweir.core.engineapi import Record
from tokenweir.core.schema import Kind, Node

_ADDRESS = {
    "type": "record",
    "name": "Address",
    "doc": "where",
    "fields": [
        {"name": "street", "type": "string", "doc": "raw"},
        {"name": "city", "type": "string", "default": "?", "aliases": ["town"]},
    ],
}


def _derived(policy: str, schema: str, audience: str = "crm") -> Any:  # noqa: ANN401 - a schema
    return rig(policy, schema).derived(audience)


def _field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in schema["fields"] if entry["name"] == name)
    return found


def test_an_avro_schema_says_what_leaves_and_nothing_of_the_source() -> None:
    """Nullable with default null, a name of its own, and notes of class, treatment and token entry."""
    policy = small_policy(fields='{"a.street": asked, "a.city": open, at: open}', outputs="[{audience: crm}]")
    schema = record_schema(
        ("a", _ADDRESS), ("at", {"type": "long", "logicalType": "timestamp-millis", "x": 1}), ("no", "int")
    )
    assert _derived(policy, schema) == {
        "type": "record",
        "name": "Event",
        "namespace": "shop.crm",
        "tokenweir": {"audience": "crm", "epoch": 1},
        "fields": [
            {
                "name": "id",
                "type": ["null", "string"],
                "default": None,
                "tokenweir": {"class": "id.customer", "treatment": "tokenize", "token": "customer"},
            },
            {
                "name": "a",
                "default": None,
                "type": [
                    "null",
                    {
                        "type": "record",
                        "name": "Address",
                        "namespace": "shop.crm",
                        "fields": [
                            {
                                "name": "street",
                                "type": ["null", "string"],
                                "default": None,
                                "tokenweir": {"class": "asked", "treatment": "keep"},
                            },
                            {
                                "name": "city",
                                "type": ["null", "string"],
                                "default": None,
                                "tokenweir": {"class": "open", "treatment": "keep"},
                            },
                        ],
                    },
                ],
            },
            {
                "name": "at",
                "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
                "default": None,
                "tokenweir": {"class": "open", "treatment": "keep"},
            },
        ],
    }


def test_always_is_required_and_never_null() -> None:
    """Only an unconditional keep may say so; the field then is as it was."""
    policy = small_policy(classes="sure: {do: keep, always: true}", fields="{v: sure, n: sure}")
    derived = _derived(policy, record_schema(("v", "string"), ("n", ["string", "null"])))
    assert "default" not in _field(derived, "v")
    assert _field(derived, "v")["type"] == "string"
    assert _field(derived, "n")["type"] == ["null", "string"]


def test_a_record_type_at_several_places_is_one_type_for_each() -> None:
    """The first place of the source has the name, so that no policy can rename a type."""
    schema = record_schema(
        ("billing", _ADDRESS),
        ("shipping", ["null", "Address"]),
        ("e", {"type": "enum", "name": "E", "symbols": ["A"]}),
        ("f", "E"),
    )
    alike = _derived(small_policy(fields="{billing: open, shipping: open, e: open, f: open}"), schema)
    apart = _derived(small_policy(fields='{billing: open, "shipping.city": open}'), schema)
    second = _derived(small_policy(fields="{shipping: open}"), schema)

    for derived in (alike, apart):
        assert _field(derived, "billing")["type"][1]["name"] == "Address"
        assert _field(derived, "shipping")["type"][1]["name"] == "Address__shipping"
    assert _field(second, "shipping")["type"][1]["name"] == "Address__shipping"
    assert _field(alike, "f")["type"] == ["null", "shop.crm.E"]


def test_a_top_level_union_keeps_the_branches_that_leave() -> None:
    """And each of them carries the epoch."""
    branches = [json.loads(record_schema(("x", "string"), name=name)) for name in ("Click", "View")]
    derived = _derived(small_policy(fields='{"<Click>.x": open}'), json.dumps(branches))
    assert [branch["name"] for branch in derived] == ["Click", "View"]
    assert all(branch["tokenweir"] == {"audience": "crm", "epoch": 1} for branch in derived)
    assert [[entry["name"] for entry in branch["fields"]] for branch in derived] == [["id", "x"], ["id"]]


def test_nothing_that_leaves_is_no_schema() -> None:
    """An output of which nothing can leave has no schema, and its records are withheld."""
    policy = small_policy(classes="id.other: {do: drop}", subjects="customer: {class: id.other, form: {digits: 10}}")
    stream = rig(
        policy,
        json.dumps(
            {
                "type": "record",
                "name": "E",
                "fields": [{"name": "id", "type": "string", "confluent:tags": ["id.other"]}],
            }
        ),
    )
    assert stream.output("crm").derived is None
    outcome = stream.one(
        Record(
            avro_encode(
                {"type": "record", "name": "E", "fields": [{"name": "id", "type": "string"}]}, {"id": "0000000007"}
            ),
            None,
            NOW_MS,
        )
    )
    assert outcome["crm"].fate == "withheld"


def test_a_json_schema_requires_only_what_is_always_there() -> None:
    """Objects are closed, dropped properties stay declared, constraints hold only where values are always kept."""
    text = {"type": "string", "maxLength": 9, "pattern": "^x"}
    source = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 10, "confluent:tags": ["id.customer"]},
            "sure": text,
            "kept": text,
            "gone": text,
            "null": {"type": ["string", "null"]},
            "box": {"type": "object", "properties": {"in": text, "out": {"type": "integer", "minimum": 3}}},
            "map": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["id", "sure", "kept"],
    }
    policy = small_policy(
        classes="sure: {do: keep, always: true}",
        fields='{sure: sure, kept: asked, gone: secret, "null": open, "box.in": open, "box.out": secret, '
        '"map{a}": open}',
        format_="json_schema",
    )
    assert _derived(policy, json.dumps(source)) == {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "required": ["sure"],
        "x-tokenweir": {"audience": "crm", "epoch": 1},
        "properties": {
            "id": {
                "type": "string",
                "x-tokenweir": {"class": "id.customer", "treatment": "tokenize", "token": "customer"},
            },
            "sure": {**text, "x-tokenweir": {"class": "sure", "treatment": "keep"}},
            "kept": {"type": "string", "x-tokenweir": {"class": "asked", "treatment": "keep"}},
            "gone": {"type": "string"},
            "null": {
                "anyOf": [{"type": "null"}, {"type": "string"}],
                "x-tokenweir": {"class": "open", "treatment": "keep"},
            },
            "box": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "in": {"type": "string", "x-tokenweir": {"class": "open", "treatment": "keep"}},
                    "out": {"type": "integer"},
                },
            },
            "map": {"type": "object", "additionalProperties": False, "properties": {"a": {"type": "number"}}},
        },
    }


def test_a_json_schema_does_not_tell_what_was_dropped() -> None:
    """Neither a constant nor an enum, a pattern or a bound; and no later edit of the policy changes a type."""
    told = {
        "segment": {"const": "hiv_positive"},
        "ward": {"type": "string", "enum": ["oncology", "psychiatry"]},
        "mail": {"type": "string", "pattern": "^jane@example[.]com$"},
        "born": {"type": "integer", "minimum": 1980, "maximum": 1980},
        "inside": {"type": "object", "properties": {"list": {"type": "array", "items": {"const": "hiv_positive"}}}},
    }
    identity = {"id": {"type": "string", "confluent:tags": ["id.customer"]}}
    source = json.dumps({"type": "object", "properties": {**identity, **told}, "required": ["id", *told]})

    def properties(class_name: str) -> dict[str, Any]:
        rules = ", ".join(f"{name}: {class_name}" for name in told)
        policy = small_policy(classes="sure: {do: keep, always: true}", fields=f"{{{rules}}}", format_="json_schema")
        return {name: _bare(shape) for name, shape in _derived(policy, source)["properties"].items()}

    dropped = properties("secret")
    assert not any(
        word in json.dumps(dropped) for word in ("hiv", "oncology", "jane", "1980", "const", "enum", "pattern")
    )
    assert properties("open") == properties("asked") == dropped
    assert properties("sure")["ward"]["enum"] == ["oncology", "psychiatry"]


def _bare(shape: Any) -> Any:  # noqa: ANN401 - a schema
    """Take the notes out of a JSON Schema."""
    if isinstance(shape, dict):
        return {name: _bare(value) for name, value in shape.items() if name not in {"x-tokenweir", "required"}}
    return [_bare(value) for value in shape] if isinstance(shape, list) else shape


def test_a_large_enum_at_many_places_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places share its symbols: what a derived schema costs does not grow with symbols times places."""
    written: list[int] = []
    dumps = json.dumps

    def counted(value: object, **options: Any) -> str:  # noqa: ANN401 - those of json.dumps
        text = dumps(value, **options)
        written.append(text.count("S999"))
        return text

    enum = {"type": "enum", "name": "Large", "symbols": [f"S{index}" for index in range(1000)]}
    schema = record_schema(("e0", enum), *[(f"e{index}", "Large") for index in range(1, 40)])
    monkeypatch.setattr("tokenweir.core.derive.json.dumps", counted)
    derived = _derived(small_policy(fields='{"e*": open}'), schema)
    assert _field(derived, "e39")["type"] == ["null", "shop.crm.Large"]
    assert sum(written) == 4  # For each of two outputs: to compare its record, and as the text itself.


_RICH = record_schema(
    ("text", "string"),
    ("list", {"type": "array", "items": ["null", "string"]}),
    ("map", {"type": "map", "values": "long"}),
    ("billing", _ADDRESS),
    ("shipping", ["null", "Address"]),
    ("others", {"type": "array", "items": "Address"}),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}),
    (
        "mixed",
        ["null", "string", "long", {"type": "record", "name": "Deep", "fields": [{"name": "x", "type": "string"}]}],
    ),
    ("amount", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}),
    ("uuid", {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}),
)
_RECORD = {
    "id": "0000000007",
    "text": "t",
    "list": ["a", None],
    "map": {"a": 1, "b": 2},
    "billing": {"street": "s", "city": "c"},
    "shipping": {"street": "s2", "city": "c2"},
    "others": [{"street": "s3", "city": "c3"}],
    "kind": "B",
    "mixed": {"x": "deep"},
    "amount": b"\x01\x02",
    "uuid": b"0123456789abcdef",
}
#: From nearly nothing to everything, with the same types treated alike, differently, and in another order.
_POLICIES = [
    "{text: open}",
    '{text: asked, "shipping.city": open}',
    '{"billing.street": open, shipping: open, "map{a}": open}',
    '{"**": open, "map{b}": open, id: id.customer}',
    '{"**": asked, id: id.customer, "map{a}": open, "map{@key}": asked, "mixed<string>": secret}',
    '{others: open, kind: open, "mixed<Deep>": open, amount: asked, uuid: open, list: open}',
    '{others: asked, "shipping.street": asked, mixed: open, uuid: secret}',
]


@pytest.mark.parametrize(("old", "new"), list(permutations(range(len(_POLICIES)), 2)))
def test_every_change_of_the_policy_stays_compatible_both_ways(old: int, new: int) -> None:
    """A consumer with the old schema reads new data and one with the new schema reads old data."""
    schema = json.loads(_RICH)
    consent = [allow("customer:0000000007", "offers")]
    record = Record(avro_encode(schema, _RECORD), None, NOW_MS)
    streams = [rig(small_policy(fields=_POLICIES[index]), _RICH) for index in (old, new)]
    for lines in ([], consent):
        values = [stream.one(record, lines)["crm"].value for stream in streams]
        for writer, reader, value in zip(streams, reversed(streams), values, strict=True):
            assert value is not None
            resolved = avro_resolve(writer.derived("crm"), reader.derived("crm"), value)
            assert resolved.keys() == {entry["name"] for entry in reader.derived("crm")["fields"]}
            assert resolved["id"] == writer.read("crm", value)["id"]


@pytest.mark.parametrize("fields", _POLICIES)
def test_the_tree_is_that_of_the_text(fields: str) -> None:
    """What the engine writes with is what a consumer reads with."""
    derived = rig(small_policy(fields=fields), _RICH).output("crm").derived
    assert derived is not None
    assert _layout(derived.schema.root) == _layout(avro.parse(derived.text).root)


@pytest.mark.parametrize("fields", _POLICIES)
def test_both_formats_validate_with_foreign_libraries(fields: str) -> None:
    """Fastavro reads every sanitized datum to its end, and jsonschema finds nothing wrong with a document."""
    source = json.loads(_RICH)
    source["fields"] = [entry for entry in source["fields"] if entry["name"] not in {"amount", "uuid"}]
    fields = fields.replace("amount: asked, uuid: open, ", "").replace(", uuid: secret", "")
    document = {name: value for name, value in _RECORD.items() if name not in {"amount", "uuid"}}
    for consent in ([], [allow("customer:0000000007", "offers")]):
        avro_stream = rig(small_policy(fields=fields), json.dumps(source))
        from_avro = avro_stream.one(Record(avro_encode(source, document), None, NOW_MS), consent)["crm"]
        json_stream = rig(small_policy(fields=fields, format_="json_schema"), json.dumps(_json_of(source)))
        from_json = json_stream.one(Record(json.dumps(document).encode(), None, NOW_MS), consent)["crm"]
        assert avro_stream.read("crm", from_avro.value)["id"] == json_stream.read("crm", from_json.value)["id"]


def test_a_note_does_not_name_the_policy() -> None:
    """An edit that changes no shape makes no new version of the schema."""
    policy = small_policy(fields="{text: open}")
    before = _derived(policy, record_schema(("text", "string")))
    after = _derived(policy.replace("title: CRM", "title: Other"), record_schema(("text", "string")))
    assert before == after


def test_always_must_be_in_every_known_version() -> None:
    """A field that is never null cannot come later: data of the old version has none."""
    policy = small_policy(classes="sure: {do: keep, always: true}", fields="{v: sure}")
    _, planned, _ = plan(policy, record_schema(), record_schema(("v", "string")))
    assert {finding.rule for finding in planned.errors} == {"always-missing"}


def _json_of(schema: Any) -> Any:  # noqa: ANN401 - a schema
    """Write each named type out, as the JSON Schema of the test support does not know names."""
    known: dict[str, Any] = {}

    def expand(part: Any) -> Any:  # noqa: ANN401 - a schema
        if isinstance(part, str):
            return known.get(part, part)
        if isinstance(part, list):
            return [expand(entry) for entry in part]
        if "fields" in part:
            part = {**part, "fields": [{**entry, "type": expand(entry["type"])} for entry in part["fields"]]}
        for key in ("items", "values"):
            if key in part:
                part = {**part, key: expand(part[key])}
        if "name" in part:
            known[part["name"]] = part
        return part

    return json_schema_of(expand(schema))


def _layout(node: Node) -> tuple[Any, ...]:
    attributes = dict(node.attributes) if node.kind in {Kind.BYTES, Kind.FIXED} else {}
    fields = [(entry.name, _layout(entry.node)) for entry in node.fields]
    below = [_layout(child) for child in node.children()]
    return (node.kind, node.name, node.logical, attributes, node.symbols, node.size, fields, below)
