"""Plans by schema id: asked for in the background, waited for, and rejected only when it is clear."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest
from tests.support.worlds import NEXT_SCHEMA, POLICY, SCHEMA

from tokenweir.adapters.registry import Kind, Reference, RegisteredSchema
from tokenweir.core.engine import ReferenceEngine
from tokenweir.core.keys import Keyset
from tokenweir.core.outcome import Reason
from tokenweir.core.policy.loader import load_policy
from tokenweir.errors import RegistryError, SchemaError
from tokenweir.runtime.plans import FORGET_SECONDS, PlanCache, ReadyPlan, RefusedPlan
from tokenweir.runtime.sources import stream_context


class FakeRegistry:
    """A registry that knows what it is told, counts questions, and may be out of order."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.owner = "NAME.raw-value"
        self.fault = ""
        self.questions = 0

    def schema_by_id(self, schema_id: int) -> RegisteredSchema:
        """Answer, or fail as told."""
        self.questions += 1
        if self.fault:
            raise RegistryError(self.fault, "as the test wants")
        if schema_id not in self.schemas:
            raise RegistryError("not_found", "unknown")
        return RegisteredSchema(schema_id, "AVRO", self.schemas[schema_id])

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """One subject has every id."""
        return [(self.owner, schema_id)]

    def versions(self, subject: str) -> list[int]:
        """Derived schemas are there already."""
        del subject
        return [1]

    def register(self, subject: str, text: str, kind: Kind, references: Sequence[Reference] = ()) -> int:
        """Give every derived schema the same id."""
        del subject, text, kind, references
        if self.fault == "incompatible":
            raise RegistryError("incompatible", "as the test wants")
        return 77

    def version(self, subject: str, version: int) -> RegisteredSchema:
        """Never asked here."""
        raise NotImplementedError(subject, version)

    def latest(self, subject: str) -> RegisteredSchema:
        """Never asked here."""
        raise NotImplementedError(subject)

    def lookup(self, subject: str, text: str, kind: Kind) -> int:
        """No derived schema is there before it is registered."""
        raise RegistryError("not_found", f"{subject} {kind} {len(text)}")

    def set_compatibility(self, subject: str, level: str) -> None:
        """Never asked here."""
        raise NotImplementedError(subject, level)

    def is_compatible(self, subject: str, text: str, kind: Kind) -> bool:
        """Never asked here."""
        raise NotImplementedError(subject, text, kind)


