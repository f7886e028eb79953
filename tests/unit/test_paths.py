"""The path grammar: what parses, what is refused and where, and which rule means which place."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.trees import events, purchase

from tokenweir.core.globs import Glob
from tokenweir.core.paths import PathError, Pattern, SourcePath, StepKind, format_steps, parse_path
from tokenweir.core.schema import Schema, join, segment
from tokenweir.errors import TokenweirError


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ("a", "a"),
        ("a.b", "a.b"),
        ("items[*].sku", "items[*].sku"),
        ("a[*][*]", "a[*][*]"),
        ("[*]", "[*]"),
        ("attributes{*}", "attributes{*}"),
        ("attributes{name}", "attributes{name}"),
        ("attributes{*}", "attributes{name}"),
        ("attributes{*}.code", "attributes{name}.code"),
        ('attributes{"a b"}', 'attributes{"a b"}'),
        ('attributes{"name"}', "attributes{name}"),
        ('attributes{"*"}', 'attributes{"*"}'),
        ("attributes{@key}", "attributes{@key}"),
        ("**{@key}", "attributes{@key}"),
        ("contact<Person>.email", "contact<Person>.email"),
        ("contact.email", "contact<Person>.email"),
        ("contact.email", "contact<a><b>.email"),
        ("contact[*]", "contact<array>[*]"),
        ("contact{name}", "contact<map>{name}"),
        ("contact<shop.Person>", "contact<Person>"),
        ("contact<Person>", "contact<shop.Person>"),
        ('contact<"a <b>">', 'contact<"a <b>">'),
        ("contact<P*>.email", "contact<Person>.email"),
        ("<Purchase>.total", "<Purchase>.total"),
        ("<Purchase>total", "<Purchase>.total"),
        ("total", "<Purchase>.total"),
        ("{name}", "<map>{name}"),
        ('traits."first name"', 'traits."first name"'),
        ('"traits"."a.b"', 'traits."a.b"'),
        ("größe.0abc", '"größe"."0abc"'),
        ("e?ail", "email"),
        ("*_id", "customer_id"),
        ("*", "email"),
        ("a.*", "a.b"),
        ("a.*", 'a."x.y"'),
        ("**.email", "email"),
        ("**.email", "a.email"),
        ("**.email", "a[*].b{*}<C>.email"),
        ("a.**", "a.b"),
        ("a.**", "a.b.c"),
        ("a.**", "a[*]"),
        ("a.**", "a<Person>"),
        ("a.**.c", "a.c"),
        ("a.**.c", "a.b.b.c"),
        ("**<Person>.email", "x[*]<Person>.email"),
        ("**{coupon}", "a.b{coupon}"),
        ("**", "a"),
        ("**", ""),
        ("**.id.**", "a.id.b"),
    ],
)
def test_rule_means_place(rule: str, place: str) -> None:
    """A rule means the places that the reference says."""
    assert Pattern.parse(rule).matches(place)


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ("a", "a.b"),
        ("a.b", "a"),
        ("a", "A"),
        ("items.sku", "items[*].sku"),
        ("items[*].sku", "items.sku"),
        ("attributes.name", "attributes{name}"),
        ("attributes{name}", "attributes{*}"),
        ("attributes{name}", "attributes{other}"),
        ("attributes{*}", "attributes{@key}"),
        ("attributes.**", "attributes{@key}"),
        ("**", "attributes{@key}"),
        ("contact<Person>.email", "contact<Company>.email"),
        ("contact<Person>.email", "contact.email"),
        ("contact<a.Person>", "contact<b.Person>"),
        ("contact", "contact<Person>"),
        ("<Refund>.total", "<Purchase>.total"),
        ("<Purchase>.total", "total"),
        ("e?ail", "eail"),
        ("*", "a.b"),
        ("*", "a[*]"),
        ("*.email", "a.b.email"),
        ('"*"', "email"),
        ("**.email", "a.emails"),
        ("**.email", "a.b_email"),
        ("a.**", "a"),
        ("a.**", "b.a.c"),
        ("a", "b.a"),
    ],
)
def test_rule_means_no_other_place(rule: str, place: str) -> None:
    """A rule means nothing that it does not say."""
    assert not Pattern.parse(rule).matches(place)


@pytest.mark.parametrize(
    "rule", ["<Purchase>.total", "<shop.Purchase>.total", "<Purchase>total", "<P*>.total", "total"]
)
def test_record_prefix_also_means_the_root_record(rule: str) -> None:
    """A prefix names the type of the root as well as a branch of a top-level union."""
    assert Pattern.parse(rule).matches("total", "shop.Purchase")


@pytest.mark.parametrize("rule", ["<Refund>.total", "<other.Purchase>.total", "<Purchase>"])
def test_record_prefix_excludes_other_records(rule: str) -> None:
    """A prefix of another type excludes the record."""
    assert not Pattern.parse(rule).matches("total", "shop.Purchase")


def test_prefix_alone_is_the_root() -> None:
    """``<Purchase>`` is the whole record of this type."""
    assert Pattern.parse("<Purchase>").matches("", "shop.Purchase")
    assert Pattern.parse("<Purchase>").matches("<Purchase>")
    assert not Pattern.parse("<Purchase>").matches("", "shop.Refund")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0),
        (".a", 1),
        ("a.", 3),
        ("a..b", 3),
        ("a b", 2),
        ("a[0]", 3),
        ("a[", 3),
        ("a.[*]", 3),
        ("a{", 3),
        ("a{}", 3),
        ("a{b", 4),
        ("a{b c}", 4),
        ("a{b*}", 3),
        ("a{@keys}", 3),
        ("a{@key}.b", 9),
        ("a<>", 3),
        ("a<B", 4),
        ("a<B>c", 5),
        ("a[*]b", 5),
        ('a."b', 3),
        (r'a."\q"', 3),
        ("$key", 1),
        ("a**b", 1),
        ("**email", 1),
        ("a.***", 3),
    ],
)
def test_malformed_rule_is_refused_at_its_column(text: str, column: int) -> None:
    """What does not parse says where."""
    with pytest.raises(PathError) as caught:
        Pattern.parse(text)
    assert caught.value.column == column
    assert isinstance(caught.value, TokenweirError)
    assert f"`{text}`" in str(caught.value)


@pytest.mark.parametrize("text", ["a*", "a.?", "**.a", "**"])
def test_concrete_path_has_no_wildcards(text: str) -> None:
    """Where one place is meant, wildcards are refused."""
    with pytest.raises(PathError, match="no wildcards"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "is_concrete"),
    [("a.b[*]{*}<C>.d", True), ('"*"', True), ("a*", False), ("**.a", False), ("<P?>.a", False)],
)
def test_concreteness(text: str, is_concrete: bool) -> None:  # noqa: FBT001 - a column of the table
    """Elements and values are single places of a schema, wildcards are not."""
    assert Pattern.parse(text).is_concrete is is_concrete


def test_rank_orders_rules_by_exactness() -> None:
    """Naming a branch or key is more exact than leaving it open, and any written-out path than wildcards."""
    texts = ["**{coupon}", "a{*}.b", "a{coupon}.b", "a{coupon}<B>.b"]
    ranks = [Pattern.parse(text).rank for text in texts]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    ("rule", "map_path", "keys"),
    [
        ("attributes{coupon}", "attributes", ["coupon"]),
        ("attributes{coupon}.code", "attributes", ["coupon"]),
        ("attributes{coupon}", "other", []),
        ("attributes{*}", "attributes", []),
        ("**{a}.x", "b.c", ["a"]),
        ("m{a}{b}", "m", ["a"]),
        ("m{a}{b}", "m{a}", ["b"]),
        ("m{*}{b}", "m{a}", ["b"]),
        ("{a}", "", ["a"]),
        ("<Purchase>m{a}", "m", ["a"]),
        ("m{a}", "<Purchase>.m<map>", ["a"]),
    ],
)
def test_keys_named_in_a_map(rule: str, map_path: str, keys: list[str]) -> None:
    """A rule names keys of the maps that its beginning means."""
    assert Pattern.parse(rule).keys_named_in(map_path, "shop.Purchase") == keys


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        ("customer_id", "value", "customer_id"),
        ("a.b", "value", "a.b"),
        ('"plain"', "value", "plain"),
        ("<Purchase>total", "value", "<Purchase>.total"),
        ('"$key"', "value", '"$key"'),
        ("$key", "key", ""),
        ("$key.id", "key", "id"),
        ("$key.a{b}", "key", "a{b}"),
        ("$key<Id>.id", "key", "<Id>.id"),
        ("$headers{customer-id}", "header", "customer-id"),
        ('$headers{"x.y"}', "header", "x.y"),
    ],
)
def test_source_path(text: str, origin: str, path: str) -> None:
    """A subject's path says where in the message it reads."""
    assert SourcePath.parse(text) == SourcePath(origin, path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$keys",
        "$value.a",
        "$key.",
        "$keyid",
        "$key..a",
        "$headers",
        "$headers.a",
        "$headers{a}.b",
        "$headers{*}",
        "a*",
    ],
)
def test_malformed_source_path(text: str) -> None:
    """Unknown roots and half paths are refused."""
    with pytest.raises(PathError):
        SourcePath.parse(text)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("**.email", "acme.R.email", True),
        ("**.email", "email", False),
        ("*.email", "R.email", True),
        ("*.email", "acme.R.email", False),
        ("alice.bob*", "alice.bob.eve", False),
        ("alice.bob**", "alice.bob.eve", True),
        ("a**", "alice.bob.eve", True),
        ("**.*", "anything", True),
        ("e?e", "eve", True),
        ("e?e", "e.e", False),
        ("$.a.b", "$.a.b", True),
        ("$.a(b", "$.a(b", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
    ],
)
def test_registry_pattern(pattern: str, name: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Tag paths mean what the registry's own clients make of them."""
    assert Glob.of_registry(pattern).matches(name) is matches


_GLOB = st.lists(st.sampled_from(["a", "b", ".", "?", "*", "**", r"\*", "("]), max_size=7).map("".join)
_NAME = st.text("ab.*(", max_size=8)


@settings(max_examples=50, deadline=None)
@given(_GLOB, st.lists(_NAME, min_size=10, max_size=10))
def test_globs_are_the_regular_expressions_that_they_stand_for(pattern: str, names: list[str]) -> None:
    """In names of rules and in tag paths of the registry."""
    registry = {"**": ".*", "**.*": ".*", "*": "[^.]*", "?": "[^.]"}
    tokens = re.findall(r"\\.|\*\*\.\*|\*\*|.", pattern)
    meant = re.compile("".join(registry.get(token, re.escape(token[-1])) for token in tokens))
    in_names = re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern))
    for name in names:
        assert Glob.of_registry(pattern).matches(name) is bool(meant.fullmatch(name))
        assert Glob.of_name(pattern).matches(name) is bool(in_names.fullmatch(name))


