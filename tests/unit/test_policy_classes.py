"""What a policy says of a class: hierarchy, patterns, and the treatments that can happen for an audience."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenweir.core.policy.classes import ClassTable, ResolvedRule, covers
from tokenweir.core.policy.models import Policy, Tokenize

KEEP = ResolvedRule(frozenset(), "keep")
TOKEN = Tokenize(tokenize="t")


def table(never: list[str] | None = None, **classes: dict[str, Any]) -> ClassTable:
    """Return the table of a policy with these classes (``__`` for a dot) and the audiences crm (p, q) and ads (p)."""
    recipient = {"id": "r", "name": "R", "role": "internal"}
    purpose = {"title": "P", "basis": "consent", "retention_days": 1}
    data = {
        "version": 1,
        "purposes": {"p": purpose, "q": purpose},
        "subjects": {"s": {"class": "id", "form": "uuid"}},
        "classes": {name.replace("__", "."): rule for name, rule in classes.items()},
        "tokens": {"t": {"format": "uuid"}},
        "audiences": {
            "crm": {"title": "C", "purposes": ["p", "q"], "recipients": [recipient]},
            "ads": {"title": "A", "purposes": ["p"], "recipients": [recipient], "never": never or []},
        },
        "streams": {
            "x": {
                "source": {"topic": "raw", "format": "avro"},
                "subjects": [{"type": "s", "path": "id"}],
                "outputs": [{"audience": "crm"}],
            }
        },
    }
    return ClassTable(Policy.model_validate(data, by_alias=True, by_name=False))


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("special", ["special"], ["special.health", "specials", "a.special"]),
        ("special.**", ["special", "special.health", "special.health.x"], ["specials", "specials.x", "a.special"]),
        ("contact.*", ["contact.email"], ["contact", "contact.email.work"]),
        ("contact.e*", ["contact.email", "contact.e"], ["contact.phone", "contact.email.x"]),
        ("contact.?", ["contact.e"], ["contact.email", "contact."]),
        ("**", ["a", "a.b.c"], []),
        ("*", ["a"], ["a.b"]),
        ("a.**.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "a.b", "z"]),
        ("**.email", ["contact.email", "a.b.email"], ["contact.phone"]),
        ("a+b", [], ["aab", "a"]),
        ("", [], ["a"]),
    ],
)
def test_patterns_cover_what_they_say(pattern: str, covered: list[str], not_covered: list[str]) -> None:
    """``**`` goes across dots and takes the class itself, ``*`` and ``?`` stay within one part."""
    assert [name for name in covered if not covers(pattern, name)] == []
    assert [name for name in not_covered if covers(pattern, name)] == []


def test_the_hierarchy_is_made_of_dots() -> None:
    """Ancestors are the declared ones, the nearest first; a class is not below itself."""
    classes = table(a={"do": "keep"}, a__b__c={"do": "keep"}, a__b__c__d={}, ab={"do": "keep"})
    assert classes.declared("a.b.c")
    assert not classes.declared("a.b")
    assert classes.ancestors("a.b.c.d") == ("a.b.c", "a")
    assert classes.ancestors("ab") == ()
    assert classes.is_descendant("a.b", "a")
    assert not classes.is_descendant("ab", "a")
    assert not classes.is_descendant("a", "a")


RULES = [
    ({"do": "keep"}, [KEEP], [KEEP]),
    ({"do": "drop"}, [], []),
    ({"do": "keep", "when": ["q"]}, [ResolvedRule(frozenset("q"), "keep")], []),
    ({"do": "keep", "when": ["p", "q"]}, [ResolvedRule(frozenset("pq"), "keep")], []),
    ({"do": "keep", "for": ["ads"]}, [], [KEEP]),
    (
        {"treatments": [{"when": ["q"], "do": "keep"}, {"do": {"tokenize": "t"}}, {"do": "keep"}]},
        [ResolvedRule(frozenset("q"), "keep"), ResolvedRule(frozenset(), TOKEN)],
        [ResolvedRule(frozenset(), TOKEN)],
    ),
    (
        {"treatments": [{"for": ["crm"], "do": "keep"}, {"do": {"tokenize": "t"}}]},
        [KEEP],
        [ResolvedRule(frozenset(), TOKEN)],
    ),
    ({"treatments": [{"do": "drop"}, {"do": "keep"}]}, [], []),
    (
        {"treatments": [{"when": ["p"], "do": "drop"}, {"do": "keep"}]},
        [ResolvedRule(frozenset("p"), "drop"), KEEP],
        [ResolvedRule(frozenset("p"), "drop"), KEEP],
    ),
    (
        {"treatments": [{"when": ["p"], "do": "keep"}, {"when": ["q"], "do": "drop"}, {"do": "drop"}]},
        [ResolvedRule(frozenset("p"), "keep")],
        [ResolvedRule(frozenset("p"), "keep")],
    ),
]


@pytest.mark.parametrize(("rule", "crm", "ads"), RULES, ids=range(len(RULES)))
def test_only_what_can_happen_is_left(rule: dict[str, Any], crm: list[ResolvedRule], ads: list[ResolvedRule]) -> None:
    """Audiences, purposes that are not served, what follows an unconditional rule and drops at the end are resolved."""
    classes = table(c=rule)
    assert list(classes.rules("c", "crm")) == crm
    assert list(classes.rules("c", "ads")) == ads


def test_a_class_without_treatments_takes_its_nearest_ancestors() -> None:
    """Attributes alone inherit; a treatment of its own replaces all of the ancestor's."""
    classes = table(a={"do": "keep"}, a__b={"do": {"tokenize": "t"}}, a__b__c={"title": "C"}, a__b__d={"do": "drop"})
    assert classes.rules("a.b.c", "crm") == (ResolvedRule(frozenset(), TOKEN),)
    assert classes.source("a.b.c") == "a.b"
    assert classes.rules("a.b.d", "crm") == ()


