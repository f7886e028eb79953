"""Which class every place of a schema has, and what is wrong between rules, tags and the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.trees import (
    array,
    events,
    leaf,
    map_of,
    optional,
    purchase,
    record,
    reference,
    schema,
    tagged,
    union,
)

from tokenweir.core.access import locate
from tokenweir.core.fields import Classification, Override, Problem, classify
from tokenweir.core.schema import CONTAINERS, Kind, Node, Schema
from tokenweir.errors import SchemaError

CLASSES = (
    "contact",
    "contact.email",
    "contact.email.work",
    "contact.phone",
    "event",
    "event.type",
    "id",
    "special.health",
)


@dataclass(frozen=True)
class Overriding:
    """A rule with the class that it overrides, as the policy's model has it."""

    class_: str
    overrides: str
    reason: str = "agreed"


def run(
    tree: Schema,
    overlay: Mapping[str, str | Override] | None = None,
    *,
    tags: Mapping[str, str] | None = None,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Classification:
    """Classify with the classes of this file."""
    return classify(tree, tags=tags or {}, overlay=overlay or {}, metadata_tags=metadata or {}, class_names=CLASSES)


def one(*tags: str) -> Schema:
    """A record with one field, which has these tags."""
    return schema(record("R", {"a": tagged(*tags)}))


def class_at(result: Classification, path: str) -> str | None:
    """The effective class of the place at a path."""
    return result.class_of(locate(result.schema, path))


def rules_of(result: Classification, severity: str = "error") -> list[str]:
    """What kinds of problem there are."""
    return [problem.rule for problem in result.problems if problem.severity == severity]


def only(result: Classification) -> Problem:
    """The only problem there is."""
    assert len(result.problems) == 1, result.problems
    return result.problems[0]


# ---------------------------------------------------------------- where a class comes from


def test_a_tag_that_is_a_class_needs_no_entry() -> None:
    """A tag named like a class gives it."""
    result = run(one("contact.email"))
    node = locate(result.schema, "a")
    assert result.class_of(node) == "contact.email"
    assert (result.own[node].origin, result.own[node].rule) == ("tag", "contact.email")
    assert not result.problems
    assert not result.unclassified


def test_a_tag_is_mapped_to_a_class() -> None:
    """The policy says what a foreign tag means, also for one that is named like a class."""
    result = run(one("PII_EMAIL"), tags={"PII_EMAIL": "contact.email"})
    assert class_at(result, "a") == "contact.email"
    assert class_at(run(one("contact"), tags={"contact": "id"}), "a") == "id"


def test_an_ignored_tag_says_nothing() -> None:
    """An ignored tag gives no class and is no fault."""
    result = run(one("PII"), tags={"PII": "ignore"})
    assert class_at(result, "a") is None
    assert [node.path for node in result.unclassified] == ["a"]
    assert not result.problems


def test_an_unknown_tag_is_reported_once_with_its_remedy() -> None:
    """A tag that means nothing is a fault of the policy's `tags`, however often it stands."""
    result = run(schema(record("R", {"a": tagged("SSN"), "b": tagged("SSN")})))
    problem = only(result)
    assert (problem.rule, problem.path, problem.policy_key) == ("unknown-tag", "a", ("tags", "SSN"))
    assert "`ignore`" in problem.remedy
    assert [node.path for node in result.unclassified] == ["a", "b"]


def test_a_rule_gives_a_class() -> None:
    """A path rule classifies a place without tags."""
    result = run(one(), {"a": "id"})
    assert class_at(result, "a") == "id"
    assert result.own[locate(result.schema, "a")].origin == "overlay"
    assert not result.problems


@pytest.mark.parametrize(
    "pattern",
    ["**.email", "shop.Person.email", "*.Person.e*", "contact.email", "shop.*.email", "contact<Person>.email"],
)
def test_registry_tags_by_record_name_or_path(pattern: str) -> None:
    """In Avro the registry names a field by its record; paths are understood as well."""
    result = run(purchase(), metadata={pattern: ["contact.email"]})
    node = locate(result.schema, "contact<Person>.email")
    assert result.class_of(node) == "contact.email"
    assert result.own[node].origin == "metadata"
    assert class_at(result, "contact<Person>.age") is None


def test_registry_tags_in_json_schema_count_from_the_root() -> None:
    """In JSON Schema the registry names a property by its path from ``$``; arrays add nothing."""
    tree = schema(record("", {"items": array(record("", {"email": leaf()})), "email": leaf()}), "json")
    result = run(tree, metadata={"$.items.email": ["contact.email"]})
    assert class_at(result, "items[*].email") == "contact.email"
    assert class_at(result, "email") is None


def test_registry_tag_that_means_no_field_is_a_warning() -> None:
    """Tags of the registry that hit nothing are not silently lost."""
    problem = only(run(one("id"), metadata={"acme.R.gone": ["id"]}))
    assert (problem.rule, problem.severity) == ("unmatched-metadata", "warning")


def test_unused_tag_entry_is_a_warning() -> None:
    """An entry that no field uses is reported, but forbids nothing."""
    problem = only(run(one("id"), tags={"PII": "contact"}))
    assert (problem.rule, problem.policy_key, problem.severity) == ("unused-tag", ("tags", "PII"), "warning")


# ---------------------------------------------------------------- several voices


def test_the_descendant_of_several_tags_wins() -> None:
    """Tags on one line of the hierarchy agree, and the narrowest counts."""
    for tags in (("contact", "contact.email"), ("contact.email", "contact")):
        result = run(one(*tags))
        assert class_at(result, "a") == "contact.email"
        assert not result.problems


@pytest.mark.parametrize(
    "tags", [("contact.email", "id"), ("contact.email", "contact.phone"), ("event", "contact", "id")]
)
def test_tags_that_contradict_are_an_error_and_give_nothing(tags: tuple[str, ...]) -> None:
    """Siblings and strangers on one field contradict each other; the field then has no class at all."""
    result = run(schema(record("R", {"a": tagged(*tags)}, "event")))
    assert only(result).rule == "tags-conflict"
    assert class_at(result, "a") is None
    assert [node.path for node in result.unclassified] == ["a"]


def test_a_similar_name_is_no_descendant() -> None:
    """The hierarchy is one of dots, not of letters."""
    result = classify(one("id", "identity"), tags={}, overlay={}, metadata_tags={}, class_names=["id", "identity"])
    assert rules_of(result) == ["tags-conflict"]


def test_schema_and_registry_must_agree() -> None:
    """The registry may be coarser or finer than the schema, but not different."""
    result = run(one("contact.email"), metadata={"a": ["id"]})
    assert only(result).rule == "tags-disagree"
    assert class_at(result, "a") is None

    for inline, registry in (("contact", "contact.email"), ("contact.email", "contact"), ("contact.email",) * 2):
        result = run(one(inline), metadata={"a": [registry]})
        assert class_at(result, "a") == "contact.email"
        assert not result.problems


def test_a_rule_may_refine_a_tag() -> None:
    """The same class or one below the tag's contradicts nothing."""
    for class_name in ("contact", "contact.email", "contact.email.work"):
        result = run(one("contact"), {"a": class_name})
        assert class_at(result, "a") == class_name
        assert not result.problems


@pytest.mark.parametrize("class_name", ["contact", "id", "contact.phone"])
def test_a_rule_that_contradicts_a_tag_must_say_so(class_name: str) -> None:
    """A wider or other class than the tag's needs the long form; until then the place has none."""
    result = run(one("contact.email"), {"a": class_name})
    problem = only(result)
    assert (problem.rule, problem.path, problem.policy_key) == ("overlay-contradicts-tag", "a", ("fields", "a"))
    assert "overrides: contact.email" in problem.remedy
    assert class_at(result, "a") is None


def test_an_override_replaces_the_tag() -> None:
    """With the class that it overrides a rule may contradict the schema, or settle a conflict of its tags."""
    result = run(one("contact.email"), {"a": Overriding("id", "contact.email")})
    assert class_at(result, "a") == "id"
    assert not result.problems

    result = run(one("contact.email", "special.health"), {"a": Overriding("special.health", "contact.email")})
    assert class_at(result, "a") == "special.health"
    assert not result.problems


def test_an_override_must_name_the_class_that_the_schema_gives() -> None:
    """When the schema's class is another than the author saw, the rule no longer holds."""
    result = run(one("special.health"), {"a": Overriding("id", "contact.email")})
    assert only(result).rule == "override-mismatch"
    assert class_at(result, "a") is None


def test_an_override_of_nothing_is_a_warning() -> None:
    """Versions from before the tag are read by the same rule."""
    result = run(one(), {"a": Overriding("id", "contact.email")})
    problem = only(result)
    assert (problem.rule, problem.severity) == ("override-unused", "warning")
    assert class_at(result, "a") == "id"


def test_an_unknown_tag_silences_rules_and_surroundings() -> None:
    """What is not understood may matter: neither a rule nor the class of the record lets the field out."""
    tree = schema(record("R", {"a": record("A", {"b": leaf(), "c": tagged("id")}, "NEW")}, "event"))
    for overlay in ({}, {"a": "event.type"}):
        result = run(tree, overlay)
        assert rules_of(result) == ["unknown-tag"]
        assert class_at(result, "a.b") is None
        assert class_at(result, "a.c") == "id"
        assert not result.whole(result.schema.root)


# ---------------------------------------------------------------- rules under a tag


def patient() -> Schema:
    """A product, and a person whose whole record has a tag."""
    name = record("N", {"first": leaf(), "last": tagged("contact.email")})
    person = record("P", {"name": name, "code": leaf(), "notes": map_of(leaf())}, "special.health")
    return schema(record("R", {"name": leaf(), "patient": person}))


def test_a_rule_under_a_tagged_record_must_say_that_it_overrides() -> None:
    """A tag covers what is in its record: a pattern that was meant for another record lets nothing out."""
    result = run(patient(), {"**.code": "event", "name": "event"})
    problem = only(result)
    assert (problem.rule, problem.path, problem.policy_key) == (
        "overlay-contradicts-tag",
        "patient.code",
        ("fields", "**.code"),
    )
    assert "`special.health`, which the schema gives at `patient`" in problem.message
    assert "overrides: special.health" in problem.remedy
    assert class_at(result, "patient.code") is None
    assert class_at(result, "name") == "event"


def test_a_tag_of_the_registry_covers_its_record_as_well() -> None:
    """And so does one at the root, or several levels up."""
    tree = schema(record("R", {"a": record("A", {"b": record("B", {"c": leaf()})})}))
    for metadata in ({"a": ["contact"]}, {"R.a": ["contact"]}):
        assert rules_of(run(tree, {"a.b.c": "id"}, metadata=metadata)) == ["overlay-contradicts-tag"]
    everything = schema(record("R", {"a": record("A", {"b": leaf()})}, "contact"))
    assert "at `(root)`" in only(run(everything, {"a.b": "id"})).message


def test_a_rule_under_a_tag_may_refine_or_override_it() -> None:
    """With a class below that of the tag, or with the class that it overrides."""
    for rule, expected in (
        ("special.health", "special.health"),
        (Overriding("event", "special.health"), "event"),
    ):
        result = run(patient(), {"patient.code": rule})
        assert class_at(result, "patient.code") == expected
        assert not result.problems
    tree = schema(record("R", {"a": record("A", {"b": leaf()}, "contact")}))
    assert class_at(run(tree, {"a.b": "contact.email"}), "a.b") == "contact.email"

    result = run(patient(), {"patient.code": Overriding("event", "contact")})
    assert only(result).rule == "override-mismatch"
    assert class_at(result, "patient.code") is None


def test_only_the_nearest_tag_must_be_overridden() -> None:
    """A tag of the place itself, or of a record between, has replaced the one around it."""
    assert not run(patient(), {"patient.name.last": "contact.email.work"}).problems
    result = run(patient(), {"patient.name.last": "special.health"})
    assert "`contact.email`, which the schema gives" in only(result).message

    inner = record("B", {"c": leaf()}, "contact")
    tree = schema(record("R", {"a": record("A", {"b": inner}, "special.health")}))
    assert not run(tree, {"a.b.c": "contact.email"}).problems


def test_a_rule_that_overrides_a_tag_replaces_it_for_what_is_below() -> None:
    """From there on its class is the one to agree with; a rule that refines the tag leaves the tag standing."""
    replaced = {"patient": Overriding("contact", "special.health")}
    assert not run(patient(), {**replaced, "patient.code": "contact.phone"}).problems
    assert "overrides: contact" in only(run(patient(), {**replaced, "patient.code": "event"})).remedy

    tree = schema(record("R", {"a": record("A", {"b": leaf()}, "contact")}))
    assert not run(tree, {"a": "contact.phone", "a.b": "contact.email"}).problems
    assert rules_of(run(tree, {"a": "contact.phone", "a.b": "event"})) == ["overlay-contradicts-tag"]


def test_rules_under_rules_need_not_agree() -> None:
    """Where no tag speaks the policy is free."""
    tree = schema(record("R", {"a": record("A", {"b": leaf()})}))
    result = run(tree, {"**": "special.health", "a": "contact", "a.b": "event"})
    assert class_at(result, "a.b") == "event"
    assert not result.problems


@pytest.mark.parametrize("rule", ["**{@key}", "patient.notes{@key}", "patient.notes{a}", "patient.notes{*}"])
def test_keys_and_values_of_a_map_are_under_the_tag_too(rule: str) -> None:
    """A tag gives keys no class, but one that is given to them must not contradict it."""
    result = run(patient(), {rule: "event"})
    assert rules_of(result) == ["overlay-contradicts-tag"]
    assert not result.key_class
    assert "event" not in {result.class_of(node) for node in result.schema.root.walk()}
    assert not run(patient(), {rule: Overriding("event", "special.health")}).problems


# ---------------------------------------------------------------- the registry's tags are limited


@pytest.mark.parametrize(
    "metadata",
    [
        {f"R.f{index}": ["id"] for index in range(1001)},
        {"a" * 513: ["id"]},
        {f"**.x{index}*": ["id"] for index in range(1000)},
        {f"{'**a' * 100}{index}": ["id"] for index in range(1000)},
        {"**": ["id"] * 10_000},
    ],
    ids=["patterns", "characters", "paths", "names", "tags"],
)
def test_the_tags_of_the_registry_cannot_stop_the_planner(metadata: dict[str, list[str]]) -> None:
    """Too many, too long or too costly to compare: the schema is refused."""
    tree = schema(record("R", {f"field_{index}": leaf() for index in range(2000)}))
    with pytest.raises(SchemaError, match="the registry"):
        run(tree, metadata=metadata)


def test_a_tag_of_the_registry_for_each_field_is_within_the_limits() -> None:
    """As many registries write them: by path, by name, or in any record."""
    tree = schema(record("R", {f"field_{index}": leaf() for index in range(1000)}))
    for prefix in ("R.", "", "$.", "**."):
        result = run(tree, metadata={f"{prefix}field_{index}": ["id"] for index in range(0, 1000, 4)})
        assert len(result.own) == (250 if prefix != "$." else 0)


# ---------------------------------------------------------------- several rules


def test_an_exact_path_beats_patterns() -> None:
    """Order does not matter, exactness does."""
    rules = {"**.email": "contact.email", "contact.email": "id", "**": "event"}
    for order in (rules, dict(reversed(rules.items()))):
        result = run(purchase(), order)
        assert class_at(result, "contact<Person>.email") == "id"
        assert not [problem for problem in result.problems if problem.path == "contact<Person>.email"]


def test_naming_the_branch_beats_leaving_it_open() -> None:
    """Of two written-out paths the one that names more steps counts."""
    result = run(events(), {"customer_id": "id", "<Refund>.customer_id": "contact"})
    assert class_at(result, "<Purchase>.customer_id") == "id"
    assert class_at(result, "<Refund>.customer_id") == "contact"
    assert not result.problems


def test_the_descendant_of_several_patterns_wins() -> None:
    """Patterns on one line of the hierarchy agree."""
    result = run(one(), {"*": "contact", "?": "contact.email"})
    assert class_at(result, "a") == "contact.email"
    assert not result.problems


def test_patterns_that_contradict_are_an_error() -> None:
    """Neither of two patterns is more exact; the place has no class."""
    result = run(schema(record("R", {"a": leaf()}, "event")), {"a*": "id", "?": "contact"})
    problem = only(result)
    assert (problem.rule, problem.path, problem.policy_key) == ("overlay-conflict", "a", ("fields", "a*"))
    assert class_at(result, "a") is None


def test_a_rule_with_an_unknown_class_gives_nothing() -> None:
    """A misspelt class is reported with what was meant, and does not fall back to the surroundings."""
    result = run(schema(record("R", {"a": leaf()}, "event")), {"a": "contact.emial"})
    problem = only(result)
    assert (problem.rule, problem.policy_key) == ("unknown-class", ("fields", "a"))
    assert "`contact.email`" in problem.remedy
    assert class_at(result, "a") is None


def test_a_tag_entry_with_an_unknown_class_gives_nothing() -> None:
    """The same holds for what a tag is mapped to."""
    result = run(one("X"), tags={"X": "nothing.such"})
    assert only(result).policy_key == ("tags", "X")
    assert class_at(result, "a") is None


def test_a_malformed_rule_is_a_problem() -> None:
    """A path that does not parse is reported at its entry."""
    problem = only(run(one("id"), {"a..b": "id"}))
    assert (problem.rule, problem.policy_key) == ("bad-path", ("fields", "a..b"))


def test_rules_that_mean_nothing_are_listed() -> None:
    """The caller learns which rules hit nothing; a rule that is merely beaten has hit."""
    result = run(purchase(), {"gone": "id", "<Refund>.total": "id", "total": "id", "**": "event", "m{@key}": "id"})
    assert result.unmatched_rules == ["gone", "<Refund>.total", "m{@key}"]


def test_record_prefix_limits_a_rule() -> None:
    """A prefix means the type at the root or a branch of the union at the root."""
    assert class_at(run(purchase(), {"<Purchase>.total": "id"}), "total") == "id"
    result = run(events(), {"<Purchase>customer_id": "id"})
    assert class_at(result, "<Purchase>.customer_id") == "id"
    assert class_at(result, "<Refund>.customer_id") is None


# ---------------------------------------------------------------- inheritance


def test_a_class_covers_what_is_below() -> None:
    """A class on a record, array, map or union reaches every leaf below that has none."""
    for path, below in (
        ("location", ["location.lat", "location.lon"]),
        ("items", ["items[*].sku", "items[*].labels[*]"]),
        ("attributes", ["attributes{*}"]),
        ("offers", ["offers{*}.code", "offers{*}.extra{*}"]),
        ("contact", ["contact<Person>.age", "contact<Company>.vat", "contact<string>"]),
        ("contact<Person>", ["contact<Person>.age", "contact<Person>.email"]),
    ):
        result = run(purchase(), {path: "event"})
        assert {class_at(result, place) for place in below} == {"event"}, path
        covered = {node.path for node in result.schema.root.walk() if result.class_of(node) == "event"}
        assert all(place.startswith(path) for place in covered)


def test_the_nearest_class_counts() -> None:
    """A deeper class is stronger than a higher one, wherever either comes from."""
    tree = schema(
        record("R", {"a": record("A", {"b": record("B", {"c": tagged("id"), "d": leaf()}, "contact"), "e": leaf()})})
    )
    result = run(tree, {"a": "event"})
    assert [class_at(result, path) for path in ("a.e", "a.b.d", "a.b.c")] == ["event", "contact", "id"]
    assert class_at(result, "") is None


def test_optional_field_and_its_union_are_one_place() -> None:
    """A tag or rule counts for both, whichever of the two nodes has it."""
    for maker in (optional(tagged("contact.email")), optional(leaf(), "contact.email")):
        result = run(schema(record("R", {"a": maker})), {"a": "contact.email.work"})
        assert {result.class_of(node) for node in result.schema.root.walk() if node.path == "a"} == {
            "contact.email.work"
        }
        assert not result.problems
    both = optional(tagged("contact.email"), "id")
    assert rules_of(run(schema(record("R", {"a": both})))) == ["tags-conflict"]


def test_branches_of_a_wide_union_have_their_own_classes() -> None:
    """Each branch is a place; null holds no data and needs no class."""
    wide = union({"string": leaf(), "null": leaf(Kind.NULL), "long": leaf(Kind.LONG)})
    result = run(schema(record("R", {"a": wide})), {"a<string>": "contact", "a<long>": "id"})
    assert (class_at(result, "a<string>"), class_at(result, "a<long>")) == ("contact", "id")
    assert class_at(result, "a") is None
    assert not result.unclassified


def test_everything_that_holds_data_and_has_no_class_is_listed() -> None:
    """Leaves, repeated types and undescribed values are listed, containers and null branches are not."""
    tree = schema(
        record(
            "R",
            {
                "a": optional(leaf()),
                "b": reference("R"),
                "c": array(leaf(Kind.ANY)),
                "d": leaf(Kind.NULL),
                "e": tagged("id"),
                "f": record("E", {}),
            },
        )
    )
    assert [node.path for node in run(tree).unclassified] == ["a", "b", "c[*]", "d"]


def test_a_container_acts_as_a_whole_without_deeper_classes() -> None:
    """Only a container that has a class, with no other class below, acts as a whole."""
    tree = schema(
        record(
            "R",
            {
                "same": record("S", {"x": leaf(), "y": tagged("event")}, "event"),
                "mixed": record("M", {"x": leaf(), "y": tagged("event.type")}, "event"),
                "deep": array(record("D", {"z": map_of(tagged("id"))}), "event"),
                "none": record("N", {"x": tagged("event")}),
                "unclear": record("U", {"x": tagged("id", "contact")}, "event"),
                "leaf": tagged("event"),
            },
        )
    )
    result = run(tree)
    whole = {entry.name for entry in result.schema.root.fields if result.whole(entry.node)}
    assert whole == {"same"}


# ---------------------------------------------------------------- maps


def test_naming_a_key_makes_it_a_place() -> None:
    """The map gets a field for the key, a copy of its value with paths of its own."""
    original = purchase()
    result = run(original, {"offers{spring}.code": "id", "offers": "event"})
    named = locate(result.schema, "offers{spring}")
    (offers,) = [node for node in result.schema.root.walk() if node.kind is Kind.MAP and node.path == "offers"]
    (entry,) = offers.fields
    assert (entry.name, entry.node, entry.required) == ("spring", named, False)
    assert [node.path for node in named.walk()] == [
        "offers{spring}",
        "offers{spring}.code",
        "offers{spring}.extra",
        "offers{spring}.extra{*}",
    ]
    assert class_at(result, "offers{spring}.code") == "id"
    assert class_at(result, "offers{spring}.extra{*}") == "event"
    assert class_at(result, "offers{*}.code") == "event"
    assert not result.unmatched_rules
    assert not any(node.fields for node in original.root.walk() if node.kind is Kind.MAP)
    assert result.schema.types["shop.Offer"] is locate(result.schema, "offers{*}")


def test_keys_inside_named_keys() -> None:
    """Maps inside maps are named key by key; ``{*}`` reaches into named keys too."""
    tree = schema(record("R", {"m": map_of(map_of(leaf()))}))
    result = run(tree, {"m{a}{b}": "id", "m{*}{c}": "contact", 'm{"x y"}': "event"})
    paths = {node.path for node in result.schema.root.walk()}
    assert {"m{a}{b}", "m{a}{c}", "m{*}{c}", 'm{"x y"}{c}', 'm{"x y"}{*}'} <= paths
    assert "m{*}{b}" not in paths
    assert class_at(result, "m{a}{c}") == "contact"
    assert class_at(result, 'm{"x y"}{*}') == "event"
    assert not result.unmatched_rules


def test_a_named_key_beats_the_rule_for_all_values() -> None:
    """``{*}`` covers named keys until a rule names them."""
    result = run(purchase(), {"attributes{*}": "event", "attributes{a}": "id", "**{b}": "contact"})
    assert class_at(result, "attributes{a}") == "id"
    assert class_at(result, "attributes{*}") == "event"
    assert class_at(result, "attributes{b}") == "event"  # A written-out path beats a pattern.


def test_a_rule_that_leads_nowhere_below_a_key_names_no_key() -> None:
    """A misspelt rest of a path must not make the key leave."""
    result = run(purchase(), {"offers{spring}.kode": "id", "attributes{a}.b": "id", "offers": "event"})
    assert result.unmatched_rules == ["offers{spring}.kode", "attributes{a}.b"]
    assert not any(node.fields for node in result.schema.root.walk() if node.kind is Kind.MAP)


def test_keys_have_only_a_class_that_names_them() -> None:
    """Neither the class of the map nor a pattern for everything reaches the keys."""
    rules = {"**": "event", "attributes": "event", "offers{spring}.extra{@key}": "id"}
    result = run(purchase(), rules)
    assert [(node.path, name) for node, name in result.key_class.items()] == [("offers{spring}.extra", "id")]
    result = run(purchase(), {"**{@key}": "id"})
    assert {node.path for node in result.key_class} == {"attributes", "offers", "offers{*}.extra"}


def test_contradicting_rules_give_keys_no_class() -> None:
    """Keys in doubt do not leave."""
    result = run(purchase(), {"**{@key}": "id", "attribute?{@key}": "event"})
    assert "attributes" not in {node.path for node in result.key_class}
    assert rules_of(result) == ["overlay-conflict"]


def test_named_keys_share_the_tags_of_the_value() -> None:
    """A tag on the values of a map speaks of a named key as well."""
    tree = schema(record("R", {"m": map_of(record("V", {"x": tagged("contact")}))}))
    result = run(tree, {"m{a}.x": "id"})
    assert only(result).rule == "overlay-contradicts-tag"
    assert class_at(run(tree, {"m{a}.x": "contact.email"}), "m{a}.x") == "contact.email"
    assert class_at(run(tree, {"m{a}": "event"}), "m{a}.x") == "contact"


def test_named_keys_are_limited() -> None:
    """Rules cannot blow up a schema without end."""
    value = record("V", {f"f{index}": leaf() for index in range(500)})
    overlay = {f"m{{k{index}}}": "id" for index in range(30)}
    with pytest.raises(SchemaError, match="10000 places"):
        run(schema(record("R", {"m": map_of(value)})), overlay)


def test_a_schema_without_named_keys_is_returned_as_it_is() -> None:
    """Nodes keep their identity where nothing is added."""
    tree = purchase()
    assert run(tree, {"attributes{*}": "id"}).schema is tree


# ---------------------------------------------------------------- properties


_RULES = st.dictionaries(
    st.sampled_from(
        ["a", "a.b", "a.*", "**", "**.b", "a.**", "m", "m{*}", "m{k}", "m{k}.b", "**{k}", "u<A>", "u.b", "m{@key}"]
    ),
    st.sampled_from(CLASSES),
    max_size=5,
)


@settings(max_examples=50, deadline=None)
@given(
    rules=_RULES,
    tags=st.lists(st.sampled_from([*CLASSES, "UNKNOWN"]), max_size=2),
    order=st.randoms(use_true_random=False),
)
def test_classification_is_sound(rules: dict[str, str], tags: list[str], order: Random) -> None:
    """Every class comes from the place itself or the nearest place above that has one, in any order of the rules."""
    inner = record("A", {"b": tagged(*tags), "c": leaf()})
    tree = schema(
        record("R", {"a": inner, "m": map_of(inner), "u": union({"A": inner, "null": leaf(Kind.NULL), "s": leaf()})})
    )
    result = run(tree, rules)
    shuffled = list(rules.items())
    order.shuffle(shuffled)
    again = run(tree, dict(shuffled))
    assert {(node.path, result.class_of(node)) for node in result.schema.root.walk()} == {
        (node.path, again.class_of(node)) for node in again.schema.root.walk()
    }

    def check(node: Node, above: str | None) -> None:
        own = result.own.get(node)
        effective = result.class_of(node)
        assert effective in ({own.class_name} if own else {above, None})
        if effective is None and above is not None:
            assert any(problem.severity == "error" for problem in result.problems)
        if node.kind not in CONTAINERS and node.kind is not Kind.NULL:
            assert (node in result.unclassified) is (effective is None)
        for child in node.children():
            check(child, effective)

    check(result.schema.root, None)
