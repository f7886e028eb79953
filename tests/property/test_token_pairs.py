"""The mapping between epochs: every token that a place of the plan can hold leads to that of the same value."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.support.engines import NOW_MS, avro_encode, record_schema, small_policy
from tests.support.nativepeople import People
from tests.support.nativeworlds import worlds

from tokenweir.core.compiler import StreamContext
from tokenweir.core.consent import UNKNOWN
from tokenweir.core.context import domain_of
from tokenweir.core.engine import ReferenceEngine
from tokenweir.core.engineapi import ConsentLookup, Record
from tokenweir.core.keys import Keyset, TokenKey
from tokenweir.core.outcome import Fate
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.tokenpairs import RecordTokens, Successors
from tokenweir.errors import FindingsError, InvalidValueError

Token = tuple[str, str]
"""Entry and text."""


class _Window:
    """A stream in two epochs, with what leads from the tokens of the old one to those of the new one."""

    def __init__(self, policy: str, text: str) -> None:
        loaded, _ = load_and_check(policy, "policy.yaml")
        domains = sorted({domain_of(loaded.policy, audience) for audience in loaded.policy.audiences})
        roots = {
            (domain, epoch): TokenKey(hashlib.sha256(f"{domain} {epoch}".encode()).digest())
            for domain in domains
            for epoch in (1, 2)
        }
        keyset = Keyset(roots, dict.fromkeys(domains, 2), TokenKey(bytes(32)), dict.fromkeys(domains, (1,)))
        context = StreamContext(
            ClassTable(loaded.policy),
            loaded.policy,
            loaded.digest,
            next(iter(loaded.policy.streams)),
            dict.fromkeys(domains, 2),
            dict.fromkeys(domains, (1,)),
        )
        planned = plan_stream(loaded, context, [SourceSchema(text, "version 1", 1)])
        if planned.errors:
            raise FindingsError(planned.errors)
        self.plan = planned.versions[0].compiled.plan
        engine = ReferenceEngine(loaded.policy, keyset)
        self.engine, self.bound = engine, engine.bind(self.plan)
        self.successors = {domain: Successors(keyset, domain, (1, 2), loaded.policy.tokens) for domain in domains}
        #: Of each output in the order of the plan: how its tokens are found.
        self.tokens = [
            None
            if output.derived is None
            else RecordTokens(self.plan, output.output, output.derived, self.successors[output.output.domain])
            for output in self.bound.outputs
        ]

    def pairs(self, records: list[Record], consent: ConsentLookup) -> list[tuple[list[Token], list[Token]]]:
        """Return for each record and output the tokens of the new epoch, and the successors of the old ones."""
        found = []
        for row in self.engine.process([(self.bound, record) for record in records], consent, NOW_MS):
            # Each output in its active epoch, and after it in the one that is fed beside it.
            for index in range(0, len(row), 2):
                new, old = row[index], row[index + 1]
                assert new.fate is old.fate
                new_tokens, old_tokens = self.tokens[index], self.tokens[index + 1]
                if new.fate is not Fate.SANITIZED or new.value is None or old.value is None:
                    continue
                assert new_tokens is not None
                assert old_tokens is not None
                lead = self.successors[self.plan.outputs[index].domain]
                found.append(
                    (
                        [(each.entry, each.token) for each in new_tokens.of(new.value, new.key)],
                        [
                            (each.entry, lead.successor(each.entry, each.token))
                            for each in old_tokens.of(old.value, old.key)
                        ],
                    )
                )
        return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.integers(0, 2**32))
def test_every_token_of_the_old_epoch_leads_to_that_of_the_new_one(world: tuple[str, str], seed: int) -> None:
    """In records, arrays, maps and unions of random worlds, place by place."""
    try:
        window = _Window(*world)
    except FindingsError:
        reject()
    people = People(window.plan.source, seed)

    for new, old in window.pairs([people.record() for _ in range(8)], people.consent):
        assert old == new


@pytest.fixture
def window() -> _Window:
    """A stream with tokens in every kind of place, and one that is kept or tokenized by what was decided."""
    policy = small_policy(
        classes="""
        mail: {do: {tokenize: mail}}
        number: {do: {tokenize: number}}
        either: {treatments: [{when: [offers], do: keep}, {do: {tokenize: number}}]}
        """,
        tokens="mail: {format: email, domain: keep}\nnumber: {format: integer, min: 0, max: 99999999}",
        fields='{mail: mail, number: number, "list[*]": number, either: either}',
        outputs="[{audience: crm, key: subject}]",
    )
    schema = record_schema(
        ("mail", "string"),
        ("number", ["null", "long"]),
        ("list", {"type": "array", "items": "int"}),
        ("either", "long"),
    )
    return _Window(policy, schema)


def test_what_has_no_successor_is_named(window: _Window) -> None:
    """Irreversible entries, and places at which a value may be no token; the key counts like any place."""
    tokens = window.tokens[1]
    assert tokens is not None
    document = {"id": "0000000007", "mail": "a@example.com", "number": 7, "list": [8, 7], "either": 9}
    record = Record(avro_encode(json.loads(_text(window)), document), None, NOW_MS)
    outcome = window.engine.process([(window.bound, record)], lambda _subject: UNKNOWN, NOW_MS)[0][1]
    assert outcome.value is not None

    found = list(tokens.of(outcome.value, outcome.key))

    assert tokens.irreversible == {"mail"}
    assert tokens.varying == ("either",)
    assert [each.entry for each in found] == ["customer", "customer", "number", "number", "number"]
    assert found[0] == found[1]
    assert found[2] == found[4]
    assert window.successors["crm"].irreversible == {"mail"}


def test_what_is_no_token_has_no_successor(window: _Window) -> None:
    """It raises, and says nothing of the text."""
    with pytest.raises(InvalidValueError) as caught:
        window.successors["crm"].successor("customer", "not a token 12345")

    assert "12345" not in str(caught.value)


def _text(window: _Window) -> str:
    fields = [
        {"name": "id", "type": "string"},
        {"name": "mail", "type": "string"},
        {"name": "number", "type": ["null", "long"]},
        {"name": "list", "type": {"type": "array", "items": "int"}},
        {"name": "either", "type": "long"},
    ]
    assert [entry.name for entry in window.plan.source.root.fields] == ["id", "mail", "number", "list", "either"]
    return json.dumps({"type": "record", "name": "Event", "fields": fields})
