"""What the policy alone shows to be wrong: every rule, at its place, and nothing in a good policy."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tokenweir.core.policy.check import check, load_and_check
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.policy.rules import RULES
from tokenweir.errors import FindingsError

HERE = Path(__file__).parent

GOOD = dedent("""\
    version: 1
    purposes:
      mail: {title: Mail, basis: consent, retention_days: 30}
      care: {title: Care, basis: consent, explicit: true, retention_days: 30}
    subjects:
      customer: {class: id.customer, form: {digits: 10}}
    classes:
      id.customer: {do: {tokenize: customer}}
      event.type: {do: keep, always: true}
      contact: {when: [mail], do: keep}
      contact.email: {title: E-mail}
      special.health: {special: true, when: [care], do: keep}
    tokens:
      customer: {format: digits, length: 10}
    audiences:
      crm: {title: CRM, purposes: [mail, care], recipients: [{id: team, name: Team, role: internal}]}
      ads: {title: Ads, purposes: [mail], never: ["special.**"], recipients: [{id: acme, name: Acme, role: controller}]}
    streams:
      s:
        source: {topic: raw, format: avro}
        subjects: [{type: customer, path: id}]
        pairs: [[place.lat, place.lon]]
        tags: {PII: ignore, MAIL: contact.email}
        fields: {"a.b": event.type, "m{x}": {class: contact, overrides: contact.email, reason: Old tag}}
        headers: {trace: event.type}
        outputs:
          - {audience: crm, key: subject}
          - {audience: ads, topic: raw.out, requires: [mail]}
    """)


def found(text: str) -> list[str]:
    """Return the findings of a policy as ``line:column: rule``, warnings with a mark."""
    marks = {"error": "", "warning": "~"}
    findings = check(load_policy(text, "p.yaml"))
    return [f"{each.line}:{each.column}: {marks[each.severity]}{each.rule}" for each in findings]


def change(old: str, new: str) -> str:
    """Return the good policy with one change."""
    assert GOOD.count(old) >= 1
    return GOOD.replace(old, new, 1)


CASES = [
    # References.
    ("purposes: [mail, care]", "purposes: [mail, care, male]", ["16:44: unknown-purpose"]),
    ("when: [mail], do", "when: [mial], do", ["10:20: unknown-purpose"]),
    ("requires: [mail]", "requires: [mail, nope]", ["28:58: unknown-purpose"]),
    ("class: id.customer", "class: id.custmer", ["6:21: unknown-class"]),
    ("MAIL: contact.email", "MAIL: contact.mail", ["23:31: unknown-class"]),
    ('"a.b": event.type', '"a.b": event.typ', ["24:21: unknown-class"]),
    ("class: contact,", "class: contacts,", ["24:49: unknown-class"]),
    ("overrides: contact.email", "overrides: contact.male", ["24:69: unknown-class"]),
    ("trace: event.type", "trace: event", ["25:22: unknown-class"]),
    ("{tokenize: customer}", "{tokenize: custom}", ["8:32: unknown-token", "14:3: ~unused"]),
    ("when: [mail], do: keep}", "for: [cmr], do: keep}", ["10:19: unknown-audience"]),
    ("{audience: crm, key", "{audience: cmr, key", ["16:3: ~unused", "27:20: unknown-audience"]),
    ("type: customer, path", "type: client, path", ["6:3: ~unused", "21:23: unknown-subject"]),
    ("requires: [mail]}", "requires: [care]}", ["28:52: unserved-purpose"]),
    ("requires: [mail]}", "requires: {any: [mail, care]}}", ["28:64: unserved-purpose"]),
    # Purposes.
    ("basis: consent, retention", "basis: contract, retention", ["3:30: assessment-missing"]),
    ("basis: consent, retention", "basis: opt_out, retention", []),
    ("basis: consent, retention", "basis: public_task, assessment: A-1, retention", []),
    (
        "basis: consent, retention",
        "basis: consent, basis_by: {DE: legitimate_interest}, retention",
        ["3:54: assessment-missing"],
    ),
    # Classes.
    (
        "contact.email: {title: E-mail}",
        "other: {title: E-mail}",
        ["11:3: no-treatment", "23:31: unknown-class", "24:69: unknown-class"],
    ),
    ("event.type: {do: keep,", "event.type: {do: keep, treatments: [{do: keep}],", ["9:26: two-treatments"]),
    ("contact.email: {title: E-mail}", "contact.email: {when: [mail]}", ["11:19: condition-without-do"]),
    ("contact.email: {title: E-mail}", "contact.email: {for: [crm]}", ["11:19: condition-without-do"]),
    ("{special: true, when: [care], do: keep}", "{special: true, do: keep}", ["12:39: special-without-consent"]),
    ("when: [care], do: keep}", "when: [care, mail], do: keep}", ["12:48: special-without-consent"]),
    ("explicit: true", "explicit: true, basis_by: {US: opt_out}", ["12:42: special-without-consent"]),
    (
        "{special: true, when: [care], do: keep}",
        "{special: true, treatments: [{when: [care], do: keep}, {do: drop}]}",
        [],
    ),
    ("contact.email: {title: E-mail}", "contact.email: {special: true}", ["10:20: special-without-consent"]),
    (
        "contact.email: {title: E-mail}",
        "special.health.x: {do: keep}\n  contact.email: {}",
        ["11:26: special-without-consent"],
    ),
    ("{do: keep, always: true}", "{when: [mail], do: keep, always: true}", ["9:48: always-conditional"]),
    ("{do: keep, always: true}", "{do: drop, always: true}", ["9:34: always-conditional"]),
    (
        "{do: keep, always: true}",
        "{treatments: [{for: [crm], do: keep}, {do: {tokenize: customer}}], always: true}",
        ["9:90: always-conditional"],
    ),
    ("{do: keep, always: true}", "{treatments: [{do: keep}, {do: drop}]}", ["9:41: ~unreachable-treatment"]),
    ("{do: keep, always: true}", "{treatments: [{for: [crm], do: keep}, {do: drop}]}", []),
    (
        "{do: keep, always: true}",
        "{treatments: [{when: [mail], do: keep}, {when: [mail, care], do: keep}]}",
        ["9:55: ~unreachable-treatment"],
    ),
    (
        "{do: keep, always: true}",
        "{treatments: [{do: keep, for: [ads, crm]}, {for: [ads], do: drop}]}",
        ["9:58: ~unreachable-treatment"],
    ),
    (
        "{do: keep, always: true}",
        "{treatments: [{for: [ads], when: [care], do: keep}, {do: drop}]}",
        ["9:29: ~unreachable-treatment"],
    ),
    # Tokens.
    ("length: 10}\naud", "length: 5..10}\naud", ["14:13: small-domain"]),
    ("digits, length: 10}\naud", "integer, min: 1, max: 999999}\naud", ["14:13: small-domain"]),
    ("digits, length: 10}\naud", "integer, min: 1, max: 1000000}\naud", ["6:40: subject-token"]),
    ("digits, length: 10}\naud", "integer, min: 1, max: 9999999999}\naud", []),
    ("digits, length: 10}\naud", "digits, length: 8}\naud", ["6:40: subject-token"]),
    ("digits, length: 10}\naud", "digits, length: 8..12}\naud", []),
    ("digits, length: 10}\naud", "email}\naud", ["6:40: subject-token"]),
    ("digits, length: 10}\naud", "opaque}\naud", []),
    ("digits, length: 10}\naud", "pan}\naud", ["6:40: subject-token"]),
    ("digits, length: 10}\naud", 'pattern, pattern: "42([0-9]{8})"}\naud', []),
    ("digits, length: 10}\naud", 'pattern, pattern: "K-([0-9]{8})x"}\naud', ["6:40: subject-token"]),
    ("form: {digits: 10}", "form: uuid", ["6:40: subject-token"]),
    ("form: {digits: 10}", "form: text", []),
    ("digits, length: 10}\naud", 'pattern, pattern: "A-([0-9]{5})"}\naud', ["14:13: small-domain"]),
    ("digits, length: 10}\naud", 'pattern, pattern: "A-([0-9]{6}"}\naud', None),
    ("digits, length: 10}\naud", "name, list: full}\naud", ["6:21: subject-name"]),
    ("digits, length: 10}\naud", "imei}\naud", ["6:40: subject-token"]),
    (
        "digits, length: 10}\naud",
        'permutation, values: ["0000012345", "0000067890"]}\naud',
        ["14:3: ~small-permutation"],
    ),
    ("digits, length: 10}\naud", "iban, keep: bank, countries: [NO]}\naud", ["14:13: small-domain"]),
    # Audiences.
    ('never: ["special.**"]', 'never: ["specail.**"]', ["17:47: never-without-class"]),
    ('never: ["special.**"]', "never: [contact]", ["17:47: ~never-not-below"]),
    ('never: ["special.**"]', 'never: [contact, "contact.*"]', []),
    # Streams.
    ("format: avro}", "format: json}", ["20:34: schema-file"]),
    ("format: avro}", "format: json, schema: a.json}", []),
    ("format: avro}", "format: avro, schema: a.json}", ["20:40: schema-file"]),
    ("path: id}", "path: a..b}", ["21:39: invalid-path"]),
    ("path: id}", "path: $headers}", ["21:39: invalid-path"]),
    ("path: id}", "path: $key}", []),
    ("pairs:", "event_time: a.*\n    pairs:", ["22:17: invalid-path"]),
    ("[place.lat, place.lon]", "[place.lat, lon]", ["22:13: pair-apart"]),
    ("[place.lat, place.lon]", "[lat, lat]", ["22:13: pair-apart"]),
    ("[place.lat, place.lon]", "[lat, lon]", []),
    ("[place.lat, place.lon]", "[lat[, lon]", None),
    ("[place.lat, place.lon]", '["lat[", lon]', ["22:13: invalid-path"]),
    ('"a.b": event', '"a b": event', ["24:14: invalid-path"]),
    ("topic: raw,", "topic: '..',", ["20:21: topic-name"]),
    ("topic: raw,", f"topic: {'r' * 246},", ["27:9: topic-name"]),
    ("topic: raw.out", "topic: raw.crm", ["28:32: topic-twice"]),
    ("{audience: ads,", "{audience: crm,", ["17:3: ~unused", "28:20: audience-twice"]),
    ("topic: raw.out", "topic: raw", ["28:32: output-is-source"]),
    # Later key epochs of an output and their mappings have names of their own.
    ("topic: raw.out", "topic: raw.crm.e2", ["28:32: topic-reserved"]),
    ("topic: raw.out", "topic: raw.crm.e17.mapping", ["28:32: topic-reserved"]),
    ("topic: raw.out", "topic: raw.crm.e1", []),
    ("topic: raw.out", "topic: raw.other.e2", []),
    ("topic: raw,", "topic: raw.out.e3,", ["20:21: topic-reserved"]),
    ("{audience: crm, key: subject}", "{audience: crm, topic: raw, key: subject}", ["27:32: output-is-source"]),
    ("do: {tokenize: customer}", "do: keep", ["14:3: ~unused", "27:30: key-not-tokenized"]),
    ("do: {tokenize: customer}", "for: [ads], do: {tokenize: customer}", ["27:30: key-not-tokenized"]),
    ("do: {tokenize: customer}", "when: [mail], do: {tokenize: customer}", []),
    (", requires: [mail]", "", []),
    # Warnings about what is allowed but hardly meant.
    ("basis: consent, retention", "basis: opt_out, retention", []),
    ("subjects: [{", "no_subject: withhold\n    subjects: [{", []),
    ("  ads: {title: Ads, purposes: [mail]", "  ads: {title: Ads, purposes: [care]", ["28:52: unserved-purpose"]),
    ("subjects:\n", "  more: {title: More, basis: consent, retention_days: 1}\nsubjects:\n", ["5:3: ~unused"]),
    ("tokens:\n", "tokens:\n  other: {format: uuid}\n", ["14:3: ~unused"]),
    ("classes:\n", "  device: {class: event.type, form: uuid}\nclasses:\n", ["7:3: ~unused"]),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES, ids=range(len(CASES)))
def test_each_fault_is_found_at_its_place(old: str, new: str, expected: list[str] | None) -> None:
    """One change of a good policy gives exactly the findings that belong to it."""
    text = change(old, new)
    if expected is None:
        with pytest.raises(FindingsError):
            load_policy(text, "p.yaml")
        return
    assert found(text) == expected


def test_a_good_policy_has_no_findings() -> None:
    """The base of all cases is clean, so every finding comes from its change."""
    assert found(GOOD) == []


def test_two_streams_may_not_write_one_topic_or_feed_each_other() -> None:
    """Topics are compared across the whole policy, defaults included."""
    second = dedent("""\
          t:
            source: {topic: raw.crm, format: avro}
            subjects: [{type: customer, path: id}]
            outputs:
              - {audience: crm, topic: raw.out}
        """)
    text = GOOD + "".join(f"  {line}\n" for line in second.splitlines())
    assert found(text) == ["27:9: output-is-source", "33:32: topic-twice"]


WEAK = ("mail: {title: Mail, basis: consent", "mail: {title: Mail, basis: legitimate_interest, assessment: A-1")


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ("", ["28:9: ~weak-requires"]),
        (", requires: any", ["28:41: ~weak-requires"]),
        (", requires: {any: [mail]}", ["28:41: ~weak-requires"]),
        (", requires: [mail]", []),
    ],
)
def test_external_recipients_and_people_who_were_never_asked(requires: str, expected: list[str]) -> None:
    """One purpose that needs no consent is enough for ``any``; the author is told."""
    assert found(change(", requires: [mail]", requires).replace(*WEAK)) == expected


def test_messages_name_numbers_and_remedies() -> None:
    """A finding says what is wrong, how far, and what to do."""
    text = change("length: 10}\naud", "length: 4..10}\naud").replace("{tokenize: customer}", "{tokenize: custmer}")
    with pytest.raises(FindingsError) as caught:
        load_and_check(text, "p.yaml")
    assert [str(finding) for finding in caught.value.findings] == [
        "p.yaml:8:32: unknown-token: there is no token entry 'custmer' (did you mean 'customer'?)",
        "p.yaml:14:3: warning: unused: no class uses 'customer' (use it or remove it)",
        (
            "p.yaml:14:13: small-domain: 'customer' can meet as few as 10,000 values; at least 1,000,000 are needed "
            "(allow no length below 6, or generalize or drop the class)"
        ),
    ]


def test_warnings_do_not_stop_a_policy() -> None:
    """The reference example loads; its output to an advertiser is pointed at."""
    loaded, warnings = load_and_check((HERE / "policy_example.yaml").read_text(), "p.yaml")
    assert loaded.policy.revision == 7
    assert [(each.line, each.rule, each.severity) for each in warnings] == [(44, "weak-requires", "warning")]


def test_the_shipped_policy_is_clean() -> None:
    """The policy that people start from has not even a warning."""
    path = HERE.parents[1] / "deploy" / "config" / "minimal-policy.yaml"
    assert load_and_check(path.read_text(), path.name)[1] == []


def test_every_rule_of_the_table_is_tested() -> None:
    """A rule without a case here or among the loader's cases would be a promise without proof."""
    loader_cases = (HERE / "test_policy_loader.py").read_text()
    here = {line.split()[1].removeprefix("~") for _, _, expected in CASES for line in expected or ()} | {
        "weak-requires"
    }
    assert [rule for rule in RULES if rule not in here and f": {rule}" not in loader_cases] == []