def test_no_pattern_takes_long_to_compare() -> None:
    """Each of these would take longer than the universe is old if every way to read it were tried in turn."""
    name = "a" * 200
    started = time.perf_counter()
    assert not Glob.of_registry("**a" * 100 + "b").matches(name)
    assert not Glob.of_registry("*a" * 100 + "b").matches(name)
    assert not Pattern.parse("*a" * 100 + "b").matches(name)
    assert not Pattern.parse(f"x<{'*a' * 100}b>").matches(f"x<{name}>")
    assert not Pattern.parse("**.a." * 30 + "b").matches(".".join("a" * 64))
    assert Pattern.parse("**.a." * 30 + "a").matches(".".join("a" * 64))
    assert time.perf_counter() - started < 1


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_rule_means_what_its_definition_says(data: st.DataObject) -> None:
    """The definition, written down by recursion: a step covers one of the path, branches may be left out, and so on."""
    steps = ["a", "b", "[*]", "{*}", "{k}", "<A>", "<B>", "a*"]
    rule = _text(data.draw(st.lists(st.sampled_from([*steps, "**", "**"]), min_size=1, max_size=5)))
    place = _text(data.draw(st.lists(st.sampled_from(steps[:-1]), max_size=6)))
    record_name = data.draw(st.sampled_from(["", "A"]))
    pattern, path = Pattern.parse(rule), parse_path(place)

    def rest(i: int, j: int) -> bool:
        if i == 0:
            return all(step.kind is StepKind.BRANCH for step in path[:j])
        step, last = pattern.steps[i - 1], i == len(pattern.steps)
        if step.kind is StepKind.DEEP:
            return any(rest(i - 1, k) for k in range(j if last and i > 1 else j + 1))
        if j and step.covers(path[j - 1]) and rest(i - 1, j - 1):
            return True
        if j and not last and path[j - 1].kind is StepKind.BRANCH and rest(i, j - 1):
            return True
        return i == 1 and j == 0 and step.kind is StepKind.BRANCH and step.names_type(record_name)

    assert pattern.matches(place, record_name) is rest(len(pattern.steps), len(path))


