"""Outputs in two epochs: each is what it would be alone, in both engines, whatever the policy and the records."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.support import engines
from tests.support.engines import NOW_MS
from tests.support.native import native_module
from tests.support.nativepeople import People
from tests.support.nativeworlds import worlds

from tokenweir.core.compiler import StreamContext
from tokenweir.core.context import domain_of
from tokenweir.core.engineapi import Record
from tokenweir.core.keys import Keyset, TokenKey
from tokenweir.core.outcome import Outcome
from tokenweir.core.planning import SourceSchema, plan_stream
from tokenweir.core.policy.check import load_and_check
from tokenweir.core.policy.classes import ClassTable
from tokenweir.core.policy.loader import LoadedPolicy
from tokenweir.errors import FindingsError

native_module()

from tests.support.twins import TwinEngine  # noqa: E402 - it needs the native module


def _keyset(domains: list[str], active: int, retiring: tuple[int, ...] = ()) -> Keyset:
    """Return a keyset whose roots depend on key domain and epoch alone."""
    roots = {
        (domain, epoch): TokenKey(hashlib.sha256(f"{domain} {epoch}".encode()).digest())
        for domain in domains
        for epoch in (1, 2)
    }
    beside = dict.fromkeys(domains, retiring)
    return Keyset(roots, dict.fromkeys(domains, active), TokenKey(bytes(32)), beside)


class _Stream:
    """A stream of a world in some epochs."""

    def __init__(self, loaded: LoadedPolicy, text: str, active: int, retiring: tuple[int, ...] = ()) -> None:
        domains = sorted({domain_of(loaded.policy, audience) for audience in loaded.policy.audiences})
        keyset = _keyset(domains, active, retiring)
        epochs, beside = dict.fromkeys(domains, active), dict.fromkeys(domains, retiring)
        name = next(iter(loaded.policy.streams))
        context = StreamContext(ClassTable(loaded.policy), loaded.policy, loaded.digest, name, epochs, beside)
        planned = plan_stream(loaded, context, [SourceSchema(text, "version 1", 1)])
        if planned.errors:
            raise FindingsError(planned.errors)
        self.plan = planned.versions[0].compiled.plan
        self._engine = TwinEngine(loaded.policy, keyset)
        self._bound = self._engine.bind(self.plan)
        self.derived = {output.output.topic: output.derived for output in self._bound.outputs}

    def process(self, records: list[Record], people: People) -> dict[str, list[Outcome]]:
        """Return the outcomes by topic."""
        rows = self._engine.process([(self._bound, record) for record in records], people.consent, NOW_MS)
        topics = [output.topic for output in self.plan.outputs]
        return {topic: [row[index] for row in rows] for index, topic in enumerate(topics)}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.integers(0, 2**32))
def test_an_epoch_beside_another_is_what_it_is_alone(world: tuple[str, str], seed: int) -> None:
    """Fate, value, key, headers and derived schema of each topic do not depend on what is fed beside it."""
    policy, text = world
    try:
        loaded, _ = load_and_check(policy, "policy.yaml")
        both, old, new = (_Stream(loaded, text, *epochs) for epochs in ((2, (1,)), (1,), (2,)))
    except FindingsError:
        reject()
    people = People(both.plan.source, seed)
    records = [people.record() for _ in range(8)]

    together = both.process(records, people)

    assert together == {**old.process(records, people), **new.process(records, people)}
    assert len(together) == 2 * len(old.plan.outputs)
    for one in (old, new):
        for topic, derived in one.derived.items():
            beside = both.derived[topic]
            assert (derived and derived.text) == (beside and beside.text)


@pytest.mark.parametrize("audience", ["crm", "ads"])
def test_every_output_says_its_epoch(audience: str) -> None:
    """The record of the derived schema has it, the topic's name has it, and only the newest is active."""
    policy = engines.small_policy(outputs="[{audience: crm, key: subject}, {audience: ads, key: subject}]")
    loaded, _ = load_and_check(policy, "policy.yaml")
    stream = _Stream(loaded, engines.record_schema(("extra", "string")), 2, (1,))

    found = [output for output in stream.plan.outputs if output.audience == audience]

    assert [(output.epoch, output.active, output.topic.endswith(".e2")) for output in found] == [
        (2, True, True),
        (1, False, False),
    ]
    for output in found:
        derived = stream.derived[output.topic]
        assert derived is not None
        assert f'"epoch":{output.epoch}' in derived.text
