"""Reading a policy file: what each fault of text and shape is called, and where it is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tokenweir.core.policy.check_text import load
from tokenweir.core.policy.loader import load_policy, policy_json_schema
from tokenweir.core.policy.models import AnyOf, DigitsForm, Overlay, Tokenize
from tokenweir.core.policy.rules import RULES
from tokenweir.errors import FindingsError
from tokenweir.yamlsource import MAXIMUM_CHARACTERS, read_yaml, resolve_scalar

CONFIG_DIRECTORY = Path(__file__).parents[2] / "deploy" / "config"

GOOD = dedent("""\
    version: 1
    purposes:
      mail: {title: Mail, basis: consent, retention_days: 30}
    subjects:
      customer: {class: id, form: {digits: 10}}
    classes:
      id: {do: {tokenize: customer}}
    tokens:
      customer: {format: digits, length: 10}
    audiences:
      crm: {title: CRM, purposes: [mail], recipients: [{id: team, name: Team, role: internal}]}
    streams:
      s:
        source: {topic: raw, format: avro}
        subjects: [{type: customer, path: id}]
        outputs: [{audience: crm}]
    """)

FULL = (Path(__file__).parent / "policy_example.yaml").read_text()


def found(text: str) -> list[str]:
    """Return what is found in a text as ``line:column: rule``."""
    with pytest.raises(FindingsError) as caught:
        load_policy(text, "p.yaml")
    return [f"{finding.line}:{finding.column}: {finding.rule}" for finding in caught.value.findings]


def messages(text: str) -> list[str]:
    """Return the findings of a text as a user sees them."""
    with pytest.raises(FindingsError) as caught:
        load_policy(text, "p.yaml")
    return [str(finding) for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2\n", ["2:2: syntax"]),
        ("a: b: c\n", ["1:5: syntax"]),
        ("a: 'x\n", ["2:1: syntax"]),
        ("a: \x00", ["1:4: syntax"]),
        ("x:\n  a: @x\n", ["2:6: syntax"]),
        ("a:\n\tb: 1\n", ["2:1: tab"]),
        ("# " + "x" * MAXIMUM_CHARACTERS, ["1:1: too-large"]),
        ("[" * 65, ["1:65: too-deep"]),
        (GOOD + "---\nversion: 1\n", ["17:1: second-document"]),
        ("%YAML 1.1\n---\n" + GOOD, ["2:1: directive"]),
        (GOOD + "version: 1\n", ["17:1: duplicate-key"]),
        (GOOD.replace("mail: {", "1: {"), ["3:3: key-type"]),
        (GOOD.replace("mail: {", "~: {"), ["3:3: key-type"]),
        (GOOD + "? [a, b]\n: 1\n", ["17:3: key-type"]),
        (GOOD.replace("avro", "&f avro"), ["14:34: anchor"]),
        (GOOD.replace("[mail]", "&m [mail]") + "revision: *m\n", ["11:31: anchor", "17:11: alias"]),
        (GOOD.replace("{digits: 10}", "{<<: *d, digits: 10}"), ["5:32: merge-key", "5:36: alias"]),
        (GOOD.replace("version: 1", "version: !!int 1"), ["1:10: tag"]),
    ],
    ids=range(18),
)
def test_text_that_is_not_strict_yaml_is_refused_at_its_place(text: str, expected: list[str]) -> None:
    """Each liberty of YAML that makes two readings possible has its own rule and exact place."""
    assert [line for line in found(text) if line.split()[1] not in {"missing-key", "out-of-range"}] == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "", "1:1: missing-key: the key 'version' is missing"),
        ("version: 1", "version: 2", "1:10: wrong-value: 'version' must be 1"),
        ("version: 1", "version: true", "1:10: wrong-value: 'version' must be 1"),
        ("version: 1", "version: 1.0", "1:10: wrong-value: 'version' must be 1"),
        ("title: Mail", "titel: Mail", "3:10: unknown-key: 'titel' (did you mean 'title'?)"),
        ("{class: id,", "{class_: id,", "5:14: unknown-key: 'class_' (did you mean 'class'?)"),
        ("title: Mail", "title: 3", "3:17: wrong-type: 'title' must be text (write it in quotes)"),
        ("title: Mail", "title: ~", "3:17: wrong-type: 'title' must be text (nothing is given)"),
        ("title: Mail", "title: ''", "3:17: out-of-range: 'title' is too short"),
        ("basis: consent", "basis: consnt", "(did you mean 'consent'?)"),
        ("retention_days: 30", "retention_days: 0", "3:55: out-of-range: 'retention_days' must be at least 1"),
        ("retention_days: 30", "retention_days: 1.5", "3:55: wrong-type: 'retention_days' must be a whole number"),
        ("mail: {", "Mail: {", "3:3: bad-name: the name 'Mail' cannot be used here"),
        ("mail: {", "mail@acme: {", "3:3: bad-name: the name 'mail@acme' cannot be used here"),
        ("  id: {do", "  Id..x: {do", "7:3: bad-name: the name 'Id..x' cannot be used here"),
        (
            "{digits: 10}",
            "digits",
            "5:31: wrong-value: 'form' must be uuid, text, lowercase or {digits: n}",
        ),
        ("{digits: 10}", "{digit: 10}", "5:32: unknown-key: 'digit' (did you mean 'digits'?)"),
        ("{digits: 10}", "[10]", "5:31: wrong-value: 'form' must be uuid, text, lowercase or {digits: n}"),
        (
            "do: {tokenize: customer}",
            "do: kepp",
            "or {generalize: …} (did you mean 'keep'?)",
        ),
        ("{tokenize: customer}", "{tokenise: customer}", "or {generalize: …} (did you mean 'tokenize'?)"),
        (
            "{tokenize: customer}",
            "{tokenize: a, generalize: {time: day}}",
            "7:12: wrong-value: 'do' must be keep, drop",
        ),
        ("{tokenize: customer}", "{generalize: {tim: day}}", "'generalize' must be a mapping with exactly one of"),
        ("{tokenize: customer}", "{generalize: {time: week}}", "7:32: wrong-value: 'time' must be one of hour, day"),
        ("{tokenize: customer}", "{generalize: {time: day, x: 1}}", "7:37: unknown-key: 'x' (one of: time)"),
        (
            "{tokenize: customer}",
            "{generalize: {buckets: [2, 1]}}",
            "7:35: wrong-value: 'buckets': each bound must be larger",
        ),
        ("do: {tokenize: customer}", "treatments: []", "7:20: out-of-range: 'treatments' has too few entries"),
        ("do: {tokenize: customer}", "do: keep, when: []", "7:24: out-of-range: 'when' has too few entries"),
        ("format: digits", "format: digit", "9:22: wrong-value: 'format' must be one of digits"),
        ("format: digits, ", "", "9:13: missing-key: the key 'format' is missing in 'customer'"),
        ("length: 10}\naud", "length: true}\naud", "9:38: wrong-type: 'length' must be a whole number or text"),
        ("length: 10}\naud", "length: 6-9}\naud", "9:38: wrong-value: 'length': a length is a number such as 10"),
        ("role: internal", "role: intern", "11:81: wrong-value: 'role' must be one of internal"),
        ("purposes: [mail]", "purposes: mail", "11:31: wrong-type: 'purposes' must be a list"),
        ("purposes: [mail]", "purposes: [mail, 1]", "11:38: wrong-type: 'purposes[1]' must be text"),
        ("topic: raw", "topic: ra/w", "14:21: wrong-value: 'topic' must match"),
        ("{audience: crm}", "{audience: crm, acton: 1}", "16:31: unknown-key: 'acton'"),
        ("{audience: crm}", "{audience: crm, requires: []}", "16:41: out-of-range: 'requires' has too few entries"),
        ("{audience: crm}", "{audience: crm, requires: all}", "16:41: wrong-value: 'requires' must be any"),
        ("{audience: crm}", "{audience: crm, requires: {al: [mail]}}", "16:42: unknown-key: 'al'"),
        ("path: id}]", "path: id}]\n    pairs: [[a]]", "16:13: out-of-range: 'pairs[0]' has too few entries"),
        ("path: id}]", "path: id}]\n    fields: {a: 1}", "16:17: wrong-value: 'a' must be a class or {class: …"),
        (
            "path: id}]",
            "path: id}]\n    fields: {a: {class: id}}",
            "16:14: missing-key: the key 'overrides' is missing",
        ),
        ("path: id}]", "path: id}]\n    guards: []", "16:5: unknown-key: 'guards'"),
        ("title: Mail", "title: '${TITLE}'", "3:17: interpolation: '${' stands here"),
        ("mail: {", "'${mail}': {", "3:3: interpolation: '${' stands here"),
        ("streams:\n", "streams: []\nold:\n", "12:10: wrong-type: 'streams' must be a mapping"),
    ],
)
def test_what_does_not_follow_the_model_is_said_in_plain_words(old: str, new: str, expected: str) -> None:
    """Each fault gives one line with its place, rule and words, and nothing of the validation library."""
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    lines = messages(text)
    assert any(expected in line for line in lines), lines
    assert not any(word in line for line in lines for word in ("pydantic", "http", "Input should", "Extra inputs"))


def test_every_finding_is_reported_at_once_in_the_order_of_the_file() -> None:
    """Faults of YAML and of the model stand in one list."""
    text = GOOD.replace("title: Mail", "titel: Mail").replace("avro", "&f avor") + "version: 1\n"
    assert found(text) == [
        "3:3: missing-key",
        "3:10: unknown-key",
        "14:34: anchor",
        "14:34: wrong-value",
        "17:1: duplicate-key",
    ]


def test_a_wrong_branch_of_a_union_gives_one_finding() -> None:
    """A treatment that is none of its four forms is not reported once for each form."""
    assert found(GOOD.replace("{tokenize: customer}", "{tokenise: customer}")) == ["7:12: wrong-value"]
    assert found(GOOD.replace("{audience: crm}", "{audience: crm, requires: 5}")) == ["16:41: wrong-value"]


def test_a_refused_value_has_no_second_finding() -> None:
    """What an alias stands for is not judged."""
    text = GOOD.replace("{digits: 10}", "&d {digits: 10}").replace("basis: consent", "basis: *d")
    assert found(text) == ["3:30: alias", "5:31: anchor"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_names_what_must_be_given(text: str) -> None:
    """An empty policy is six missing keys."""
    assert [line.split(" ")[4] for line in messages(text) if "missing" in line] == [
        "'audiences'", "'classes'", "'purposes'", "'streams'", "'subjects'", "'version'",
    ]  # fmt: skip


def test_the_digest_is_that_of_the_text() -> None:
    """The digest identifies the reviewed text, comments included."""
    loaded = load_policy(GOOD, "p.yaml")
    assert loaded.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert load_policy(GOOD + "# é\n", "p.yaml").digest == hashlib.sha256((GOOD + "# é\n").encode()).hexdigest()
    assert loaded.text == GOOD
    assert "Mail" not in repr(loaded.positions.keys)


def test_the_policy_of_the_language_reference_loads() -> None:
    """Every form of the reference example has its typed value and place."""
    loaded = load_policy(FULL, "p.yaml")
    policy = loaded.policy
    assert policy.subjects["customer"].form == DigitsForm(digits=10)
    assert policy.classes["id.device"].do == Tokenize(tokenize="device")
    treatments = policy.classes["location.exact"].treatments
    assert treatments is not None
    assert treatments[0].for_ == ["crm"]
    assert policy.streams["interactions"].outputs[0].requires == ["email_marketing"]
    assert loaded.positions.key(("classes", "location.exact", "links")) == (20, 5)
    assert loaded.positions.value(("streams", "interactions", "outputs", 1, "timestamp")) == (44, 50)
    assert loaded.positions.value(("streams", "interactions", "outputs", 1, "topic")) == (44, 9)


def test_the_other_forms_of_unions_load() -> None:
    """``{any: …}`` and a class that overrides a tag are typed."""
    text = GOOD.replace("{audience: crm}", "{audience: crm, requires: {any: [mail]}}")
    text = text.replace("path: id}]", "path: id}]\n    fields: {a: {class: id, overrides: id, reason: why}}")
    stream = load_policy(text, "p.yaml").policy.streams["s"]
    assert stream.outputs[0].requires == AnyOf(any=["mail"])
    assert isinstance(stream.fields["a"], Overlay)
    assert stream.model_validate(stream.model_dump(by_alias=True)) == stream


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("true", True), ("False", False), ("~", None),
        ("", None), ("null", None), ("2026-01-01", "2026-01-01"), ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("10", 10), ("010", 10), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5),
        (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"), ("6..20", "6..20"), ("12:30:45", "12:30:45"),
        ("9" * 65, "9" * 65), ("1.2.3", "1.2.3"), ("-", "-"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema(scalar: str, value: object) -> None:
    """YAML 1.2: country codes and dates stay text, and what is not finite too."""
    resolved = resolve_scalar(scalar)
    assert resolved == value
    assert type(resolved) is type(value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(st.characters(codec="ascii", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc$.{", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_json_is_read_as_what_it_says(data: Any) -> None:  # noqa: ANN401 - Plain data of any kind.
    """JSON is YAML: data goes through unchanged, and every part has a place."""
    document = read_yaml(json.dumps(data), "f")
    assert document.findings == []
    assert document.data == data
    assert all(path in document.positions.values for path, _ in document.texts())


@settings(max_examples=50, deadline=None)
@given(st.text("ab:-[]{}&*!#|>'\"%@\t\n ,?0~<", max_size=40))
def test_any_text_gives_data_or_findings_and_never_an_error(text: str) -> None:
    """The reader has no other way out than its result."""
    document = read_yaml(text, "f")
    assert document.complete or document.findings


def test_aliases_cannot_make_a_document_grow() -> None:
    """A tower of aliases is refused without being built."""
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    document = read_yaml(text, "f")
    assert {finding.rule for finding in document.findings} == {"anchor", "alias"}
    assert document.data["a29"] == [None] * 9


def test_the_json_schema_is_draft_7_and_agrees_with_the_loader() -> None:
    """Editors accept what the loader accepts, and refuse unknown keys everywhere."""
    schema = policy_json_schema()
    Draft7Validator.check_schema(schema)
    validator = Draft7Validator(schema)
    for text in (GOOD, FULL, (CONFIG_DIRECTORY / "minimal-policy.yaml").read_text()):
        assert list(validator.iter_errors(read_yaml(text, "f").data)) == []
    for old, new in (
        ("title: Mail", "titel: Mail"),
        ("mail: {", "Mail: {"),
        ("do: {tok", "do: {toc"),
        ("digits: 10", "digit: 10"),
    ):
        assert not validator.is_valid(read_yaml(GOOD.replace(old, new), "f").data)
    objects = [part for part in schema["definitions"].values() if part.get("type") == "object"]
    assert objects
    assert all(part["additionalProperties"] is False and part["description"] for part in objects)
    assert "$defs" not in json.dumps(schema)


def test_every_property_of_the_json_schema_is_described() -> None:
    """The reference documentation is made from these descriptions."""
    schema = policy_json_schema()
    parts = [schema, *(part for part in schema["definitions"].values() if "properties" in part)]
    assert [name for part in parts for name, value in part["properties"].items() if not value.get("description")] == []


def test_every_rule_is_explained() -> None:
    """The table has kebab-case names and full sentences."""
    assert all(rule == rule.lower() and " " not in rule and "_" not in rule for rule in RULES)
    assert all(len(sentence) > 10 and ("." in sentence) for sentence in RULES.values())


def test_a_configuration_is_no_policy() -> None:
    """A file of the other kind is one finding and not one for each of its keys."""
    with pytest.raises(FindingsError) as caught:
        load("version: 1\nkafka: {}\npolicy: {file: policy.yaml}\n", "p.yaml")
    assert [str(each) for each in caught.value.findings] == [
        "p.yaml:1:1: other-file: this is a configuration and no policy (give it with --config)"
    ]