def _text(steps: list[str]) -> str:
    """Join steps to a path."""
    return "".join(f".{step}" if index and step[0] not in "[{<" else step for index, step in enumerate(steps))


@pytest.mark.parametrize("tree", [purchase(), events()], ids=["record", "union"])
def test_every_canonical_path_means_itself_and_only_itself(tree: Schema) -> None:
    """The canonical path of a place is a rule for exactly this place."""
    paths = {node.path for node in tree.root.walk() if node.path}
    for path in paths:
        assert format_steps(parse_path(path)) == path
        assert {other for other in paths if Pattern.parse(path).matches(other)} == {path}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=4))
def test_any_field_names_survive(names: list[str]) -> None:
    """Whatever the names of fields are, the path of a field is parsed back into them."""
    path = ""
    for name in names:
        path = join(path, name)
    assert [step.text for step in parse_path(path)] == names
    assert Pattern.parse(path).matches(path)
    assert Pattern.parse(f"m{{{segment(names[0])}}}").keys_named_in("m") == [names[0]]


@settings(max_examples=50, deadline=None)
@given(st.text('ab.*?[]{}<>@"$\\', max_size=12))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text does anything but parse or raise a PathError whose column lies in the text."""
    column = 0
    try:
        pattern = Pattern.parse(text)
    except PathError as error:
        column = error.column
    else:
        assert Pattern.parse(format_steps(pattern.steps)).steps == pattern.steps
    assert 0 <= column <= len(text) + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "ab", "*", "**", "?"]), min_size=1, max_size=4), st.data())
def test_wildcards_agree_with_regular_expressions(rule: list[str], data: st.DataObject) -> None:
    """On plain names the wildcards mean what the equal regular expression means."""
    place = data.draw(st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=4))
    parts = []
    for index, name in enumerate(rule):
        if name == "**":
            parts.append(r"(?:\.[^.]+)+" if index == len(rule) - 1 and index else r"(?:\.[^.]+)*")
        else:
            parts.append(r"\." + re.escape(name).replace(r"\*", "[^.]*").replace(r"\?", "[^.]"))
    expected = re.fullmatch("".join(parts), "." + ".".join(place)) is not None
    assert Pattern.parse(".".join(rule)).matches(".".join(place)) is expected
