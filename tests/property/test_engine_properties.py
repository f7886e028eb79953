"""The engine under random policies, consents and records: no plaintext leaks, and nothing depends on the batch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.canaries import Canary, leaked, surface
from tests.support.engines import NOW_MS, Rig, allow, avro_encode, deny, json_schema_of, rig, small_policy

from tokenweir.core.engineapi import Record
from tokenweir.core.outcome import Outcome
from tokenweir.core.program import ProgramBuilder

_PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

#: Place, how its values look, and the treatments that fit it.
_PLACES = {
    "text": (
        "text",
        ("keep", "drop", "{tokenize: opaque}", "{generalize: {prefix: 3}}", "{generalize: {user_agent: family}}"),
    ),
    "number": (
        "integer",
        ("keep", "drop", "{tokenize: digits}", "{generalize: {round: 100000000}}", "{generalize: {shift_days: 99}}"),
    ),
    "email": ("email", ("keep", "drop", "{tokenize: email}")),
    "box.inner": ("text", ("keep", "drop", "{tokenize: opaque}")),
    "box.count": ("integer", ("keep", "drop", "{tokenize: digits}")),
    "list[*]": ("text", ("keep", "drop", "{tokenize: opaque}", "{generalize: {prefix: 2}}")),
    "items[*].sku": ("text", ("keep", "drop", "{tokenize: opaque}")),
    "map{*}": ("text", ("keep", "drop", "{tokenize: opaque}")),
    "map{@key}": ("key", ("keep", "drop")),
    "map{named}": ("text", ("keep", "drop", "{tokenize: opaque}")),
    "union<string>": ("text", ("keep", "drop", "{tokenize: opaque}")),
    "union<Boxed>.word": ("text", ("keep", "drop", "{tokenize: opaque}")),
}
_NULLABLE_TEXT = ["null", "string"]
_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": _NULLABLE_TEXT, "confluent:tags": ["id.customer"]},
        {"name": "text", "type": "string"},
        {"name": "number", "type": ["null", "long"]},
        {"name": "email", "type": _NULLABLE_TEXT},
        {
            "name": "box",
            "type": {
                "type": "record",
                "name": "Box",
                "fields": [{"name": "inner", "type": _NULLABLE_TEXT}, {"name": "count", "type": "long"}],
            },
        },
        {"name": "list", "type": {"type": "array", "items": "string"}},
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {"type": "record", "name": "Item", "fields": [{"name": "sku", "type": "string"}]},
            },
        },
        {"name": "map", "type": {"type": "map", "values": "string"}},
        {
            "name": "union",
            "type": [
                "null",
                "string",
                {"type": "record", "name": "Boxed", "fields": [{"name": "word", "type": "string"}]},
            ],
        },
        {"name": "unclassified", "type": "string"},
    ],
}
_TOKENS = """
opaque: {format: opaque, reversible: true}
digits: {format: digits, length: 16}
email: {format: email}
"""
_PURPOSES = {"": "", "offers": ", when: [offers]", "billing": ", when: [billing]"}


@dataclass(frozen=True)
class _Case:
    """One policy, one record full of canaries, and what its subject decided."""

    treatments: dict[str, tuple[str, str, str]]
    anonymous: bool
    consent: str
    subject: bool
    format: str
    seed: int

    def policy(self) -> str:
        """Return the policy; each place has a class of its own, with one treatment per audience."""
        classes = [
            f"c.p{index}: {{treatments: [{{for: [crm], do: {crm}{_PURPOSES[when]}}}, {{for: [ads], do: {ads}}}]}}"
            for index, (crm, ads, when) in enumerate(self.treatments.values())
        ]
        fields = ", ".join(f'"{place}": c.p{index}' for index, place in enumerate(self.treatments))
        return small_policy(
            classes="\n".join(classes),
            tokens=_TOKENS,
            fields=f"{{{fields}}}",
            format_=self.format,
            stream=f"no_subject: {'anonymous' if self.anonymous else 'withhold'}\nheaders: {{open: open, ask: asked}}",
            outputs="[{audience: crm, key: subject, timestamp: day}, {audience: ads, timestamp: hour}]",
        )

    def schema(self) -> str:
        """Return the schema in the format of the case."""
        return json.dumps(_SCHEMA if self.format == "avro" else json_schema_of(_SCHEMA))

    def lines(self, subject: str) -> list[dict[str, Any]]:
        """Return the consent of the record's subject."""
        if not subject:
            return []
        key = f"customer:{subject}"
        return {"allow": [allow(key, "offers")], "deny": [deny(key, "*")]}.get(self.consent, [])

    def kept(self, audience: str, place: str, *, leaves: bool) -> bool:
        """Say whether the policy lets a place of this record out as it is."""
        if place == "$headers{open}":
            return leaves
        if place not in self.treatments or not leaves:
            return False
        crm, ads, when = self.treatments[place]
        if audience == "ads":
            return ads == "keep"
        passes = when == "" or (self.subject and (when == "billing" or self.consent == "allow"))
        return crm == "keep" and passes


