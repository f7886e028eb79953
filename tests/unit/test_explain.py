"""Plans in words: what every place becomes for each audience, and when a record leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engines import plan, record_schema, small_policy

from tokenweir.core.explain import NEVER, describe_requires, names_of, rows, type_of
from tokenweir.core.plan import Requires
from tokenweir.core.schema import Kind, Node


def test_a_row_says_class_origin_and_treatments() -> None:
    """One row per scalar place in the order of the schema; containers and nulls have none."""
    policy = small_policy(
        classes="""
        mixed: {treatments: [{for: [crm], when: [offers, billing], do: keep}, {when: [offers], do: *}]}
        """.replace("*", "{generalize: {prefix: 2}}"),
        fields='{mixed: mixed, "box.in": open, "box.out": secret}',
        outputs="[{audience: crm}, {audience: ads}]",
    )
    box = {
        "type": "record",
        "name": "Box",
        "fields": [{"name": "in", "type": "string"}, {"name": "out", "type": "int"}],
    }
    day = {"type": "int", "logicalType": "date"}
    _, planned, _ = plan(policy, record_schema(("mixed", ["null", "string"]), ("box", box), ("day", day)))
    found = {row.path: row for row in rows(planned.versions[0].compiled)}

    assert list(found) == ["id", "mixed", "box.in", "box.out", "day"]
    assert (found["id"].class_name, found["id"].origin) == ("id.customer", "tag id.customer")
    assert found["id"].treatments["crm"] == "tokenize customer"
    assert found["mixed"].treatments == {
        "crm": "keep if offers and billing; otherwise generalize prefix: 2, of: text if offers",
        "ads": "generalize prefix: 2, of: text if offers",
    }
    assert found["box.out"].treatments == {"crm": NEVER, "ads": NEVER}
    assert (found["day"].type, found["day"].class_name, found["day"].origin) == ("int date", "", "")


def test_a_class_from_above_is_inherited() -> None:
    """The row says that nothing speaks of the place itself."""
    _, planned, _ = plan(
        small_policy(fields="{list: open}"), record_schema(("list", {"type": "array", "items": "int"}))
    )
    row = rows(planned.versions[0].compiled)[1]
    assert (row.path, row.class_name, row.origin) == ("list[*]", "open", "inherited")


@pytest.mark.parametrize(
    ("bases", "requires", "words"),
    [
        (("consent", "consent"), "any", "leaves only with consent for offers or billing"),
        (("consent", "consent"), "[offers, billing]", "leaves only with consent for offers and billing"),
        (("consent", "opt_out"), "any", "leaves unless the person objected (billing)"),
        (
            ("consent", "opt_out"),
            "[offers, billing]",
            "leaves only with consent for offers, unless the person objected (billing)",
        ),
        (("opt_out", "opt_out"), "[offers, billing]", "leaves unless the person objected (offers, billing)"),
        (("consent", "contract"), "any", "always leaves: a purpose's basis does not ask the person"),
        (("consent", "contract"), "[offers, billing]", "leaves only with consent for offers"),
        (("contract", "contract"), "[offers]", "always leaves: a purpose's basis does not ask the person"),
        (("consent", "contract"), "{any: [offers]}", "leaves only with consent for offers"),
    ],
)
def test_when_a_record_leaves_in_words(bases: tuple[str, str], requires: str, words: str) -> None:
    """Weak requirements are said as weak as they are."""
    policy = small_policy(outputs=f"[{{audience: crm, requires: {requires}}}]")
    policy = policy.replace("basis: consent, retention", f"basis: {bases[0]}, assessment: X, retention")
    policy = policy.replace("basis: contract", f"basis: {bases[1]}")
    loaded, planned, _ = plan(policy, record_schema())
    compiled = planned.versions[0].compiled.plan
    assert describe_requires(compiled.outputs[0], compiled, loaded.policy) == words


def test_what_weakens_a_requirement_is_said_too() -> None:
    """Other bases by jurisdiction, and records about nobody."""
    policy = small_policy(stream="no_subject: anonymous", outputs="[{audience: crm, requires: [offers]}]")
    policy = policy.replace("basis: consent", "basis: consent, basis_by: {US-CA: opt_out}")
    loaded, planned, _ = plan(policy, record_schema())
    compiled = planned.versions[0].compiled.plan
    assert describe_requires(compiled.outputs[0], compiled, loaded.policy).split("; ") == [
        "leaves only with consent for offers",
        "offers has the basis opt_out in US-CA",
        "a record about nobody always leaves",
    ]


def test_a_requirement_that_nothing_meets() -> None:
    """It never leaves, and does not pass for one that asks nobody."""
    loaded, planned, _ = plan(small_policy(), record_schema())
    compiled = planned.versions[0].compiled.plan
    output = replace(compiled.outputs[0], requires=Requires(all=True, mask=0))
    assert describe_requires(output, compiled, loaded.policy) == NEVER


def test_names_and_types() -> None:
    """The small words of a row."""
    assert names_of(0b101, ["a", "b", "c"]) == ["a", "c"]
    assert type_of(Node(Kind.LONG, logical="timestamp-millis")) == "long timestamp-millis"
    assert type_of(Node(Kind.STRING)) == "string"
