"""The plan compiler: what it refuses, with which rule, and what ends up in the plan."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.engines import json_schema_of, plan, record_schema, rig, rules_of, small_policy

from tokenweir.core.plan import Leaf, MapOut, OutputPlan, RecordOut, UnionOut, leaves

_OTHER = "token: {do: {tokenize: other}}"
_DIGITS = "other: {format: digits, length: 8}"
_CELL = "cell: {do: {generalize: {cell: h3, resolution: 6}}}"
_PLACE = {
    "type": "record",
    "name": "Place",
    "fields": [{"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}],
}
_TREE = {"type": "record", "name": "Tree", "fields": [{"name": "below", "type": ["null", "Tree"]}]}


def _token_on(type_: object, tokens: str = _DIGITS) -> tuple[str, str]:
    return small_policy(classes=_OTHER, tokens=tokens, fields="{value: token}"), record_schema(("value", type_))


def _json(policy: str, schema: dict[str, Any]) -> tuple[str, str]:
    return policy.replace("format: avro", "format: json_schema"), json.dumps(schema)


def _json_object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON Schema
    identity = {"type": "string", "confluent:tags": ["id.customer"]}
    return {"type": "object", "properties": {"id": identity, **properties}, "required": ["id"]}


def _branches(first: dict[str, Any], second: dict[str, Any], fields: str) -> tuple[str, str]:
    union = {"anyOf": [{"type": "object", "title": "A", **first}, {"type": "object", "title": "B", **second}]}
    return _json(small_policy(fields=fields), _json_object(value=union))


def _root_branches(first: dict[str, Any], second: dict[str, Any], **options: str) -> tuple[str, str]:
    union = {"oneOf": [{"type": "object", "title": "A", **first}, {"type": "object", "title": "B", **second}]}
    return _json(small_policy(**options), union)


_TEXT = {"type": "string"}
_ID = {"type": "string", "confluent:tags": ["id.customer"]}
_TIME = {"type": "string", "format": "date-time"}
_TO = "[{type: customer, path: id}, {type: customer, path: to}]"
_TWO_MAPS: tuple[dict[str, Any], dict[str, Any]] = (
    {"additionalProperties": {"type": "string", "maxLength": 3}},
    {"additionalProperties": _TEXT},
)
_CONST_A = {"type": "string", "enum": ["a"]}
_CONST_B = {"type": "string", "enum": ["b"]}

_REFUSED = {
    "a boolean is not tokenized": ("treatment-type", *_token_on("boolean")),
    "an enum is not tokenized": ("treatment-type", *_token_on({"type": "enum", "name": "E", "symbols": ["A"]})),
    "a float is not tokenized": ("treatment-type", *_token_on("double")),
    "a decimal is not tokenized": (
        "treatment-type",
        *_token_on({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
    ),
    "a date is not tokenized": ("treatment-type", *_token_on({"type": "int", "logicalType": "date"})),
    "a timestamp is not tokenized": (
        "treatment-type",
        *_token_on({"type": "long", "logicalType": "timestamp-millis"}),
    ),
    "a fixed takes only uuid and hex": ("treatment-type", *_token_on({"type": "fixed", "name": "F", "size": 8})),
    "tokens must fit an int": ("treatment-type", *_token_on("int", "other: {format: digits, length: 10}")),
    "a cell needs a pair": (
        "treatment-type",
        small_policy(classes=_CELL, fields="{value: cell}"),
        record_schema(("value", "double")),
    ),
    "both of a pair have one class": (
        "pair-classes",
        small_policy(
            classes=_CELL, fields='{"place.lat": cell, "place.lon": open}', stream="pairs: [[place.lat, place.lon]]"
        ),
        record_schema(("place", _PLACE)),
    ),
    "a pair stands in one record": (
        "pair-apart",
        small_policy(fields="{place: open}", stream="pairs: [[place.lat, id]]"),
        record_schema(("place", _PLACE)),
    ),
    "a pair that is not there": (
        "unknown-path",
        small_policy(fields="{place: open}", stream="pairs: [[place.lat, place.long]]"),
        record_schema(("place", _PLACE)),
    ),
    "a subject that is not there": (
        "unknown-path",
        small_policy(about="[{type: customer, path: customer_id}]", fields="{id: id.customer}"),
        record_schema(),
    ),
    "a subject is one value": (
        "invalid-path",
        small_policy(about='[{type: customer, path: "ids[*]"}]', fields="{ids: id.customer}"),
        record_schema(("ids", {"type": "array", "items": "string"})),
    ),
    "an id is no boolean": (
        "subject-type",
        small_policy(about="[{type: customer, path: flag}]", fields="{flag: secret}"),
        record_schema(("flag", "boolean")),
    ),
    "a number is no UUID": (
        "subject-type",
        small_policy(
            subjects="customer: {class: secret, form: uuid}",
            about="[{type: customer, path: number}]",
            fields="{number: secret}",
        ),
        record_schema(("number", "long")),
    ),
    "framed keys are not read yet": (
        "framed-key",
        small_policy(about="[{type: customer, path: $key.id}]"),
        record_schema(),
    ),
    "an id under another class would leave as that": (
        "subject-class",
        small_policy(about="[{type: customer, path: number}]", fields="{number: open}"),
        record_schema(("number", "string")),
    ),
    "so would one in a header": (
        "subject-class",
        small_policy(about='[{type: customer, path: "$headers{who}"}]', stream="headers: {who: open}"),
        record_schema(),
    ),
    "one class has one form": (
        "subject-forms",
        small_policy(
            subjects="customer: {class: id.customer, form: {digits: 10}}\n  member: {class: id.customer, form: text}",
            about="[{type: customer, path: id}, {type: member, path: $key}]",
        ),
        record_schema(),
    ),
    "a date is no event time": (
        "event-time-type",
        small_policy(fields="{day: open}", stream="event_time: day"),
        record_schema(("day", {"type": "int", "logicalType": "date"})),
    ),
    "an event time that is not there": ("unknown-path", small_policy(stream="event_time: at"), record_schema()),
    "recursion cannot be kept": ("cannot-treat", small_policy(fields="{tree: open}"), record_schema(("tree", _TREE))),
    "recursion in a wide union cannot either": (
        "cannot-treat",
        small_policy(fields="{tree: open}"),
        record_schema(
            (
                "tree",
                {"type": "record", "name": "T", "fields": [{"name": "x", "type": ["null", "string", "T"]}]},
            )
        ),
    ),
    "keys are kept or dropped": (
        "map-keys",
        small_policy(classes=_OTHER, tokens=_DIGITS, fields='{"m{*}": open, "m{@key}": token}'),
        record_schema(("m", {"type": "map", "values": "string"})),
    ),
    "a rule that matches nothing": ("unmatched-rule", small_policy(fields="{nothing: open}"), record_schema()),
    "unclassified fields are refused": (
        "unclassified-field",
        small_policy(unclassified="refuse"),
        record_schema(("value", "string")),
    ),
    "key: subject needs a token": (
        "key-not-tokenized",
        small_policy(
            classes="id.other: {do: keep}",
            subjects="customer: {class: id.other, form: {digits: 10}}",
            outputs="[{audience: crm, key: subject}]",
        ),
        record_schema(("id", "string")),
    ),
    "entries of a map that come out with different types": (
        "underivable-schema",
        small_policy(fields='{"m{a}.x": open, "m{b}.y": open}'),
        record_schema(
            (
                "m",
                {
                    "type": "map",
                    "values": {
                        "type": "record",
                        "name": "V",
                        "fields": [{"name": "x", "type": "string"}, {"name": "y", "type": "string"}],
                    },
                },
            )
        ),
    ),
    "what JSON does not describe cannot be kept": (
        "cannot-treat",
        *_json(small_policy(fields="{value: open}"), _json_object(value={})),
    ),
    "always needs a required property": (
        "always-optional",
        *_json(small_policy(classes="sure: {do: keep, always: true}", fields="{v: sure}"), _json_object(v=_TEXT)),
    ),
    "tokens would be too long for the schema": (
        "treatment-type",
        *_json(
            small_policy(classes=_OTHER, tokens="other: {format: opaque}", fields="{v: token}"),
            _json_object(v={"type": "string", "maxLength": 10}),
        ),
    ),
    "tokens would be too large for the schema": (
        "treatment-type",
        *_json(
            small_policy(classes=_OTHER, tokens=_DIGITS, fields="{v: token}"),
            _json_object(v={"type": "integer", "maximum": 10_000}),
        ),
    ),
    "JSON branches that cannot be told apart": (
        "ambiguous-union",
        *_branches(
            {"properties": {"x": _TEXT}},
            {"properties": {"x": _TEXT, "y": _TEXT}},
            '{"value<A>.x": open, "value<B>.x": secret, "value<B>.y": secret}',
        ),
    ),
    "a JSON map may be any object": (
        "ambiguous-union",
        *_branches(
            {"additionalProperties": _TEXT},
            {"properties": {"y": _TEXT}},
            '{"value<A>{*}": open, "value<A>{@key}": open, "value<B>.y": secret}',
        ),
    ),
    "keys of JSON maps that cannot be told apart": (
        "ambiguous-union",
        *_branches(*_TWO_MAPS, '{"value<A>{*}": open, "value<A>{@key}": open, "value<B>{*}": open}'),
    ),
    "keys of a JSON map that may be any object": (
        "ambiguous-union",
        *_branches(
            {"additionalProperties": _TEXT},
            {"properties": {"y": _TEXT}},
            '{"value<A>{*}": open, "value<A>{@key}": asked, "value<B>.y": open}',
        ),
    ),
    "a subject that an earlier branch does not declare": (
        "ambiguous-union",
        *_root_branches(
            {"required": ["id"], "properties": {"id": _ID, "sku": _TEXT}},
            {"required": ["id", "to"], "properties": {"id": _ID, "sku": _TEXT, "to": _ID}},
            about=_TO,
            fields='{"**.sku": open}',
        ),
    ),
    "a subject that may be there": (
        "ambiguous-union",
        *_root_branches({"properties": {"id": _ID}}, {"properties": {"id": _ID, "to": _ID}}, about=_TO),
    ),
    "the only subject, in a stream that takes records without one": (
        "ambiguous-union",
        *_root_branches(
            {"required": ["sku"], "properties": {"sku": _TEXT}},
            {"required": ["id", "sku"], "properties": {"id": _ID, "sku": _TEXT}},
            fields='{"**.sku": open}',
            stream="no_subject: anonymous",
        ),
    ),
    "a subject where nothing leaves": (
        "ambiguous-union",
        *_json(
            small_policy(about='[{type: customer, path: id}, {type: customer, path: "v.w.to"}]', fields="{v: secret}"),
            _json_object(
                v={
                    "anyOf": [
                        {"type": "object", "title": "A", "properties": {"x": _TEXT}},
                        {"type": "object", "title": "B", "properties": {"w": {"properties": {"to": _TEXT}}}},
                    ]
                }
            ),
        ),
    ),
    "a subject that is read as a map": (
        "ambiguous-union",
        *_root_branches({"additionalProperties": _TEXT}, {"properties": {"id": _ID}}),
    ),
    "a subject under one name with what is none": (
        "ambiguous-union",
        *_root_branches(
            {"properties": {"id": _ID, "to": _ID}},
            {"properties": {"id": _ID, "to": _ID}},
            about='[{type: customer, path: id}, {type: customer, path: "<B>.to"}]',
        ),
    ),
    "an event time that an earlier branch does not declare": (
        "ambiguous-union",
        *_root_branches(
            {"properties": {"id": _ID}},
            {"required": ["at"], "properties": {"id": _ID, "at": _TIME}},
            fields='{"**.at": secret}',
            stream="event_time: at",
        ),
    ),
    "branches that take too long to compare": (
        "ambiguous-union",
        *_json(
            small_policy(),
            _json_object(
                value={
                    "anyOf": [
                        {
                            "title": f"{outer}",
                            "properties": {
                                "x": {
                                    "anyOf": [{"title": f"{inner}", "properties": {"y": _TEXT}} for inner in range(25)]
                                }
                            },
                        }
                        for outer in range(40)
                    ]
                }
            ),
        ),
    ),
}


@pytest.mark.parametrize(("rule", "policy", "schema"), _REFUSED.values(), ids=_REFUSED.keys())
def test_refused(rule: str, policy: str, schema: str) -> None:
    """Policy and schema together do not compile, for exactly this reason."""
    assert rules_of(policy, schema) == {rule}


_ACCEPTED = {
    "recursion may be dropped": (small_policy(fields="{tree: secret}"), record_schema(("tree", _TREE))),
    "branches with one class": _branches(
        {"properties": {"x": _TEXT}}, {"properties": {"x": _TEXT}}, '{"value<A>.x": open, "value<B>.x": open}'
    ),
    "branches that a constant tells apart": _branches(
        {"properties": {"kind": _CONST_A, "x": _TEXT}, "required": ["kind"]},
        {"properties": {"kind": _CONST_B, "x": _TEXT}, "required": ["kind"]},
        '{"value<A>.kind": secret, "value<A>.x": open, "value<B>.kind": secret, "value<B>.x": secret}',
    ),
    "maps whose keys have one class": _branches(
        *_TWO_MAPS, '{"value<A>{*}": open, "value<A>{@key}": asked, "value<B>{*}": open, "value<B>{@key}": asked}'
    ),
    "a map whose keys stay inside": _branches(*_TWO_MAPS, '{"value<A>{*}": open, "value<B>{*}": open}'),
    "the branch with more subjects comes first": _root_branches(
        {"required": ["to"], "properties": {"id": _ID, "to": _ID}}, {"properties": {"id": _ID}}, about=_TO
    ),
    "a constant tells the branch with more subjects apart": _root_branches(
        {"required": ["kind"], "properties": {"id": _ID, "kind": _CONST_A}},
        {"required": ["kind"], "properties": {"id": _ID, "kind": _CONST_B, "to": _ID, "at": _TIME}},
        about=_TO,
        stream="event_time: at",
    ),
    "each branch has the subject under its own path": _root_branches(
        {"properties": {"id": _ID, "x": _TEXT}},
        {"properties": {"id": _ID, "y": _TEXT}},
        about='[{type: customer, path: "<A>.id"}, {type: customer, path: "<B>.id"}]',
    ),
    "a first branch that lets nothing out": _branches(
        {"properties": {"x": _TEXT}}, {"properties": {"x": _TEXT}}, '{"value<A>.x": secret, "value<B>.x": open}'
    ),
    "an id that is dropped may have another class": (
        small_policy(about="[{type: customer, path: number}]", fields="{number: secret}"),
        record_schema(("number", "string")),
    ),
    "a hex token on a fixed": (
        small_policy(classes=_OTHER, tokens="other: {format: hex, length: 16}", fields="{value: token}"),
        record_schema(("value", {"type": "fixed", "name": "F", "size": 8})),
    ),
}


@pytest.mark.parametrize(("policy", "schema"), _ACCEPTED.values(), ids=_ACCEPTED.keys())
def test_accepted(policy: str, schema: str) -> None:
    """What only looks like the refused cases compiles."""
    assert rules_of(policy, schema) == set()


def _output(policy: str, schema: str, audience: str = "crm") -> OutputPlan:
    return rig(policy, schema).output(audience).output


def test_purpose_limitation_is_decided_when_compiling() -> None:
    """A treatment that waits for a purpose which the audience does not serve is not in its plan, nor is the field."""
    policy = small_policy(
        classes="billed: {when: [billing], do: keep}",
        fields="{bill: billed, note: asked}",
        outputs="[{audience: crm}, {audience: ads, topic: ads}]",
    )
    schema = record_schema(("bill", "string"), ("note", "string"))

    crm, ads = (_output(policy, schema, audience) for audience in ("crm", "ads"))

    assert [leaf.source.path for leaf in leaves(crm.root)] == ["id", "bill", "note"]
    assert [leaf.source.path for leaf in leaves(ads.root)] == ["id", "note"]


def test_never_wins_over_every_treatment() -> None:
    """A class that the audience never gets is not in its plan, whatever the treatments say."""
    policy = small_policy(fields="{note: open}").replace("ads: {title", 'ads: {never: ["open"], title')
    output = _output(
        policy.replace("outputs: [{audience: crm}]", "outputs: [{audience: ads}]"),
        record_schema(("note", "string")),
        "ads",
    )
    assert [leaf.source.path for leaf in leaves(output.root)] == ["id"]


def test_a_branch_without_a_valid_treatment_goes() -> None:
    """In a union of several types the branches on which no treatment can work are invalid, the others stay."""
    policy, schema = _token_on(["null", "string", "boolean"])
    root = _output(policy, schema).root
    assert isinstance(root, RecordOut)
    union = root.fields[1].value
    assert isinstance(union, UnionOut)
    assert [branch is None for branch in union.branches] == [True, False, True]
    assert union.invalid == (2,)


def test_a_named_key_that_is_dropped_is_remembered() -> None:
    """Otherwise it would pass for one of the other keys."""
    policy = small_policy(fields='{"m{*}": open, "m{@key}": open, "m{pin}": secret}')
    root = _output(policy, record_schema(("m", {"type": "map", "values": "string"}))).root
    assert isinstance(root, RecordOut)
    entry = root.fields[1].value
    assert isinstance(entry, MapOut)
    assert entry.dropped == ("pin",)


def test_a_union_branch_with_a_class_of_its_own_is_not_always_there() -> None:
    """A field is always there only if every branch is kept without a condition."""
    policy = small_policy(classes="sure: {do: keep, always: true}", fields='{v: sure, "v<string>": asked}')
    root = _output(policy, record_schema(("v", ["string", "long"]))).root
    assert isinstance(root, RecordOut)
    assert not root.fields[1].always


def test_classes_of_ids_link_to_a_person_however_they_are_treated() -> None:
    """Without a token, or with ``links: event``, the id of a person is still the id of a person."""
    policy = small_policy(
        classes="id.other: {do: keep, links: event}",
        subjects="customer: {class: id.other, form: {digits: 10}}",
        fields="{id: id.other}",
    )
    leaf = next(iter(leaves(_output(policy, record_schema(("id", "string"))).root)))
    assert isinstance(leaf, Leaf)
    assert leaf.rules.person
    assert leaf.subject


def test_a_subject_may_stand_in_every_branch_of_a_top_level_union() -> None:
    """Its path needs no branch where every branch has the field."""
    branches = [json.loads(record_schema(name="Click")), json.loads(record_schema(name="Purchase"))]
    _, planned, _ = plan(small_policy(), json.dumps(branches))
    assert not planned.errors
    assert [source.path for source in planned.versions[0].compiled.plan.subjects] == ["id"]


def test_the_same_schema_in_both_formats_gives_the_same_places() -> None:
    """What leaves does not depend on the format."""
    schema = record_schema(("note", ["null", "string"]), ("list", {"type": "array", "items": "long"}))
    policy = small_policy(fields="{note: asked, list: open}")
    avro = _output(policy, schema)
    other = _output(*_json(policy, json_schema_of(json.loads(schema))))
    assert [leaf.source.path for leaf in leaves(avro.root)] == [leaf.source.path for leaf in leaves(other.root)]