def test_what_is_not_declared_never_leaves() -> None:
    """A class that only looks as if it were below a declared one has no treatment."""
    classes = table(a={"do": "keep"})
    assert classes.rules("a.b", "crm") == ()
    assert classes.rules("b", "crm") == ()
    assert not classes.always("b")
    assert classes.on_invalid("b") == "drop"


def test_never_wins_over_everything() -> None:
    """The audience that may never get a class has no treatment for it, the others do."""
    classes = table(["a.**"], a={"do": "keep"}, a__b={"do": "keep"}, c={"do": "keep"})
    assert [classes.rules(name, "ads") for name in ("a", "a.b", "c")] == [(), (), (KEEP,)]
    assert classes.rules("a.b", "crm") == (KEEP,)
    assert classes.never("ads", "a.b")
    assert not classes.never("crm", "a.b")


def test_links_are_written_inherited_or_follow_from_tokens() -> None:
    """A tokenized class links persons unless it, or a class above it, says otherwise."""
    classes = table(
        a={"do": {"tokenize": "t"}},
        a__b={"do": "keep"},
        c={"do": "keep", "links": "event"},
        c__d={"do": {"tokenize": "t"}},
        c__e={"links": "person"},
        f={"treatments": [{"for": ["crm"], "do": "keep"}, {"do": {"tokenize": "t"}}]},
        f__g={},
    )
    names = ("a", "a.b", "c", "c.d", "c.e", "f", "f.g")
    assert [classes.links(name) for name in names] == ["person", None, "event", "event", "person", "person", "person"]


def test_special_is_inherited_and_always_is_not() -> None:
    """What makes a class safer goes down the tree, what makes it leave more does not."""
    classes = table(a={"do": "drop", "special": True}, a__b={"do": "drop"}, c={"do": "keep", "always": True}, c__d={})
    assert [classes.special(name) for name in ("a", "a.b", "a.x", "c")] == [True, True, True, False]
    assert [classes.always(name) for name in ("c", "c.d")] == [True, False]


def test_on_invalid_comes_with_the_treatments() -> None:
    """A class that takes its treatments from above takes their ``on_invalid`` too, unless it says otherwise."""
    classes = table(
        a={"do": {"tokenize": "t"}, "on_invalid": "reject"},
        a__b={},
        a__c={"on_invalid": "drop"},
        a__d={"do": {"tokenize": "t"}},
    )
    assert [classes.on_invalid(name) for name in ("a", "a.b", "a.c", "a.d")] == ["reject", "reject", "drop", "drop"]


TREATMENT = st.fixed_dictionaries(
    {"do": st.sampled_from(["keep", "drop", {"tokenize": "t"}])},
    optional={
        "for": st.lists(st.sampled_from(["crm", "ads"]), min_size=1, max_size=2),
        "when": st.lists(st.sampled_from("pq"), min_size=1, max_size=2),
    },
)


@settings(max_examples=50, deadline=None)
@given(st.lists(TREATMENT, min_size=1, max_size=5), st.sampled_from(["crm", "ads"]), st.sets(st.sampled_from("pq")))
def test_the_resolved_rules_decide_as_the_written_ones(
    treatments: list[dict[str, Any]], audience: str, passing: set[str]
) -> None:
    """For every audience and set of passing purposes the first match is the same before and after resolving."""
    served = {"crm": {"p", "q"}, "ads": {"p"}}[audience]
    passing &= served
    written = next(
        (
            each["do"]
            for each in treatments
            if audience in each.get("for", [audience]) and set(each.get("when", ())) <= passing
        ),
        "drop",
    )
    rules = table(c={"treatments": treatments}).rules("c", audience)
    resolved = next((rule.do for rule in rules if rule.when <= passing), "drop")
    assert resolved == (TOKEN if isinstance(written, dict) else written)
    assert all(rule.when for rule in rules[:-1])
    assert not rules or rules[-1].do != "drop"
