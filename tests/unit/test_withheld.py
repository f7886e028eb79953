"""Why a record is withheld: every cause in its own words, and never a word where the engine lets it leave."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.keysets import published_keyset

from tokenweir.core.compiler import domain_of
from tokenweir.core.consent import DENIED, ERASED_SOURCE, UNDECODABLE, UNKNOWN, Decision, SourceState, SubjectConsent
from tokenweir.core.context import StreamContext
from tokenweir.core.engine import BoundPlan, ReferenceEngine
from tokenweir.core.engineapi import Record
from tokenweir.core.outcome import Fate
from tokenweir.core.planning import SourceSchema, plan_schema
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.loader import load_policy
from tokenweir.core.subjects import Subject

_NOW_MS: Final = 1_795_341_600_000
_DAY_MS: Final = 86_400_000
_POLICY: Final = load_policy(
    """
version: 1
revision: 1
purposes:
  mail: {title: Mail, basis: consent, retention_days: 30}
  look: {title: Look, basis: legitimate_interest, assessment: L-1, retention_days: 300}
subjects: {customer: {class: id.customer, form: {digits: 10}}, device: {class: id.device, form: text}}
classes:
  kind: {title: Kind, do: keep}
  id.customer: {title: Customer, do: drop}
  id.device: {title: Device, do: drop}
audiences:
  crm:
    title: Team
    purposes: [mail, look]
    recipients: [{id: team, name: Team, role: internal}]
streams:
  s:
    source: {topic: raw, format: json, schema: x.json}
    subjects: [{type: customer, path: customer}, {type: device, path: device}]
    no_subject: withhold
    fields: {kind: kind, customer: id.customer, device: id.device}
    outputs: [{audience: crm, requires: REQUIRES, key: none}]
""".replace("REQUIRES", "[mail, look]"),
    "policy.yaml",
)
_SCHEMA: Final = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("kind", "customer", "device")},
    "additionalProperties": False,
}
_ENGINE: Final = ReferenceEngine(_POLICY.policy, published_keyset(["crm"]))


def _bound() -> BoundPlan:
    context = StreamContext(
        ClassTable(_POLICY.policy), _POLICY.policy, _POLICY.digest, "s", {domain_of(_POLICY.policy, "crm"): 1}
    )
    return _ENGINE.bind(plan_schema(context, SourceSchema(json.dumps(_SCHEMA), "x.json")).compiled.plan)


_BOUND: Final = _bound()


def _state(minor: bool = False, **words: Any) -> SubjectConsent:  # noqa: ANN401, FBT001, FBT002 - a short hand
    decisions = {name.replace("_at_", "@").replace("every", "*"): Decision(*word) for name, word in words.items()}
    return SubjectConsent({"": SourceState(1, decisions, minor=minor)})


def _why(
    person: SubjectConsent, device: SubjectConsent = UNKNOWN, *, age_ms: int = 0, **event: str
) -> tuple[Fate, str]:
    value = event or {"kind": "click", "customer": "0000000001", "device": "d"}
    record = Record(json.dumps(value).encode(), None, _NOW_MS - age_ms, [])

    def consent(subject: Subject) -> SubjectConsent:
        return person if subject.type == "customer" else device

    ((outcome,),) = _ENGINE.process([(_BOUND, record)], consent, _NOW_MS)
    return outcome.fate, _ENGINE.why_withheld(_BOUND, _BOUND.outputs[0], record, consent, _NOW_MS)


_UNREADABLE: Final = "a decision of the person, or a key of the consent topic, cannot be read"
_ALLOW: Final = ("allow", 1)


@pytest.mark.parametrize(
    ("person", "more", "said"),
    [
        (UNKNOWN, {}, "mail: nothing is known of the person's decision"),
        (_state(mail=("deny", 1)), {}, "mail: denied"),
        (_state(every=("deny", 1)), {}, "mail: denied; look: denied"),
        (_state(mail=("allow", _NOW_MS + 9)), {}, "mail: allowed only after the event"),
        (_state(mail=_ALLOW), {"age_ms": 31 * _DAY_MS}, "mail: the event is older than its retention"),
        (_state(mail=_ALLOW, minor=True), {}, "mail: the person is a minor; look: the person is a minor"),
        (_state(mail=_ALLOW, mail_at_team=("deny", 1)), {}, "mail: denied for a recipient"),
        (_state(mail=_ALLOW), {"device": _state(mail=("deny", 1))}, "mail: another person in the record denies"),
        (
            SubjectConsent({"": SourceState(1, {}), ERASED_SOURCE: UNDECODABLE}),
            {},
            "mail: the person was erased; look: the person was erased",
        ),
        (
            DENIED,
            {},
            f"mail: {_UNREADABLE}; look: {_UNREADABLE}",
        ),
    ],
)
def test_every_cause_has_its_words(person: SubjectConsent, more: dict[str, Any], said: str) -> None:
    """They name purposes and never a person."""
    assert _why(person, **more) == (Fate.WITHHELD, said)


def test_a_record_without_a_person_says_so() -> None:
    """Nobody can be asked."""
    assert _why(UNKNOWN, kind="click") == (Fate.WITHHELD, "it names no data subject")


_WORDS = st.sampled_from(["allow", "deny"])
_CONSENTS = st.builds(
    lambda decisions, minor: SubjectConsent({"": SourceState(1, decisions, minor=minor)}),
    st.dictionaries(
        st.sampled_from(["mail", "look"]), st.builds(Decision, _WORDS, st.sampled_from([1, _NOW_MS + 5])), max_size=2
    ),
    st.booleans(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_CONSENTS, _CONSENTS, st.sampled_from([0, 10 * _DAY_MS, 40 * _DAY_MS, 400 * _DAY_MS]))
def test_a_cause_is_named_for_whatever_is_withheld_and_only_then(
    person: SubjectConsent, device: SubjectConsent, age_ms: int
) -> None:
    """What the engine decides and what is said of it rest on the same rules."""
    fate, said = _why(person, device, age_ms=age_ms)
    assert (fate is Fate.WITHHELD) == (said != "nothing of it may leave for the purposes that pass")
    assert said