_treatment = {
    place: st.tuples(st.sampled_from(actions), st.sampled_from(actions), st.sampled_from(list(_PURPOSES)))
    for place, (_, actions) in _PLACES.items()
}
_cases = st.builds(
    _Case,
    treatments=st.fixed_dictionaries(_treatment),
    anonymous=st.booleans(),
    consent=st.sampled_from(["allow", "deny", "unknown"]),
    subject=st.booleans(),
    format=st.sampled_from(["avro", "json_schema"]),
    seed=st.integers(0, 2**32),
)


def _document(case: _Case, dice: random.Random) -> tuple[dict[str, Any], list[Canary]]:
    """Return a record with a canary in every place."""
    canaries: list[Canary] = []

    def text(place: str, form: str = "text") -> str:
        value = "q" + "".join(dice.choices("bcdfghjkmnpqrstvwxz", k=15))
        canaries.append(Canary.of_text(place, value))
        return f"{value}@mail.example" if form == "email" else value

    def number(place: str) -> int:
        value = dice.randrange(10**15, 9 * 10**15) | 1
        canaries.append(Canary.of_integer(place, value))
        return value

    subject = f"{dice.randrange(10**9, 10**10)}" if case.subject else None
    if subject is not None:
        canaries.append(Canary.of_text("id", subject))
    union: object = text("union<string>")
    if dice.random() < 0.5:
        canaries.pop()
        union = {"word": text("union<Boxed>.word")}
    document = {
        "id": subject,
        "text": text("text"),
        "number": number("number"),
        "email": text("email", "email"),
        "box": {"inner": text("box.inner"), "count": number("box.count")},
        "list": [text("list[*]"), text("list[*]")],
        "items": [{"sku": text("items[*].sku")}],
        "map": {text("map{@key}"): text("map{*}"), "named": text("map{named}")},
        "union": union,
        "unclassified": text("unclassified"),
    }
    return document, canaries


def _encode(case: _Case, document: dict[str, Any]) -> bytes:
    return avro_encode(_SCHEMA, document) if case.format == "avro" else json.dumps(document).encode()


def _record(case: _Case, dice: random.Random) -> tuple[Record, str, list[Canary]]:
    document, canaries = _document(case, dice)
    headers: list[tuple[str, bytes | None]] = []
    for name in ("open", "ask", "other"):
        value = "h" + "".join(dice.choices("bcdfghjkmnpqrstvwxz", k=15))
        canaries.append(Canary.of_text(f"$headers{{{name}}}", value))
        headers.append((name, value.encode()))
    raw_key = "k" + "".join(dice.choices("bcdfghjkmnpqrstvwxz", k=15))
    canaries.append(Canary.of_text("$key", raw_key))
    return Record(_encode(case, document), raw_key.encode(), NOW_MS, headers), document["id"] or "", canaries


def _allowed(case: _Case, audience: str, outcome: Outcome, canary: Canary) -> bool:
    leaves = outcome.fate == "sanitized"
    if canary.place == "map{*}" and not case.kept(audience, "map{@key}", leaves=leaves):
        return False
    if canary.place == "map{@key}" and not leaves:
        return False
    return case.kept(audience, canary.place, leaves=leaves)


def _leaks(case: _Case) -> Iterator[str]:
    """Run one case and yield every place whose plaintext was found where it must not be."""
    stream = rig(case.policy(), case.schema())
    faults: list[Exception] = []
    stream.engine._on_fault = faults.append
    dice = random.Random(case.seed)
    record, subject, canaries = _record(case, dice)
    for audience, outcome in stream.one(record, case.lines(subject)).items():
        forbidden = [canary for canary in canaries if not _allowed(case, audience, outcome, canary)]
        yield from leaked(forbidden, surface(outcome))
        if outcome.value is not None:
            stream.read(audience, outcome.value)
    yield from leaked(canaries, repr(record).encode())
    assert not faults