class Bench:
    """A plan cache with a fake registry and a clock of its own."""

    def __init__(self) -> None:
        loaded = load_policy(POLICY, "policy.yaml")
        keyset = Keyset.ephemeral(["crm", "ads"], lambda count: b"\7" * count)
        self.registry = FakeRegistry()
        self.now = 1000.0
        self.cache = PlanCache(
            stream_context(loaded, "interactions", keyset),
            ReferenceEngine(loaded.policy, keyset),
            self.registry,
            register=True,
            monotonic=lambda: self.now,
            unknown_schema_seconds=10,
        )

    def ask(self, schema_id: int) -> ReadyPlan | RefusedPlan | None:
        """Do what a worker does in one turn with a record of this schema."""
        self.cache.request(schema_id)
        deadline = time.monotonic() + 5
        while not all(future.done() for future in self.cache._fetching.values()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.cache.get(schema_id)


@pytest.fixture
def bench() -> Bench:
    """A new bench."""
    return Bench()


def test_a_schema_that_appears_while_it_is_waited_for_is_used(bench: Bench) -> None:
    """An answer of not_found is no last word until the wait is over."""
    assert bench.ask(5) is None
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    bench.now += 2
    found = bench.ask(5)
    assert isinstance(found, ReadyPlan)
    assert found.output_ids == (77, 77)


def test_a_schema_that_never_appears_is_rejected_after_the_wait_and_asked_for_again_later(bench: Bench) -> None:
    """After ten seconds its records are dead letters; a minute later the registry is asked once more."""
    assert bench.ask(5) is None
    bench.now += 10.5
    refused = bench.ask(5)
    assert isinstance(refused, RefusedPlan)
    assert refused.reason is Reason.SCHEMA_UNKNOWN
    questions = bench.registry.questions
    assert bench.cache.get(5) is refused
    assert bench.registry.questions == questions
    bench.registry.schemas[5] = json.dumps(NEXT_SCHEMA)
    bench.now += FORGET_SECONDS + 1
    assert isinstance(bench.ask(5), ReadyPlan)


@pytest.mark.parametrize("fault", ["unavailable", "timeout"])
def test_a_registry_that_is_down_rejects_nothing_and_is_asked_once_a_second(bench: Bench, fault: str) -> None:
    """However long it lasts, the partition waits; the registry is not flooded."""
    bench.registry.fault = fault
    assert bench.ask(5) is None
    for _ in range(5):
        bench.now += 0.1
        assert bench.ask(5) is None
    assert bench.registry.questions == 1
    bench.now += 3600
    assert bench.ask(5) is None
    bench.registry.fault = ""
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    bench.now += 2
    assert isinstance(bench.ask(5), ReadyPlan)


def test_an_old_refusal_stands_while_the_registry_is_down(bench: Bench) -> None:
    """Asking again never holds up the partition, and never floods the registry."""
    bench.ask(5)
    bench.now += 11
    assert isinstance(bench.ask(5), RefusedPlan)
    bench.registry.fault = "unavailable"
    bench.now += FORGET_SECONDS + 1
    questions = bench.registry.questions
    for _ in range(20):
        assert isinstance(bench.ask(5), RefusedPlan)
    assert bench.registry.questions == questions + 1


def test_a_schema_of_another_topic_is_foreign(bench: Bench) -> None:
    """Its fields may have other classes."""
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    bench.registry.owner = "other-value"
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_FOREIGN


def test_a_schema_that_cannot_be_planned_is_refused(bench: Bench) -> None:
    """A required record subject that is gone, for example."""
    fields = [field for field in SCHEMA["fields"] if field["name"] != "customer_id"]
    bench.registry.schemas[5] = json.dumps({**SCHEMA, "fields": fields})
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_REFUSED


@pytest.mark.parametrize("fault", [MemoryError(), RecursionError(), KeyError("x"), OSError()])
def test_a_schema_that_breaks_the_planner_is_refused(
    bench: Bench, fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong in the fetching thread never reaches the worker, and raises an alarm."""

    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr("tokenweir.runtime.plans.plan_schema", broken)
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_REFUSED
    assert {"schema_refused", "exception_raised"} <= {entry.message for entry in caplog.records}
    assert bench.cache.get(5) is found

    # What went wrong may not go wrong again: the schema is not refused for as long as the worker lives.
    monkeypatch.undo()
    bench.now += FORGET_SECONDS + 1
    assert isinstance(bench.ask(5), ReadyPlan)


def test_an_incompatible_derived_schema_is_refused(bench: Bench) -> None:
    """The registry has the last word on what consumers can read."""
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    original = bench.registry.schema_by_id

    def then_incompatible(schema_id: int) -> RegisteredSchema:
        found = original(schema_id)
        bench.registry.fault = "incompatible"
        return found

    bench.registry.schema_by_id = then_incompatible  # type: ignore[method-assign]
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_INCOMPATIBLE


def test_a_field_without_a_class_stops_nothing_while_running(bench: Bench) -> None:
    """It is dropped: a producer must not stop a topic by adding a field."""
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "new", "type": ["null", "string"], "default": None}]}
    bench.registry.schemas[5] = json.dumps(schema)
    found = bench.ask(5)
    assert isinstance(found, ReadyPlan)
    assert all("new" not in (output.derived.text if output.derived else "") for output in found.bound.outputs)


def test_a_flood_of_unknown_ids_is_waited_for_three_times_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The fourth id that nobody knows is rejected at once; each of them costs one question."""
    _wait_in_vain(bench, 100, 101, 102)
    bench.registry.questions = 0
    for schema_id in range(103, 203):
        bench.now += 0.1
        found = bench.ask(schema_id)
        assert isinstance(found, RefusedPlan)
        assert found.reason is Reason.SCHEMA_UNKNOWN
    assert bench.registry.questions == 100
    assert len([entry for entry in caplog.records if entry.message == "schema_unknown"]) == 3


def _wait_in_vain(bench: Bench, *schema_ids: int) -> None:
    for schema_id in schema_ids:
        assert bench.ask(schema_id) is None
        bench.now += 10.5
        assert isinstance(bench.ask(schema_id), RefusedPlan)


def test_some_time_after_a_flood_ids_are_waited_for_again(bench: Bench) -> None:
    """Somebody who registers late must not suffer for long from somebody who makes ids up."""
    _wait_in_vain(bench, 100, 101, 102)
    bench.now += 2 * FORGET_SECONDS
    assert bench.ask(200) is None


def test_a_wait_that_was_worth_while_ends_a_flood(bench: Bench) -> None:
    """A registry that is late for one id is late for others."""
    _wait_in_vain(bench, 100, 101)
    assert bench.ask(200) is None
    bench.registry.schemas[200] = json.dumps(SCHEMA)
    bench.now += 2
    assert isinstance(bench.ask(200), ReadyPlan)
    _wait_in_vain(bench, 201, 202)
    assert bench.ask(203) is None


def test_ten_ids_a_second_are_asked_for(bench: Bench) -> None:
    """However many there are: the others wait for their turn."""
    for schema_id in range(1_000, 2_000):
        bench.cache.request(schema_id)
    _settle(bench)
    assert bench.registry.questions == 16
    bench.registry.questions = 0
    bench.now += 1
    for schema_id in range(2_000, 3_000):
        bench.cache.request(schema_id)
    _settle(bench)
    assert bench.registry.questions == 10


def _settle(bench: Bench) -> None:
    deadline = time.monotonic() + 5
    while not all(future.done() for future in bench.cache._fetching.values()) and time.monotonic() < deadline:
        time.sleep(0.005)


def test_ids_that_nobody_knows_fill_no_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of them are forgotten first; plans never are."""
    monkeypatch.setattr("tokenweir.runtime.plans._MAX_REFUSED_IDS", 10)
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    assert isinstance(bench.ask(5), ReadyPlan)
    bench.cache._unknown_schema_seconds = 0
    for schema_id in range(100, 200):
        bench.now += 0.2
        assert isinstance(bench.ask(schema_id), RefusedPlan)
    assert len(bench.cache._known) == 11
    assert isinstance(bench.cache.get(5), ReadyPlan)
    assert isinstance(bench.cache.get(199), RefusedPlan)
    assert bench.cache.get(100) is None

    for schema_id in range(10_000):
        bench.cache.request(schema_id)
    assert len(bench.cache._waiting) <= 1_000
    assert len(bench.cache._fetching) <= 16


def test_an_id_without_a_subject_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says that it is the topic's own, so its records do not pass; but that may come in a moment."""
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    monkeypatch.setattr(bench.registry, "subjects_of", lambda _id: [])
    assert bench.ask(5) is None
    bench.now += 11
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_UNKNOWN


def test_a_schema_that_cannot_even_be_fetched_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """References in a circle are the schema's fault: to pause for it would stop the partition for ever."""

    def circular(_schema_id: int) -> RegisteredSchema:
        raise SchemaError("references form a cycle")

    monkeypatch.setattr(bench.registry, "schema_by_id", circular)
    found = bench.ask(5)
    assert isinstance(found, RefusedPlan)
    assert found.reason is Reason.SCHEMA_REFUSED


def test_a_changed_schema_is_raised(bench: Bench) -> None:
    """It is for the process to stop, not for a partition to wait."""
    bench.registry.fault = "changed"
    with pytest.raises(RegistryError) as caught:
        bench.ask(5)
    assert caught.value.kind == "changed"


def test_a_derived_schema_that_is_there_is_not_registered_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up writes nothing and can be answered while the registry is down."""
    monkeypatch.setattr(bench.registry, "lookup", lambda *_: 78)
    monkeypatch.delattr(FakeRegistry, "register")
    monkeypatch.delattr(FakeRegistry, "versions")
    bench.registry.schemas[5] = json.dumps(SCHEMA)
    found = bench.ask(5)
    assert isinstance(found, ReadyPlan)
    assert found.output_ids == (78, 78)
