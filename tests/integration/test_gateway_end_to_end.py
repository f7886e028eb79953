"""The gateway as a whole, from the outside: exactly one fate for every record, order kept, and nothing leaked.

An Avro and a JSON stream, two audiences, consent that changes while events flow, two workers for each stream, and
workers that are killed at random moments. Everything is judged by checkers that share no code with the product; what
exactly they prove stands in ``tests.support.oracle`` and ``tests.support.scan``. Planted mistakes and leaks make them
fail: here in what a real run left behind, and one by one in ``tests/unit/test_ledger.py`` and
``tests/unit/test_scan.py``. Other faults than kills of workers, and many more of them, are in ``test_chaos.py``.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.support.capture import Capture
from tests.support.events import ADS, CRM, INTERACTIONS, PINGS, Document, dead_letter_topic, output_topic
from tests.support.oracle import Violation
from tests.support.proof import Proof, Scale
from tests.support.rig import Broker, SchemaRegistry
from tests.support.scan import Hit

pytestmark = pytest.mark.integration


@pytest.fixture
def broker(broker_factory: Callable[..., Broker]) -> Broker:
    """A broker of the test's own, running."""
    broker = broker_factory()
    broker.start()
    return broker


@pytest.fixture
def prove(broker: Broker, registry: SchemaRegistry, tmp_path: Path) -> Iterator[Callable[[Scale], Proof]]:
    """Prepare a run; no process of the gateway outlives the test."""
    proofs: list[Proof] = []

    def prepare(scale: Scale) -> Proof:
        proofs.append(Proof(scale, broker, registry, tmp_path / "gateway"))
        return proofs[-1]

    yield prepare
    for proof in proofs:
        proof.end()


def _assert_proven(violations: list[Violation], hits: list[Hit], proof: Proof) -> None:
    """Fail with what is wrong, and also where a run was too tame to prove anything."""
    kinds = Counter(violation.kind for violation in violations)
    places = Counter(hit.place for hit in hits)
    assert not kinds, f"violations {dict(kinds)}, the first: {violations[:20]}; leaks {dict(places)}"
    assert not places, f"leaks {dict(places)}, the first: {hits[:20]}"
    numbers = proof.numbers
    assert numbers.sanitized + numbers.withheld + numbers.rejected == numbers.pairs == 2 * proof.scale.events
    assert min(numbers.sanitized, numbers.withheld) > numbers.pairs / 10
    assert numbers.rejected > numbers.pairs / 500
    assert numbers.canaries > 7 * proof.scale.events


@pytest.mark.usefixtures("each_engine")
def test_a_quiet_run_is_exact_and_what_is_planted_in_it_is_found(
    prove: Callable[[Scale], Proof], broker: Broker
) -> None:
    """Without kills the counters are the very numbers of the ledger; a double, a loss, a swap and leaks are found."""
    proof = prove(Scale(seed=11, events=6_000, customers=1_000, kills=0, per_second=1_500))

    concurrent, final = proof.run()
    violations = proof.judge(concurrent, final)
    hits = proof.scan(final)
    proof.report()

    _assert_proven(violations, hits, proof)
    _assert_mistakes_are_found(proof, final)
    _assert_leaks_are_found(proof, broker, final)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("events", "kills"), [(30_000, 5), pytest.param(100_000, 10, marks=pytest.mark.chaos, id="long")]
)
def test_kills_lose_double_reorder_and_leak_nothing(prove: Callable[[Scale], Proof], events: int, kills: int) -> None:
    """Each event has exactly one fate in each output, though workers are killed again and again."""
    proof = prove(Scale(seed=12, events=events, customers=events // 5, kills=kills, per_second=1_500))

    concurrent, final = proof.run()
    violations = proof.judge(concurrent, final)
    hits = proof.scan(final)
    proof.report()

    _assert_proven(violations, hits, proof)
    # Fates outside of the races are exact.
    # The shorter a run, the more of it lies around a kill.
    assert proof.numbers.racing < proof.numbers.pairs * (0.15 if events >= 100_000 else 0.3)
    # Kills hit open transactions: their records are on the disk, and no reader has seen them.
    assert proof.numbers.aborted_records > 0


def _assert_mistakes_are_found(proof: Proof, final: Capture) -> None:
    """Plant one mistake after the other in what the final reader saw."""
    place, index = proof.steady_record(final)
    records = final[place]

    doubled = {**final, place: [*records, records[index]._replace(offset=records[-1].offset + 1)]}
    assert {violation.kind for violation in proof.judge(final, doubled)} == {"readers", "double"}

    lost = {**final, place: records[:index] + records[index + 1 :]}
    assert {violation.kind for violation in proof.judge(lost, lost)} >= {"loss"}

    second = next(other for other in range(len(records)) if other != index and records[other].key == records[index].key)
    swapped = list(records)
    swapped[index] = records[second]._replace(offset=records[index].offset)
    swapped[second] = records[index]._replace(offset=records[second].offset)
    reordered = {**final, place: swapped}
    assert {violation.kind for violation in proof.judge(reordered, reordered)} >= {"order"}


def _assert_leaks_are_found(proof: Proof, broker: Broker, final: Capture) -> None:
    """Plant one leak in each place that is scanned, each in another form, and scan once more."""
    documents = [proof.ledger.event(record).document for record in proof.ledger.records[:40]]
    planted = iter(document for document in documents if document["phone"] is not None)
    expected = {
        _plant_in_topic(broker, next(planted)),
        _plant_in_aborted_transaction(broker, next(planted)),
        _plant_in_group(broker, next(planted)),
        *_plant_in_files(proof, next(planted)),
    }
    proof.gateway.bodies.append(next(planted)["email"][::-1].encode())
    expected.add("admin port")

    places = {hit.place for hit in proof.scan(final)}

    for part in expected:
        assert any(part in place for place in places), f"a leak in {part} was not found: {places}"
    for topic in (output_topic(INTERACTIONS, CRM), output_topic(PINGS, ADS)):
        assert any(topic in place and place.endswith(".log") for place in places), f"not in segments of {topic}"


def _plant_in_topic(broker: Broker, document: Document) -> str:
    topic = output_topic(INTERACTIONS, CRM)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"{}", document["customer_id"].encode(), partition=0)
    producer.produce(dead_letter_topic(PINGS), document["note"].encode("utf-16-be"), partition=0)
    assert producer.flush(30) == 0
    return f"{topic}-0"


def _plant_in_aborted_transaction(broker: Broker, document: Document) -> str:
    topic = output_topic(PINGS, ADS)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "leak"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"{}", headers=[("x", base64.b64encode(document["card"].encode()))], partition=1)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    return f"{topic}-1"


def _plant_in_group(broker: Broker, document: Document) -> str:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "leak"})
    metadata = document["phone"].encode().hex()
    consumer.commit(offsets=[TopicPartition(output_topic(PINGS, ADS), 0, 0, metadata)], asynchronous=False)
    consumer.close()
    return "__consumer_offsets"


def _plant_in_files(proof: Proof, document: Document) -> set[str]:
    gateway = proof.gateway
    latitude = struct.pack("<d", document["location"]["latitude"])
    (gateway.state_directory / "planted.bin").write_bytes(bytes(100) + latitude + bytes(100))
    (gateway.config_directory / "planted.yaml").write_text(f"name: {document['contact']['name'].upper()}\n")
    with (gateway.output_directory / "run.err").open("a") as log:
        log.write(json.dumps({"event": "failed", "value": f"card {document['card'][:4]}-{document['card'][4:]}"}))
    return {"planted.bin", "planted.yaml", "run.err"}
