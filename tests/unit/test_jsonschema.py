"""What a JSON Schema becomes in the tree, and what cannot become a tree."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tokenweir.core import jsonschema
from tokenweir.core.schema import Kind, Limits, Node, Schema
from tokenweir.errors import SchemaError

IGLU = Path(__file__).parents[1] / "data" / "iglu"


def parse(schema: Mapping[str, Any], references: Mapping[str, Any] | None = None, **options: Any) -> Schema:  # noqa: ANN401 - passed on
    """Parse a schema, and references, that are written as Python values."""
    texts = {name: json.dumps(reference) for name, reference in (references or {}).items()}
    return jsonschema.parse(json.dumps(schema), texts, **options)


def refusal(schema: Mapping[str, Any], references: Mapping[str, Any] | None = None, **options: Any) -> SchemaError:  # noqa: ANN401 - passed on
    """Return the error that parsing ends with."""
    with pytest.raises(SchemaError) as caught:
        parse(schema, references, **options)
    return caught.value


def with_property(schema: object, **more: object) -> dict[str, Any]:
    """Return a record schema with one property ``a``."""
    return {"type": "object", "properties": {"a": schema}, **more}


def property_node(schema: object, **more: object) -> Node:
    """Return the node of a property with this schema."""
    return parse(with_property(schema, **more)).root.fields[0].node


def outline(node: Node) -> dict[str, str]:
    """Return kind by path for all places, unions with one branch by that branch."""
    return {place.path: str(place.kind) for place in node.walk() if place.kind is not Kind.NULL}


def test_a_typical_schema() -> None:
    """Fields stand in the order of the schema, paths are canonical, and remarks are not kept."""
    schema = parse(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "http://example.com/order.json",
            "title": "Order",
            "description": "An order",
            "type": "object",
            "required": ["id", "items"],
            "properties": {
                "id": {"type": "string", "format": "uuid", "default": "x", "examples": ["y"]},
                "e-mail": {"type": ["null", "string"], "format": "email", "maxLength": 256, "confluent:tags": ["PII"]},
                "first name": {"type": "string"},
                "items": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "object", "properties": {"sku": {"type": "string"}, "price": {"type": "number"}}},
                },
                "attributes": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
            },
            "additionalProperties": True,
        }
    )

    root = schema.root
    assert (schema.format, root.kind, root.path, root.name) == ("json", Kind.RECORD, "", "Order")
    assert [(entry.name, entry.required) for entry in root.fields] == [
        ("id", True),
        ("e-mail", False),
        ("first name", False),
        ("items", True),
        ("attributes", False),
    ]
    assert outline(root) == {
        "": "record",
        "id": "string",
        "e-mail": "string",
        '"first name"': "string",
        "items": "array",
        "items[*]": "record",
        "items[*].sku": "string",
        "items[*].price": "number",
        "attributes": "map",
        "attributes{*}": "integer",
    }
    identifier, email, _, items, attributes = (entry.node for entry in root.fields)
    assert (identifier.logical, identifier.attributes) == ("uuid", {"format": "uuid"})
    assert (email.kind, email.tags) == (Kind.UNION, ("PII",))
    assert [branch.kind for branch in email.branches] == [Kind.NULL, Kind.STRING]
    assert email.optional_of is not None
    assert email.optional_of.attributes == {"maxLength": 256, "format": "email"}
    assert items.attributes == {"minItems": 1}
    assert attributes.items is not None
    assert attributes.items.attributes == {"minimum": 0}
    assert schema.types == {}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, Kind.STRING),
        ({"type": ["string"]}, Kind.STRING),
        ({"type": "integer"}, Kind.INTEGER),
        ({"type": "number"}, Kind.NUMBER),
        ({"type": ["integer", "number"]}, Kind.NUMBER),
        ({"type": "boolean"}, Kind.BOOLEAN),
        ({"type": "null"}, Kind.NULL),
        ({"const": None}, Kind.NULL),
        ({"enum": ["a", "b"]}, Kind.ENUM),
        ({"const": "a"}, Kind.ENUM),
        ({"enum": [1, 2.0]}, Kind.INTEGER),
        ({"enum": [1.5]}, Kind.NUMBER),
        ({"const": True}, Kind.BOOLEAN),
        ({"type": "object"}, Kind.MAP),
        ({"type": "object", "properties": {}}, Kind.MAP),
        ({"type": "object", "additionalProperties": True}, Kind.MAP),
        ({"type": "object", "additionalProperties": {"type": "string"}}, Kind.MAP),
        ({"additionalProperties": {"type": "string"}}, Kind.MAP),
        ({"type": "object", "additionalProperties": False}, Kind.RECORD),
        ({"properties": {"x": {"type": "string"}}}, Kind.RECORD),
        ({"type": "object", "properties": {"x": True}, "additionalProperties": {"type": "string"}}, Kind.RECORD),
        ({"required": ["x"]}, Kind.RECORD),
        ({"type": "array"}, Kind.ARRAY),
        ({"items": {"type": "string"}}, Kind.ARRAY),
        ({}, Kind.ANY),
        (True, Kind.ANY),
        ({"description": "anything"}, Kind.ANY),
        ({"maxLength": 3}, Kind.ANY),
        ({"anyOf": [{"type": "string"}, {}]}, Kind.ANY),
        ({"patternProperties": {}, "dependencies": {}, "type": "string"}, Kind.STRING),
    ],
)
def test_kinds(schema: object, kind: Kind) -> None:
    """Every way to say, or not to say, what stands at a place."""
    assert property_node(schema).kind is kind


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "object"}, {"type": "array", "items": True}])
def test_undescribed_elements(schema: dict[str, Any]) -> None:
    """What the schema does not describe has a place all the same, where anything may stand."""
    items = property_node(schema).items

    assert items is not None
    assert items.kind is Kind.ANY


def test_a_required_property_that_is_not_declared() -> None:
    """It must be there, and nothing is known of it."""
    entries = parse(with_property({"type": "string"}, required=["b", "a"])).root.fields

    assert [(entry.name, entry.node.kind, entry.required) for entry in entries] == [
        ("a", Kind.STRING, True),
        ("b", Kind.ANY, True),
    ]


def test_symbols_and_choices() -> None:
    """An enum with a type keeps the values of that type; numbers and truth values keep theirs as an attribute."""
    assert property_node({"type": "string", "enum": ["a", 1, "b", "a"]}).symbols == ("a", "b")
    assert property_node({"type": "integer", "enum": [1, "a", 2, True]}).attributes == {"enum": [1, 2]}
    assert property_node({"enum": [True]}).attributes == {"enum": [True]}
    assert property_node({"enum": ["a", "b"], "const": "b"}).symbols == ("b",)


def test_an_enum_of_several_types_is_a_union() -> None:
    """Each type has the choices that are values of it."""
    node = property_node({"enum": ["a", None, 1, "b", False]})

    assert [(branch.path, branch.kind, branch.symbols) for branch in node.branches] == [
        ("a<string>", Kind.ENUM, ("a", "b")),
        ("a<null>", Kind.NULL, ()),
        ("a<integer>", Kind.INTEGER, ()),
        ("a<boolean>", Kind.BOOLEAN, ()),
    ]


def test_null_is_allowed_only_if_the_enum_has_it() -> None:
    """Type and enum hold together."""
    assert property_node({"type": ["string", "null"], "enum": ["a"]}).kind is Kind.ENUM
    assert property_node({"type": ["string", "null"], "enum": ["a", None]}).kind is Kind.UNION


@pytest.mark.parametrize("known", ["date-time", "date", "uuid", "email", "ipv4", "ipv6", "uri"])
def test_known_formats(known: str) -> None:
    """A known format of a text is its logical type."""
    assert property_node({"type": "string", "format": known}).logical == known


@pytest.mark.parametrize("schema", [{"type": "string", "format": "x-card"}, {"type": "integer", "format": "uuid"}])
def test_other_formats(schema: dict[str, Any]) -> None:
    """A format that is not known, or of no text, says nothing."""
    assert property_node(schema).logical == ""


def test_exclusive_bounds_of_draft_4() -> None:
    """A flag beside the bound becomes a bound of its own."""
    node = property_node({"type": "number", "minimum": 0, "exclusiveMinimum": True, "exclusiveMaximum": False})

    assert node.attributes == {"minimum": 0, "exclusiveMinimum": 0}


class TestUnions:
    """``oneOf``, ``anyOf`` and several types."""

    def test_branches_are_named_by_type(self) -> None:
        """A union of several types adds the type to the path."""
        node = property_node({"type": ["string", "integer", "null", "array", "object"]})

        assert [branch.path for branch in node.branches] == [
            "a<string>", "a<integer>", "a<null>", "a<array>", "a<object>",
        ]  # fmt: skip

    def test_objects_are_named_by_definition_or_title(self) -> None:
        """Objects have their own names, and their position where they have none."""
        schema = {
            "oneOf": [
                {"$ref": "#/definitions/Person"},
                {"type": "object", "title": "Legal entity", "properties": {"vat": {"type": "string"}}},
                {"type": "object", "properties": {"x": {"type": "string"}}},
                {"type": "object", "properties": {"y": {"type": "string"}}},
            ]
        }
        person = {"type": "object", "properties": {"email": {"type": "string"}}}

        node = property_node(schema, definitions={"Person": person})

        assert list(outline(node)) == [
            "a",
            "a<Person>",
            "a<Person>.email",
            'a<"Legal entity">',
            'a<"Legal entity">.vat',
            "a<object3>",
            "a<object3>.x",
            "a<object4>",
            "a<object4>.y",
        ]

    def test_one_branch_beside_null_is_transparent(self) -> None:
        """It has the path of the union, and the tags stand on the union, wherever they stand in the schema."""
        node = property_node(
            {
                "confluent:tags": ["OUTER"],
                "oneOf": [{"type": "null"}, {"type": "object", "properties": {"x": {}}, "confluent:tags": ["INNER"]}],
            }
        )

        assert node.tags == ("OUTER", "INNER")
        assert node.optional_of is not None
        assert (node.optional_of.path, node.optional_of.tags) == ("a", ())
        assert node.optional_of.fields[0].node.path == "a.x"

    def test_tags_of_branches_stay_with_them(self) -> None:
        """Where there are several branches each is a place of its own."""
        node = property_node({"anyOf": [{"type": "string", "confluent:tags": ["T"]}, {"type": "boolean"}]})

        assert (node.tags, [branch.tags for branch in node.branches]) == ((), [("T",), ()])

    def test_unions_inside_of_unions_are_flat(self) -> None:
        """Null of an inner union is null of the outer one, and tags go with the branches."""
        node = property_node(
            {"anyOf": [{"anyOf": [{"type": "string"}, {"type": "null"}], "confluent:tags": ["T"]}, {"type": "boolean"}]}
        )

        assert [(branch.kind, branch.tags) for branch in node.branches] == [
            (Kind.STRING, ("T",)),
            (Kind.NULL, ("T",)),
            (Kind.BOOLEAN, ()),
        ]

    def test_scalars_of_one_type_are_one_branch(self) -> None:
        """Nothing in the value tells them apart, so only what both say is kept."""
        node = property_node(
            {
                "anyOf": [
                    {"type": "string", "format": "ipv4", "maxLength": 40, "confluent:tags": ["A", "B"]},
                    {"type": "string", "format": "ipv6", "maxLength": 40, "confluent:tags": ["B", "A"]},
                ]
            }
        )

        assert (node.kind, node.path, node.logical) == (Kind.STRING, "a", "")
        assert (node.attributes, node.tags) == ({"maxLength": 40}, ("A", "B"))

    @pytest.mark.parametrize(
        "alternatives",
        [
            [{"type": "string", "enum": ["web"], "confluent:tags": ["T"]}, {"type": "string"}],
            [{"type": "string"}, {"type": "string", "enum": ["web"], "confluent:tags": ["T"]}],
            [
                {"type": "string", "maxLength": 9, "confluent:tags": ["T"]},
                {"type": "string", "minLength": 10, "confluent:tags": ["T", "U"]},
            ],
            [{"type": "integer", "confluent:tags": ["T"]}, {"type": "number"}, {"type": "boolean"}],
            [{"anyOf": [{"type": "string"}, {"type": "null"}], "confluent:tags": ["T"]}, {"const": "x"}],
        ],
    )
    def test_tags_of_one_scalar_do_not_speak_of_another(self, alternatives: list[Any]) -> None:
        """Alternatives that no value tells apart are one place, so they must have the same tags."""
        error = refusal(with_property({"oneOf": alternatives}))

        assert (error.path, "different tags" in str(error)) == ("a", True)
        # The tags of the union speak of all, but not in place of those that only one has.
        refusal(with_property({"oneOf": alternatives, "confluent:tags": ["X"]}))

    def test_tags_of_a_union_speak_of_all_its_scalars(self) -> None:
        """A tag that the union has as well is the same for each alternative; null holds nothing to tag."""
        tagged = {"type": ["string", "null"], "confluent:tags": ["T"]}

        assert property_node({"anyOf": [tagged, {"const": "x"}], "confluent:tags": ["T"]}).tags == ("T",)
        assert property_node({"anyOf": [tagged, {"type": ["boolean", "null"]}]}).kind is Kind.UNION

    def test_a_union_has_a_limited_number_of_branches(self) -> None:
        """Its branches are compared each with each."""
        branches = [{"title": f"B{number}", "properties": {"x": True}} for number in range(257)]

        assert len(property_node({"anyOf": branches[:256]}).branches) == 256
        assert "256 branches" in str(refusal(with_property({"anyOf": branches})))

    def test_enums_are_joined_and_texts_swallow_them(self) -> None:
        """Two enums allow the symbols of both; an enum beside a text restricts nothing."""
        assert property_node({"oneOf": [{"const": "x"}, {"enum": ["y", "x"]}]}).symbols == ("x", "y")
        assert property_node({"anyOf": [{"const": "x"}, {"type": "string"}]}).kind is Kind.STRING

    def test_a_union_of_requirements_is_none(self) -> None:
        """It says which properties come together; what they are is said beside it."""
        node = property_node(
            {
                "type": "object",
                "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                "oneOf": [{"required": ["x"]}, {"required": ["y"]}],
            }
        )

        assert (node.kind, [entry.required for entry in node.fields]) == (Kind.RECORD, [False, False])

    def test_tags_in_requirements_are_not_lost(self) -> None:
        """A union of requirements that also have tags is a union of records with these tags."""
        node = property_node(
            {"properties": {"x": {}}, "anyOf": [{"required": ["x"], "confluent:tags": ["T"]}, {"required": []}]}
        )

        assert [branch.tags for branch in node.branches] == [("T",), ()]

    def test_what_stands_beside_a_union_holds_for_each_branch(self) -> None:
        """A common way to write variants: shared properties, and a constant that tells the variants apart."""
        node = property_node(
            {
                "type": "object",
                "properties": {"kind": {"type": "string"}, "id": {"type": "string"}},
                "required": ["kind"],
                "oneOf": [
                    {"title": "Card", "properties": {"kind": {"const": "card"}, "pan": {"type": "string"}}},
                    {"title": "Bank", "properties": {"kind": {"const": "bank"}}, "required": ["id"]},
                ],
            }
        )

        card, bank = node.branches
        assert [(entry.name, entry.required) for entry in card.fields] == [
            ("kind", True),
            ("id", False),
            ("pan", False),
        ]
        assert [(entry.name, entry.required) for entry in bank.fields] == [("kind", True), ("id", True)]
        assert (card.fields[0].node.path, card.fields[0].node.symbols) == ("a<Card>.kind", ("card",))

    def test_two_unions_at_one_place(self) -> None:
        """Their combinations are no branches that anybody has written."""
        union = [{"type": "string"}, {"type": "null"}]

        assert "two unions" in str(refusal(with_property({"oneOf": union, "anyOf": union})))

    def test_names_that_cannot_be_told_apart(self) -> None:
        """A name must not be what another branch gets by its position."""
        branches: list[Any] = [
            {"type": "object", "title": title, "properties": {"x": {}}} for title in ("A", "A", "A2")
        ]

        assert "tell apart" in str(refusal(with_property({"anyOf": branches})))


class TestMerging:
    """``allOf`` and keywords beside ``$ref``."""

    def test_all_of_objects(self) -> None:
        """Properties and requirements of all parts hold."""
        node = property_node(
            {
                "allOf": [
                    {"type": "object", "properties": {"x": {"type": "string", "maxLength": 9}}, "required": ["x"]},
                    {"properties": {"x": {"maxLength": 5, "minLength": 1}, "y": {"type": ["integer", "null"]}}},
                    {"properties": {"y": {"type": "number"}}},
                ]
            }
        )

        x, y = node.fields
        assert (x.required, x.node.kind, x.node.attributes) == (True, Kind.STRING, {"maxLength": 5, "minLength": 1})
        assert (y.required, y.node.kind) == (False, Kind.INTEGER)

    def test_keywords_beside_a_reference(self) -> None:
        """Tags and titles are remarks at the place; all else is merged with the target."""
        target = {"type": "object", "properties": {"x": {"type": "string"}}, "confluent:tags": ["INNER"]}

        plain = property_node({"$ref": "#/$defs/T", "confluent:tags": ["OUTER"]}, **{"$defs": {"T": target}})
        merged = property_node({"$ref": "#/$defs/T", "required": ["x"]}, **{"$defs": {"T": target}})

        assert (plain.name, plain.tags, plain.fields[0].required) == ("T", ("OUTER", "INNER"), False)
        assert (merged.name, merged.tags, merged.fields[0].required) == ("", ("INNER",), True)

    def test_a_part_that_is_there_twice(self) -> None:
        """Diamonds are no contradiction and take no time."""
        definitions: dict[str, Any] = {"d30": {"type": "string", "format": "email"}}
        for level in range(30):
            definitions[f"d{level}"] = {"allOf": [{"$ref": f"#/definitions/d{level + 1}"}] * 2}

        assert property_node({"$ref": "#/definitions/d0"}, definitions=definitions).logical == "email"

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"type": "string"}, {"type": "object"}),
            ({"type": ["string", "null"]}, {"type": "integer"}),
            ({"enum": ["a"]}, {"const": "b"}),
            ({"enum": [1]}, {"enum": [True]}),
            ({"type": "string", "format": "email"}, {"format": "uuid"}),
            ({"type": "string"}, {"enum": [1]}),
            ({"enum": [{}]}, {"enum": [{}]}),
            ({"type": "string"}, False),
        ],
    )
    def test_contradictions(self, first: object, second: object) -> None:
        """Parts that exclude each other are an error at their place."""
        error = refusal(with_property({"allOf": [first, second]}))

        assert error.path == "a"


class TestReferences:
    """``$ref`` inside of the schema and to given references."""

    def test_each_use_is_a_place_of_its_own(self) -> None:
        """A definition that is used twice is two subtrees, both with its name."""
        address = {"type": "object", "properties": {"street": {"type": "string"}}}
        schema = parse(
            {
                "properties": {"home": {"$ref": "#/definitions/Address"}, "work": {"$ref": "#/definitions/Address"}},
                "definitions": {"Address": address},
            }
        )

        assert [entry.node.name for entry in schema.root.fields] == ["Address", "Address"]
        assert {"home.street", "work.street"} <= outline(schema.root).keys()

    def test_escapes_in_a_pointer(self) -> None:
        """``~1``, ``~0`` and percent signs are undone (RFC 6901, section 6)."""
        node = property_node({"$ref": "#/definitions/a~1b~0c%20d"}, definitions={"a/b~c d": {"type": "boolean"}})

        assert (node.kind, node.name) == (Kind.BOOLEAN, "a/b~c d")

    @pytest.mark.parametrize(
        "reference", ["address.json", "http://example.com/types/address.json", "http://example.com/types/address.json#"]
    )
    def test_given_references(self, reference: str) -> None:
        """A reference is found by its name and by its ``$id``; what it refers to is relative to itself."""
        address = {
            "$id": "http://example.com/types/address.json",
            "title": "Address",
            "type": "object",
            "properties": {"zip": {"$ref": "#/definitions/zip"}, "country": {"$ref": "country.json#/$defs/code"}},
            "definitions": {"zip": {"type": "string", "maxLength": 10}},
        }
        country = {"$id": "http://example.com/types/country.json", "$defs": {"code": {"enum": ["NL", "DE"]}}}
        schema = with_property({"$ref": reference}, definitions={"zip": {"type": "integer"}})

        node = parse(schema, {"address.json": address, "country": country}).root.fields[0].node

        assert node.name == "Address"
        assert [entry.node.kind for entry in node.fields] == [Kind.STRING, Kind.ENUM]

    def test_names_are_unique(self) -> None:
        """Definitions of different texts may have one name; the tree tells them apart."""
        part = {"definitions": {"T": {"type": "object", "properties": {"t": {"$ref": "#/definitions/T"}}}}}
        schema = {
            "properties": {"a": {"$ref": "#/definitions/T"}, "b": {"$ref": "other#/definitions/T"}},
            **part,
        }

        parsed = parse(schema, {"other": part})

        assert list(parsed.types) == ["T", "other#/definitions/T"]
        assert parsed.types["other#/definitions/T"].path == "b"

    @pytest.mark.parametrize(
        "reference",
        [
            "http://169.254.169.254/latest/meta-data/iam",
            "file:///etc/passwd",
            "other.json",
            "//host/x",
            "http://[bad",
            "#/definitions/missing",
            "#/properties/a/type",
            "#anchor",
            "#/definitions/T/enum/0",
            "",
        ],
    )
    def test_what_is_not_there_is_not_fetched(self, reference: str) -> None:
        """A reference that the given texts do not answer is an error, whatever it looks like."""
        schema = with_property({"$ref": reference}, definitions={"T": {"enum": ["x"]}})
        if reference == "":
            schema["properties"]["a"] = {"$ref": 7}

        assert refusal(schema).path == "a"

    def test_below_an_embedded_id(self) -> None:
        """A local reference there would be relative to the embedded schema, so it is not guessed at."""
        inner = {"$id": "inner.json", "properties": {"x": {"$ref": "#/definitions/T"}}}

        assert "$id" in str(refusal(with_property(inner, definitions={"T": {"type": "string"}})))

    def test_a_reference_needs_a_name(self) -> None:
        """Nothing can stand in for the schema itself."""
        assert "name" in str(refusal(with_property({"$ref": "#"}), {"": {"type": "string"}}))


class TestRecursion:
    """Types that contain themselves."""

    def test_a_list(self) -> None:
        """The place where a type would repeat is a reference to it."""
        schema = parse(
            {
                "$ref": "#/definitions/Node",
                "definitions": {
                    "Node": {
                        "type": "object",
                        "properties": {
                            "v": {"type": "string"},
                            "next": {"oneOf": [{"$ref": "#/definitions/Node"}, {"type": "null"}]},
                        },
                    }
                },
            }
        )

        following = schema.root.fields[1].node.optional_of
        assert following is not None
        assert (following.kind, following.name, following.path) == (Kind.REFERENCE, "Node", "next")
        assert schema.types == {"Node": schema.root}

    def test_any_json_value(self) -> None:
        """A union that contains itself in arrays and objects, through the root."""
        schema = parse(
            {
                "title": "Json",
                "anyOf": [
                    {"type": ["null", "boolean", "number", "string"]},
                    {"type": "array", "items": {"$ref": "#"}},
                    {"type": "object", "additionalProperties": {"$ref": "#"}},
                ],
            }
        )

        assert outline(schema.root)["<array>[*]"] == outline(schema.root)["<object>{*}"] == "reference"
        assert schema.types == {"Json": schema.root}

    def test_a_type_is_whole_where_it_is_referred_to(self) -> None:
        """Keywords beside the first use of a type do not become part of the type."""
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}}
        schema = parse(with_property({"$ref": "#/$defs/N", "required": ["v"]}, **{"$defs": {"N": node}}))

        first = schema.root.fields[0].node
        second = first.fields[0].node
        assert [entry.required for entry in first.fields] == [False, True]
        assert [entry.required for entry in second.fields] == [False, False]
        assert second.fields[0].node.kind is Kind.REFERENCE
        assert schema.types == {"N": second}

    @pytest.mark.parametrize(
        "definitions",
        [
            {"A": {"$ref": "#/definitions/A"}},
            {"A": {"$ref": "#/definitions/B"}, "B": {"allOf": [{"$ref": "#/definitions/A"}]}},
            {"A": {"anyOf": [{"$ref": "#/definitions/A"}, {"type": "string"}]}},
            {
                "A": {"anyOf": [{"$ref": "#/definitions/B"}, {"type": "string"}]},
                "B": {"anyOf": [{"$ref": "#/definitions/A"}, {"type": "null"}]},
            },
        ],
    )
    def test_cycles_without_anything_between(self, definitions: dict[str, Any]) -> None:
        """A type that is only itself is nothing."""
        assert "itself" in str(refusal(with_property({"$ref": "#/definitions/A"}, definitions=definitions)))


class TestTags:
    """Inline tags."""

    def test_where_they_may_stand(self) -> None:
        """On records, properties, arrays, their elements and map values."""
        schema = parse(
            {
                "type": "object",
                "confluent:tags": ["R"],
                "properties": {
                    "a": {
                        "type": "array",
                        "confluent:tags": ["A"],
                        "items": {"type": "string", "confluent:tags": ["E"]},
                    },
                    "m": {"type": "object", "additionalProperties": {"type": "string", "confluent:tags": ["V", "V"]}},
                },
            }
        )

        tagged = {node.path: node.tags for node in schema.root.walk() if node.tags}
        assert tagged == {"": ("R",), "a": ("A",), "a[*]": ("E",), "m{*}": ("V",)}

    def test_synonyms(self) -> None:
        """Other attributes can be configured, and one tag may be a text."""
        schema = with_property({"type": "string", "x-pii": "email", "confluent:tags": ["ignored"]})

        node = parse(schema, tag_attributes=("x-pii",)).root.fields[0].node

        assert node.tags == ("email",)

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "array", "contains": {"confluent:tags": ["T"]}},
            {"type": "object", "propertyNames": {"confluent:tags": ["T"]}},
            {"type": "string", "contentSchema": {"properties": {"x": {"items": {"confluent:tags": ["T"]}}}}},
            {"type": "string", "x-variants": [{"confluent:tags": ["T"]}]},
            {"$ref": "#/definitions/D", "propertyNames": {"confluent:tags": ["T"]}},
            {"allOf": [{"type": "object"}], "propertyNames": {"confluent:tags": ["T"]}},
            {"properties": {"x": {}}, "anyOf": [{"required": ["x"], "propertyNames": {"confluent:tags": ["T"]}}]},
        ],
    )
    def test_tags_where_nothing_is_read(self, schema: dict[str, Any]) -> None:
        """What such a tag speaks of has no place of its own, so it would be lost."""
        assert "not read" in str(refusal(with_property(schema, definitions={"D": {"type": "object"}})))

    def test_tags_of_definitions_and_in_examples(self) -> None:
        """Definitions are read where they are used, and examples are no schemas."""
        definitions = {"D": {"type": "string", "confluent:tags": ["T"]}}
        examples = [{"confluent:tags": ["X"]}]

        assert property_node({"$ref": "#/definitions/D"}, definitions=definitions, examples=examples).tags == ("T",)
        assert property_node({"type": "array", "contains": {"type": "string"}}).kind is Kind.ARRAY

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "string", "confluent:tags": [f"T{number}" for number in range(65)]},
            {"type": "string", "confluent:tags": ["T"] * 65},
            {
                "allOf": [
                    {"type": "string", "confluent:tags": [f"T{number}{part}" for number in range(33)]} for part in "ab"
                ]
            },
        ],
    )
    def test_a_place_has_a_limited_number_of_tags(self, schema: dict[str, Any]) -> None:
        """Each use of a definition holds all of its tags."""
        assert "64 tags" in str(refusal(with_property(schema)))

    @pytest.mark.parametrize("tags", [{"a": 1}, [1], None, ["a\nb"], 7])
    def test_tags_that_cannot_be_read(self, tags: object) -> None:
        """A tag that is lost could let a value out, so it is an error."""
        assert "confluent:tags" in str(refusal(with_property({"type": "string", "confluent:tags": tags})))


@pytest.mark.parametrize(
    "schema",
    [
        {"if": {}, "then": {"type": "string"}},
        {"then": {"type": "string"}},
        {"else": {"type": "string"}},
        {"not": {}},
        {"type": "string", "not": {"const": "x"}},
        {"type": "object", "dependentRequired": {"a": ["b"]}},
        {"type": "object", "dependentSchemas": {"a": {}}},
        {"type": "object", "dependencies": {"a": ["b"]}},
        {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
        {"type": "object", "unevaluatedProperties": {"type": "string"}},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"type": "array", "items": [{"type": "string"}]},
        {"$dynamicRef": "#x"},
        {"$recursiveRef": "#"},
        {"extends": {"type": "string"}},
        {"anyOf": [{"type": "string"}, {"type": "object", "not": {"required": ["x"]}}]},
        {"enum": [{"a": 1}]},
        {"enum": [["a"]]},
        False,
        {"type": "array", "items": False},
        {"type": "any"},
        {"type": []},
        {"type": [{"type": "string"}]},
        {"type": 7},
        {"enum": []},
        {"enum": "a"},
        {"type": "string", "enum": [1]},
        {"oneOf": []},
        {"anyOf": {"type": "string"}},
        {"allOf": "x"},
        {"properties": []},
        {"properties": {"x": 7}},
        {"type": "string", "required": True},
        {"type": "object", "required": [1]},
        {"type": "object", "additionalProperties": "yes"},
        {"type": "array", "items": "string"},
        {"type": "string", "maxLength": "9"},
        {"type": "string", "maxLength": -1},
        {"type": "string", "minLength": 1.5},
        {"type": "string", "pattern": ["x"]},
        {"type": "number", "multipleOf": 0},
        {"type": "number", "minimum": True},
        {"type": "array", "uniqueItems": 1},
    ],
)
def test_what_is_refused(schema: object) -> None:
    """What no tree can say, and what is no JSON Schema, is an error at its place."""
    assert refusal(with_property(schema)).path.startswith("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "malformed"),
        ("[]", "not an object"),
        ("true", "not an object"),
        ("{}", "what a record is"),
        ('{"anyOf":[{},{"type":"string"}]}', "what a record is"),
        ('{"type":"string","type":"object"}', "duplicate_key"),
        ('{"type":"number","maximum":1e400}', "non_finite"),
        ('{"type":"number","maximum":NaN}', "non_finite"),
        ('{"title":"\\ud800","type":"string"}', "invalid_utf8"),
        ('{"title":"\ud800","type":"string"}', "invalid_utf8"),
        ('{"type":"string"} x', "trailing_bytes"),
    ],
)
def test_texts_that_are_no_schema(text: str, message: str) -> None:
    """A schema is strict JSON, and says something."""
    with pytest.raises(SchemaError, match=message):
        jsonschema.parse(text)


class TestHostileSchemas:
    """A schema has a bounded cost and ends in an error quickly (also CVE-like cases of other parsers)."""

    @pytest.fixture(autouse=True)
    def _in_little_time(self) -> Any:  # noqa: ANN401 - a fixture
        begin = time.perf_counter()
        yield
        assert time.perf_counter() - begin < 3

    def test_too_many_fields(self) -> None:
        """100,000 fields are refused, as is anything over the configured number of places."""
        wide = {"properties": {f"f{number}": {"type": "string"} for number in range(100_000)}}

        refusal(wide, limits=Limits(schema_bytes=100_000_000))
        refusal(wide)
        assert "places" in str(
            refusal({"properties": {f"f{n}": {"type": "string"} for n in range(200)}}, limits=Limits(schema_nodes=100))
        )

    def test_too_large(self) -> None:
        """The texts count together, before they are read."""
        refusal(with_property({"type": "string", "default": "x" * 1_100_000}))
        refusal(with_property({"type": "string"}), {"r": {"default": "x" * 1_048_570}})

    @pytest.mark.parametrize("depth", [65, 1_000, 200_000])
    def test_too_deep(self, depth: int) -> None:
        """Neither records nor arrays nor mere brackets can be nested deeper than records may be."""
        for before, after in (('{"properties":{"a":', "}}"), ('{"items":', "}"), ('{"additionalProperties":', "}")):
            with pytest.raises(SchemaError):
                jsonschema.parse(
                    before * depth + '{"type":"string"}' + after * depth, limits=Limits(schema_bytes=10**8)
                )

    @pytest.mark.parametrize("keyword", ["allOf", "anyOf"])
    def test_deep_combinations(self, keyword: str) -> None:
        """What adds no depth to a record is bounded by the depth of the text."""
        for depth in (200, 10_000):
            with pytest.raises(SchemaError):
                jsonschema.parse(f'{{"{keyword}":[' * depth + '{"type":"string"}' + "]}" * depth)

    def test_depth_that_records_may_have(self) -> None:
        """A schema may be as deep as a record."""
        text = '{"properties":{"a":' * 64 + '{"type":"string"}' + "}}" * 64

        assert jsonschema.parse(text).root.fields[0].node.kind is Kind.RECORD

    @pytest.mark.parametrize("keyword", ["properties", "anyOf", "allOf"])
    def test_doubling(self, keyword: str) -> None:
        """30 definitions that use the next one twice would be a thousand million places."""
        definitions: dict[str, Any] = {"d30": {"type": "object", "properties": {"x": {"type": "string"}}}}
        for level in range(30):
            following = {"$ref": f"#/definitions/d{level + 1}"}
            twice: Any = {"a": following, "b": following}
            if keyword == "anyOf":
                twice = [following, {**following, "minProperties": 1}]
            elif keyword == "allOf":
                twice = [{"properties": {"a": following, "b": following}}, {"title": "x"}]
            definitions[f"d{level}"] = {keyword: twice}

        assert "places" in str(refusal({"$ref": "#/definitions/d0", "definitions": definitions}))

    def test_endless_growth(self) -> None:
        """A type that repeats with something added each time has no end, and is stopped."""
        node = {
            "properties": {"n": {"allOf": [{"$ref": "#/definitions/N"}, {"properties": {"x": {"type": "string"}}}]}}
        }

        refusal({"$ref": "#/definitions/N", "definitions": {"N": node}})

    def test_wide_parts_merged_often(self) -> None:
        """To merge costs as much as there is to merge."""
        wide = {"properties": {f"f{number}": {"type": "string"} for number in range(5_000)}}
        branches = [{"properties": {"x": {"const": str(number)}}} for number in range(5_000)]

        refusal({**wide, "anyOf": branches})

    def test_many_tags_used_often(self) -> None:
        """The tags of a definition cost something at each of its uses."""
        tagged = {"type": "string", "confluent:tags": [f"T{number}" for number in range(64)]}
        uses = {f"f{number}": {"$ref": "#/definitions/T"} for number in range(1_000)}

        assert "places" in str(refusal({"properties": uses, "definitions": {"T": tagged}}))

    def test_long_names_over_many_places(self) -> None:
        """Every node has its path, which therefore may not be of any length."""
        assert "longer" in str(refusal({"properties": {"x" * 5_000: {"type": "string"}}}))

    def test_messages_are_short(self) -> None:
        """What a schema says is quoted, but not at any length."""
        assert len(str(refusal(with_property({"$ref": "x" * 100_000})))) < 300


@pytest.mark.parametrize("path", sorted(IGLU.glob("*.json")), ids=lambda path: path.stem)
def test_schemas_of_iglu_central(path: Path) -> None:
    """All of them can be worked with: each declared property is found at its place."""
    text = path.read_text()
    written = json.loads(text)

    schema = jsonschema.parse(text)

    record = schema.root.items or schema.root
    assert [entry.name for entry in record.fields] == list(written.get("items", written)["properties"])
    assert len({node.path for node in schema.root.walk() if node.kind is not Kind.NULL}) == sum(
        node.kind is not Kind.NULL and node.optional_of is None for node in schema.root.walk()
    )
    assert schema.types == {}


def test_known_places_of_an_iglu_schema() -> None:
    """The mobile context, by some of its places."""
    schema = jsonschema.parse((IGLU / "com.snowplowanalytics.snowplow.mobile_context.1-0-3.json").read_text())
    nodes = {entry.name: entry for entry in schema.root.fields}

    assert nodes["osType"].required
    assert nodes["osType"].node.kind is Kind.STRING
    idfa = nodes["appleIdfa"].node.optional_of
    assert idfa is not None
    assert (idfa.kind, idfa.path) == (Kind.STRING, "appleIdfa")
    network = nodes["networkType"].node.optional_of
    assert network is not None
    assert (network.kind, network.symbols) == (Kind.ENUM, ("mobile", "wifi", "offline"))