def _everything(treatment: str, consent: str = "allow", format_: str = "avro") -> _Case:
    return _Case(dict.fromkeys(_PLACES, (treatment, treatment, "")), False, consent, True, format_, 1)


@_PROPERTY
@given(_cases)
@example(_everything("keep"))
@example(_everything("drop"))
def test_no_plaintext_leaves_that_the_policy_does_not_keep(case: _Case) -> None:
    """A canary in every place, header and key appears only where the policy keeps it for this record."""
    assert list(_leaks(case)) == []


@_PROPERTY
@given(_cases, st.integers(0, 5))
def test_a_rejected_record_shows_nothing_at_all(case: _Case, defect: int) -> None:
    """Whatever is wrong with a record, its outcome has none of it."""
    stream = rig(case.policy(), case.schema())
    dice = random.Random(case.seed)
    record, subject, canaries = _record(case, dice)
    value = record.value or b""
    secret = "s" + "".join(dice.choices("bcdfghjkmnpqrstvwxz", k=15))
    broken = [
        value[: dice.randrange(1, len(value))],
        value + secret.encode(),
        secret.encode() + value,
        value.replace(b"q", b"\xff", 1),
        b"",
        (b"[" if case.format == "json_schema" else b"\xff") * 200,
    ][defect]
    canaries.append(Canary.of_text("defect", secret))
    for audience, outcome in stream.one(record._replace(value=broken), case.lines(subject)).items():
        if outcome.fate == "rejected":
            assert leaked(canaries, surface(outcome)) == []
            assert outcome.reason is not None
        else:
            allowed = [canary for canary in canaries if not _allowed(case, audience, outcome, canary)]
            assert leaked(allowed, surface(outcome)) == []


@_PROPERTY
@given(_cases, st.permutations(range(6)))
def test_outcomes_do_not_depend_on_the_batch(case: _Case, order: list[int]) -> None:
    """A batch, its records one by one, another order and a fresh engine all give the same."""
    dice = random.Random(case.seed)
    made = [_record(case, dice) for _ in range(5)]
    records = [record for record, _, _ in made]
    records += [records[0]._replace(value=b"\xff")]
    # Only every other person decided, so that neighbours leave under different purposes.
    lines = [line for _, subject, _ in made[::2] for line in case.lines(subject)]
    stream, other = rig(case.policy(), case.schema()), rig(case.policy(), case.schema())

    together = stream.process(records, lines)

    assert [other.one(record, lines) for record in records] == together
    shuffled = rig(case.policy(), case.schema()).process([records[index] for index in order], lines)
    assert [shuffled[order.index(index)] for index in range(len(records))] == together


@pytest.mark.parametrize("format_", ["avro", "json_schema"])
@pytest.mark.parametrize(
    ("method", "treatment"),
    [("_generalize", "{generalize: {prefix: 3}}"), ("_token", "{tokenize: opaque}"), ("_withheld", "keep")],
)
def test_the_hunt_finds_a_planted_leak(
    monkeypatch: pytest.MonkeyPatch, method: str, treatment: str, format_: str
) -> None:
    """A treatment that forgets to treat is found, so that the property above means something."""
    case = _everything("keep", format_=format_)
    case.treatments["text"] = (treatment, treatment, "")
    if method == "_withheld":
        case = _Case({**case.treatments, "text": ("keep", "drop", "offers")}, False, "deny", True, format_, 1)
        monkeypatch.setattr(ProgramBuilder, method, lambda _self, value: value)
    else:
        plain = (None, lambda value: value)
        monkeypatch.setattr(ProgramBuilder, method, lambda *_: plain[1] if method == "_generalize" else plain)
    assert "text" in list(_leaks(case))


def _tables(stream: Rig) -> list[dict[str, str | None]]:
    return [table.tokens for table in stream.engine._tables.values()]


def test_the_memo_of_tokens_changes_no_result() -> None:
    """Tokens are the same whether they are remembered, forgotten between batches, or never seen before."""
    case = _everything("{tokenize: opaque}")
    case.treatments.update(
        {"number": ("drop", "drop", ""), "box.count": ("drop", "drop", ""), "map{@key}": ("keep", "keep", "")}
    )
    stream = rig(case.policy(), case.schema())
    record, subject, _ = _record(case, random.Random(3))
    first = stream.one(record, case.lines(subject))
    assert any(_tables(stream))
    again = stream.one(record, case.lines(subject))
    for table in stream.engine._tables.values():
        table._limit = 0
        table.trim()
    assert not any(_tables(stream))
    assert stream.one(record, case.lines(subject)) == again == first
